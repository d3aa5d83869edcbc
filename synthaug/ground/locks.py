"""Locks on open files, which end with their process; of every system that has them, by ``filelock``."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import filelock

POLL_SECONDS = 0.02
"""Between looks at a lock that another process holds."""


def try_lock(stream: IO) -> bool:
    """Lock an open file until it is closed; False where another process holds it.

    Raises:
        OSError: The file system locks no files.
    """
    return filelock.lock_descriptor(stream.fileno(), blocking=False)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file, which is made where it is missing; whoever holds it is waited for."""
    with path.open("a", encoding="utf-8") as stream:
        filelock.lock_descriptor(stream.fileno(), poll_interval=POLL_SECONDS)
        yield
