"""Files are whole or absent; hashes and seeds are functions of content."""

import numpy as np
import pytest
import torch

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_folder, atomic_path, content_hash, inside, read_json, usable_folder, write_json
from synthaug.ground.seeding import derive_seed, numpy_generator, torch_generator


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text(None)
    assert read_json(path) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["record.json"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(TypeError), atomic_folder(tmp_path / "model") as temporary:
        (temporary / "weights").write_text(None)
    assert list(tmp_path.iterdir()) == []


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "bad.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_broken_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"x\.json: not valid JSON"):
        read_json(tmp_path / "x.json")


def test_paths_stay_inside(tmp_path):
    assert inside(tmp_path, "a/b.nii") == tmp_path / "a/b.nii"
    (tmp_path / "images").symlink_to(tmp_path.parent)
    assert inside(tmp_path, "images/b.nii") == tmp_path / "images/b.nii"
    for escape in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(InputError, match="leads out of"):
            inside(tmp_path, escape)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        usable_folder(tmp_path / "file" / "out")


def test_seeds_are_functions_of_their_names():
    assert derive_seed("a", 1) == derive_seed("a", 1)
    assert len({derive_seed("a", 1), derive_seed("a", 2), derive_seed("b", 1), derive_seed("a", "1")}) == 4
    assert 0 <= derive_seed("a") < 2**63
    for same in (np.int64(1), np.int32(1), torch.tensor(1)):
        assert derive_seed("a", same) == derive_seed("a", 1)
        assert content_hash({"steps": same}) == content_hash({"steps": 1})
    assert derive_seed("a", np.float64(0.5)) == derive_seed("a", np.float32(0.5)) == derive_seed("a", 0.5)
    assert torch_generator("a").initial_seed() == derive_seed("a")
    assert numpy_generator("a").random() == numpy_generator("a").random()
