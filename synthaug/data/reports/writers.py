"""Report writers: findings or measurements become a radiology report, worded by a seed in a style.

The conclusion of the template comes last, because text encoders truncate reports on the left. It has about 250 bytes,
which a byte-level encoder with 256 tokens reads whole. The other styles are those of the report grammar
(:mod:`synthaug.data.reports.wording`), of up to 480 bytes.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from synthaug.config import MeasurementConfig
from synthaug.config.data import ReportStyle
from synthaug.data.reports.wording.measured import Stated, word_measured
from synthaug.data.reports.wording.prostate import word_prostate
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator

Zone = Literal["peripheral", "transition"]
Side = Literal["left", "right"]
Level = Literal["base", "midgland", "apex"]

SUSPICION = {1: "very low", 2: "low", 3: "equivocal", 4: "high", 5: "very high"}
"""What each PI-RADS category says about clinically significant cancer."""


@dataclass(frozen=True)
class ProstateFindings:
    """What a prostate MRI shows; ``None`` = not stated.

    Raises:
        InputError: A category, place or size outside its range.

    Example:
        >>> ProstateFindings(pirads=4, zone="peripheral", side="left", level="apex").label
        1
    """

    pirads: int
    """PI-RADS category of the index lesion, 1 to 5."""
    zone: Zone | None = None
    """Zone of the index finding."""
    side: Side | None = None
    """The patient's side."""
    level: Level | None = None
    """Height in the gland: the base touches the bladder."""
    size_mm: float | None = None
    """Largest diameter of the lesion."""
    psa: float | None = None
    """Prostate-specific antigen in ng/ml."""
    gland_volume_ml: float | None = None
    """Volume of the whole gland."""
    isup: int | None = None
    """ISUP grade group of the biopsy, 0 (benign) to 5."""

    def __post_init__(self) -> None:
        if self.pirads not in SUSPICION:
            raise InputError(f"pirads={self.pirads!r} must be an integer from 1 to 5.")
        for name, allowed in (("zone", get_args(Zone)), ("side", get_args(Side)), ("level", get_args(Level))):
            if getattr(self, name) not in (None, *allowed):
                raise InputError(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}, or none.")
        for name in ("size_mm", "psa", "gland_volume_ml"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name}={value!r} must be a positive number, or none.")
        if self.isup not in (None, *range(6)):
            raise InputError(f"isup={self.isup!r} must be an integer from 0 to 5, or none.")

    @property
    def label(self) -> int:
        """1 for PI-RADS >= 3, else 0."""
        return int(self.pirads >= 3)


def write_prostate_report(
    findings: ProstateFindings, *, seed: int, style: ReportStyle = "template", alone: bool = True
) -> str:
    """Write an ASCII prostate report.

    Args:
        findings: What to say; fields that are ``None`` are not mentioned.
        seed: Draws the wording.
        style: The template tells findings, then ``IMPRESSION:`` with PI-RADS, side, level and zone.
        alone: Whether the index finding is known to be the only one; other styles may then deny others.

    Returns:
        The report: of the template one paragraph under 250 bytes, else up to 480 bytes, perhaps of several lines.

    Example:
        >>> case = ProstateFindings(pirads=4, zone="peripheral", side="left", level="apex", size_mm=13, psa=7.1)
        >>> write_prostate_report(case, seed=0).split("IMPRESSION: ")[1]
        'PI-RADS 4, high suspicion, left apex peripheral zone.'
        >>> write_prostate_report(case, seed=3, style="impression")
        'A well-defined lesion of low T2 signal (lt apex PZ), 1.3cm. high suspicion, PI-RADS score 4.'
    """
    if style != "template":
        return word_prostate(findings, style, seed=seed, alone=alone).text
    words = numpy_generator("prostate report", seed)
    sentences = [_clinical(findings, words), _gland(findings, words), _finding(findings, words)]
    return " ".join(sentence for sentence in [*sentences, _impression(findings, words)] if sentence)


def write_measurement_report(
    row: Mapping[str, object],
    measurements: Mapping[str, MeasurementConfig],
    *,
    seed: int,
    style: ReportStyle = "template",
) -> str:
    """Put a manifest row's measured columns into words.

    Args:
        row: One manifest row, by column.
        measurements: Which columns to write, in this order, and how. A measurement without bands is written as a
            plain number.
        seed: Draws the wording.
        style: The template ends with ``Impression:`` and the band words.

    Returns:
        The report; "" if the row has no value in any of the columns.

    Raises:
        InputError: A value is not a finite number, or the bounds of a measurement's bands do not rise.

    Example:
        >>> hippocampus = MeasurementConfig(name="hippocampal volume", unit="mm3", bands={"small": 2800})
        >>> write_measurement_report({"volume": 2650.2}, {"volume": hippocampus}, seed=3)
        'Hippocampal volume 2650 mm3, small. Impression: small hippocampal volume.'
    """
    if style != "template":
        stated = _stated(row, measurements)
        return word_measured(stated, style, seed=seed).text if stated else ""
    words = numpy_generator("measurement report", seed)
    sentences, conclusions = [], []
    for column, measurement in measurements.items():
        if measurement.side:
            if side := side_in(row, column):
                sentences.append(f"{side.capitalize()} {measurement.name}.")
                conclusions.append(f"{side} {measurement.name}")
            continue
        value = measured_in(row, column, measurement)
        if value is None:
            continue
        amount = f"{_digits(value)} {measurement.unit}".strip()
        band = _band(value, measurement, column)
        sentences.append(_measurement_sentence(measurement.name, amount, band, words))
        conclusions.append(f"{band} {measurement.name}" if band else f"{measurement.name} {amount}")
    return " ".join([*sentences, f"Impression: {', '.join(conclusions)}."]) if conclusions else ""


def _stated(row: Mapping[str, object], measurements: Mapping[str, MeasurementConfig]) -> list[Stated]:
    """What the row holds, as the report grammar tells it."""
    stated = []
    for column, measurement in measurements.items():
        names = (measurement.name, *measurement.synonyms)
        if measurement.side:
            if side := side_in(row, column):
                stated.append(Stated(column, names, side=side))
            continue
        value = measured_in(row, column, measurement)
        if value is not None:
            band = _band(value, measurement, column)
            stated.append(Stated(column, names, value=value, unit=measurement.unit, band=band))
    return stated


def _pick(words: np.random.Generator, *choices: str) -> str:
    return choices[int(words.integers(len(choices)))]


def _clinical(findings: ProstateFindings, words: np.random.Generator) -> str:
    parts = []
    if findings.psa is not None:
        text = _pick(words, "PSA {} ng/ml", "PSA of {} ng/ml", "PSA level {} ng/ml")
        parts.append(text.format(_digits(findings.psa)))
    if findings.isup is not None:
        known = _pick(words, "biopsy ISUP {}", "ISUP grade {} on biopsy").format(int(findings.isup))
        parts.append(known if parts else known[0].upper() + known[1:])
    return f"{', '.join(parts)}." if parts else ""


def _gland(findings: ProstateFindings, words: np.random.Generator) -> str:
    if findings.gland_volume_ml is None:
        return ""
    return _pick(words, "Gland volume {} ml.", "Prostate of {} ml.", "The prostate measures {} ml.").format(
        _digits(findings.gland_volume_ml)
    )


def _finding(findings: ProstateFindings, words: np.random.Generator) -> str:
    """The sentence on what is seen; benign findings are never called focal."""
    where = _place(findings)
    in_the = f" in the {where}" if where else ""
    size = "" if findings.size_mm is None else f"{_digits(findings.size_mm)} mm"
    if findings.pirads == 1:
        return _pick(words, "No suspicious lesion.", "No focal T2 abnormality.", "Normal T2 signal, no focal lesion.")
    if findings.pirads == 2:
        if findings.zone == "transition":
            text = _pick(words, "Encapsulated benign nodule", "Circumscribed BPH nodule", "Typical BPH nodule")
        else:
            text = _pick(words, "Mild linear T2 change", "Wedge-shaped mild T2 change", "Non-focal low T2 signal")
        return f"{text}{in_the}{size and f', {size}'}."
    dark = "Markedly dark" if findings.pirads == 5 else "Moderately dark" if findings.pirads == 4 else "Mildly dark"
    text = _pick(words, f"{dark} focal T2 lesion", "Focal T2-hypointense lesion", "Ill-defined low T2 signal lesion")
    size_first = words.random() < 0.5
    return f"{text}{size and f' of {size}'}{in_the}." if size_first else f"{text}{in_the}{size and f', {size}'}."


def _impression(findings: ProstateFindings, words: np.random.Generator) -> str:
    level, score = SUSPICION[findings.pirads], f"PI-RADS {int(findings.pirads)}"
    text = _pick(words, score, f"{score}, {level} suspicion")
    where = _place(findings)
    return f"IMPRESSION: {text}{where and f', {where}'}."


def _place(findings: ProstateFindings) -> str:
    """Side, level and zone as far as they are known: "left apex peripheral zone"."""
    zone = f"{findings.zone} zone" if findings.zone else None
    return " ".join(part for part in (findings.side, findings.level, zone) if part)


def _measurement_sentence(name: str, amount: str, band: str, words: np.random.Generator) -> str:
    if not band:
        text = _pick(words, f"{name}: {amount}", f"{name} of {amount}", f"{name} {amount}")
    else:
        text = _pick(
            words,
            f"{band} {name} of {amount}",
            f"{band} {name} ({amount})",
            f"{name} {amount}, {band}",
            f"{name} is {band}: {amount}",
        )
    return f"{text[0].upper()}{text[1:]}."


def _band(value: float, measurement: MeasurementConfig, column: str) -> str:
    """The word for ``value``; "" where the measurement has no bands."""
    bounds = list(measurement.bands.values())
    if any(low >= high for low, high in itertools.pairwise(bounds)):
        raise InputError(f"measurements.{column}.bands: the upper bounds {bounds} must rise.")
    within = (word for word, bound in measurement.bands.items() if value <= bound)
    return next(within, measurement.above) if bounds else ""


def side_in(row: Mapping[str, object], column: str) -> Side | None:
    """Left or right, or None where the row does not say.

    Example:
        >>> side_in({"side": "L"}, "side"), side_in({"side": "right"}, "side"), side_in({"side": ""}, "side")
        ('left', 'right', None)
    """
    value = row.get(column)
    if value is None or value != value or not str(value).strip():
        return None
    sides: dict[str, Side] = {"l": "left", "left": "left", "r": "right", "right": "right"}
    if str(value).strip().lower() not in sides:
        raise InputError(f"column {column!r}: {value!r} is no side; write left or right, or leave the cell empty.")
    return sides[str(value).strip().lower()]


def measured_in(row: Mapping[str, object], column: str, measurement: MeasurementConfig) -> float | None:
    """The measurement's value in the row, or None where the row has none."""
    return (largest_in if measurement.several == "largest" else number_in)(row, column)


def number_in(row: Mapping[str, object], column: str) -> float | None:
    """The column's value, or None where the row has none (missing, empty, NaN)."""
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number) or isinstance(value, bool):
        raise InputError(f"column {column!r}: {value!r} is not a number; write one with a point, or leave it empty.")
    return None if math.isnan(number) else number


def largest_in(row: Mapping[str, object], column: str) -> float | None:
    """The largest of a column's numbers, written as "5,2", or None where the row has none.

    Example:
        >>> largest_in({"lesions": "5, 2"}, "lesions"), largest_in({"lesions": ""}, "lesions")
        (5.0, None)
    """
    value = row.get(column)
    words = value.split(",") if isinstance(value, str) else [value]
    numbers = [number_in({column: word}, column) for word in words]
    return max((number for number in numbers if number is not None), default=None)


def _digits(value: float) -> str:
    """Three significant digits, and whole numbers from 100 on: 7.1, 13, 2650."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
