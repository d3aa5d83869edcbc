"""The study's figure: what synthetic data adds to real data with classical augmentation, over sizes."""

from collections.abc import Sequence

import numpy as np
from goals import BASELINE, GAIN, SMALL
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from synthaug.report.figures.styles import PAPER, WIDTH_IN, styles_of
from synthaug.study.records import Contrast


def gains_by_arm(contrasts: Sequence[Contrast]) -> dict[str, dict[int, Contrast]]:
    """By arm and size: the paired differences in AUROC to the baseline, of arms with synthetic data."""
    found: dict[str, dict[int, Contrast]] = {}
    for row in contrasts:
        if row.metric == "auroc" and row.baseline.series() == BASELINE and row.arm.regime != "real":
            found.setdefault(row.arm.series(), {})[row.n_train] = row
    return found


@rc_context(PAPER)
def gain_plot(contrasts: Sequence[Contrast]) -> Figure:
    """Differences in AUROC over the number of real training people, with intervals, and the goal at small sizes."""
    arms = gains_by_arm(contrasts)
    styles = styles_of({name: row.arm.regime for name, rows in arms.items() for row in rows.values()})
    sizes = sorted({size for rows in arms.values() for size in rows})
    figure = Figure(figsize=(WIDTH_IN * 0.7, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.6", linewidth=1, zorder=0)
    small = [size for size in sizes if size <= SMALL]
    if small:
        axes.hlines(GAIN, small[0] * 0.9, small[-1] * 1.1, color="0.6", linestyle=":", linewidth=1, label="goal, mixed")
    for place, (arm, rows) in enumerate(arms.items()):
        style = styles[arm]
        at = np.array(sorted(rows)) * 1.03 ** (place - (len(arms) - 1) / 2)
        found = [rows[size].difference for size in sorted(rows)]
        values, low, high = ([getattr(each, end) for each in found] for end in ("value", "low", "high"))
        axes.vlines(at, low, high, color=style.colour, linewidth=1.1)
        axes.plot(at, values, color=style.colour, linestyle=style.line, marker=style.marker, markersize=4.5, label=arm)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("real training people")
    axes.set_ylabel("AUROC − real with classical augmentation")
    figure.legend(loc="outside upper left", ncols=4, handlelength=3.4, fontsize=7.5)
    return figure
