"""The README's promises that a machine can check: its length, links, commands and snippets."""

import re
import shlex
from pathlib import Path

import yaml
from tiny_study import STUDY

import synthaug as sa
from synthaug.bench.commands import main
from synthaug.data.phantom import make_subjects
from synthaug.study.records import read_summary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BUILTINS = sorted(index.parent.name for index in ROOT.glob("synthaug/builtin/*/model_index.json"))


def blocks(language):
    """The snippets of a language, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_it_is_read_in_a_few_minutes():
    assert len(README.split()) <= 700


def test_every_link_and_picture_is_there():
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert len(targets) > 15
    assert not [each for each in targets if not each.startswith("https://") and not (ROOT / each).exists()]
    for drawn in ("docs/images/hippocampus.png",):
        assert (f"]({drawn})" in README) == (ROOT / drawn).exists()


def test_exactly_two_set_up_commands_both_pinned():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert all("-c constraints.txt" in command for command in commands)
    assert commands[0].endswith("-m synthaug.bench")
    assert commands[1].endswith("-m pytest -n 2 --dist loadfile")


def test_the_licence_of_everything_that_ships_is_told():
    told = README.partition("## Licences")[2]
    assert all(f"`builtin/{name}`" in told for name in BUILTINS)
    assert "Apache-2.0" in told


def test_public_names_that_the_readme_uses_exist():
    names = set(re.findall(r"\bsa\.(\w+)", README))
    assert names
    assert names <= set(sa.__all__)
    assert all(getattr(sa, name) is not None for name in sa.__all__)


def patients(folder, count, images):
    """A folder of phantoms with its manifest."""
    folder.mkdir()
    rows = ["subject_id,t2w,label,report"]
    for number, subject in enumerate(make_subjects(count, 0.5, 5, **images)):
        subject["t2w"].save(folder / f"{number}.nii.gz")
        rows.append(f'p{number},{number}.nii.gz,{subject["label"]},"{subject["report"]}"')
    (folder / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def test_the_python_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    """As they stand, but for fewer volumes, resamples and pairs."""
    monkeypatch.chdir(tmp_path)
    builtin = {"shape": (32, 32, 16), "spacing_mm": (2.5, 2.5, 4.0)}
    patients(tmp_path / "data", 40, builtin)
    names: dict = {}
    for snippet in blocks("python"):
        exec(snippet.replace("64", "2").replace("training=train", "training=train, resamples=20, pairs=4"), names)
    assert names["batch"]["t2w"]["data"].shape == (8, 1, 32, 32, 16)
    assert sorted(names["batch"]["label"].tolist()) == [0] * 4 + [1] * 4
    assert len(names["report"].to_frame())


def test_the_commands_for_own_data_lead_to_a_report(tmp_path, monkeypatch, capsys):
    """As they stand, but for shorter trainings."""
    monkeypatch.chdir(tmp_path)
    small = {"shape": (16, 16, 8), "spacing_mm": (5.0, 5.0, 8.0)}
    folder = patients(tmp_path / "mine", 24, small)
    short = {name: STUDY[name] for name in ("generator", "pool", "classifier", "metrics")}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short | {"study": {"seeds": [0]}}), encoding="utf-8")
    commands = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    ours = [words[1:] for words in commands if words[:1] == ["synthaug"]]
    assert [words[0] for words in ours] == ["check", "bench", "report"]
    for words in ours:
        told = [str(folder) if word == "FOLDER" else word for word in words]
        assert main([*told, *(["--config", "short.yaml"] if words[0] == "bench" else [])]) == 0
    assert Path("runs/mine/report.html").is_file()
    assert "report: runs/mine/report.html" in capsys.readouterr().out
    assert {arm.regime for arm in read_summary("runs/mine").arms} == {"real", "synthetic", "mixed"}


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
