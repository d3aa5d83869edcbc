"""A manifest read to its end: every file is opened, and every problem is collected instead of the first refused."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import torchio as tio

from synthaug.config.data import ReportStyle
from synthaug.config.measurements import MeasurementConfig
from synthaug.data.reading.classes import class_names, class_of
from synthaug.data.reading.grids import AffineChoice, Grid, refuse_apart
from synthaug.data.reading.images import is_image, open_image
from synthaug.data.reading.manifest import (
    PATIENT_COLUMN,
    PROVENANCE_COLUMN,
    check_people,
    image_path,
    make_subject,
    read_manifest,
)
from synthaug.data.reading.remarks import Remarks
from synthaug.data.reading.series import is_series
from synthaug.data.reading.tables import Table
from synthaug.data.reports.measured_columns import empty_columns, measured_columns, named_by, write_row
from synthaug.ground.errors import InputError

BACKGROUND = 0.1
"""Voxels count as foreground above this share of the way from the 0.5 to the 99.5 percentile."""
NO_PATIENTS = (
    "no column {!r}: each row counts as a patient of its own. Where a patient has several rows, name the column that "
    "tells whose they are (--patient), or one person may train and test."
)
FILLED = 0.02
"""Share of foreground from which on a plane of voxels is part of it."""


@dataclass(frozen=True)
class Problem:
    """What keeps a row from being used."""

    file: str
    """Image, or the manifest."""
    row: int | None
    """As a spreadsheet counts; None = the table as a whole."""
    what: str


@dataclass(frozen=True)
class Look:
    """One image as it was read."""

    shape: tuple[int, ...]
    """Voxels along RAS axes, as all below."""
    spacing_mm: tuple[float, ...]
    orientation: str
    """Of the file, such as LPS."""
    percentiles: tuple[float, float, float]
    """Intensities at 0.5, 50 and 99.5 %."""
    foreground_mm: tuple[float, ...] | None = None
    """Extent, the same to both sides of the middle, that holds the foreground; None = not measured."""

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Field of view."""
        return tuple(side * size for side, size in zip(self.shape, self.spacing_mm, strict=True))


@dataclass
class Survey:
    """What a manifest and its files hold."""

    manifest: Path
    images: tuple[str, ...]
    classes: tuple[str, ...] = ()
    """Names in the order of their numbers; none where the column holds numbers."""
    subjects: list[tio.Subject] = field(default_factory=list)
    """Of the rows that can be used."""
    looks: dict[str, list[Look]] = field(default_factory=dict)
    """Of each image column."""
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    rows: int = 0
    unlabelled: list[int] = field(default_factory=list)
    """Rows without a class, as a spreadsheet counts."""
    unreported: int = 0
    """Usable rows without a report, where there is a report column."""
    report: str | None = None
    """The report column."""
    measurements: dict[str, MeasurementConfig] = field(default_factory=dict)
    """Columns that reports are written from, where there is no report column."""
    wordy: tuple[str, ...] = ()
    """Columns of sentences, where no column of reports was named or found."""
    measurable: tuple[str, ...] = ()
    """Columns of numbers or sides that reports could be written from."""

    @property
    def counts(self) -> dict[int, int]:
        """Usable subjects of each class."""
        return dict(sorted(Counter(subject["label"] for subject in self.subjects).items()))

    @property
    def patients(self) -> dict[int, int]:
        """Patients of each class that has subjects; a patient's class is the highest of its subjects'."""
        class_of_patient: dict[str, int] = {}
        for subject in self.subjects:
            name = subject["patient_id"]
            class_of_patient[name] = max(subject["label"], class_of_patient.get(name, 0))
        each = Counter(class_of_patient.values())
        return {number: each[number] for number in self.counts}


def survey_manifest(
    path: Path,
    *,
    folder: Path | None = None,
    images: Sequence[str] = (),
    label: str = "label",
    classes: Sequence[str] = (),
    report: str | None = None,
    measurements: Mapping[str, MeasurementConfig] | Sequence[str] = (),
    style: ReportStyle = "template",
    subject: str = "subject_id",
    patient: str = PATIENT_COLUMN,
    affine: AffineChoice | None = None,
    by_file: bool = False,
    on_row: Callable[[], None] = lambda: None,
) -> Survey:
    """Read a manifest and every file that it names.

    Args:
        path: The CSV.
        folder: Where the images lie; None = in the folder of the CSV.
        images: Image columns; none = every column whose cells name images.
        label: Column of the class.
        classes: Names of the classes in order; none = sorted, where the column holds names.
        report: Column of the reports; None = "report", where there is one, and no measurements.
        measurements: Columns that reports are written from; of bare names the headings tell what they are.
        style: How these reports are worded.
        subject: Column that names the subject.
        patient: Column that names the patient.
        affine: Which matrix counts where a header's two disagree.
        by_file: Subjects may go without ids; then the first image's file names them.
        on_row: Called after each row.

    Raises:
        InputError: The table cannot be read, or lacks a column.
    """
    table = read_manifest(path)
    names = tuple(images) or _image_columns(table, folder or path.parent, ids=(subject, patient))
    if not names:
        raise InputError(f"{path}: no column names images inside its folder; name them: --images.")
    subject = subject if subject in table.columns or names[0] not in table.columns or not by_file else names[0]
    table.require(subject, mend="name that of the examination: --subject")
    table.require(label, mend="name that of the class: --label")
    table.require(*names)
    told = report or ("report" if "report" in table.columns and not measurements else None)
    table.require(*([told] if told else []), *measurements)
    found = Survey(path, names, tuple(classes) or class_names(table, label), report=told, rows=len(table.rows))
    known = measured_columns(table, without={*names, label, subject, patient, told or ""})
    found.measurable = tuple(known)
    found.wordy = () if told else tuple(name for name in table.wordy() if name not in names)
    named = measurements if isinstance(measurements, Mapping) else {}
    found.measurements = {name: named.get(name) or known.get(name) or named_by(name) for name in measurements}
    found.problems += [Problem(path.name, None, words) for words in empty_columns(table, found.measurements)]
    found.looks = {name: [] for name in names}
    try:
        check_people(table, subject, patient)
    except InputError as error:
        found.problems.append(_problem(table, None, path.name, error))
    remarks = Remarks()
    people = patient if patient in table.columns else subject
    for number in table.rows:
        _survey_row(
            found,
            table,
            number,
            folder=folder,
            label=label,
            ids=(subject, people),
            affine=affine,
            remarks=remarks,
            style=style,
        )
        on_row()
    found.remarks = [*([] if patient in table.columns else [NO_PATIENTS.format(patient)]), *remarks.lines()]
    return found


def _survey_row(
    found: Survey,
    table: Table,
    number: int,
    *,
    folder: Path | None,
    label: str,
    ids: tuple[str, str],
    affine: AffineChoice | None,
    remarks: Remarks,
    style: ReportStyle,
) -> None:
    row, where, before = table.rows[number], table.where(number), len(found.problems)
    volumes: dict[str, tio.ScalarImage] = {}
    grids: dict[str, Grid] = {}
    for name in found.images:
        try:
            path = image_path(table, number, name, folder)
            volumes[name], grids[name] = open_image(path, where=where, affine=affine, remarks=remarks)
            found.looks[name].append(_look(volumes[name]))
        except InputError as error:
            found.problems.append(_problem(table, number, row[name] or name, error))
    if not row[label]:
        found.unlabelled.append(number)
        return
    try:
        if grids:
            refuse_apart(grids, where=where)
        words = row[found.report] if found.report else write_row(table, number, found.measurements, style)
        number_of_class = class_of(row[label], label, where, found.classes)
    except InputError as error:
        found.problems.append(_problem(table, number, table.path.name, error))
    if len(found.problems) > before:
        return
    found.unreported += bool(found.report or found.measurements) and not words
    for image in volumes.values():
        image.unload()
    told = {"subject_id": row[ids[0]], "patient_id": row[ids[1]], "provenance": row.get(PROVENANCE_COLUMN, "")}
    found.subjects.append(make_subject(volumes, label=number_of_class, report=words, **told))


def _look(image: tio.ScalarImage) -> Look:
    values = image.data.numpy()
    codes = nibabel.orientations.io_orientation(image.affine)
    axes = [int(np.flatnonzero(codes[:, 0] == axis)[0]) for axis in range(3)]
    low, middle, high = np.percentile(values, (0.5, 50, 99.5)).tolist()
    return Look(
        tuple(int(image.spatial_shape[axis]) for axis in axes),
        tuple(float(image.spacing[axis]) for axis in axes),
        "".join(nibabel.aff2axcodes(image.affine)),
        (low, middle, high),
        tuple(_foreground(values[0], low, high)[axis] * float(image.spacing[axis]) for axis in axes),
    )


def _foreground(values: np.ndarray, low: float, high: float) -> list[int]:
    """Voxels along each axis, centred on the middle, that hold the foreground of (X, Y, Z)."""
    bright = values > low + BACKGROUND * (high - low)
    sides = []
    for axis, side in enumerate(values.shape):
        filled = np.flatnonzero(bright.mean(axis=tuple({0, 1, 2} - {axis})) >= FILLED)
        margin = min(filled[0], side - 1 - filled[-1]) if len(filled) else 0
        sides.append(int(side - 2 * margin))
    return sides


def _problem(table: Table, number: int | None, file: str, error: InputError) -> Problem:
    """A problem without the place that its message begins with."""
    words = str(error)
    if number is None:  # of the whole table, but its words may begin with one row
        number = next((each for each in table.rows if words.startswith(f"{table.where(each)}: ")), None)
    for place in (f"{table.where(number)}: " if number else "", f"{table.path}: ", f"{Path(file).name}: "):
        words = words.removeprefix(place)
    return Problem(file, number, words)


def _image_columns(table: Table, folder: Path, *, ids: tuple[str, str]) -> tuple[str, ...]:
    """Columns of which at least half of the cells that are not empty name an image inside the folder.

    Ids may be the names of series' folders: their columns count only where there is no other.
    """
    found = []
    for name in dict.fromkeys(table.columns):
        cells = [row[name] for row in table.rows.values() if row[name]]
        named = [cell for cell in cells if _names_image(folder, cell)]
        if cells and 2 * len(named) >= len(cells):
            found.append(name)
    return tuple(name for name in found if name not in ids) or tuple(found)


def _names_image(folder: Path, cell: str) -> bool:
    if is_image(Path(cell)):
        return True
    try:
        return ("/" in cell or "." in cell or (folder / cell).is_dir()) and is_series(folder / cell)
    except (OSError, ValueError):
        return False
