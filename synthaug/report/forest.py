"""Values with their intervals, one row each: AUROC of every arm, and every paired difference to real data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthaug.report.styles import PAPER, WIDTH_IN, Style, styles_of
from synthaug.study.records import Contrast, Estimate, Summary

ROWS = 34
"""Rows of a figure at most: more would not fit an A4 page."""
ROW_IN = 0.24
"""Height of a row, inches."""


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


def effect_plots(summary: Summary, *, alpha: float = 0.05) -> Iterator[Figure]:
    """As :func:`effect_plot`, in as many figures as fit a page each."""
    yield from _forests(_effect_rows(summary, alpha), **_EFFECT)


def effect_plot(summary: Summary, *, alpha: float = 0.05) -> Figure:
    """Paired differences in AUROC with intervals, in one figure.

    Args:
        summary: Of the study.
        alpha: Corrected p up to which a difference is clear: its marker is filled, others are hollow.
    """
    rows = _effect_rows(summary, alpha)
    return _forest(rows, limits=_limits(rows), **_EFFECT)


def auroc_plots(summary: Summary) -> Iterator[Figure]:
    """Test AUROC of every arm with its interval, in as many figures as fit a page each."""
    styles = styles_of({arm.series(): arm.regime for arm in summary.arms})
    rows = [
        (
            arm.panel(),
            _row(arm.series(), arm.metrics["auroc"], _minus(arm.metrics["auroc"].words()), styles[arm.series()]),
        )
        for arm in summary.arms
    ]
    yield from _forests(_headed(rows), reference=0.5, xlabel="test AUROC (0.5 = chance)")


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


_EFFECT: dict[str, Any] = {
    "reference": 0.0,
    "xlabel": "difference in test AUROC, paired by patient     ← worse than the baseline | better →",
}


def _effect_rows(summary: Summary, alpha: float) -> list[Row]:
    styles = styles_of({arm.series(): arm.regime for arm in summary.arms})
    rows = []
    for contrast in summary.in_metric("auroc"):
        name, panel, baseline = compared(contrast)
        style = styles.get(name) or styles_of({name: contrast.arm.regime})[name]
        told = f"{_minus(contrast.difference.words('+'))}  p {contrast.p_holm:.2g}"
        row = _row(f"{name} − {baseline}", contrast.difference, told, style, filled=contrast.is_clear(alpha))
        rows.append((panel, row))
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
    for block in blocks:
        if page and len(page) + len(block) > ROWS:
            yield page
            page = []
        page += block
        while len(page) > ROWS:
            yield page[:ROWS]
            page = page[ROWS:]
    if page:
        yield page


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Ends of the axis that all intervals fit on."""
    valued = [row for row in rows if row.value is not None]
    low, high = min(row.low for row in valued), max(row.high for row in valued)
    margin = 0.04 * (high - low) or 0.01
    return low - margin, high + margin


def _forests(rows: Sequence[Row], **options: Any) -> Iterator[Figure]:
    """Figures of a page each, on one scale."""
    for page in _pages(rows):
        yield _forest(page, limits=_limits(rows), **options)


@rc_context(PAPER)
def _forest(rows: Sequence[Row], *, limits: tuple[float, float], reference: float, xlabel: str) -> Figure:
    figure = Figure(figsize=(WIDTH_IN, 0.6 + ROW_IN * max(len(rows), 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(reference, color="0.6", linewidth=1, zorder=0)
    for place, row in enumerate(rows):
        if row.style is not None and row.value is not None:
            _draw_row(axes, place, row.value, row)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.value is None else "normal")
    axes.set(ylim=(len(rows) - 0.5, -0.6), xlim=limits)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(xlabel)
    return figure


def _draw_row(axes: Axes, place: int, value: float, row: Row) -> None:
    assert row.style is not None
    colour = row.style.colour
    axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
    face = colour if row.filled else "white"
    axes.plot(value, place, row.style.marker, color=colour, markerfacecolor=face, markersize=5.5)
    axes.text(1.02, place, row.told, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5)
