"""What a subject's report says, and what it says of the volume once it is moved: one class a kind of report."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from synthaug.config import MeasurementConfig
from synthaug.config.data import ReportStyle
from synthaug.data.reports.writers import (
    ProstateFindings,
    Side,
    measured_in,
    side_in,
    write_measurement_report,
    write_prostate_report,
)
from synthaug.data.voxels.geometry import Geometry
from synthaug.ground.seeding import derive_seed

OTHER: dict[Side, Side] = {"left": "right", "right": "left"}
SIDE_WORDS = re.compile(
    r"\b(left|right|lt|rt|sinist|dext|link|rechts?\b|rechte|gauche|droit|izquierd|derech|sinistr|destr|esquerd|direit)"
    r"|\b[LR]\b"
    r"|\b([LR][PTC]Z|[LR]AFM?S)"  # RPZ, LTZa
    r"|\b(re|li|dx|sx|sin|dex|dte|gche|izq|dcha?|esq)\b(?![-'’])"
    r"|\bo\W{0,2}clock\b|\b(uhr|uur|heures?|horas?)\b|\d\s?h\b|\bore \d"  # of the clock face
    r"|\b(sector|se[ck]teur|sektor|segment|sextant)[a-z]{0,3}\W{0,3}\d",  # the maps number left and right apart
    re.IGNORECASE,
)
"""What names a side: a word, its abbreviation, a clock position, a numbered sector; rather one too many.

In English, Latin, German, Dutch, French, Spanish, Italian and Portuguese.
"""
SIGNIFICANT_MM = 15
"""PI-RADS 5 begins at this diameter, so that a lesion must not be zoomed across it."""


def worded_seed(seed: int, wording: int) -> int:
    """Seed of a wording of the report with this seed; 0 = the report itself."""
    return derive_seed("wording", seed, wording) if wording else seed


class Statement(Protocol):
    """A report that can be asked what a geometry does to it."""

    def against_mirroring(self) -> str | None:
        """Why the report cannot follow a mirrored volume; None = it can."""

    def against_zoom(self, zoom: float) -> str | None:
        """Why the report cannot follow a zoomed volume; None = it can."""

    def write(self, geometry: Geometry, wording: int = 0) -> str:
        """The report of the moved volume: in the words of the original (0), or in others of its style."""


@dataclass(frozen=True)
class FreeText:
    """A report that no writer of ours wrote: nothing in it is changed."""

    text: str

    def against_mirroring(self) -> str | None:
        return "the report is free text that names a side" if SIDE_WORDS.search(self.text) else None

    def against_zoom(self, zoom: float) -> str | None:
        return "the report is free text, which may tell a size" if self.text.strip() else None

    def write(self, geometry: Geometry, wording: int = 0) -> str:
        return self.text


@dataclass(frozen=True)
class Measured:
    """A report written from a manifest row."""

    row: Mapping[str, object]
    measurements: Mapping[str, MeasurementConfig]
    seed: int
    style: ReportStyle = "template"

    def against_mirroring(self) -> str | None:
        for column, measurement in self.measurements.items():
            words = " ".join((measurement.name, *measurement.synonyms, *measurement.bands, measurement.above))
            if SIDE_WORDS.search(words):
                return f"data.measurements.{column} names a side in its words; give the side a column of its own"
        return None

    def against_zoom(self, zoom: float) -> str | None:
        for column, measurement in self.measurements.items():
            if measurement.scaling is None and measured_in(self.row, column, measurement) is not None:
                return f"how {column} grows with a zoom is not known; set data.measurements.{column}.power"
        return None

    def write(self, geometry: Geometry, wording: int = 0) -> str:
        row = {column: self._moved(column, measurement, geometry) for column, measurement in self.measurements.items()}
        seed = worded_seed(self.seed, wording)
        return write_measurement_report(row, self.measurements, seed=seed, style=self.style)

    def _moved(self, column: str, measurement: MeasurementConfig, geometry: Geometry) -> object:
        if measurement.side:
            side = side_in(self.row, column)
            return OTHER[side] if side and geometry.mirrored and measurement.side == "swaps" else side
        value = measured_in(self.row, column, measurement)
        return None if value is None else value * geometry.zoom ** (measurement.scaling or 0)


@dataclass(frozen=True)
class Findings:
    """The report of a phantom, written from what it shows; numbers stay whole, as they are drawn."""

    findings: ProstateFindings
    seed: int
    style: ReportStyle = "template"

    def against_mirroring(self) -> str | None:
        return None

    def against_zoom(self, zoom: float) -> str | None:
        size_mm, pirads = self._moved(Geometry(zoom=zoom)).size_mm, self.findings.pirads
        if size_mm is not None and (size_mm > SIGNIFICANT_MM if pirads < 5 else size_mm < SIGNIFICANT_MM):
            return "the lesion would be of another PI-RADS category"
        return None

    def write(self, geometry: Geometry, wording: int = 0) -> str:
        return write_prostate_report(self._moved(geometry), seed=worded_seed(self.seed, wording), style=self.style)

    def _moved(self, geometry: Geometry) -> ProstateFindings:
        found, zoom = self.findings, geometry.zoom
        return replace(
            found,
            side=OTHER[found.side] if found.side and geometry.mirrored else found.side,
            size_mm=None if found.size_mm is None else round(found.size_mm * zoom, 0),
            gland_volume_ml=None if found.gland_volume_ml is None else round(found.gland_volume_ml * zoom**3, 0),
        )
