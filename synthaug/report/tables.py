"""Rows of the report's tables."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from synthaug.config import DataConfig
from synthaug.report.figures.forest import compared
from synthaug.statistics.detectable import POWER
from synthaug.study.outlook.costs import Costs
from synthaug.study.records import Arm, CellRecord, Summary, tested_patients

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


def headlines(
    summary: Summary, records: Sequence[CellRecord], data: DataConfig, *, confidence: float
) -> list[tuple[str, str]]:
    """Name and value of what a reader wants to know beside the verdict."""
    labels = tested_patients(records)
    names, counts = data.class_names(records[0].classes), Counter(labels.values())
    told = [("test patients", f"{len(labels)}: {', '.join(f'{counts[n]} {name}' for n, name in enumerate(names))}")]
    compared = [each for each in summary.in_metric("auroc") if each.arm.regime != "real"]
    if compared:
        seen = sorted(each.seen(confidence) for each in compared if each.difference.has_width)
        ends = list(dict.fromkeys(f"{each:.2f}" for each in (*seen[:1], *seen[-1:])))
        size = " to ".join(ends) or "unknown: no interval has a width"
        before = ", before Holm's correction" if len(summary.in_metric("auroc")) > 1 else ""
        told.append((f"detectable difference in AUROC ({100 * POWER:.0f} % power{before})", size))
    return [*told, ("trainings of an arm", str(max((arm.repeats for arm in summary.arms), default=0)))]


def cost_rows(costs: Costs, records: Sequence[CellRecord]) -> dict[str, list[tuple[str, ...]]]:
    """``stages``: name, time, processor time and most memory of each; ``whole``: name and value of what they sum to."""
    stages: list[tuple[str, ...]] = []
    for name, seconds in costs.seconds.items():
        peak, processor = costs.peak_mib.get(name), costs.processor_seconds.get(name)
        memory = f"{peak / 1024:.2g} GiB" if peak else "not known"
        stages.append((name, tell_time(seconds), "not known" if processor is None else tell_time(processor), memory))
    trained = sum(record.seconds for record in records)
    whole: list[tuple[str, ...]] = [(f"the {len(records)} cells alone, one after the other", tell_time(trained))]
    whole.append(("all sessions from start to report", tell_time(costs.wall_seconds)))
    names = {"processor": "energy of the processors (whole machine)", "gpu": "energy of the GPUs"}
    whole += [(names[part], words) for part, words in costs.energy_words().items()]
    return {"stages": stages, "whole": whole}


def tell_time(seconds: float) -> str:
    """A duration in the unit that suits it.

    Example:
        >>> tell_time(0.4), tell_time(50), tell_time(400), tell_time(9000)
        ('0.4 s', '50 s', '7 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
