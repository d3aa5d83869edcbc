"""The files of which a folder has one: config.yaml, summary.json, report.html and the like, of one study at a time."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from synthaug.ground.files import content_hash, usable_folder, write_text
from synthaug.pool.ledger import locked
from synthaug.study.folder.standing import STAMP

CONFIG = "config.yaml"
FILES = (STAMP, "split*.csv", "results.csv", "summary.json", "report*.html", "report-data.json")
EARLIER = "earlier"


@contextlib.contextmanager
def placed(out: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder's result files while this study writes its own.

    The results of another study that shares the folder are kept in ``earlier``, and that is told. Cells, generators
    and pools have names of their own and stay.

    Args:
        out: The folder, made where it is missing.
        settings: All settings of the study, plain values.

    Raises:
        InputError: The folder cannot be written.
    """
    with locked(usable_folder(out)):
        text = yaml.safe_dump(dict(settings), sort_keys=False)
        if (out / CONFIG).is_file():
            _set_aside(out, text)
        if not (out / CONFIG).is_file():
            write_text(out / CONFIG, text)
        yield


def _set_aside(out: Path, text: str) -> None:
    known = (out / CONFIG).read_text(encoding="utf-8")
    if known == text:
        return
    if _without_report(known) == _without_report(text):
        write_text(out / CONFIG, text)
        return
    folder = out / EARLIER / content_hash(known)
    folder.mkdir(parents=True, exist_ok=True)
    # The config last: a process killed before goes on here when the study is run again.
    for path in [*(path for pattern in FILES for path in sorted(out.glob(pattern))), out / CONFIG]:
        os.replace(path, folder / path.name)
    tqdm.write(f"{out}: the results of another study there were moved to {folder}.", file=sys.stderr)


def _without_report(text: str) -> Any:
    """The settings that results depend on; damaged files are as they are."""
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return {key: value for key, value in settings.items() if key != "report"} if isinstance(settings, dict) else text
