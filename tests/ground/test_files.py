"""Files are whole or absent; hashes and seeds are functions of content."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from synthaug.ground import files
from synthaug.ground.errors import InputError
from synthaug.ground.files import (
    atomic_folder,
    atomic_path,
    content_hash,
    inside,
    read_json,
    remove_leftovers,
    usable_folder,
    write_json,
)
from synthaug.ground.seeding import derive_seed, numpy_generator, torch_generator


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text(None, encoding="utf-8")
    assert read_json(path) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["record.json"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(TypeError), atomic_folder(tmp_path / "model") as temporary:
        (temporary / "weights").write_text(None, encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "bad.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_broken_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
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
    (tmp_path / "file").write_text("", encoding="utf-8")
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


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{", "[1]".encode("utf-16"), b"[" * 100_000, b"", b"1" * 5000, b"[1, 2]", b"null"]
)
def test_what_is_no_json_object_is_named(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_missing_json_is_named(tmp_path):
    for path in (tmp_path / "x.json", tmp_path, tmp_path / ("x" * 5000), tmp_path / "a\0b"):
        with pytest.raises(InputError) as refused:
            read_json(path)
        assert "delete it" not in str(refused.value)


def test_an_array_is_read_where_one_belongs(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2]", encoding="utf-8")
    assert read_json(tmp_path / "x.json", kind=list) == [1, 2]


def test_two_machines_with_one_process_number_do_not_meet(tmp_path):
    """As two containers do that write to one folder."""
    with atomic_folder(tmp_path / "model") as ours:
        (ours / "weights").write_text("ours", encoding="utf-8")
        with atomic_folder(tmp_path / "model") as theirs:
            (theirs / "weights").write_text("theirs", encoding="utf-8")
    assert (tmp_path / "model" / "weights").read_text(encoding="utf-8") == "ours"
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


KILLED = """
import os, signal, sys
from pathlib import Path
from synthaug.ground.files import atomic_folder, atomic_path
with atomic_folder(Path(sys.argv[1]) / "model") as folder, atomic_path(Path(sys.argv[1]) / "cells" / "a.json") as file:
    file.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_left_overs_of_a_killed_run_go_with_the_next_and_living_ones_stay(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*"))) == len(list(tmp_path.glob("cells/.*"))) == 1
    (tmp_path / ".hidden.txt").write_text("the user's own", encoding="utf-8")
    with atomic_path(tmp_path / "living.json") as living:
        living.write_text("{}", encoding="utf-8")
        usable_folder(tmp_path)
        assert living.is_file()
    assert sorted(item.name for item in tmp_path.rglob("*")) == [".hidden.txt", "cells", "living.json"]


def test_another_machine_s_file_is_a_left_over_after_a_day(tmp_path):
    names = {age: tmp_path / f".{os.getpid()}-0000000{age}-01234567.x.json" for age in (0, 2)}
    for age, path in names.items():
        path.write_text("half", encoding="utf-8")
        os.utime(path, (time.time() - age * files.ABANDONED_SECONDS,) * 2)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [names[0]]


WRITERS = {
    "text": lambda path: path.write_text("x" * 10**6, encoding="utf-8"),
    "safetensors": lambda path: save_file({"x": torch.zeros(10**6)}, path),
    "torch": lambda path: torch.save({"x": torch.zeros(10**6)}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told_whoever_writes(writer, tmp_path):
    """The limit on a file's size stands for the disk's."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written"), atomic_path(tmp_path / "large") as temporary:
            WRITERS[writer](temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_passed_on(tmp_path):
    with pytest.raises(KeyError), atomic_path(tmp_path / "x"):
        json.loads("{}")["absent"]


def test_a_left_over_whose_process_cannot_be_goes(tmp_path):
    own = files._temporary(tmp_path / "x.json")
    left = own.with_name(own.name.replace(f".{os.getpid()}-", f".{10**20}-"))
    for path in (own, left):
        path.touch()
    files.remove_leftovers(tmp_path)
    assert [*tmp_path.iterdir()] == [own]
