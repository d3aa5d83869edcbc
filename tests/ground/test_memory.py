"""Freed memory that stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

from synthaug.ground.memory import OWN_SETTINGS

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
STEPS = """
import resource
import numpy as np
from synthaug.ground.memory import keep_freed_memory, return_freed_memory

def step():
    maps = [np.ones(20 * 2**20, dtype=np.uint8) for _ in range(8)]

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    status = open("/proc/self/status").read()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024

"""
"""A step has eight feature maps of 20 MB at once, and none afterwards."""


def run(code, **environment):
    """What ``code`` prints, in a process of its own: settings of the allocator cannot be taken back."""
    told = {name: value for name, value in os.environ.items() if name not in (*OWN_SETTINGS, "GLIBC_TUNABLES")}
    command = [sys.executable, "-c", STEPS + code]
    return subprocess.run(command, env=told | environment, check=True, capture_output=True, text=True).stdout.split()


def test_a_step_finds_the_memory_of_the_step_before():
    code = "step(); print(pages()); assert keep_freed_memory(); step(); print(pages())"
    before, kept = (int(number) for number in run(code))
    assert before > 1000  # large pages would be 80
    assert kept < before / 10


def test_what_was_kept_is_given_back():
    code = "b = resident(); keep_freed_memory(); step(); print(resident() - b); "
    code += "return_freed_memory(); print(resident() - b)"
    kept, left = (float(number) for number in run(code))
    assert kept > 100
    assert left < 20


def test_a_large_block_is_given_back_at_once():
    code = "b = resident(); keep_freed_memory(); np.ones(100 * 2**20, dtype=np.uint8); print(resident() - b)"
    assert float(run(code)[0]) < 20


@pytest.mark.parametrize("name", [*OWN_SETTINGS, "GLIBC_TUNABLES"])
def test_settings_of_the_users_own_stay(name):
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert run("print(keep_freed_memory())", **{name: value}) == ["False"]
