"""Values with their intervals, one row each: AUROC of every arm, and every paired difference to real data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthaug.report.panels import split_label
from synthaug.report.styles import PAPER, WIDTH_IN, Style, styles_of

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


def auroc_contrasts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The paired differences that the figures and the verdict are about."""
    return [contrast for contrast in summary["contrasts"] if contrast["metric"] == "auroc"]


def is_clear(contrast: Mapping[str, Any], alpha: float) -> bool:
    """The interval leaves out 0 and the corrected p is small enough: what the verdict calls clear."""
    return contrast["ci_low"] * contrast["ci_high"] > 0 and contrast["p_holm"] <= alpha


def effect_plots(summary: Mapping[str, Any], *, alpha: float = 0.05) -> Iterator[Figure]:
    """As :func:`effect_plot`, in as many figures as fit a page each."""
    yield from _forests(_effect_rows(summary, alpha), **_EFFECT)


def effect_plot(summary: Mapping[str, Any], *, alpha: float = 0.05) -> Figure:
    """Paired differences in AUROC with intervals, in one figure.

    Args:
        summary: From ``aggregate.summarise``.
        alpha: Corrected p up to which a difference is clear: its marker is filled, others are hollow.
    """
    rows = _effect_rows(summary, alpha)
    return _forest(rows, limits=_limits(rows), **_EFFECT)


def auroc_plots(summary: Mapping[str, Any]) -> Iterator[Figure]:
    """Test AUROC of every arm with its interval, in as many figures as fit a page each."""
    found = [(*split_label(regime["regime"], regime["settings"]), regime["auroc"]) for regime in summary["regimes"]]
    styles = styles_of([name for name, _, _ in found])
    rows = [
        (panel, Row(name, ends["value"], ends["ci_low"], ends["ci_high"], _words(ends, "value"), styles[name]))
        for name, panel, ends in found
    ]
    yield from _forests(_headed(rows), reference=0.5, xlabel="test AUROC (0.5 = chance)")


def compared(contrast: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str]:
    """A contrast's series, panel, and what it is compared with, told as far as that differs.

    Args:
        contrast: One of the summary's.
        settings: Settings of each arm, by its label.

    Example:
        >>> settings = {"mixed augment 1": {"classifier.augment": 1}, "real augment 0": {"classifier.augment": 0}}
        >>> compared({"contrast": "mixed augment 1 - real augment 0"}, settings)
        ('mixed', 'augment 1', 'real (augment 0)')
    """
    ours, _, theirs = contrast["contrast"].partition(" - ")
    name, panel = split_label(ours, settings.get(ours, {}))
    base, other = split_label(theirs, settings.get(theirs, {}))
    differing = [words for words in other.split(", ") if words and words not in panel.split(", ")]
    return name, panel, f"{base} ({', '.join(differing)})" if differing else base


_EFFECT: dict[str, Any] = {
    "reference": 0.0,
    "xlabel": "difference in test AUROC, paired by patient     ← worse than the baseline | better →",
}


def _effect_rows(summary: Mapping[str, Any], alpha: float) -> list[Row]:
    settings = {regime["regime"]: regime["settings"] for regime in summary["regimes"]}
    styles = styles_of([split_label(label, values)[0] for label, values in settings.items()])
    rows = []
    for contrast in auroc_contrasts(summary):
        name, panel, baseline = compared(contrast, settings)
        row = Row(
            f"{name} − {baseline}",
            contrast["difference"],
            contrast["ci_low"],
            contrast["ci_high"],
            f"{_words(contrast, 'difference', sign='+')}  p {contrast['p_holm']:.2g}",
            styles.get(name) or styles_of([name])[name],
            is_clear(contrast, alpha),
        )
        rows.append((panel, row))
    return _headed(rows)


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


def _words(ends: Mapping[str, Any], key: str, sign: str = "") -> str:
    words = f"{ends[key]:{sign}.3f} ({ends['ci_low']:{sign}.3f} to {ends['ci_high']:{sign}.3f})"
    return words.replace("-", "−")


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
