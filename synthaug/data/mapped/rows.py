"""Files of float32 arrays of one shape, each found by the hash of what it follows from, mapped into memory.

``NAME.npy`` holds the arrays as rows, as NumPy writes them. ``NAME.json`` is written after it: key, SHA-256 and facts
of each row. The name is the hash of the keys: processes that make the same rows write the same bytes.
"""

import contextlib
import hashlib
import json
import logging
import math
import mmap
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from synthaug.ground.errors import InputError
from synthaug.ground.files import (
    atomic_path,
    content_hash,
    read_record,
    remove_leftovers,
    without_new_folders,
    write_text,
)

NO_RESERVE = 0x4000
"""``MAP_NORESERVE`` of Linux on x86 and ARM. Without it the kernel refuses private maps that are larger than memory."""
FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class Row:
    """An array in a file, and what is known of it."""

    file: "RowFile"
    number: int
    facts: Mapping[str, Any]

    def values(self, channel: int) -> torch.Tensor:
        """One channel (1, ...) of the array; it shares the mapped bytes."""
        return self.file.read(self.number, channel)


class RowFile:
    """A file of rows, mapped; where it cannot be mapped each row is read when it is asked for.

    The map is private: what is written to a tensor stays in this process, and the file is never changed.

    Args:
        index: Path of the ``.json`` file.

    Raises:
        InputError: The files are missing, damaged or incomplete.
    """

    def __init__(self, index: Path) -> None:
        told = read_record(index, lambda told: {name: told[name] for name in ("offset", "shape", "rows")})
        self.index, self.path = index, index.with_suffix(".npy")
        self.offset, self.shape, self.rows = told["offset"], tuple(told["shape"]), told["rows"]
        self.row_bytes = FLOAT.itemsize * math.prod(self.shape)
        self._checked: set[int] = set()
        with _opened(self.path) as stream:
            size = stream.seek(0, os.SEEK_END)
        expected = self.offset + len(self.rows) * self.row_bytes
        if size != expected:
            raise InputError(f"{self.path} has {size} bytes in place of {expected}")
        self._map = _map(self.path)

    def read(self, number: int, channel: int | None = None) -> torch.Tensor:
        """A row, or one channel (1, ...) of it."""
        shape, start, size = self.shape, self.offset + number * self.row_bytes, self.row_bytes
        if channel is not None:
            size //= shape[0]
            shape, start = (1, *shape[1:]), start + channel * size
        if self._map is not None:
            # A storage of its own: a copy of the tensor must not copy the whole file.
            flat = torch.frombuffer(self._map, dtype=torch.float32, count=size // FLOAT.itemsize, offset=start)
        else:
            flat = torch.frombuffer(_read(self.path, start, size), dtype=torch.float32)
        return flat.view(shape)

    def check(self, number: int) -> None:
        """InputError where the bytes of a row are not those that were written; each is looked at once a process."""
        if number not in self._checked and _sha256(self.read(number).numpy()) != self.rows[number]["sha256"]:
            raise InputError(f"{self.path} has other bytes in row {number} than were written")
        self._checked.add(number)

    def release(self) -> None:
        """Let go of the pages that were read; they are mapped again when they are used."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class RowFiles:
    """The rows in a folder.

    Args:
        folder: Made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, keys: Iterable[str]) -> dict[str, Row]:
        """The rows that are there, by key. Files that are damaged are removed, with a warning."""
        wanted, found = set(keys), dict[str, Row]()
        for index in sorted(self.folder.glob("[!.]*.json")):
            try:
                found |= _rows_of(open_rows(index), wanted - found.keys())
            except (InputError, KeyError, TypeError, ValueError) as error:
                reason = str(error) if isinstance(error, InputError) else f"{index} is not as it was written"
                logging.getLogger(__name__).warning(f"{reason.rstrip('.')}; what it holds is made again.")
                for path in (index, index.with_suffix(".npy")):
                    with contextlib.suppress(OSError):  # gone, or not ours to remove
                        path.unlink()
        return found

    def write(
        self, keys: Sequence[str], shape: Sequence[int], rows: Iterable[tuple[torch.Tensor, Mapping[str, Any]]]
    ) -> None:
        """Write a file of rows, one at a time, so that memory holds one of them.

        Args:
            keys: Of the rows.
            shape: Of each row.
            rows: Arrays and their facts, as JSON can write them.

        Raises:
            InputError: The disk is full or cannot be written to.
        """
        path, told = self.folder / f"{content_hash(list(keys))}.npy", []
        if not path.exists():
            _WRITTEN.update((path, path.with_suffix(".json")))
        remove_leftovers(self.folder)
        with without_new_folders(self.folder), atomic_path(path) as temporary, temporary.open("wb") as stream:
            header = {"descr": FLOAT.str, "fortran_order": False, "shape": (len(keys), *shape)}
            np.lib.format.write_array_header_1_0(stream, header)
            offset = stream.tell()
            for key, (values, facts) in zip(keys, rows, strict=True):
                array = np.ascontiguousarray(values.numpy(), dtype=FLOAT)
                stream.write(array.data)
                told.append({"key": key, "sha256": _sha256(array), "facts": facts})
        write_text(path.with_suffix(".json"), json.dumps({"offset": offset, "shape": list(shape), "rows": told}) + "\n")


_WRITTEN: set[Path] = set()
"""Files that this process wrote: others may be another bench's."""


def written_in(folder: Path) -> set[Path]:
    """The files of a folder that this process wrote, whole or not."""
    return {path for path in _WRITTEN if path.parent == folder}


_OPENED: weakref.WeakValueDictionary[tuple[Any, ...], RowFile] = weakref.WeakValueDictionary()
"""Files in use, each mapped once a process."""


def open_rows(index: Path) -> RowFile:
    """The file of an index, mapped once however often it is opened."""
    with contextlib.suppress(OSError):
        states = [path.stat() for path in (index, index.with_suffix(".npy"))]
        name = (index.resolve(), *((state.st_ino, state.st_size, state.st_mtime_ns) for state in states))
        return _OPENED.get(name) or _OPENED.setdefault(name, RowFile(index))
    return RowFile(index)  # which says what is missing


def _rows_of(file: RowFile, wanted: set[str]) -> dict[str, Row]:
    found = {}
    for number, row in enumerate(file.rows):
        if row["key"] in wanted:
            file.check(number)
            found[row["key"]] = Row(file, number, row["facts"])
    return found


def _map(path: Path) -> mmap.mmap | None:
    """The file in memory, copied where it is written to; None = it cannot be mapped."""
    with path.open("rb") as stream, contextlib.suppress(OSError, ValueError):
        if sys.platform == "linux":
            flags = mmap.MAP_PRIVATE | NO_RESERVE
            return mmap.mmap(stream.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    return None


def _read(path: Path, start: int, size: int) -> bytearray:
    with _opened(path) as stream:
        stream.seek(start)
        return bytearray(stream.read(size))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    with stream:
        yield stream


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(array.data).hexdigest()
