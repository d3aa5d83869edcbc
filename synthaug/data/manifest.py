"""A manifest CSV becomes torchio subjects under one convention, or one clear error.

The convention: images are ``tio.ScalarImage`` under their manifest names; ``label`` int; ``subject_id``, ``patient_id``
and ``report`` str; ``synthetic`` bool; ``provenance`` str ("" = real). Every subject carries exactly these keys.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import pandas as pd
import torch
import torchio as tio

from synthaug.errors import InputError
from synthaug.files import inside

CONVENTION = ("label", "subject_id", "patient_id", "report", "synthetic", "provenance")
"""Keys that every subject has besides its images."""

PROVENANCE_COLUMN = "synthetic_provenance"
"""Column of a manifest that says how a synthetic subject was made."""


def load_manifest(
    csv: str | Path,
    images: Sequence[str],
    *,
    label: str = "label",
    report: str | None = None,
    subject: str = "subject_id",
    patient: str = "patient_id",
    provenance: str = PROVENANCE_COLUMN,
    unlabelled: Literal["refuse", "leave_out"] = "refuse",
    write_report: Callable[[Mapping[str, Any]], str] | None = None,
) -> list[tio.Subject]:
    """Read a manifest: one row a subject, image columns hold paths inside the manifest's folder.

    Every image is opened once and refused here, with its row, if a later stage could not use it.

    Args:
        csv: The manifest file.
        images: Image columns, in channel order.
        label: Column with the class, an integer from 0.
        report: Column with the report text; None = no reports, or those of ``write_report``.
        subject: Column that names the subject, without repeats.
        patient: Column that names the patient; if the manifest lacks it, each subject is a patient.
        provenance: Column that says how a synthetic subject was made, empty for a real one; if the manifest lacks it,
            all are real.
        unlabelled: What is done about a row whose class is empty: it is refused, or left out.
        write_report: Makes the report from the row when there is no report column.

    Returns:
        One subject a row that has a class, in file order, images not yet kept in memory.

    Raises:
        InputError: A column or file is missing, a value or an image cannot be used.
    """
    path = Path(csv)
    rows = _read_rows(path)
    needed = [subject, label, *images, *([report] if report else [])]
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}; the columns are {', '.join(rows.columns)}.")
    repeats = rows[subject][rows[subject].duplicated()]
    if len(repeats):
        raise InputError(f"{path}, row {repeats.index[0] + 2}: subject {repeats.iloc[0]!r} stands twice.")
    subjects = []
    for number, row in enumerate(rows.to_dict("records"), start=2):  # row 1 of the file is the header
        if unlabelled == "leave_out" and not row[label].strip():
            continue
        where = f"{path}, row {number}"
        volumes = {name: read_image(inside(path.parent, row[name]), where=where) for name in images}
        subjects.append(
            make_subject(
                volumes,
                label=_class_of(row[label], label, where),
                subject_id=row[subject],
                patient_id=row.get(patient, row[subject]),
                report=row[report] if report else write_report(row) if write_report else "",
                provenance=row.get(provenance, ""),
            )
        )
    return subjects


def read_columns(csv: str | Path, columns: Sequence[str], *, subject: str = "subject_id") -> dict[str, dict[str, str]]:
    """Columns of a manifest as {column: {subject: value}}, values as they are written.

    Raises:
        InputError: A column is missing.
    """
    path = Path(csv)
    rows = _read_rows(path)
    missing = [name for name in (subject, *columns) if name not in rows.columns]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}; the columns are {', '.join(rows.columns)}.")
    return {name: dict(zip(rows[subject], rows[name], strict=True)) for name in columns}


def make_subject(
    images: Mapping[str, tio.ScalarImage],
    *,
    label: int,
    subject_id: str,
    patient_id: str,
    report: str = "",
    provenance: str = "",
) -> tio.Subject:
    """A subject under the convention; it counts as synthetic where it has a provenance.

    Example:
        >>> image = tio.ScalarImage(tensor=torch.zeros(1, 2, 2, 2))
        >>> make_subject({"t2w": image}, label=1, subject_id="a", patient_id="a")["synthetic"]
        False
    """
    return tio.Subject(
        **images,
        label=int(label),
        subject_id=str(subject_id),
        patient_id=str(patient_id),
        report=report,
        synthetic=bool(provenance),
        provenance=provenance,
    )


def stack_images(subject: Mapping[str, Any], images: Sequence[str]) -> torch.Tensor:
    """The named images of a subject (or of a loader's batch) as channels: (..., C, X, Y, Z) float32."""
    return torch.cat([subject[name][tio.DATA].float() for name in images], dim=-4)


def class_counts(subjects: Sequence[tio.Subject]) -> dict[int, int]:
    """How many subjects each class has; InputError unless the classes are 0..K-1 with K >= 2.

    Example:
        >>> class_counts([{"label": 1}, {"label": 0}, {"label": 1}])
        {0: 1, 1: 2}
    """
    labels = sorted(int(subject["label"]) for subject in subjects)
    counts = {label: labels.count(label) for label in sorted(set(labels))}
    if len(counts) < 2:
        raise InputError(f"All {len(labels)} subjects have label {labels[0] if labels else None}; two classes needed.")
    if list(counts) != list(range(len(counts))):
        raise InputError(f"Labels are {list(counts)}; number the classes 0 to {len(counts) - 1} without gaps.")
    return counts


def read_image(path: Path, *, where: str = "") -> tio.ScalarImage:
    """Open a NIfTI file and make sure that it holds a usable single-channel volume.

    Raises:
        InputError: Missing, unreadable, not 3D, empty, constant, with values that are not finite, or compressed beside
            an uncompressed file of the same name.
    """
    prefix = f"{where}: {path.name}" if where else str(path)
    if not path.is_file():
        raise InputError(f"{prefix}: no such file.")
    if path.name.endswith(".nii.gz") and path.with_suffix("").exists():
        # ITK, which reads for torchio, would silently open the other one.
        raise InputError(f"{prefix}: {path.stem} stands beside it and would be read in its place; rename one of them.")
    try:
        image: Any = nibabel.load(path)
        shape = tuple(image.shape)
        values = np.asanyarray(image.dataobj) if 0 not in shape else np.empty(0)
    except Exception as error:  # nibabel, gzip and zlib each raise their own for a damaged file
        raise InputError(f"{prefix}: not a readable NIfTI file ({type(error).__name__}: {error}).") from error
    if 0 in shape:
        raise InputError(f"{prefix}: has zero size {shape}.")
    volume_shape = shape[:3]
    if len(shape) < 3 or min(volume_shape) < 2 or any(side != 1 for side in shape[3:]):
        raise InputError(f"{prefix}: shape {shape} is not one 3D volume.")
    if not np.isfinite(values).all():
        raise InputError(f"{prefix}: holds NaN or infinite values.")
    if values.min() == values.max():
        raise InputError(f"{prefix}: every voxel is {values.flat[0]}; a constant image shows nothing.")
    return tio.ScalarImage(path)


def _read_rows(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: no such manifest; set data.root and data.manifest.")
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV ({error}).") from error
    if rows.empty:
        raise InputError(f"{path}: has no rows.")
    return rows


def _class_of(value: str, column: str, where: str) -> int:
    if not value.strip():
        raise InputError(f"{where}: {column} is empty; give a class, or leave the row out: data.unlabelled=leave_out.")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if number < 0 or number != int(number):
        raise InputError(f"{where}: {column} is {value!r}; a class is an integer from 0.")
    return int(number)
