"""Read a manifest CSV into torchio subjects that share one convention.

Images are ``tio.ScalarImage`` under their manifest names. The other keys are ``label`` (int), ``subject_id``,
``patient_id`` and ``report`` (str), ``synthetic`` (bool) and ``provenance`` (str, "" = real).
"""

import logging
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
import torchio as tio

from synthaug.data.reading.classes import class_index, class_of
from synthaug.data.reading.grids import AffineChoice, refuse_apart
from synthaug.data.reading.images import open_image
from synthaug.data.reading.remarks import Remarks
from synthaug.data.reading.tables import Table, read_table
from synthaug.ground.errors import InputError
from synthaug.ground.files import inside

CONVENTION = ("label", "subject_id", "patient_id", "report", "synthetic", "provenance")
"""Keys that every subject has besides its images."""

PROVENANCE_COLUMN = "synthetic_provenance"
"""Manifest column of the provenance of synthetic subjects."""

PATIENT_COLUMN = "patient_id"
"""Default column of the patient id."""


def load_manifest(
    csv: str | Path,
    images: Sequence[str],
    *,
    label: str = "label",
    classes: Sequence[str] = (),
    report: str | None = None,
    subject: str = "subject_id",
    patient: str = PATIENT_COLUMN,
    provenance: str = PROVENANCE_COLUMN,
    unlabelled: Literal["refuse", "leave_out"] = "refuse",
    unreported: Literal["refuse", "keep"] = "refuse",
    affine: AffineChoice | None = None,
    measured: Mapping[str, Literal["refuse", "leave_out"]] = MappingProxyType({}),
    several: Collection[str] = (),
    write_report: Callable[[Mapping[str, Any]], str] | None = None,
) -> list[tio.Subject]:
    """Read a manifest with one row per subject; image columns hold paths inside its folder.

    Columns must exist under their exact names. Cells are stripped and NFC-normalised. Every image is opened once, and
    unusable ones are refused with their row.

    Args:
        csv: The manifest file.
        images: Image columns, in channel order.
        label: Column of the class: an integer from 0, or one of ``classes``.
        classes: Class names in order, numbered from 0. The column may hold names or numbers.
        report: Column of the report; None = no reports, or those of ``write_report``.
        subject: Column of the subject id, without repeats.
        patient: Column of the patient id. Without the default column each subject is a patient.
        provenance: Column of the provenance, empty for real subjects. Without it all subjects are real.
        unlabelled: Rows without a class: refuse them, or leave them out.
        unreported: Real rows without a report: refuse them, or keep them.
        affine: Matrix to use where sform and qform differ by more than a voxel; None = refuse such images.
        measured: Columns that ``write_report`` reads. Empty cells: refuse the row, or leave the measurement out.
        several: Those whose cells may list several numbers with commas between.
        write_report: Writes the report of a row where there is no report column.

    Returns:
        One subject per row with a class, in file order, images not loaded.

    Raises:
        InputError: A column or file is missing, or a value or an image is unusable.
    """
    if isinstance(images, str) or not images:
        raise InputError(f"{csv}: images={images!r} must be a list of columns, such as ['t2w'].")
    table = read_manifest(csv)
    table.require(subject, label, *images, *([report] if report else []), *measured)
    for column in measured:
        if not any(row[column] for row in table.rows.values()):
            raise InputError(f"{csv}: column {column!r} is empty in every row; leave data.measurements.{column} out.")
    check_people(table, subject, patient)
    people = patient if patient in table.columns else subject
    synthetic = provenance if table.has(provenance) else None
    subjects, remarks = [], Remarks()
    for number, row in table.rows.items():
        if unlabelled == "leave_out" and not row[label]:
            continue
        where = table.where(number)
        numbers = table.measured(number, measured, several=several)
        made_by = row[synthetic] if synthetic else ""
        words = row[report] if report else _written(write_report, numbers, where) if write_report else ""
        if not words and not made_by and unreported == "refuse" and (report or write_report):
            raise InputError(f"{where}: no report; give one, or go without: data.unreported=keep.")
        subjects.append(
            make_subject(
                _open_images(table, number, images, affine=affine, remarks=remarks),
                label=class_of(row[label], label, where, classes),
                subject_id=row[subject],
                patient_id=row[people],
                report=words,
                provenance=made_by,
            )
        )
    remarks.say(logging.getLogger(__name__))
    return subjects


def _written(write_report: Callable[[Mapping[str, Any]], str], row: Mapping[str, str], where: str) -> str:
    """The report of a row; InputError with the row where a number cannot be read."""
    try:
        return write_report(row)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _open_images(
    table: Table, number: int, images: Sequence[str], *, affine: AffineChoice | None, remarks: Remarks
) -> dict[str, tio.ScalarImage]:
    """The images of a row by name; InputError where one cannot be used or they lie on grids apart."""
    where, volumes, grids = table.where(number), {}, {}
    for name in images:
        path = image_path(table, number, name)
        volumes[name], grids[name] = open_image(path, where=where, affine=affine, remarks=remarks)
    refuse_apart(grids, where=where)
    return volumes


def read_columns(csv: str | Path, columns: Sequence[str], *, subject: str = "subject_id") -> dict[str, dict[str, str]]:
    """Columns of a manifest as {column: {subject: cell}}.

    Raises:
        InputError: A column is missing, or a cell is empty.
    """
    table = read_manifest(csv)
    table.require(subject, *columns)
    table.refuse_repeats(subject)
    for name in columns:
        table.refuse_empty(name, 'write a value such as "unknown"')
    return {name: {row[subject]: row[name] for row in table.rows.values()} for name in columns}


def read_manifest(csv: str | Path) -> Table:
    """The cells of a manifest; InputError if it cannot be read."""
    return read_table(Path(csv), what="manifest", mend="set data.root and data.manifest")


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
        label=class_index(label),
        subject_id=str(subject_id),
        patient_id=str(patient_id),
        report=report,
        synthetic=bool(provenance),
        provenance=provenance,
    )


def stack_images(subject: Mapping[str, Any], images: Sequence[str]) -> torch.Tensor:
    """The named images of a subject (or of a loader's batch) as channels: (..., C, X, Y, Z) float32."""
    return torch.cat([subject[name][tio.DATA].float() for name in images], dim=-4)


def value_of(subject: Mapping[str, Any], key: str) -> Any:
    """What a subject has under a key; InputError where it has no such key.

    Example:
        >>> value_of({"label": 1}, "label")
        1
    """
    if key not in subject:
        raise InputError(f"{subject.get('subject_id', 'A subject')}: has no {key!r}; give every subject one.")
    return subject[key]


def class_labels(subjects: Sequence[tio.Subject]) -> list[int]:
    """The class of each subject, whatever number or tensor it stands in; InputError unless it is an integer from 0.

    Example:
        >>> class_labels([{"label": 1.0}, {"label": torch.tensor(0)}])
        [1, 0]
    """
    # A torchio data set tells its subjects without reading and transforming them.
    each = subjects.dry_iter() if hasattr(subjects, "dry_iter") else subjects
    return [class_index(value_of(subject, "label")) for subject in each]


def class_counts(subjects: Sequence[tio.Subject]) -> dict[int, int]:
    """How many subjects each class has; InputError unless the classes are 0..K-1 with K >= 2.

    Example:
        >>> class_counts([{"label": 1}, {"label": 0}, {"label": 1}])
        {0: 1, 1: 2}
    """
    labels = sorted(class_labels(subjects))
    counts = {label: labels.count(label) for label in sorted(set(labels))}
    if len(counts) < 2:
        raise InputError(f"All {len(labels)} subjects have label {labels[0] if labels else None}; two classes needed.")
    if list(counts) != list(range(len(counts))):
        raise InputError(f"Labels are {list(counts)}; number the classes 0 to {len(counts) - 1} without gaps.")
    return counts


def check_people(table: Table, subject: str, patient: str) -> None:
    """Who is a patient is told, not guessed: an absent column is taken as such only where nothing looks like it."""
    if patient != PATIENT_COLUMN:
        table.require(patient)
    elif not table.has(patient):
        near = table.nearest(patient, least=0.85)
        if near not in (None, subject):
            raise InputError(
                f"{table.path}: no column {patient!r}, and {near!r} looks like it; say which column names the patient: "
                f"data.patient={near}, or data.patient={subject} where each subject is a patient."
            )
    for column in dict.fromkeys([subject, *([patient] if patient in table.columns else [])]):
        table.refuse_empty(column, "give each row its id")
        table.refuse_rounded(column)
        table.refuse_alike(column)
    table.refuse_repeats(subject)


def image_path(table: Table, number: int, column: str, folder: Path | None = None) -> Path:
    """Where a cell's image lies, inside the table's folder or another.

    Names of files may be in Unicode's other form (NFD), as macOS writes them.
    """
    cell = table.rows[number][column]
    if not cell:
        raise InputError(f"{table.where(number)}: {column} is empty; give the image's path, or leave the row out.")
    folder = folder or table.path.parent
    if "\\" in cell and not inside(folder, cell).exists():
        cell = cell.replace("\\", "/")  # as Windows writes paths
    path = inside(folder, cell)
    if cell.isascii() or path.exists():
        return path
    return inside(folder, unicodedata.normalize("NFD", cell))
