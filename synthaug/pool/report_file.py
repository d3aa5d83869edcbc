"""Prompts from a CSV of reports: one volume per row, in order."""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from synthaug.config.pool import UnusableRows
from synthaug.data.reading.tables import likeness, read_table
from synthaug.ground.errors import InputError
from synthaug.ground.people import patient_hash, plain_id
from synthaug.pool.prompts import TextPrompts

logger = logging.getLogger(__name__)

NOBODY = "none"
"""``patient_id`` of a report that was written for no patient."""
NAMED = 20
"""Largest number of rows named in an error."""


class ReportFilePrompts(TextPrompts):
    """The reports of a file: place ``index`` of a class is its row ``index`` with that label.

    Example:
        >>> prompts = ReportFilePrompts({0: ["a", "b"]})
        >>> prompts.report(0, 1, seed=7), prompts.report(0, 2, attempt=1, seed=7), prompts.counts
        ('b', 'a', {0: 2})
    """

    policy = "reports"

    @property
    def counts(self) -> dict[int, int]:
        """Rows per class."""
        return {label: len(self.texts[label]) for label in self.classes}

    def report(self, label: int, index: int, *, attempt: int = 0, seed: int) -> str:
        """Report of a row; another attempt uses other noise. After the last row the first follows."""
        if not self.texts.get(label):
            raise InputError(f"No report of class {label} to prompt the generator with; the file has {self.classes}.")
        return self.texts[label][index % len(self.texts[label])]


def read_report_file(
    csv: str | Path,
    *,
    classes: int | None = None,
    spacing_mm: Sequence[float] | None = None,
    unusable: UnusableRows = "refuse",
    patients: Iterable[str] = (),
) -> ReportFilePrompts:
    """Read a CSV with the columns ``report`` and ``label``, and optionally ``spacing`` and ``patient_id``.

    Args:
        csv: One row per volume. A spacing is three numbers in mm, such as "1.5 1.5 3", or empty.
        classes: Number of classes of the generator; None = unknown.
        spacing_mm: Voxel size of the generator, which is the only one that a row may ask for; None = unknown.
        unusable: Unusable rows: refuse the file, or leave them out. Either way they are named.
        patients: Ids of a study's patients. An id of the file that differs from one of them in case, blanks, leading
            zeros or Unicode form alone is that patient's.

    Returns:
        The prompts. Their patients are known where every row has a ``patient_id``; "none" there says that the report
        is nobody's, such as one that was invented.

    Raises:
        InputError: The file or a column is missing, or rows are unusable; they are named with reasons.
    """
    path = Path(csv)
    table = read_table(path, what="file of reports", mend="give a CSV with the columns report and label")
    for column in ("report", "label"):
        table.require(column, mend=f"rename that of the {column} to {column}")
    has_spacing = table.has("spacing")
    if "patient_id" in table.columns:
        table.refuse_rounded("patient_id")
    refused, texts, names = [], dict[int, list[str]](), []
    for number, row in table.rows.items():
        reason = _fault_of_report(row["report"]) or _fault_of_label(row["label"], classes)
        reason = reason or (_fault_of_spacing(row["spacing"], spacing_mm) if has_spacing else "")
        if reason:
            refused.append(f"row {number} ({reason})")
            continue
        texts.setdefault(int(row["label"]), []).append(row["report"])
        names.append(row.get("patient_id", ""))
    if refused and (unusable == "refuse" or not texts):
        more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
        raise InputError(
            f"{path}: {len(refused)} of {len(table.rows)} rows cannot be used: {', '.join(refused[:NAMED])}{more}; "
            "mend them, or set pool.unusable=leave_out to go on without them."
        )
    for each in refused:
        logger.warning("%s: %s is left out.", path, each)
    known = {plain_id(each) for each in patients}
    alike = {likeness(each): each for each in known}
    meant = [name if name in known else alike.get(likeness(name), name) for name in names if name.lower() != NOBODY]
    return ReportFilePrompts(texts, patients=[*map(patient_hash, meant)] if all(names) else None)


def _fault_of_report(report: str) -> str:
    return "" if report else "report is empty"


def _fault_of_label(label: str, classes: int | None) -> str:
    if re.fullmatch(r"\d{1,4}", label) and (classes is None or int(label) < classes):
        return ""
    told = "label is empty" if not label else f"label {label[:20]!r} is no class"
    return told + (f" of this generator, 0 to {classes - 1}" if classes else ", an integer from 0")


def _fault_of_spacing(spacing: str, wanted: Sequence[float] | None) -> str:
    if not spacing:
        return ""
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", spacing)]
    if len(numbers) != 3 or min(numbers) <= 0:
        return f"spacing {spacing[:20]!r} is not three millimetres such as 1.5 1.5 3"
    if wanted is None or np.allclose(numbers, wanted, rtol=1e-3):
        return ""
    return (
        f"spacing {spacing[:30]!r} is not the {' '.join(f'{side:g}' for side in wanted)} mm that this generator draws"
    )
