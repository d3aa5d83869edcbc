"""The README's promises that a machine can check."""

import re
from pathlib import Path

import synthaug as sa

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_exactly_two_set_up_commands_both_pinned():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert all("-c constraints.txt" in command for command in commands)
    assert commands[0].endswith("-m synthaug.bench")
    assert commands[1].endswith("-m pytest -n 2 --dist loadfile")


def test_public_names_that_the_readme_uses_exist():
    names = set(re.findall(r"\bsa\.(\w+)", README))
    assert names
    assert names <= set(sa.__all__)
    assert all(getattr(sa, name) is not None for name in sa.__all__)


def test_constraints_pin_torch_and_never_torchvision():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "torch==2.13.0\n" in pins
    assert "torchvision" not in pins
    assert all("==" in line for line in pins.splitlines() if line and not line.startswith("#"))


def test_every_promise_of_security_names_a_test_that_is_there():
    rows = [line for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    promises = [row for row in rows if row.split("|")[1].strip() != "promise"]
    assert len(promises) > 20
    for row in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for file, function in named:
            assert f"def {function}" in (ROOT / file).read_text(encoding="utf-8"), row
