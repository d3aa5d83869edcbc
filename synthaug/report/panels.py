"""Arms laid out for reading: a panel for each combination of settings, and in it a series for each training set."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthaug.study.arms import Arm, Record, arms_of
from synthaug.study.grid import STAGES

Panels = dict[str, dict[str, Arm]]
"""By panel ("" where the study has no axes), then by series."""
MOST_SHOWN = 12
"""Panels of a figure: more would not fit a page."""


def split_label(label: str, settings: Mapping[str, Any]) -> tuple[str, str]:
    """An arm's label as (series, panel): settings that real arms have too make the panel, all other words the series.

    Settings of the generator stay in the series, so that its mixtures stand beside the real arm that they ask after.

    Example:
        >>> split_label("mixed 0.5 train 16 variant maisi", {"split.train": 16, "generator.variant": "maisi"})
        ('mixed 0.5 variant maisi', 'train 16')
    """
    shared = []
    for key, value in settings.items():
        words = setting_words(key, value)
        found = re.search(rf" {re.escape(words)}(?= |$)", label)
        if key.split(".")[0] not in STAGES and found:
            label = label[: found.start()] + label[found.end() :]
            shared.append(words)
    return label, ", ".join(shared)


def setting_words(key: str, value: Any) -> str:
    """A setting as labels of arms write it.

    Example:
        >>> setting_words("classifier.class_weights", [1.0, 2.5])
        'class_weights 1.0 2.5'
    """
    return re.sub(r"[^\w.+-]+", " ", f"{key.split('.')[-1]} {value}").strip()


def panels_of(records: Sequence[Record]) -> Panels:
    """The arms of a study, panel by panel.

    Example:
        >>> records = [{"regime": regime, "synthetic_fraction": 0.5, "seed": 0, "settings": {"split.train": n}}
        ...            for n in (8, 16) for regime in ("real", "mixed")]
        >>> {panel: list(series) for panel, series in panels_of(records).items()}
        {'train 8': ['real', 'mixed'], 'train 16': ['real', 'mixed']}
    """
    panels: Panels = {}
    for arm in arms_of(records):
        name, panel = split_label(arm.label, arm.settings)
        series = panels.setdefault(panel, {})
        series[arm.label if name in series else name] = arm
    return panels


def series_of(panels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of all series, in order of first appearance."""
    return list(dict.fromkeys(name for series in panels.values() for name in series))


def records_of(panels: Panels, chosen: Iterable[str]) -> list[Record]:
    """The records behind some panels."""
    return [record for panel in chosen for arm in panels[panel].values() for record in arm.records]
