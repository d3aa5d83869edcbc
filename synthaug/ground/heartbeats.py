"""Signs of life of whoever holds a file: on a shared disk the lock of a machine that died may outlive it.

Every ``BEAT_SECONDS`` a thread sets the time of change of each file that this process holds. Whoever waits for a file
that nobody has touched for ``STALE_SECONDS`` may take it over.
"""

import contextlib
import os
import threading
import time
from typing import IO

from synthaug.ground.forks import in_forked_children

BEAT_SECONDS = 30.0
STALE_SECONDS = 600.0
"""Many beats: a machine may be very busy, and the clocks of two machines differ."""

_held: dict[int, IO] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None


def keep_alive(stream: IO) -> None:
    """Give signs of life for an open file until :func:`let_go`, or the end of the process."""
    global _thread
    os.utime(stream.fileno())
    with _lock:
        _held[id(stream)] = stream
        if _thread is None:
            _thread = threading.Thread(target=_beat_for_ever, name="heartbeats", daemon=True)
            _thread.start()


def let_go(stream: IO) -> None:
    """End the signs of life of a file."""
    with _lock:
        _held.pop(id(stream), None)


def beat() -> None:
    """One sign of life of all files that are held."""
    with _lock:
        for stream in _held.values():
            with contextlib.suppress(OSError, ValueError):  # closed, or the disk is away for the moment
                os.utime(stream.fileno())


def is_stale(stream: IO) -> bool:
    """Whether nobody has given a sign of life for an open file for long."""
    return time.time() - os.fstat(stream.fileno()).st_mtime > STALE_SECONDS


def _beat_for_ever() -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        beat()


def _forget() -> None:
    """A forked child has neither the thread nor what its parent holds."""
    global _thread, _lock
    _held.clear()
    _thread, _lock = None, threading.Lock()


in_forked_children(_forget)
