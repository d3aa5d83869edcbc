"""Figures are added to the weights that they were measured of, and to no others."""

import shutil
from pathlib import Path

import pytest

import synthaug
from synthaug.ground.files import read_json, write_json

SHELF = Path(synthaug.__file__).parent / "builtin"


@pytest.mark.parametrize("name", ["ccella-tiny", "ccella-hippocampus"])
def test_the_figures_of_a_builtin_added_again_change_nothing(name, import_script, tmp_path):
    package = import_script("builtin", "package")
    folder = shutil.copytree(SHELF / name, tmp_path / name)
    record = read_json(folder / "training.json")
    write_json(tmp_path / "figures.json", record["evaluation"]["figures"])
    package.add_figures(folder, tmp_path / "figures.json")
    assert read_json(folder / "training.json") == record
    assert (folder / "README.md").read_bytes() == (SHELF / name / "README.md").read_bytes()


def test_figures_of_other_weights_are_refused(import_script, tmp_path):
    package = import_script("builtin", "package")
    folder = shutil.copytree(SHELF / "ccella-tiny", tmp_path / "tiny")
    before = (folder / "training.json").read_bytes()
    write_json(tmp_path / "figures.json", {"fingerprint": "0" * 16})
    with pytest.raises(SystemExit, match="not of"):
        package.add_figures(folder, tmp_path / "figures.json")
    assert (folder / "training.json").read_bytes() == before
