"""The figures of the report as bytes, each with what it shows in words, and a second layout for telephones."""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from synthaug.report.figures.forest import auroc_plots, effect_plots
from synthaug.report.figures.panels import MOST_SHOWN, panels_of, records_of, series_of
from synthaug.report.figures.plots import (
    COLUMNS,
    curve_plot,
    has_sizes,
    learning_plot,
    precision_plot,
    reliability_plot,
    roc_plot,
)
from synthaug.report.figures.styles import PAPER, styles_of
from synthaug.report.figures.svg import compact
from synthaug.report.text import captions
from synthaug.study.records import CellRecord, Summary
from synthaug.study.summary.arms import ArmRecords, arms_of

SLICE_DPI = (140, 100, 70, 50)
"""Of slices: the first at which all of them together weigh little enough."""
MOST_FORESTS = 6
"""Figures of differences, and of arms, that are drawn: 54 rows. With more a page would weigh over 8 MB."""
MARKS = (
    "Bars: intervals. Filled markers: clear differences; hollow: not clear. Dots: the single trainings. Beside each "
    "its interval and its p, corrected by Holm."
)


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it."""

    kind: str
    """svg or png."""
    content: bytes
    width_in: float
    """Width, inches on paper."""
    alt: str
    """What it shows, in numbers."""
    caption: str
    patients: bool = False
    """Whether it shows volumes."""
    narrow: bytes = b""
    """The same figure for telephones; b"" = it fits there as it is."""

    @property
    def address(self) -> str:
        """A data address of the whole picture."""
        return data_address(self.content, self.kind)

    @property
    def narrow_address(self) -> str:
        """That of the layout for telephones; "" = none."""
        return data_address(self.narrow, self.kind) if self.narrow else ""

    def to_json(self) -> dict[str, Any]:
        """As the study's folder keeps it."""
        told = {name: value for name, value in asdict(self).items() if not isinstance(value, bytes)}
        return told | {name: base64.b64encode(getattr(self, name)).decode() for name in ("content", "narrow")}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """As :meth:`to_json` wrote it."""
        return cls(**{**told, **{name: base64.b64decode(told[name]) for name in ("content", "narrow")}})


def data_address(content: bytes, kind: str) -> str:
    """A data address of a picture's bytes."""
    name = "svg+xml" if kind == "svg" else kind
    return f"data:image/{name};base64,{base64.b64encode(content).decode()}"


def save_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Write the pictures of a report as files, numbered and named by what they show."""
    for number, picture in enumerate(pictures, start=1):
        words = "-".join(re.findall(r"[a-z0-9]+", picture.alt.lower())[:6])
        (folder / f"{number:02d}-{words or 'plot'}.{picture.kind}").write_bytes(picture.content)


def draw_pictures(
    summary: Summary, records: Sequence[CellRecord], alpha: float, *, most: int = MOST_FORESTS
) -> dict[str, list[Picture]]:
    """By section; a section without figures has an empty list.

    Args:
        summary: Of the study.
        records: Finished cells.
        alpha: Corrected p up to which a difference is clear.
        most: Forest plots of a section, at most.
    """
    arms = {arm.label: arm for arm in arms_of(records)}
    own = {label: _repeats(arm) for label, arm in arms.items()}
    found: dict[str, list[Picture]] = {"effect": [], "learning": []}
    if summary.contrasts:
        dots = {
            each.label: _differences(own.get(each.arm.label, {}), own.get(each.baseline.label, {}))
            for each in summary.in_metric("auroc")
        }
        layouts = [list(effect_plots(summary, alpha=alpha, dots=dots, narrow=narrow)) for narrow in (False, True)]
        found["effect"] = _both(layouts, captions.effect_alt(summary, alpha), MARKS, most)
    values = {label: list(repeats.values()) for label, repeats in own.items()}
    layouts = [list(auroc_plots(summary, dots=values, narrow=narrow)) for narrow in (False, True)]
    caption = "Test AUROC of each arm; 0.5 is chance. Dots: the single trainings."
    found["auroc"] = _both(layouts, captions.auroc_alt(summary), caption, most)
    if has_sizes(summary):
        caption = "Test AUROC by number of real training patients (logarithmic), with intervals."
        found["learning"] = [_wide_and_narrow(learning_plot, captions.learning_alt(summary), caption, summary)]
    return found | _panel_pictures(summary, records)


def _panel_pictures(summary: Summary, records: Sequence[CellRecord]) -> dict[str, list[Picture]]:
    """Figures with a panel for each combination of settings, a row of panels each; of very many the first are shown."""
    panels = panels_of(records)
    chosen = list(panels)[:MOST_SHOWN]
    rows = [records_of(panels, chosen[start : start + COLUMNS]) for start in range(0, len(chosen), COLUMNS)]
    left_out = len(panels) - len(chosen)
    more = f" The first {len(chosen)} of {len(panels)} combinations of settings are shown." if left_out else ""
    styles = styles_of(series_of(panels))

    def draw(plot: Callable[..., Figure], alt: str, caption: str, **options: Any) -> list[Picture]:
        return [_wide_and_narrow(plot, alt, caption + more, row, styles=styles, **options) for row in rows]

    before, after = (captions.reliability_alt(records, calibrated=calibrated) for calibrated in (False, True))
    roc, precision = (
        captions.curves_alt(name, metric, summary)
        for name, metric in (("ROC", "auroc"), ("Precision-recall", "average_precision"))
    )
    auroc, average = (
        {arm.label: arm.metrics[name].value for arm in summary.arms} for name in ("auroc", "average_precision")
    )
    mean = "of each arm, mean over its trainings"
    bins = "temperature scaling: predictions in bins of confidence; below, their number n in a training."
    chance = f"Precision-recall curve {mean}; dashed: the precision of chance."
    return {
        "roc": draw(roc_plot, roc, f"ROC curve {mean}, with the areas under them.", areas=auroc),
        "precision": draw(precision_plot, precision, chance, areas=average),
        "before": draw(reliability_plot, before, f"Before {bins}", calibrated=False),
        "after": draw(reliability_plot, after, f"After {bins}", calibrated=True),
        "training": draw(curve_plot, captions.training_alt(records), f"Validation loss {mean}. Markers: chosen steps."),
    }


def _repeats(arm: ArmRecords) -> dict[str, float]:
    """Test AUROC of each training, by what repeats."""
    found = {repeat: record.metrics.get("auroc") for repeat, record in arm.repeats.items()}
    return {repeat: float(value) for repeat, value in found.items() if value is not None and np.isfinite(value)}


def _differences(ours: Mapping[str, float], theirs: Mapping[str, float]) -> list[float]:
    return [ours[repeat] - theirs[repeat] for repeat in ours if repeat in theirs]


def _both(layouts: Sequence[Sequence[Figure]], alt: str, caption: str, most: int) -> list[Picture]:
    wide, narrow = (layout[:most] for layout in layouts)
    if len(layouts[0]) > most:
        caption += f" The first {most} of {len(layouts[0])} figures are drawn; the tables list all."
    return [
        Picture(*vector(figure), alt, caption, narrow=vector(other)[1])
        for figure, other in zip(wide, narrow, strict=True)
    ]


def _wide_and_narrow(plot: Callable[..., Figure], alt: str, caption: str, *told: Any, **options: Any) -> Picture:
    """A figure of half a page fits a telephone as it is."""
    figure = plot(*told, **options)
    fits = figure.get_figwidth() < 4
    return Picture(
        *vector(figure), alt, caption, narrow=b"" if fits else vector(plot(*told, **options, narrow=True))[1]
    )


def vector(figure: Figure) -> tuple[str, bytes, float]:
    """Kind, content and width."""
    stream = io.BytesIO()
    with matplotlib.rc_context(PAPER):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return "svg", compact(stream.getvalue().decode()).encode(), figure.get_figwidth()


def raster(figure: Figure, *, dpi: int = SLICE_DPI[0]) -> tuple[str, bytes, float]:
    """Kind, content and width of a figure in shades of grey."""
    stream, grey = io.BytesIO(), io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    Image.open(stream).convert("L").save(grey, format="png", optimize=True)
    return "png", grey.getvalue(), figure.get_figwidth()
