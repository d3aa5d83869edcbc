"""Rows of the report's tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.bench.arms import Record
from synthaug.bench.costs import Costs

COMPARED = ("auroc", "average_precision", "accuracy")
"""Metrics whose differences have columns; summary.json has all."""


def contrast_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a contrast, its metrics beside each other: contrast, n_train and, by name, each of ``COMPARED``.

    Example:
        >>> contrasts = [{"contrast": "mixed - real", "n_train": 9, "metric": metric} for metric in COMPARED]
        >>> [row] = contrast_rows({"contrasts": contrasts})
        >>> row["contrast"], row["auroc"]["metric"]
        ('mixed - real', 'auroc')
    """
    rows: dict[str, dict[str, Any]] = {}
    for contrast in summary["contrasts"]:
        if contrast["metric"] in COMPARED:
            row = rows.setdefault(contrast["contrast"], {key: contrast[key] for key in ("contrast", "n_train")})
            row[contrast["metric"]] = contrast
    return list(rows.values())


def cost_rows(costs: Costs, records: Sequence[Record]) -> list[tuple[str, str]]:
    """Name and value of each cost, times first."""
    rows = [(name, tell_time(seconds)) for name, seconds in costs.seconds.items()]
    trained = sum(record["seconds"] for record in records)
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
