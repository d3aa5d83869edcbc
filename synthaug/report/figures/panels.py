"""Arms laid out for reading: a panel for each combination of settings, and in it a series for each training set."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthaug.study.records import CellRecord
from synthaug.study.summary.arms import ArmRecords, arms_of

Panels = dict[str, dict[str, ArmRecords]]
"""By panel ("" where the study has no axes), then by series."""
MOST_SHOWN = 6
"""Combinations of settings whose curves are drawn: with more a page would weigh over 8 MB."""


def panels_of(records: Sequence[CellRecord]) -> Panels:
    """The arms of a study, panel by panel.

    Settings of the generator stay in the series, so that its mixtures stand beside the real arm that they ask after.

    Example:
        >>> sizes = ({"split.train": n} for n in (8, 16))
        >>> records = [CellRecord(regime, 0, settings=size) for size in sizes for regime in ("real", "mixed")]
        >>> {panel: list(series) for panel, series in panels_of(records).items()}
        {'train 8': ['real', 'mixed'], 'train 16': ['real', 'mixed']}
    """
    panels: Panels = {}
    for arm in arms_of(records):
        panels.setdefault(arm.arm.panel(), {})[arm.arm.series()] = arm
    return panels


def series_of(panels: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The regime of each series, by its name, in order of first appearance."""
    return {name: arm.arm.regime for series in panels.values() for name, arm in series.items()}


def records_of(panels: Panels, chosen: Iterable[str]) -> list[CellRecord]:
    """The records behind some panels."""
    return [record for panel in chosen for arm in panels[panel].values() for record in arm.records]
