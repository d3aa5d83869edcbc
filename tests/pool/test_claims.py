"""Claims on a shared disk: one holder at a time, and none for ever."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthaug.ground import heartbeats
from synthaug.pool.ledger import CLAIMS, claim, release


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


def test_reading_needs_no_fcntl():
    """A system without it can import the package and open pools."""
    script = "import sys; sys.modules['fcntl'] = None; import synthaug.pool.pool, synthaug.tracking.connection"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
