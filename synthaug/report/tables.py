"""Rows of the report's tables."""

from collections.abc import Sequence
from typing import Any

from synthaug.report.forest import compared
from synthaug.study.outlook.costs import Costs
from synthaug.study.records import Arm, CellRecord, Summary

COMPARED = ("auroc", "average_precision", "accuracy")
"""Metrics whose differences have columns; summary.json has all."""
NAMES = {"auroc": "AUROC", "f1": "F1", "brier": "Brier", "ece": "ECE"}
"""Metrics whose names people write otherwise than the summary."""


def arm_groups(summary: Summary) -> dict[str, list[Arm]]:
    """The summary's arms by panel."""
    groups: dict[str, list[Arm]] = {}
    for arm in summary.arms:
        groups.setdefault(arm.panel(), []).append(arm)
    return groups


def contrast_groups(summary: Summary) -> dict[str, list[dict[str, Any]]]:
    """The summary's contrasts by panel, one row each: series, baseline, n_train and, by name, each of ``COMPARED``."""
    rows: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[dict[str, Any]]] = {}
    for contrast in summary.contrasts:
        if contrast.metric not in COMPARED:
            continue
        if contrast.label not in rows:
            name, panel, baseline = compared(contrast)
            rows[contrast.label] = {"series": name, "baseline": baseline, "n_train": contrast.n_train}
            groups.setdefault(panel, []).append(rows[contrast.label])
        rows[contrast.label][contrast.metric] = contrast
    return groups


def cost_rows(costs: Costs, records: Sequence[CellRecord]) -> list[tuple[str, str]]:
    """Name and value of each cost, times first."""
    rows = []
    for name, seconds in costs.seconds.items():
        peak = costs.peak_mib.get(name)
        rows.append((name, tell_time(seconds) + (f", at most {peak / 1024:.2g} GiB of memory" if peak else "")))
    trained = sum(record.seconds for record in records)
    rows.append((f"the {len(records)} cells alone, one after the other", tell_time(trained)))
    rows.append(("all sessions from start to report", tell_time(costs.wall_seconds)))
    names = {"processor": "energy of the processors (whole machine)", "gpu": "energy of the GPUs"}
    return rows + [(names[part], words) for part, words in costs.energy_words().items()]


def tell_time(seconds: float) -> str:
    """A duration in the unit that suits it.

    Example:
        >>> tell_time(0.4), tell_time(50), tell_time(400), tell_time(9000)
        ('0.4 s', '50 s', '7 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
