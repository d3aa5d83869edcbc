"""Freed memory is kept for the next step of a computation; unreachable objects are looked for rarely."""

import ctypes
import functools
import gc
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt (malloc.h)."""
KEPT = 2**31 - 1
"""Bytes of freed memory at the heap's end that are kept, at most."""
BLOCK = 2**25
"""Bytes of a block, at most; it is the most that glibc takes. Larger ones would leave gaps between each other, in which
half as much memory again was lost."""
OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")
"""Environment variables by which a user sets the same; glibc reads them when the process starts."""


@functools.cache
def keep_freed_memory() -> bool:
    """Keep the blocks of up to 32 MiB that this process frees, up to 2 GiB; returns whether that was set.

    glibc gives blocks of some MB back to the system when they are freed. Each step of a training then gets its feature
    maps page by page, zeroed by the system, which took a quarter of the processor time of a classifier's step
    (``benchmarks/speed/classifier.py``). Other C libraries, and users who set the same themselves, are left alone.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if any(name in os.environ for name in OWN_SETTINGS) or "glibc.malloc." in tunables:
        return False
    library = _c_library()
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return False
    return bool(library.mallopt(MMAP_THRESHOLD, BLOCK) and library.mallopt(TRIM_THRESHOLD, KEPT))


def return_freed_memory() -> None:
    """Give the memory that ``keep_freed_memory`` kept back to the system; no more than that, where it set nothing."""
    library = _c_library()
    if library is not None and keep_freed_memory():
        library.malloc_trim(0)


def collect_rarely() -> None:
    """Let Python look for unreachable cycles more rarely, in a process of our own.

    Each time it goes through the objects of all libraries that are loaded, several hundred thousand: a quarter of the
    time of their import.
    """
    gc.set_threshold(100_000, 20, 100)


def _c_library() -> ctypes.CDLL | None:
    """None on Windows, whose programs have no common one."""
    return ctypes.CDLL(None) if os.name == "posix" else None
