"""Claims on a shared disk: one holder at a time, and none for ever."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthaug.ground import heartbeats
from synthaug.pool.ledger import CLAIMS, claim, release
from synthaug.pool.pool import SyntheticPool


@pytest.fixture
def folder(tmp_path):
    (tmp_path / CLAIMS).mkdir()
    return tmp_path


def grow_old(stream):
    """As if its machine had died ten minutes ago, and the disk still kept its lock."""
    heartbeats.let_go(stream)
    os.utime(stream.name, (time.time() - heartbeats.STALE_SECONDS - 1,) * 2)


def test_a_claim_that_is_alive_is_respected(folder):
    held = claim(folder, "a")
    assert claim(folder, "a") is None
    release(held)
    again = claim(folder, "a")
    assert again is not None
    release(again)
    assert list((folder / CLAIMS).iterdir()) == []


def test_a_stale_claim_is_taken_over_by_one(folder):
    stuck = claim(folder, "a")
    grow_old(stuck)
    taken = claim(folder, "a")
    assert taken is not None
    assert claim(folder, "a") is None


def test_a_holder_who_comes_back_does_not_end_the_claim_of_the_next(folder):
    stuck = claim(folder, "a")
    grow_old(stuck)
    taken = claim(folder, "a")
    release(stuck)
    assert claim(folder, "a") is None
    release(taken)
    assert claim(folder, "a") is not None


def test_holders_give_signs_of_life(folder):
    held = claim(folder, "a")
    os.utime(held.name, (0, 0))
    heartbeats.beat()
    assert claim(folder, "a") is None
    assert not heartbeats.is_stale(held)


def test_a_child_that_was_forked_gives_no_signs_of_life_for_its_parent(folder):
    held = claim(folder, "a")
    child = os.fork()
    if not child:
        os._exit(len(heartbeats._held))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    release(held)


WITHOUT_FORK = """
import filelock, os, subprocess, sys  # these find out for themselves what the system has
for name in ("fork", "forkpty", "pread"):
    delattr(os, name)
sys.modules["fcntl"] = None
from pathlib import Path
import torch
from small_pool import build_pool, tree
from synthaug.data.phantom import make_subjects
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.data.preprocess import preprocess
from conftest import IMAGES, TINY_PREPROCESSING

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path({folder!r})
    raw = make_subjects(4, positive_fraction=0.5, seed=0, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    subjects = preprocess(raw, TINY_PREPROCESSING, IMAGES)
    build_pool(CCELLAPipeline.from_pretrained(folder / "generator"), subjects, folder / "pool")
"""


def test_a_system_without_fork_and_fcntl_builds_a_pool(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "generator")
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_FORK.format(folder=str(tmp_path)), encoding="utf-8")
    paths = os.pathsep.join(str(Path(__file__).parents[up]) for up in (1, 2))  # of the tests' helpers and the package
    done = subprocess.run([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": paths}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert len(SyntheticPool.open(tmp_path / "pool")) == 8
