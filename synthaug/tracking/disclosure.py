"""What MLflow is told of patients who are not public: no ids, no images."""

import contextlib
import csv
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthaug.ground.people import pseudonym
from synthaug.study.folder.shareable import make_shareable
from synthaug.study.records import CellRecord

ID_KEYS = ("subject_id", "patient_id", "nearest_subject", "nearest_patient")
"""Keys and columns that name a person."""
TEXT_KEYS = ("error", "seal")
"""Keys of free text, which may name one, and of marks by which one could be found."""


def with_pseudonyms(record: CellRecord) -> CellRecord:
    """A cell's record whose predictions name nobody."""
    rows = [
        replace(row, subject_id=pseudonym(row.subject_id), patient_id=pseudonym(row.patient_id))
        for row in record.predictions
    ]
    return replace(record, predictions=tuple(rows))


def without_ids(value: Any) -> Any:
    """Nested values with pseudonyms in place of ids, and without free text.

    Example:
        >>> without_ids({"rows": [{"label": 1, "error": "patient p1: ..."}]})
        {'rows': [{'label': 1, 'error': "see the study's folder"}]}
    """
    if isinstance(value, Mapping):
        return {key: _told(key, item) for key, item in value.items()}
    return [without_ids(item) for item in value] if isinstance(value, list | tuple) else value


def _told(key: str, value: Any) -> Any:
    if key in ID_KEYS and isinstance(value, str):
        return pseudonym(value)
    if key in TEXT_KEYS and isinstance(value, str):
        return "see the study's folder"
    return without_ids(value)


@contextlib.contextmanager
def shown(paths: Sequence[Path], *, private: bool) -> Iterator[list[Path]]:
    """The files as MLflow gets them: as they are, or copies of the same names without ids and images."""
    if not private:
        yield list(paths)
        return
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / path.name for path in paths]
        for path, copy in zip(paths, copies, strict=True):
            copy.write_text(_without_patients(path), encoding="utf-8")
        yield copies


def _without_patients(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return make_shareable(text)
    if path.suffix == ".json":
        return json.dumps(without_ids(json.loads(text)), indent=2) + "\n"
    if path.suffix == ".csv":
        stream = io.StringIO(newline="")
        rows = list(csv.DictReader(io.StringIO(text)))
        writer = csv.DictWriter(stream, rows[0].keys() if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(without_ids(rows))
        return stream.getvalue()
    return text
