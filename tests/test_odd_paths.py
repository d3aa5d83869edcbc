"""Paths that cannot be, or that lead in circles, end in one line."""

import pytest

from synthaug.bench.single.image_comparison import compare_folders
from synthaug.config import Config, DataConfig
from synthaug.ground.errors import InputError
from synthaug.study.folder.standing import inputs_of
from synthaug.study.stages.cohort import load_subjects

ODD = {"too long": "i" * 5000, "with NUL": "a\0b", "absent": "absent", "a file": "file", "in a circle": "circle"}


@pytest.fixture
def odd(tmp_path, request):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    return str(tmp_path / ODD[request.param])


@pytest.mark.parametrize("odd", ODD, indirect=True)
def test_a_folder_that_cannot_be_read_is_an_input_error(odd, tmp_path):
    with pytest.raises(InputError):
        compare_folders(odd, odd, shape=(8, 8, 8), spacing_mm=(1, 1, 1))
    data = DataConfig(root=odd)
    with pytest.raises(InputError):
        load_subjects(data)
    assert isinstance(inputs_of(Config(data=data), tmp_path), str)


def test_a_folder_that_holds_itself_is_looked_through_once(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("x", encoding="utf-8")
    before = inputs_of(Config(data=DataConfig(root=str(data))), tmp_path / "out")
    for n in range(3):  # 3 links over 40 levels: a walk that follows them all does not end
        (data / f"again{n}").symlink_to(data)
    assert inputs_of(Config(data=DataConfig(root=str(data))), tmp_path / "out") == before
    (data / "other").write_text("y", encoding="utf-8")
    assert inputs_of(Config(data=DataConfig(root=str(data))), tmp_path / "out") != before
