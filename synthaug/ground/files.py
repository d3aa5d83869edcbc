"""Files that are whole or absent, and hashes that tell whether they changed."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthaug.ground.errors import InputError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path`` in one step.

    The temporary name keeps the suffixes of ``path``, because writers choose their format by suffix.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON in one step."""
    write_text(path, json.dumps(value, indent=2, default=str, allow_nan=False) + "\n")


def read_bytes(path: Path, *, named: str = "", missing: str = "no such file") -> bytes:
    """The bytes of a file; InputError that names it (``named``, its path) where it cannot be read."""
    named = named or str(path)
    named = named if len(named) < 500 else f"{named[:200]}… ({len(named)} characters)"
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{named}: {missing}.") from error
    except OSError as error:  # a folder, no permission, a loop of links, a name that is too long
        raise InputError(f"{named}: cannot be read ({error.strerror}).") from error
    except ValueError as error:  # a NUL character
        raise InputError(f"{named!r}: is no path ({error}).") from error


def read_json(path: Path) -> Any:
    """Read JSON; a broken file is named in the error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete it to have it made again.") from error


def as_plain(value: Any) -> Any:
    """What JSON writes for a value that it does not know: numbers of NumPy as Python's, all else as text."""
    return value.item() if getattr(value, "shape", None) == () else str(value)


def content_hash(value: Any) -> str:
    """Sixteen hex digits that name ``value`` (dataclass or anything JSON can write).

    Example:
        >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
        True
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=as_plain).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def usable_folder(path: Path) -> Path:
    """Create ``path`` if need be and prove that it can be written; InputError if not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot write there ({error.strerror}); choose another output folder.") from error
    return path


def inside(folder: Path, relative: str) -> Path:
    """``folder / relative``, refused if it leads out of ``folder``.

    Links inside the folder are followed: whoever can make one there owns the folder, and many data sets are made of
    links.
    """
    path = Path(os.path.normpath(folder / relative))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise InputError(f"{relative!r} leads out of {folder}; paths must stay inside the folder of their manifest.")
    return path


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it takes the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
