"""One figure of the study: how far every arm lies from real patients, and whether glands are as large as asked."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

GOAL_RANK = 0.6


def draw(found: Sequence[dict[str, Any]]) -> Figure:
    """Two panels over the same arms: FID with interval, real patients dashed; rank correlation of glands, goal dotted.

    Args:
        found: What ``collect.py`` found of each arm, "real" first; glands were not measured in every arm.
    """
    real, *arms = found
    figure = Figure(figsize=(8, 0.4 * len(arms) + 1.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(arms):
        fid, glands = row["metrics"]["fid"], row.get("glands")
        _point(left, place, fid["value"], (fid["ci_low"], fid["ci_high"]))
        if glands:
            _point(right, place, glands["spearman"], glands["spearman_interval"])
    left.axvline(real["metrics"]["fid"]["value"], color="grey", linestyle="--", label="other real patients")
    right.axvline(GOAL_RANK, color="grey", linestyle=":", label="goal")
    left.set_xlabel("FID to held-out patients (taps)")
    left.set_xlim(left=0)
    right.set_xlabel("rank correlation, gland asked and seen")
    left.set_yticks(range(len(arms)), [row["arm"] for row in arms])
    left.invert_yaxis()
    for axes in (left, right):
        axes.legend(fontsize=8)
    return figure


def _point(axes: Any, place: int, value: float, interval: Sequence[float]) -> None:
    low, high = interval
    axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color="tab:blue", capsize=3)
