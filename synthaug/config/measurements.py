"""Settings of measured columns: their wording in a report, and the class as a threshold on one."""

import math
from dataclasses import dataclass, field
from typing import Literal

from synthaug.config.checks import require, require_ranges

UNIT_POWERS = {
    **dict.fromkeys(("mm", "cm"), 1),
    **dict.fromkeys(("mm2", "cm2", "mm²", "cm²"), 2),
    **dict.fromkeys(("mm3", "cm3", "mm³", "cm³", "ml", "cc"), 3),
    **dict.fromkeys(("%", "years", "ng/ml"), 0),
}
"""Exponent of a zoom factor by unit: 1 length, 2 area, 3 volume, 0 unchanged."""


@dataclass
class MeasurementConfig:
    """A manifest column from which reports are written."""

    name: str
    """Name of the measurement in reports, such as "hippocampal volume"."""
    unit: str = ""
    """Unit, written after the number."""
    bands: dict[str, float] = field(default_factory=dict)
    """Upper bound of each word in ascending order: {"small": 2800, "average": 3400}. Larger values get ``above``."""
    above: str = "large"
    """Word for values above the last band."""
    synonyms: list[str] = field(default_factory=list)
    """Other names, used by all styles but ``template``: ["volume", "hippocampal vol."]."""
    several: Literal["refuse", "largest"] = "refuse"
    """Cells with several numbers, such as "5,2" (one per lesion): refuse them, or take the largest."""
    missing: Literal["refuse", "leave_out"] = "refuse"
    """Empty cells: refuse the manifest, or leave the measurement out of the report."""
    power: int | None = None
    """Exponent of a zoom factor: 3 volume, 2 area, 1 length, 0 unchanged. None: from the unit (mm and cm 1, mm2 and cm2
    2, mm3, cm3, cc and ml 3, %, years and ng/ml 0). With another unit it is unknown, and volumes are not zoomed."""
    side: Literal["swaps", "stays"] | None = None
    """For a column that holds left or right. ``swaps``: mirroring swaps the side, as in scans. ``stays``: mirroring
    keeps the side, as in crops that were all flipped to one side."""

    def __post_init__(self) -> None:
        require_ranges(self, "data.measurements", power="[0, 3]")
        bounds = [*self.bands.values()]
        require(bool(self.name.strip()), "data.measurements: a measurement must have a name.")
        require(
            bounds == sorted(set(bounds)) and all(map(math.isfinite, bounds)),
            f"data.measurements: the bands of {self.name!r} must have rising, finite upper bounds, not {bounds}.",
        )
        require(
            self.side is None or not (self.unit or self.bands or self.power),
            f"measurements: {self.name!r} is a side, which has no unit, bands or power.",
        )

    @property
    def lists(self) -> bool:
        """Whether a cell may hold several numbers, with commas between."""
        return self.several == "largest"

    @property
    def scaling(self) -> int | None:
        """Exponent of a zoom factor; None = unknown.

        Example:
            >>> MeasurementConfig("gland volume", "ml").scaling, MeasurementConfig("gland volume").scaling
            (3, None)
        """
        if self.power is not None or self.side:
            return self.power or 0
        return UNIT_POWERS.get(self.unit.lower().replace("^", ""))


@dataclass
class LabelRule:
    """Class as a threshold on a measured column, so that the class of a zoomed volume is known."""

    column: str | None = None
    """Manifest column. None: the class does not depend on size, and zooms keep it."""
    below: float | Literal["median", "boundary"] | None = None
    """Subjects below the threshold are class 1, others class 0. A number; or ``median`` of the training subjects; or
    ``boundary``: the threshold that contradicts the fewest training labels."""
    above: float | Literal["median", "boundary"] | None = None
    """Subjects above the threshold are class 1, in place of ``below``."""

    @property
    def limit(self) -> float | Literal["median", "boundary"] | None:
        """The threshold, whichever side is class 1."""
        return self.above if self.below is None else self.below

    def __post_init__(self) -> None:
        for name in ("below", "above"):
            limit = getattr(self, name)
            require(
                limit is None or isinstance(limit, str) or math.isfinite(limit),
                f"data.label_rule.{name}={limit} must be finite.",
            )
        set_limits = sum(limit is not None for limit in (self.below, self.above))
        require(
            set_limits == (self.column is not None),
            f"data.label_rule: column={self.column} needs exactly one of below={self.below} and above={self.above} "
            "beside it, and no column needs neither.",
        )
