"""A build that is killed or meets a full disk or a read-only folder leaves a valid pool, which goes on to its bytes."""

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import time

import pytest
from small_pool import build_pool, tree

from synthaug.config import SamplingConfig
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.pool.pool import SyntheticPool

BUSY = {"per_class": {0: 6, 1: 6}, "sampling": SamplingConfig(steps=1, micro_batch=2)}
"""Many small writes, so that moments fall among them."""


@pytest.fixture(scope="module")
def unbroken(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("reliability") / "pool", **BUSY)


@pytest.fixture
def build(tiny_pipeline, tiny_subjects, tmp_path):
    return lambda path=tmp_path / "pool", **changes: build_pool(tiny_pipeline, tiny_subjects, path, **(BUSY | changes))


def started(build, path):
    child = multiprocessing.get_context("fork").Process(target=build, args=(path,))
    child.start()
    return child


def seconds_of_a_build(build, path):
    begun = time.monotonic()
    started(build, path).join(timeout=60)
    return time.monotonic() - begun


def kill_and_resume(build, unbroken, tmp_path, moments):
    """Kill a build of its own at each moment, look at what is left, go on; returns how many volumes each had."""
    whole_seconds = seconds_of_a_build(build, tmp_path / "timed")
    left = []
    for number, share in enumerate(numpy_generator("kill moments", moments).uniform(0, 1, moments)):
        path = tmp_path / str(number)
        child = started(build, path)
        time.sleep(share * whole_seconds)
        os.kill(child.pid, signal.SIGKILL)
        child.join(timeout=60)
        if (path / "pool.json").is_file():
            begun = SyntheticPool.open(path)
            begun.verify()
            left.append(len(begun))
        assert tree(build(path).path) == tree(unbroken.path)
    return left


def test_builds_killed_at_random_moments_end_in_the_bytes_of_an_unbroken_one(build, unbroken, tmp_path):
    kill_and_resume(build, unbroken, tmp_path, 3)


def test_builds_killed_between_volumes_end_in_the_bytes_of_an_unbroken_one(build, unbroken, tmp_path):
    left = []
    for count in (1, 5, 9):
        path = tmp_path / str(count)
        child = started(build, path)
        while child.is_alive() and len(list(path.glob("volumes/*.nii*"))) < count:
            time.sleep(0.001)
        child.kill()
        child.join(timeout=60)
        begun = SyntheticPool.open(path)
        begun.verify()
        left.append(len(begun))
        assert tree(build(path).path) == tree(unbroken.path)
    assert len({count for count in left if 0 < count < 12}) >= 2  # some moments fell between the volumes


def test_one_build_killed_again_and_again_ends_in_the_bytes_of_an_unbroken_one(build, unbroken, tmp_path):
    path, seconds = tmp_path / "pool", seconds_of_a_build(build, tmp_path / "timed")
    for share in numpy_generator("kills in a row").uniform(0.2, 0.6, 5):
        child = started(build, path)
        time.sleep(share * seconds)
        os.kill(child.pid, signal.SIGKILL)
        child.join(timeout=60)
    assert tree(build(path).path) == tree(unbroken.path)


def test_what_a_killed_builder_leaves_half_written_is_swept_up(build, unbroken, tmp_path):
    path = build(per_class={0: 2, 1: 0}).path
    volume_id = unbroken.entries(1)[0]["id"]
    (path / f"volumes/.99999.{volume_id}_t2w.nii").write_bytes(b"half")
    (path / ".99999.manifest.jsonl").write_bytes(b"half")
    (path / ".99999.pool.json").write_bytes(b"half")
    (path / "claims" / volume_id).touch()
    assert tree(build(path).path) == tree(unbroken.path)


@contextlib.contextmanager
def file_size_limit(limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_is_one_clear_error_and_the_pool_stays_valid(build, unbroken, tmp_path):
    path = build(per_class={0: 2, 1: 0}).path
    with file_size_limit(5000), pytest.raises(InputError, match=r"cannot be written .* run the same again"):
        build()
    begun = SyntheticPool.open(path)
    begun.verify()
    assert begun.counts == {0: 2}
    assert not list((path / "volumes").glob(".*"))
    assert tree(build(path).path) == tree(unbroken.path)


@pytest.fixture
def mounted(tmp_path):
    """A file system of 64 KiB of its own, which a test may fill or make read-only."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", folder], capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_clear_error_and_the_pool_goes_on_when_there_is_room(build, unbroken, mounted):
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)") as refusal:
        build(mounted / "pool")
    assert len(str(refusal.value).splitlines()) == 1
    begun = SyntheticPool.open(mounted / "pool")
    begun.verify()
    assert 0 < len(begun) < 12
    subprocess.run(["mount", "-o", "remount,size=1m", mounted], check=True)
    assert tree(build(mounted / "pool").path) == tree(unbroken.path)


def test_a_read_only_folder_is_one_clear_error_and_the_pool_can_still_be_read(build, mounted):
    path = build(mounted / "pool", per_class={0: 1, 1: 1}).path
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    for folder in (path, mounted / "new"):
        with pytest.raises(InputError, match=r"cannot write there \(Read-only file system\)"):
            build(folder)
    SyntheticPool.open(path).verify()
    assert SyntheticPool.open(path).refresh() == 0
    assert SyntheticPool.open(path).subject(0, 0)["t2w"].data.isfinite().all()
