"""Files that are whole or absent, and hashes that tell whether they changed."""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from synthaug.ground.errors import InputError

Record = TypeVar("Record")
TEMPORARY = re.compile(r"\.(\d+)-([0-9a-f]{8})-[0-9a-f]{8}\..")
"""Names of what is being written: process, machine, a random number, and the name that it will have."""
ABANDONED_SECONDS = 24 * 3600.0
"""Age from which what another machine was writing is taken for a left-over."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors that say of the disk, not of the program, that nothing can be written."""
WORDS_OF_NO_ROOM = re.compile(
    r"No space left|File too large|quota|file write failed|iostream error|unexpected pos \d+ vs|os error (27|28|122)"
)
"""What writers say that hide the system's error."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path`` in one step.

    The temporary name keeps the suffixes of ``path``, because writers choose their format by suffix.

    Raises:
        InputError: The disk is full, or cannot be written to.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text(encoding="utf-8")
        'whole'
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that no other process on any machine has: containers share numbers of processes."""
    if path.name in ("", ".."):
        raise InputError(f"{path}: is a place without a name of its own; give the name that is to be made there.")
    return path.with_name(f".{os.getpid()}-{_machine()}-{secrets.token_hex(4)}.{path.name}")


@functools.cache
def _machine() -> str:
    """Eight hex digits that name the machine, or the container, since it was started."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # where there is no /proc the host's name has to do
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk, in the words of whichever library wrote, into one line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError):
            reason = error.strerror if error.errno in NO_ROOM else None
        else:
            reason = "No space left on device" if WORDS_OF_NO_ROOM.search(str(error)) else None
        if reason is None or isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: cannot be written ({reason}); make room or choose another folder, then run the same again."
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove from a folder, and from those in it, what killed runs were writing.

    What a living process of this machine writes is left, and what another machine was writing less than a day ago.
    """
    for place in [folder, *(entry for entry in _entries(folder) if entry.is_dir() and not entry.is_symlink())]:
        for left in _entries(place):
            named = TEMPORARY.match(left.name)
            if not named or not _is_abandoned(left, int(named[1]), named[2]):
                continue
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return [*folder.iterdir()]
    except OSError:  # gone meanwhile, or another user's
        return []


def _is_abandoned(path: Path, process: int, machine: str) -> bool:
    with contextlib.suppress(OSError):
        if machine == _machine():
            import psutil  # late: most commands never ask

            return process >= 2**31 or not psutil.pid_exists(process)  # anybody can have written the name
        return time.time() - path.stat().st_mtime > ABANDONED_SECONDS
    return False


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


REMADE, COPIED = "delete it to have it made again", "copy it again from where it came"
"""What is to be done about a broken file that this program makes, and about one that it cannot make again."""


def read_json(path: Path, *, kind: type = dict, mend: str = REMADE) -> Any:
    """Read JSON.

    Args:
        path: The file.
        kind: What it must hold: dict, an object; list, an array.
        mend: What is to be done where it holds something else.

    Raises:
        InputError: The file is missing, or holds something else; it is named.
    """
    content = read_bytes(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, numbers or nesting without end
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not valid JSON ({reason}); {mend}.") from error
    if not isinstance(found, kind):
        raise InputError(f"{path}: holds a {type(found).__name__} where a {kind.__name__} belongs.")
    return found


def read_record(path: Path, make: Callable[[Any], Record], *, mend: str = REMADE) -> Record:
    """What ``make`` makes of a file of JSON; InputError that names the file, and ``mend``, where it cannot.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> write_json(path, {"steps": 3})
        >>> read_record(path, lambda told: told["steps"])
        3
    """
    try:
        return make(read_json(path, mend=mend))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: is not the record that belongs there ({type(error).__name__}: {error}); {mend}."
        ) from error


def as_plain(value: Any) -> Any:
    """What JSON writes for a value that it does not know: numbers of NumPy as Python's, all else as text."""
    return value.item() if getattr(value, "shape", None) == () else str(value)


def canonical(value: Any) -> Any:
    """``value`` with equal numbers alike (2, 2.0 and NumPy's) and sequences as lists: what ids and seeds are made of.

    Example:
        >>> canonical({"a": (2.0, 0.5)})
        {'a': [2, 0.5]}
    """
    if isinstance(value, dict):
        return {key: canonical(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(each) for each in value]
    if getattr(value, "shape", None) == ():
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
    """Create ``path`` if need be and prove that it can be written (else InputError); remove what killed runs left."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = _temporary(path / "probe")
        probe.write_bytes(bytes(4096))
        probe.unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot write there ({error.strerror}); choose another output folder.") from error
    except ValueError as error:  # a NUL character
        raise InputError(f"{str(path)!r}: is no path ({error}).") from error
    remove_leftovers(path)
    return path


@contextlib.contextmanager
def without_new_folders(path: Path) -> Iterator[None]:
    """Remove the folders on the way to ``path`` that are new and empty where the block fails."""
    new = [place for place in (path, *path.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        for place in new:
            with contextlib.suppress(OSError):  # never made, or something stands there
                place.rmdir()
        raise


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
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        temporary.mkdir()
        try:
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sqlite_address(path: Path) -> str:
    """The address of an SQLite file, as SQLAlchemy and MLflow read it back.

    Example:
        >>> sqlite_address(Path("/data/a?b%20c/mlflow.db"))
        'sqlite:////data/a%3Fb%2520c/mlflow.db'
    """
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"
