"""Settings of measured columns: their words in a report, and the class that follows from one."""

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
"""Power of a zoom by which a value in the unit grows."""


@dataclass
class MeasurementConfig:
    """One manifest column that the report writer puts into words."""

    name: str
    """What is measured, as a report would say it: "hippocampal volume"."""
    unit: str = ""
    """Unit written behind the number."""
    bands: dict[str, float] = field(default_factory=dict)
    """Upper bound of each word, rising: {"small": 2800, "average": 3400}; larger values get ``above``."""
    above: str = "large"
    """Word for values beyond the last band."""
    synonyms: list[str] = field(default_factory=list)
    """Other names for it, which styles other than the template use too: ["volume", "hippocampal vol."]."""
    several: Literal["refuse", "largest"] = "refuse"
    """What is done about a cell such as "5,2" (one number a lesion): it is refused, or its largest number counts."""
    missing: Literal["refuse", "leave_out"] = "refuse"
    """What is done about an empty cell: the manifest is refused, or that report leaves the measurement out."""
    power: int | None = None
    """How the value grows with a zoom: 3 = volume, 2 = area, 1 = length, 0 = not at all; none = as its unit says: mm
    and cm 1, mm2 and cm2 2, mm3, cm3, cc and ml 3, %, years and ng/ml 0. Of another unit it is not known, and volumes
    so measured are not zoomed."""
    side: Literal["swaps", "stays"] | None = None
    """Set where the column holds left or right in place of a number. swaps: a mirrored volume shows the other side, as
    scans do; stays: a mirrored volume shows the same side, as where all crops were turned to look alike beforehand."""

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
    def scaling(self) -> int | None:
        """Power of the zoom by which the value grows; None = not known.

        Example:
            >>> MeasurementConfig("gland volume", "ml").scaling, MeasurementConfig("gland volume").scaling
            (3, None)
        """
        if self.power is not None or self.side:
            return self.power or 0
        return UNIT_POWERS.get(self.unit.lower().replace("^", ""))


@dataclass
class LabelRule:
    """The class as a threshold on a measured column, so that it can follow a volume that is zoomed."""

    column: str | None = None
    """Column of the manifest; none = the class depends on no size: zooms keep it."""
    below: float | Literal["median", "boundary"] | None = None
    """Class 1 is what lies below: a number, the median of the training subjects, or the boundary between the classes of
    the training subjects (the limit that contradicts fewest of them). Other subjects are class 0."""
    above: float | Literal["median", "boundary"] | None = None
    """Class 1 is what lies above, in place of ``below``."""

    @property
    def limit(self) -> float | Literal["median", "boundary"] | None:
        """The limit as it is set, on whichever side."""
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
