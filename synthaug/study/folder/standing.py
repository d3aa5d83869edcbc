"""Is there anything to do? A look at files alone, so that the rerun of a finished study need not import torch."""

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synthaug.config import Config
from synthaug.ground.files import content_hash, read_record, write_json
from synthaug.study.records import Summary, read_summary

STAMP = "finished.json"
MOST_FILES = 100_000
"""With more input files than this the study is gone through anew, which says the same more slowly."""
PACKAGE = Path(__file__).parents[2]


def inputs_of(config: Config, out: Path, *, package: Path = PACKAGE, most_files: int = MOST_FILES) -> str | None:
    """Hash of everything that a study depends on; None where there are more than ``most_files`` files.

    These are the settings, the tracking server, and names, sizes and modification times of files. The files are those
    of the package and those that settings name, with all below them.

    Args:
        config: The study.
        out: Its folder, which is excluded.
        package: Folder of the code.
        most_files: Files to look at, at most.
    """
    settings = asdict(config)
    places = [package, *sorted({Path(word) for word in _words(settings) if word and os.path.exists(word)})]
    files = itertools.chain.from_iterable(_files_in(place, without=out.resolve()) for place in places)
    seen = list(itertools.islice(files, most_files + 1))
    if len(seen) > most_files:
        return None
    return content_hash([settings, os.environ.get("MLFLOW_TRACKING_URI"), [[str(file), _look(file)] for file in seen]])


def mark_finished(out: Path, inputs: str | None, files: Iterable[Path], *, present: Iterable[Path] = ()) -> None:
    """Note that a study is complete.

    Args:
        out: Its folder.
        inputs: :func:`inputs_of`, from before the inputs were read.
        files: What the study consists of; a file that is not there must not be there later either.
        present: What must be there later, changed or not.
    """
    looks = {os.path.relpath(file, out): _look(file) for file in files}
    write_json(out / STAMP, {"inputs": inputs, "files": looks, "present": [os.path.relpath(p, out) for p in present]})


def finished_summary(config: Config, out: Path) -> Summary | None:
    """The summary of a study to which nothing is to be done; None where something may have changed."""
    if not (out / STAMP).is_file():
        return None
    inputs, files, present = read_record(
        out / STAMP, lambda stamp: (stamp["inputs"], dict(stamp["files"]), [*map(str, stamp["present"])])
    )
    changed = any(_look(out / name) != look for name, look in files.items())
    if changed or not all((out / name).exists() for name in present):
        return None
    unchanged = inputs is not None and inputs == inputs_of(config, out)
    return read_summary(out) if unchanged else None


def _words(value: Any) -> Iterator[str]:
    """Every text in nested settings: some name files."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(_words, value.values()))
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(map(_words, value))


def _files_in(place: Path, *, without: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    seen = {place.resolve()}  # a link may lead back up
    for folder, below, files in os.walk(place, followlinks=True):
        real = {name: (Path(folder) / name).resolve() for name in sorted(below) if name != "__pycache__"}
        below[:] = [name for name, path in real.items() if path != without and path not in seen]
        seen.update(real.values())
        yield from (Path(folder) / name for name in sorted(files))


def _look(file: Path) -> list[int] | None:
    """Size and time of change."""
    try:
        status = file.stat()
    except OSError:  # missing, or a link that leads nowhere
        return None
    return [status.st_size, status.st_mtime_ns]
