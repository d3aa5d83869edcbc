"""PI-CAI's clinical table (the marksheet) read as findings that the report writer can word."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from synthaug.data.reading.tables import read_table
from synthaug.data.reports.writers import ProstateFindings, number_in
from synthaug.ground.errors import InputError

COLUMNS = ("patient_id", "lesion_PIRADS", "lesion_ISUP", "case_ISUP", "psa", "prostate_volume")
"""Columns of the marksheet that are read; the others may be missing."""


class PatientFindings(NamedTuple):
    """One row of the marksheet."""

    patient_id: str
    findings: ProstateFindings


def read_marksheet(csv: str | Path) -> list[PatientFindings]:
    """Findings of every study of a marksheet whose index lesion has a PI-RADS category.

    Args:
        csv: A file with the columns ``COLUMNS``, as published with PI-CAI (Saha et al., Lancet Oncology 2024).

    Returns:
        One a row, in file order; rows without a PI-RADS category say nothing of the image and are left out.

    Raises:
        InputError: No such file, a column is missing, or a value cannot be read; row and column are named.
    """
    path = Path(csv)
    table = read_table(path, what="marksheet", mend="give a CSV with PI-CAI's columns")
    table.require(*COLUMNS)
    table.refuse_rounded("patient_id")
    read = []
    for number, row in table.rows.items():
        try:
            findings = findings_of(row)
        except InputError as error:
            raise InputError(f"{path}, row {number}: {error}") from error
        if findings is not None:
            read.append(PatientFindings(row["patient_id"], findings))
    return read


def findings_of(row: Mapping[str, object]) -> ProstateFindings | None:
    """The findings in one row of the marksheet, or None where no lesion has a PI-RADS category.

    The index lesion is the one of the highest category. The biopsy is stated where a lesion has a grade: the table
    writes 0 as the ``case_ISUP`` of patients without a biopsy too. Zone, side, level and size are not in the table.

    Example:
        >>> found = findings_of({"lesion_PIRADS": "2,5", "lesion_ISUP": "0,3", "case_ISUP": "3", "psa": "7.7"})
        >>> found.pirads, found.isup, found.psa, found.gland_volume_ml
        (5, 3, 7.7, None)
    """
    pirads = _categories(row, "lesion_PIRADS")
    if not pirads:
        return None
    case_isup = number_in(row, "case_ISUP") if _categories(row, "lesion_ISUP") else None
    return ProstateFindings(
        pirads=max(pirads),
        psa=number_in(row, "psa"),
        gland_volume_ml=number_in(row, "prostate_volume"),
        isup=None if case_isup is None else int(case_isup),
    )


def _categories(row: Mapping[str, object], column: str) -> list[int]:
    """The whole numbers of a column that lists one a lesion; "N/A" and empty places are left out."""
    words = [word.strip() for word in str(row.get(column, "")).split(",")]
    stated = [word for word in words if word not in ("", "N/A")]
    strange = [word for word in stated if not word.isdigit()]
    if strange:
        raise InputError(f"column {column!r}: {strange[0]!r} is not a category; give whole numbers, one a lesion.")
    return [int(word) for word in stated]
