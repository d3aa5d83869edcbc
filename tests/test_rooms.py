"""The table of rooms in CONTRIBUTING.md is the tree, and the import contract has every room in the same order."""

import configparser
import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "synthaug"
NOT_MODULES = {"compare_images"}
"""Names in the table that are functions."""


def rows_of_table() -> dict[str, str]:
    """What the table says of each room, by its name, in its order."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, flags=re.MULTILINE))


def test_every_room_has_its_row_and_its_place_in_the_import_contract():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(rows_of_table()) == rooms
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    layers = re.findall(r"synthaug\.(\w+)", settings["importlinter:contract:rooms"]["layers"])
    assert [layer for layer in layers if layer != "__main__"] == list(rows_of_table())


def test_modules_that_the_table_names_are_in_their_room():
    for room, told in rows_of_table().items():
        named = set(re.findall(r"`([a-z_]+)`", told)) - NOT_MODULES
        modules = {path.stem for path in (PACKAGE / room).rglob("*")}
        assert named <= modules, f"{room}: {sorted(named - modules)} are not there"


def test_every_room_says_its_job_in_one_sentence():
    for room in PACKAGE.glob("*/**/__init__.py"):
        first = room.read_text(encoding="utf-8").split("\n")[0]
        assert re.fullmatch(r'""".+[.?](""")?', first), room


def test_classifiers_logged_before_tracking_was_a_room_find_their_loader():
    """MLflow imports the module that a model's file names, and calls this function of it."""
    earlier = importlib.import_module("synthaug.bench.tracking.pyfunc_model")
    assert earlier._load_pyfunc is importlib.import_module("synthaug.tracking.pyfunc_model")._load_pyfunc
