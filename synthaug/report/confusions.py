"""Confusion matrices of the arms, as rows that the page lays out."""

from collections.abc import Sequence
from dataclasses import dataclass

from synthaug.report.figures.curves import confusion
from synthaug.study.records import CellRecord
from synthaug.study.summary.arms import arms_of

MOST_SHOWN = 12
"""Arms of which the matrix is shown."""


@dataclass(frozen=True)
class Confusion:
    """Of one arm, a training on average."""

    label: str
    rows: tuple[tuple[float, ...], ...]
    """Test subjects by class (row) and likeliest class (column)."""

    def share(self, row: int, column: int) -> float:
        """Of a class's subjects, those that were taken for another."""
        return self.rows[row][column] / max(sum(self.rows[row]), 1e-12)


def confusions_of(records: Sequence[CellRecord]) -> list[Confusion]:
    """Of the first arms, in their order."""
    shown = arms_of(records)[:MOST_SHOWN]
    return [Confusion(arm.label, tuple(map(tuple, confusion(arm.records).tolist()))) for arm in shown]
