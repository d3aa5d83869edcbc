"""Freed memory that stays with the process."""

import multiprocessing
import platform
import resource
from pathlib import Path

import pytest
import torch

from synthaug.ground.memory import OWN_SETTINGS, keep_freed_memory, return_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
MB = 2**20


def in_a_process_of_its_own(work, *arguments):
    """What ``work`` returns; settings of the allocator cannot be taken back."""

    def told(answers):
        keep_freed_memory.cache_clear()
        answers.put(work(*arguments))

    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    child = fork.Process(target=told, args=(answers,))
    child.start()
    answer = answers.get()
    child.join(60)
    return answer


def pages_of_ten_steps(keep):
    """Pages that the system had to find for ten allocations of 40 MB, of which one is held at a time."""
    if keep:
        keep_freed_memory()
    for _ in range(10):  # pages that were the parent's are copied when they are first written
        torch.ones(10 * MB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10 * MB)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_step_finds_the_memory_of_the_step_before():
    assert in_a_process_of_its_own(pages_of_ten_steps, False) > 10 * 40 * MB / resource.getpagesize() / 2
    assert in_a_process_of_its_own(pages_of_ten_steps, True) < 40 * MB / resource.getpagesize()


def resident():
    """MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def kept_and_returned():
    keep_freed_memory()
    before = resident()
    torch.ones(40 * MB)
    kept = resident() - before
    return_freed_memory()
    return kept, resident() - before


def test_what_was_kept_is_given_back():
    kept, left = in_a_process_of_its_own(kept_and_returned)
    assert kept > 100
    assert left < 20


@pytest.mark.parametrize("name", [*OWN_SETTINGS, "GLIBC_TUNABLES"])
def test_settings_of_the_users_own_stay(name, monkeypatch):
    monkeypatch.setenv(name, "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072")
    assert not in_a_process_of_its_own(keep_freed_memory)
