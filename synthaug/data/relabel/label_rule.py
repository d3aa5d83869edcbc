"""The class as a threshold on a measured size: its limit, estimated from training subjects, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.config import LabelRule, MeasurementConfig
from synthaug.data.reports.writers import measured_in
from synthaug.ground.errors import InputError


@dataclass(frozen=True)
class FittedRule:
    """A label rule with its limit."""

    column: str
    measurement: MeasurementConfig
    """How the column is measured."""
    limit: float
    above: bool
    """Whether class 1 lies above the limit, not below."""

    @classmethod
    def fit(
        cls,
        rule: LabelRule,
        training: Sequence[Mapping[str, Any]],
        rows: Mapping[str, Mapping[str, object]],
        measurements: Mapping[str, MeasurementConfig],
    ) -> "FittedRule":
        """Take the limit from the config, or estimate it from the training subjects.

        Args:
            rule: A rule with a column.
            training: The training subjects, and no others.
            rows: The column by subject.
            measurements: Those of reports; a column that no report tells is known by its name, such as volume_mm3.

        Raises:
            InputError: The column is empty for all, there are other classes than 0 and 1, or most are contradicted.
        """
        assert rule.column is not None
        measurement = measurements.get(rule.column) or MeasurementConfig(
            rule.column, unit=rule.column.rpartition("_")[2], several="largest"
        )
        above = rule.above is not None
        told = [(measured_in(rows.get(each["subject_id"], {}), rule.column, measurement), each) for each in training]
        known = [(value, int(each["label"])) for value, each in told if value is not None]
        if not known:
            raise InputError(f"data.label_rule: column {rule.column!r} is empty for every training subject.")
        values, labels = (np.array(column, dtype=float) for column in zip(*known, strict=True))
        if not set(labels) <= {0, 1}:
            raise InputError(f"data.label_rule gives classes 0 and 1, but a training subject has {max(labels):.0f}.")
        if rule.limit == "boundary":
            limit = boundary(values, labels == 1, above=above)
        else:
            limit = float(np.median(values)) if rule.limit == "median" else float(rule.limit)  # type: ignore[arg-type]
        fitted = cls(rule.column, measurement, limit, above)
        wrong = sum(fitted._class_of(value) != label for value, label in known)
        if wrong > len(known) / 2:
            raise InputError(
                f"data.label_rule: class 1 {'above' if above else 'below'} {fitted.limit:g} contradicts {wrong} of "
                f"{len(known)} training subjects; is the other side of the limit meant?"
            )
        return fitted

    def label(self, row: Mapping[str, object], *, zoom: float = 1.0) -> int | None:
        """The class of a zoomed volume; None = the row has no value, or how it grows is not known.

        Example:
            >>> rule = FittedRule("volume", MeasurementConfig("gland", "ml"), limit=45.0, above=True)
            >>> rule.label({"volume": "40"}), rule.label({"volume": "40"}, zoom=1.1), rule.label({})
            (0, 1, None)
        """
        value = measured_in(row, self.column, self.measurement)
        if value is None or self.measurement.scaling is None:
            return None
        return self._class_of(value * zoom**self.measurement.scaling)

    def _class_of(self, value: float) -> int:
        return int(value > self.limit if self.above else value < self.limit)


def boundary(values: np.ndarray, ones: np.ndarray, *, above: bool = False) -> float:
    """The limit that contradicts the fewest labels, in the middle of the widest such gap.

    Args:
        values: (n,) measured values.
        ones: (n,) whether the class is 1.
        above: Whether class 1 lies above the limit, not below.

    Raises:
        InputError: All values are equal or of one class.

    Example:
        >>> boundary(np.array([1.0, 2.0, 4.0]), np.array([True, True, False]))
        3.0
    """
    rising = np.unique(values)
    if len(rising) < 2 or ones.all() or not ones.any():
        raise InputError("data.label_rule: the boundary between the classes needs training subjects of both classes.")
    middles = (rising[:-1] + rising[1:]) / 2
    wrong = [int(((values > middle if above else values < middle) != ones).sum()) for middle in middles]
    return float(min(zip(wrong, -np.diff(rising), middles, strict=True))[2])
