"""Figures of a study over panels: learning curves, ROC, precision-recall, reliability, training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from synthaug.report.figures.curves import GRID, mean_precision, mean_roc, prevalence, reliability
from synthaug.report.figures.panels import panels_of, series_of
from synthaug.report.figures.styles import NARROW_IN, PAPER, WIDTH_IN, Style, styles_of
from synthaug.statistics.bins import BINS
from synthaug.study.records import Arm, CellRecord, Summary
from synthaug.study.summary.arms import ArmRecords

SIZES = ("split.train",)
"""The setting that a learning curve runs over."""
COLUMNS = 3
"""Panels side by side at most."""
LABEL_IN = 0.22
"""Height of an axis's label, inches."""
LOW_CHANCE = 0.35
"""Up to this precision of chance the room below its line is too low for words."""
BEHIND: dict[str, Any] = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
"""What stands behind words among curves."""
MOST_AREAS = 7
"""Areas that are written into a panel; of more the tables tell them."""
Draw = Callable[[Axes, ArmRecords, Style], None]
Styles = Mapping[str, Style]


def has_sizes(summary: Summary) -> bool:
    """Whether a study has training sets of several sizes, so that there is a learning curve."""
    return len({arm.n_train for arm in summary.arms}) > 1


@rc_context(PAPER)
def learning_plot(summary: Summary, *, narrow: bool = False) -> Figure:
    """Test AUROC against the number of real training patients, with intervals: a line for each training set.

    Args:
        summary: Of the study.
        narrow: Laid out for a telephone.
    """
    panels: dict[str, dict[str, list[Arm]]] = {}
    for arm in summary.arms:
        panels.setdefault(arm.panel(without=SIZES), {}).setdefault(arm.series(), []).append(arm)
    styles = styles_of({arm.series(): arm.regime for arm in summary.arms})
    figure, grid = _grid(panels, height_in=2.9, most_columns=1 if narrow else 2, narrow=narrow)
    for axes, series in zip(grid, panels.values(), strict=True):
        for place, (name, arms) in enumerate(series.items()):
            _draw_learning(axes, arms, styles[name], shift=place - (len(series) - 1) / 2)
        sizes = sorted({arm.n_train for arms in series.values() for arm in arms})
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.axhline(0.5, color="0.8", linewidth=1, zorder=0)
    _finish(figure, grid, styles, xlabel="real training patients", ylabel="test AUROC")
    return figure


def roc_plot(
    records: Sequence[CellRecord],
    *,
    styles: Styles | None = None,
    areas: Mapping[str, float] | None = None,
    narrow: bool = False,
) -> Figure:
    """ROC curve of each arm, the mean over its trainings; with more than two classes also over classes.

    Args:
        records: Finished cells.
        styles: Of the series; None = as the records alone would have them.
        areas: What is told as the area of each arm, by its label; None = that under the drawn curve.
        narrow: Laid out for a telephone.
    """
    told = _Areas("AUC", areas)

    def draw(axes: Axes, arm: ArmRecords, style: Style) -> None:
        curve = mean_roc(arm.records)
        axes.plot(GRID, curve, **_line(style))
        told.add(axes, arm, float(np.trapezoid(curve, GRID)))

    figure, grid = _panels(
        records, draw, styles, xlabel="false positive rate", ylabel="true positive rate", narrow=narrow
    )
    for axes in grid:
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
        axes.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    told.write()
    return figure


def precision_plot(
    records: Sequence[CellRecord],
    *,
    styles: Styles | None = None,
    areas: Mapping[str, float] | None = None,
    narrow: bool = False,
) -> Figure:
    """Precision-recall curve of each arm, averaged as in :func:`roc_plot`, over the precision of chance."""
    told = _Areas("AP", areas)

    def draw(axes: Axes, arm: ArmRecords, style: Style) -> None:
        curve = mean_precision(arm.records)
        axes.plot(GRID, curve, **_line(style))
        told.add(axes, arm, float(curve[1:].mean()))
        told.chance[axes] = prevalence(arm.records)

    figure, grid = _panels(records, draw, styles, xlabel="recall (sensitivity)", ylabel="precision", narrow=narrow)
    for axes in grid:
        chance = told.chance[axes]
        axes.axhline(chance, color="0.45", linewidth=1, linestyle=(0, (2, 2)), zorder=0)
        told.name_chance(axes, chance)
        axes.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    told.write()
    return figure


class _Areas:
    """Areas under the curves of each panel, written into it where few curves pass."""

    def __init__(self, name: str, known: Mapping[str, float] | None) -> None:
        self.name, self.known = name, known or {}
        self.lines: dict[Axes, list[str]] = {}
        self.chance: dict[Axes, float] = {}

    def add(self, axes: Axes, arm: ArmRecords, drawn: float) -> None:
        self.lines.setdefault(axes, []).append(f"{arm.arm.series()} {self.known.get(arm.label, drawn):.2f}")

    def name_chance(self, axes: Axes, chance: float) -> None:
        """Below the line where there is room, above it else."""
        below = chance > LOW_CHANCE
        place: dict[str, Any] = {"x": 0.0, "y": chance + (-0.02 if below else 0.02), "va": "top" if below else "bottom"}
        axes.text(s=f"prevalence {chance:.2f}", fontsize=7, bbox=BEHIND, **place)

    def write(self) -> None:
        """Under ROC curves at the right; beside precision-recall curves on the side of chance that has room."""
        for axes, lines in self.lines.items():
            if len(lines) > MOST_AREAS:
                continue
            low = self.chance.get(axes, 1.0) <= LOW_CHANCE
            left = axes in self.chance and not low
            place: dict[str, Any] = {"x": 0.03 if left else 0.98, "ha": "left" if left else "right"}
            place |= {"y": 0.97 if low else 0.04, "va": "top" if low else "bottom"}
            text = "\n".join([self.name, *lines])
            axes.text(s=text, fontsize=7, transform=axes.transAxes, bbox=BEHIND, **place)


def reliability_plot(
    records: Sequence[CellRecord], *, calibrated: bool, styles: Styles | None = None, narrow: bool = False
) -> Figure:
    """Share of right predictions at each confidence, over the number of predictions there, of a training on average.

    Args:
        records: Finished cells.
        calibrated: After each training's temperature, or before.
        styles: As in :func:`roc_plot`.
        narrow: Laid out for a telephone.
    """
    below: dict[Axes, Axes] = {}

    def draw(axes: Axes, arm: ArmRecords, style: Style) -> None:
        if axes not in below:
            below[axes] = axes.inset_axes((0, -0.34, 1, 0.26), sharex=axes)
        found = reliability(arm.records, calibrated=calibrated)
        axes.plot(found.confidence, found.right, marker=style.marker, markersize=4, **_line(style))
        held = slice(int(BINS / records[0].classes), None)
        edges = np.linspace(0, 1, BINS + 1)[held]
        below[axes].stairs(found.counts[held], edges, color=style.colour, linestyle=style.line, linewidth=1.2)

    after = "after" if calibrated else "before"
    figure, grid = _panels(records, draw, styles, xlabel="", ylabel="share right", narrow=narrow)
    room = LABEL_IN / figure.get_figheight()  # the layout does not see what hangs below a panel's inset
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(rect=(0, room, 1, 1 - room))
    for axes in grid:
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, zorder=0)
        axes.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.tick_params(labelbottom=False)
        below[axes].set_ylim(bottom=0)
        below[axes].locator_params(axis="y", nbins=2)
        below[axes].set_ylabel("n", rotation=0, labelpad=6)
        below[axes].set_xlabel(f"confidence, {after} scaling")
    return figure


def curve_plot(records: Sequence[CellRecord], *, styles: Styles | None = None, narrow: bool = False) -> Figure:
    """Validation loss of each arm, the mean over its trainings; markers where a training's step was chosen."""

    def draw(axes: Axes, arm: ArmRecords, style: Style) -> None:
        losses: dict[int, list[float]] = {}
        for record in arm.records:
            for point in record.history:
                losses.setdefault(point["step"], []).append(point["val_loss"])
        steps = sorted(losses)
        means = [float(np.mean(losses[step])) for step in steps]
        axes.plot(steps, means, **_line(style))
        chosen = [record.chosen_step for record in arm.records]
        heights = np.interp(chosen, steps, means)
        axes.plot(chosen, heights, style.marker, color=style.colour, markersize=4, alpha=0.8)

    figure, _ = _panels(
        records, draw, styles, xlabel="optimiser step", ylabel="validation cross-entropy", narrow=narrow
    )
    return figure


@rc_context(PAPER)
def _panels(
    records: Sequence[CellRecord], draw: Draw, styles: Styles | None, *, xlabel: str, ylabel: str, narrow: bool
) -> tuple[Figure, list[Axes]]:
    panels = panels_of(records)
    known = styles or styles_of(series_of(panels))
    figure, grid = _grid(panels, height_in=2.3, most_columns=1 if narrow else COLUMNS, narrow=narrow)
    for axes, series in zip(grid, panels.values(), strict=True):
        for name, arm in series.items():
            draw(axes, arm, known[name])
    shown = {name: known[name] for name in series_of(panels)}
    _finish(figure, grid, shown, xlabel=xlabel, ylabel=ylabel)
    return figure, grid


def _grid(
    panels: Mapping[str, Any], *, height_in: float, most_columns: int, narrow: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with axes for each panel, titled; a lone panel takes half a page's width."""
    columns = min(most_columns, len(panels))
    rows = -(-len(panels) // columns)
    width = WIDTH_IN / 2 if len(panels) == 1 else WIDTH_IN * columns / most_columns
    if narrow:
        width, height_in = NARROW_IN, height_in * 1.35
    figure = Figure(figsize=(width, 0.4 + (3.1 if len(panels) == 1 else height_in * rows)), layout="constrained")
    every = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten().tolist()
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    grid = every[: len(panels)]
    for axes, title in zip(grid, panels, strict=True):
        axes.set_title(title)
        axes.xaxis.set_tick_params(labelbottom=True)
    return figure, grid


def _finish(figure: Figure, grid: Sequence[Axes], styles: Styles, *, xlabel: str, ylabel: str) -> None:
    """Labels of the axes, once, and one legend for all panels."""
    figure.supxlabel(xlabel, fontsize=8)
    figure.supylabel(ylabel, fontsize=8)
    handles = [Line2D([], [], label=name, marker=style.marker, **_line(style)) for name, style in styles.items()]
    columns = 2 if figure.get_figwidth() < WIDTH_IN else 5
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=3.4, fontsize=7.5)


def _draw_learning(axes: Axes, arms: Sequence[Arm], style: Style, *, shift: float) -> None:
    """One series; points of equal size stand beside each other by ``shift``."""
    ordered = sorted(arms, key=lambda arm: arm.n_train)
    sizes = np.array([arm.n_train for arm in ordered]) * 1.025**shift
    found = [arm.metrics["auroc"] for arm in ordered]
    values = np.array([each.value for each in found])
    ends = np.array([[each.low for each in found], [each.high for each in found]])
    axes.vlines(sizes, *ends, color=style.colour, linewidth=1.1)
    axes.plot(sizes, values, marker=style.marker, markersize=4.5, **_line(style))


def _line(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "linestyle": style.line, "linewidth": 1.4}
