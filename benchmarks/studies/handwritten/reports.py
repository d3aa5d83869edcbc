"""The reports written by hand and what they say, as the judges read them."""

import csv
from dataclasses import dataclass
from pathlib import Path

from synthaug.data.reports.writers import ProstateFindings

FOLDER = Path(__file__).parents[3] / "tests" / "handwritten"
PLACES = (("left", "peripheral"), ("left", "transition"), ("right", "peripheral"), ("right", "transition"))
"""As the auditor of ``benchmarks/builtin`` numbers them."""


@dataclass(frozen=True)
class ProstateRow:
    """A report of a prostate."""

    name: str
    report: str
    findings: ProstateFindings
    denied: tuple[int, ...]
    """Places that are said to be free of lesions, as indices into ``PLACES``; empty = none is named."""


@dataclass(frozen=True)
class HippocampusRow:
    """A report of a hippocampus."""

    name: str
    report: str
    side: str
    volume_mm3: float


def prostate_rows(file: str = "prostate") -> list[ProstateRow]:
    """Reports of prostates, in file order: of the judgement, or of "prostate-development" for choices before it."""
    return [
        ProstateRow(
            row["name"],
            row["report"],
            ProstateFindings(
                int(row["pirads"]),
                row["zone"] or None,  # type: ignore[arg-type]
                row["side"] or None,  # type: ignore[arg-type]
                row["level"] or None,  # type: ignore[arg-type]
                float(row["size_mm"]) if row["size_mm"] else None,
            ),
            denied_places(row["negated"]),
        )
        for row in _rows(file)
    ]


def hippocampus_rows() -> list[HippocampusRow]:
    """All reports of hippocampi, in file order."""
    return [
        HippocampusRow(row["name"], row["report"], row["side"], float(row["volume_mm3"]))
        for row in _rows("hippocampus")
    ]


def denied_places(negated: str) -> tuple[int, ...]:
    """Indices of the places that a cell of the column ``negated`` names.

    Example:
        >>> denied_places("right;transition"), denied_places("left peripheral"), denied_places("anywhere")
        ((1, 2, 3), (0,), (0, 1, 2, 3))
    """
    found = set()
    for part in filter(None, negated.split(";")):
        words = set(part.split()) - {"anywhere"}
        found |= {number for number, place in enumerate(PLACES) if words <= set(place)}
    return tuple(sorted(found))


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
