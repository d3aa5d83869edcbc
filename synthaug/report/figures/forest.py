"""Values with their intervals, one row each: AUROC of every arm, and every paired difference to real data."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthaug.report.figures.styles import NARROW_IN, PAPER, WIDTH_IN, Style, styles_of
from synthaug.study.records import Contrast, Estimate, Summary

ROWS = 9
"""Rows of a figure at most: a third of an A4 page, so that no page stays half empty before a figure."""
ROW_IN = 0.27
"""Height of a row, inches."""
NARROW_ROW_IN = 0.62
"""The same on a telephone, where label and numbers stand above the interval."""
Dots = Mapping[str, Sequence[float]]
"""Values of the single trainings, by label."""


@dataclass(frozen=True)
class Row:
    """A value with its interval, or, without any, a heading."""

    label: str
    value: float | None = None
    low: float = 0.0
    high: float = 0.0
    told: str = ""
    """The numbers, written beside it."""
    style: Style | None = None
    filled: bool = True
    """A hollow marker says that nothing is clear."""
    dots: tuple[float, ...] = ()
    """Values of the single trainings."""


@dataclass(frozen=True)
class Scale:
    """The axis of a figure."""

    xlabel: str
    reference: float
    """Where the line stands that says: nothing."""
    sides: tuple[str, str]
    """What lies left and right of it; ("", "") = the line is named by the axis."""
    narrow: bool = False
    """Laid out for a telephone."""


EFFECT = Scale("difference in test AUROC, paired by patient", 0.0, ("worse", "better"))
AUROC = Scale("test AUROC", 0.5, ("", ""))


def effect_plots(
    summary: Summary, *, alpha: float = 0.05, dots: Dots | None = None, narrow: bool = False
) -> Iterator[Figure]:
    """As :func:`effect_plot`, in as many figures as fit a page each."""
    yield from _forests(_effect_rows(summary, alpha, dots or {}), replace(EFFECT, narrow=narrow))


def effect_plot(summary: Summary, *, alpha: float = 0.05, dots: Dots | None = None) -> Figure:
    """Paired differences in AUROC with intervals, in one figure.

    Args:
        summary: Of the study.
        alpha: Corrected p up to which a difference is clear: its marker is filled, others are hollow.
        dots: Differences of the single trainings, by the contrast's label.
    """
    rows = _effect_rows(summary, alpha, dots or {})
    return _forest(rows, EFFECT, limits=_limits(rows, EFFECT))


def auroc_plots(summary: Summary, *, dots: Dots | None = None, narrow: bool = False) -> Iterator[Figure]:
    """Test AUROC of every arm with its interval, in as many figures as fit a page each.

    Args:
        summary: Of the study.
        dots: AUROC of the single trainings, by the arm's label.
        narrow: Laid out for a telephone.
    """
    styles = styles_of({arm.series(): arm.regime for arm in summary.arms})
    rows = []
    for arm in summary.arms:
        told = _minus(arm.metrics["auroc"].words())
        row = _row(arm.series(), arm.metrics["auroc"], told, styles[arm.series()])
        rows.append((arm.panel(), replace(row, dots=tuple((dots or {}).get(arm.label, ())))))
    yield from _forests(_headed(rows), replace(AUROC, narrow=narrow))


def compared(contrast: Contrast) -> tuple[str, str, str]:
    """A contrast's series, panel, and what it is compared with, told as far as that differs.

    Example:
        >>> from synthaug.study.records import Arm
        >>> arm, baseline = (Arm(name, settings={"classifier.augment": on}) for name, on in (("mixed", 1), ("real", 0)))
        >>> compared(Contrast(arm, baseline, "auroc", Estimate(0.0, 0.0, 0.0), p=1.0, p_holm=1.0))
        ('mixed', 'augment 1', 'real (augment 0)')
    """
    own, base = contrast.arm.settings, contrast.baseline
    same = [key for key, value in base.settings.items() if key in own and own[key] == value]
    differing = base.panel(without=same)
    return contrast.arm.series(), contrast.arm.panel(), f"{base.series()} ({differing})" if differing else base.series()


def _effect_rows(summary: Summary, alpha: float, dots: Dots) -> list[Row]:
    styles = styles_of({arm.series(): arm.regime for arm in summary.arms})
    rows = []
    for contrast in summary.in_metric("auroc"):
        name, panel, baseline = compared(contrast)
        style = styles.get(name) or styles_of({name: contrast.arm.regime})[name]
        told = f"{_minus(contrast.difference.words('+'))}  p {contrast.p_holm:.2g}"
        row = _row(f"{name} − {baseline}", contrast.difference, told, style, filled=contrast.is_clear(alpha))
        rows.append((panel, replace(row, dots=tuple(dots.get(contrast.label, ())))))
    return _headed(rows)


def _minus(words: str) -> str:
    return words.replace("-", "−")


def _row(label: str, found: Estimate, told: str, style: Style, *, filled: bool = True) -> Row:
    return Row(label, found.value, found.low, found.high, told, style, filled)


def _headed(rows: Sequence[tuple[str, Row]]) -> list[Row]:
    """The rows, panel by panel, under the panels' names."""
    panels = list(dict.fromkeys(panel for panel, _ in rows))
    return [
        row
        for panel in panels
        for row in ([Row(panel)] if panel else []) + [row for name, row in rows if name == panel]
    ]


def _pages(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Pages of at most ``ROWS`` rows; a panel begins a new page where it does not fit any more."""
    page: list[Row] = []
    blocks: list[list[Row]] = []
    for row in rows:
        if row.value is None or not blocks:
            blocks.append([])
        blocks[-1].append(row)
    for part in (part for block in blocks for part in _parts(block)):
        if page and len(page) + len(part) > ROWS:
            yield page
            page = []
        page += part
    if page:
        yield page


def _parts(block: Sequence[Row]) -> Iterator[list[Row]]:
    """A panel's rows in parts of nearly equal length that fit a figure, each under the panel's heading."""
    head = [row for row in block if row.value is None]
    rows = block[len(head) :]
    parts = max(math.ceil(len(rows) / (ROWS - len(head))), 1)
    size = max(math.ceil(len(rows) / parts), 1)
    for start in range(0, max(len(rows), 1), size):
        yield [*head, *rows[start : start + size]]


def _limits(rows: Sequence[Row], scale: Scale) -> tuple[float, float]:
    """Ends of the axis that all intervals and dots fit on, with room for the words on both sides of the reference."""
    valued = [row for row in rows if row.value is not None]
    low = min(min(row.low, *row.dots) if row.dots else row.low for row in valued)
    high = max(max(row.high, *row.dots) if row.dots else row.high for row in valued)
    if any(scale.sides):
        low, high = min(low, scale.reference), max(high, scale.reference)
        room = 0.3 if scale.narrow else 0.16
        low = min(low, scale.reference - room * (high - low))
        high = max(high, scale.reference + room * (high - low))
    margin = 0.04 * (high - low) or 0.01
    return low - margin, high + margin


def _forests(rows: Sequence[Row], scale: Scale) -> Iterator[Figure]:
    """Figures of a page each, on one scale."""
    limits = _limits(rows, scale)
    for page in _pages(rows):
        yield _forest(page, scale, limits=limits)


@rc_context(PAPER)
def _forest(rows: Sequence[Row], scale: Scale, *, limits: tuple[float, float]) -> Figure:
    width, height = (NARROW_IN, NARROW_ROW_IN) if scale.narrow else (WIDTH_IN, ROW_IN)
    figure = Figure(figsize=(width, 0.75 + height * max(len(rows), 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.set(ylim=(len(rows) - 0.5, -1.1 if any(scale.sides) else -0.6), xlim=limits)
    axes.axvline(scale.reference, color="0.45", linewidth=1, zorder=0)
    _name_sides(axes, scale)
    for place, row in enumerate(rows):
        if row.style is not None and row.value is not None:
            _draw_row(axes, place, row.value, row, narrow=scale.narrow)
    _name_rows(axes, rows, narrow=scale.narrow)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(scale.xlabel)
    return figure


def _name_sides(axes: Axes, scale: Scale) -> None:
    """Which side of the reference is which, at its two sides."""
    left, right = scale.sides
    if left:
        look: dict[str, Any] = {"va": "center", "fontsize": 8, "color": "0.2", "textcoords": "offset points"}
        place = (scale.reference, -0.8)
        axes.annotate(f"← {left}", place, xytext=(-4, 0), ha="right", **look)
        axes.annotate(f"{right} →", place, xytext=(4, 0), ha="left", **look)


def _name_rows(axes: Axes, rows: Sequence[Row], *, narrow: bool) -> None:
    """Labels at the left, or, where there is no room for them, above each interval with the numbers."""
    if not narrow:
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if row.value is None else "normal")
        return
    axes.set_yticks([])
    for place, row in enumerate(rows):
        weight = "bold" if row.value is None else "normal"
        look: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8.5}
        look["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # over the line of the reference
        axes.text(0, place - 0.36, row.label, fontweight=weight, **look)
        axes.text(0, place - 0.1, row.told, **{**look, "fontsize": 8})


def _draw_row(axes: Axes, place: int, value: float, row: Row, *, narrow: bool) -> None:
    assert row.style is not None
    colour, height = row.style.colour, place + (0.2 if narrow else 0)
    axes.plot([row.low, row.high], [height, height], color=colour, linewidth=1.6, solid_capstyle="butt")
    below = [height + (0.14 if narrow else 0.3)] * len(row.dots)
    axes.plot(list(row.dots), below, ".", color=colour, markersize=5, alpha=0.8, markeredgewidth=0)
    face = colour if row.filled else "white"
    axes.plot(value, height, row.style.marker, color=colour, markerfacecolor=face, markersize=5.5)
    if not narrow:
        axes.text(1.02, place, row.told, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5)
