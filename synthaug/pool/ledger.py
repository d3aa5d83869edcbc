"""A pool's files: the header, the append-only manifest, the claims of builders, the checked volumes.

Several builders may write one folder at once, on file systems that lock files. A line of the manifest is
written after its volume, under one lock; a volume is claimed by id before it is made. A claim ends with its process.
The lock of a machine that died is taken over after ten minutes without a heartbeat.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import nibabel
import numpy as np
import torch
import torchio as tio

from synthaug.generate.stored.record import ALIASES, PUBLIC_SETS
from synthaug.ground import locks
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, file_hash, inside, read_json, write_json, write_text
from synthaug.ground.heartbeats import is_stale, keep_alive, let_go
from synthaug.ground.locks import try_lock

HEADER = "pool.json"
MANIFEST = "manifest.jsonl"
LOCK = ".lock"
CLAIMS = "claims"
TAKING_OVER = ".taking-over"
"""Locked by whoever takes over a claim."""
VOLUMES = "volumes"
OWN_NAME = re.compile(r"volumes/\w[\w.-]*")
"""What builders call a volume; no such name leads out of the pool."""
HALF_WRITTEN = re.compile(r"\.\d+[-\da-f]*\.([^._]+)_")
"""A volume that is being written: .process-machine-random.id_image.nii; earlier versions gave the process alone."""
ENTRY_KEYS = {"id", "label", "index", "recipe", "files", "sha256", "class_probabilities"}

Entry = dict[str, Any]


class Ledger:
    """The entries of a pool's manifest, by id; :meth:`refresh` reads what was added since. Close it after use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / MANIFEST
        self.entries: dict[str, Entry] = {}
        self.torn: list[int] = []
        """Lines in the middle that are no JSON, from 1: what they listed is lost. Builders make it again."""
        self._stream: BinaryIO | None = None
        self._lines = 0

    def close(self) -> None:
        """Let go of the manifest."""
        if self._stream:
            self._stream.close()
        self._stream, self._lines, self.torn = None, 0, []

    def refresh(self) -> None:
        """Read the whole lines that were added; of two lines of one id the later counts.

        Raises:
            InputError: A line is JSON, but no entry of a pool.
        """
        if not self.path.is_file():
            return
        # The stream stays open between calls, so that the number of a file that was replaced is not given out again.
        if self._stream and not os.path.samestat(os.fstat(self._stream.fileno()), self.path.stat()):
            self.close()
        if self._stream is None:
            self._stream = self.path.open("rb")
        start = self._stream.tell()
        whole, newline, _ = self._stream.read().rpartition(b"\n")  # a line without its end is still being written
        self._stream.seek(start + len(whole) + len(newline))
        for line in whole.split(b"\n") if newline else ():
            self._lines += 1
            entry = self._read(line)
            if entry is None:
                self.torn.append(self._lines)
                continue
            known = self.entries.get(entry["id"], entry)  # a volume that was made again stands twice, the same
            if any(known[key] != entry[key] for key in ("recipe", "index", "label")):
                raise InputError(
                    f"{self.path}, line {self._lines}: id {entry['id']} stands there twice, for two volumes; take one "
                    "line out."
                )
            self.entries[entry["id"]] = entry

    def _read(self, line: bytes) -> Entry | None:
        try:
            entry = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            return None
        if not _is_entry(entry):
            raise InputError(
                f"{self.path}, line {self._lines}: is not an entry of a pool; delete the line and build again."
            )
        for file in entry["files"].values():
            if not OWN_NAME.fullmatch(file):  # a quick look first: a pool may list millions
                inside(self.folder, file)
        return entry

    def holds(self, volume_id: str) -> bool:
        """Whether a volume is listed and all of its files are there."""
        entry = self.entries.get(volume_id)
        return entry is not None and all(inside(self.folder, file).is_file() for file in entry["files"].values())

    def append(self, entry: Entry) -> None:
        """Add an entry as one line, on disk when this returns."""
        with locked(self.folder):
            _append_line(self.path, entry_line(entry))

    def settle(self) -> None:
        """Bring the manifest into its one order, so that equal pools are equal files, and sweep up what kills left."""
        with locked(self.folder):
            self.refresh()
            text = "".join(f"{entry_line(entry)}\n" for entry in sorted(self.entries.values(), key=place))
            if self.path.is_file() and self.path.read_bytes() != text.encode():
                write_text(self.path, text)
            for name in (HEADER, MANIFEST):
                for left in self.folder.glob(f".*.{name}"):
                    left.unlink(missing_ok=True)


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() >= ENTRY_KEYS
        and isinstance(entry["id"], str)
        and all(isinstance(entry[key], dict) for key in ("recipe", "files", "sha256"))
        and all(isinstance(file, str) for file in entry["files"].values())
    )


def place(entry: Entry) -> tuple[int, int, int]:
    """Requested class, index and attempt of an entry: the order of a pool."""
    recipe = entry.get("recipe", {})
    return recipe.get("requested_class", entry["label"]), entry["index"], entry.get("attempt", 0)


def class_read(entry: Entry) -> int | None:
    """The class that the generator read from the volume's report; None = it reads none."""
    probabilities = entry["class_probabilities"]
    return max(range(len(probabilities)), key=probabilities.__getitem__) if probabilities else None


def entry_line(entry: Entry) -> str:
    """An entry as one line of JSON."""
    return json.dumps(entry, sort_keys=True)


def locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the manifest for as long as one line takes."""
    return locks.locked(folder / LOCK)


def claim(folder: Path, volume_id: str) -> TextIO | None:
    """Claim a volume for this builder; None where another one is at it.

    Whoever gets the claim has to look into the manifest again: the one before may have finished it.
    """
    path = folder / CLAIMS / volume_id
    stream: TextIO = path.open("a")
    if not try_lock(stream) and is_stale(stream):
        stream = _taken_over(path, stream)
    if not try_lock(stream) or not _is_there(stream):  # released, and so removed, between opening and locking
        stream.close()
        return None
    keep_alive(stream)
    return stream


def _taken_over(path: Path, stale: TextIO) -> TextIO:
    """Another file in the place of one whose holder gives no sign of life; of several that try, one makes it.

    Should the holder live after all, both make the same bytes, and what is written whole is replaced by its equal.
    """
    with (path.parent / TAKING_OVER).open("a") as guard:
        if try_lock(guard) and is_stale(stale) and _is_there(stale):
            path.unlink(missing_ok=True)
    stale.close()
    return path.open("a", encoding="utf-8")


def _is_there(stream: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(stream.name))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):  # stale: removed by another machine
            return False
        raise


def release(stream: TextIO) -> None:
    """Give a claim back, unless somebody has taken it over."""
    let_go(stream)
    if _is_there(stream):
        Path(stream.name).unlink(missing_ok=True)
    stream.close()


def sweep(folder: Path) -> None:
    """Remove what killed builders left: claims without an owner, and volumes half written under such claims."""
    # Other hidden files are not ours: .DS_Store, .nfs…, and TAKING_OVER.
    left: dict[str, list[Path]] = {path.name: [] for path in (folder / CLAIMS).iterdir() if path.name[0] != "."}
    for path in (folder / VOLUMES).glob(".*"):
        half = HALF_WRITTEN.match(path.name)
        if half:
            left.setdefault(half[1], []).append(path)
    for volume_id, paths in left.items():
        claimed = claim(folder, volume_id)
        if claimed:
            for path in paths:
                path.unlink(missing_ok=True)
            release(claimed)


def match_header(folder: Path, header: dict[str, Any]) -> None:
    """Write the header of a new pool; InputError where the pool was begun in another way."""
    header = json.loads(json.dumps(header))  # as it reads back: tuples are lists
    with locked(folder):
        path = folder / HEADER
        if not path.is_file():
            write_json(path, header)
            return
    known = read_json(path)
    for key, value in header.items():
        # Earlier versions did not write these.
        usual = value if key in (PUBLIC_SETS, ALIASES) else None
        if known.get(key, usual) != value:
            raise InputError(f"{folder}: this pool was built otherwise ({key} differs); choose another folder.")


def write_volume(path: Path, volume: np.ndarray, affine: np.ndarray) -> str:
    """Uncompressed float32 NIfTI in mm; returns its SHA-256."""
    image = nibabel.Nifti1Image(volume.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)
        return file_hash(temporary)


def checked_image(path: Path, sha256: str) -> tio.ScalarImage:
    """A volume as an image that :func:`read_volume` reads when its data is used."""
    try:
        return tio.ScalarImage(path, reader=functools.partial(read_volume, sha256=sha256))
    except FileNotFoundError as error:  # torchio looks for the file at once
        raise InputError(f"{path}: is missing; build the pool again.") from error


def read_volume(path: Path, sha256: str) -> tuple[torch.Tensor, np.ndarray]:
    """Read a volume whose bytes are those that were written: (1, X, Y, Z) float32 and its affine.

    The hash is taken of the very bytes that are parsed, at every read.

    Raises:
        InputError: The file is missing, truncated or altered.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); build the pool again.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path}: altered or truncated since it was generated; delete it and build the pool again.")
    image = nibabel.Nifti1Image.from_bytes(content)
    return torch.from_numpy(np.array(image.dataobj, dtype=np.float32))[None], np.asarray(image.affine)


def _append_line(path: Path, line: str) -> None:
    """One write of one line, in the place of a last line without its end, which a killed builder left."""
    # O_BINARY is of Windows, which writes other ends of lines without it, and lacks pread.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    try:
        os.ftruncate(descriptor, _end_of_whole_lines(descriptor))
        content = f"{line}\n".encode()
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end_of_whole_lines(descriptor: int, *, block: int = 1 << 16) -> int:
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - block)
        os.lseek(descriptor, start, os.SEEK_SET)
        newline = os.read(descriptor, end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
