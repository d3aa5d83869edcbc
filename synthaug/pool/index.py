"""Where the lines of a manifest stand, so that a pool of millions of volumes opens without reading every entry.

The index is made from one manifest. Where the manifest has changed, or the index is damaged, the manifest is read
whole. It holds the order in which a pool lists its volumes.
"""

import contextlib
import hashlib
import json
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, file_hash
from synthaug.pool.ledger import MANIFEST, Entry

INDEX = "manifest.index"
LEAST = 10_000
"""Entries from which a pool gets an index; fewer are read in half a second."""
REVISION = 1
_START = np.dtype("<i8")


class Lines(Sequence[Entry]):
    """Entries of a manifest in an order of their own, each read when it is asked for.

    The file that was opened stays open, so that a manifest that takes its place changes nothing here.
    """

    def __init__(self, manifest: Path, starts: np.ndarray) -> None:
        self.manifest, self.starts = manifest, starts
        """Where each entry's line begins (n,), in bytes."""
        with manifest.open("rb") as stream:
            self._file = os.fstat(stream.fileno())
            self._content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        start = int(self.starts[place])
        return json.loads(self._content[start : self._content.find(b"\n", start)])

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.manifest, self.starts, _stamp(self._file))

    def is_current(self) -> bool:
        """Whether the manifest is still the file that was opened."""
        with contextlib.suppress(OSError):
            return _stamp(self.manifest.stat()) == _stamp(self._file)
        return False


def _stamp(file: os.stat_result) -> tuple[int, int, int]:
    return file.st_ino, file.st_size, file.st_mtime_ns


def _reopened(manifest: Path, starts: np.ndarray, stamp: tuple[int, int, int]) -> Lines:
    """In another process, where the same file must be found."""
    lines = Lines(manifest, starts)
    if _stamp(lines._file) != stamp:
        raise InputError(f"{manifest}: has changed since the pool was opened; open it again.")
    return lines


@dataclass(frozen=True)
class Index:
    """The volumes of a pool without their entries."""

    by_class: dict[int, Lines]
    """Kept volumes, by label."""
    turned_down: Lines
    """Those of no class."""
    identity: str
    """Hash of the ids of all kept volumes."""

    def is_current(self) -> bool:
        """Whether nothing was added since."""
        return self.turned_down.is_current()


def write_index(folder: Path, lists: Mapping[Any, Sequence[Entry]], identity: str) -> None:
    """Write the index of a pool's manifest; not while others add to it.

    Args:
        folder: The pool.
        lists: Kept entries by label, and those turned down under None; each in the pool's order.
        identity: Of the pool.
    """
    manifest = (folder / MANIFEST).read_bytes()
    starts, at = {}, 0
    for line in manifest.split(b"\n")[:-1]:
        starts[json.loads(line)["id"]] = at  # of two lines of one id the later counts
        at += len(line) + 1
    ids = [entry["id"] for entries in lists.values() for entry in entries]
    if len(ids) != len(starts) or any(name not in starts for name in ids):
        return
    told = {
        "revision": REVISION,
        "manifest": hashlib.sha256(manifest).hexdigest(),
        "identity": identity,
        "lists": [[label, len(entries)] for label, entries in lists.items()],
    }
    content = json.dumps(told).encode() + b"\n" + np.array([starts[name] for name in ids], dtype=_START).tobytes()
    with atomic_path(folder / INDEX) as temporary:
        temporary.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_index(folder: Path) -> Index | None:
    """The index of a pool's manifest as it is now; None where there is none, or it is of another manifest."""
    path, manifest = folder / INDEX, folder / MANIFEST
    if not path.is_file() or not manifest.is_file():
        return None
    digest, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        return None
    head, _, rest = content.partition(b"\n")
    told = json.loads(head)
    if told["revision"] != REVISION or told["manifest"] != file_hash(manifest):
        return None
    starts = np.frombuffer(rest, dtype=_START)
    ends = np.cumsum([count for _, count in told["lists"]])
    parts = zip(told["lists"], np.split(starts, ends[:-1]), strict=True)
    lines = {label: Lines(manifest, part) for (label, _), part in parts}
    return Index({label: part for label, part in lines.items() if label is not None}, lines[None], told["identity"])
