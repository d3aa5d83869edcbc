"""Whom a generator has seen: where they are many, their hashes stand in a compressed file beside the record."""

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path

PATIENTS = "patients.json.gz"
"""The record's ``patients`` names this file in place of a list; earlier versions refuse such a record."""
FEW = 200
"""So many hashes or fewer stay in the record."""
MOST_BYTES = 2**28
"""Of hashes, not compressed: those of three million patients."""


def set_aside(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record that a generator's folder keeps; many hashes are written to their own file there."""
    patients = record.get("patients", [])
    if len(patients) <= FEW:
        (folder / PATIENTS).unlink(missing_ok=True)
        return dict(record)
    with atomic_path(folder / PATIENTS) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(patients).encode(), mtime=0))
    return {**record, "patients": PATIENTS}


def with_patients(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """A record as it was before :func:`set_aside`; records of earlier versions stay as they are.

    Raises:
        InputError: The file of the hashes is missing or damaged.
    """
    if record.get("patients") != PATIENTS:
        return record
    path = folder / PATIENTS
    try:
        with gzip.open(path) as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError("it has no end")
        return {**record, "patients": json.loads(content)}
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: the hashes of the training patients cannot be read ({reason}); copy the generator's folder anew."
        ) from error
