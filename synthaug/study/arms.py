"""Arms of a study: records that differ in nothing but seed and split, and which real arms each is compared with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from synthaug.ground.errors import InputError
from synthaug.study.grid import REPEATS, TREATMENTS

Record = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """What is compared: one way to train, repeated over seeds and splits."""

    label: str
    """Regime, and every value that tells it from the other arms."""
    regime: str
    settings: dict[str, Any]
    """Values of the axes, but for those that repeat."""
    records: list[Record]

    @cached_property
    def repeats(self) -> dict[str, Record]:
        """The records by what repeats: split and seed."""
        return {repeat_of(record): record for record in self.records}


def repeat_of(record: Record) -> str:
    """Names the split and seed of a record, in an order that sorts."""
    splits = [f"{key} {record['settings'][key]}" for key in REPEATS if key in record.get("settings", {})]
    return ", ".join([*splits, f"seed {record['seed']:06d}"])


def arms_of(records: Sequence[Record]) -> list[Arm]:
    """The records, gathered into arms, in order of first appearance.

    Example:
        >>> records = [{"regime": "mixed", "synthetic_fraction": f, "settings": {}, "seed": 0} for f in (0.25, 0.5)]
        >>> [arm.label for arm in arms_of(records)]
        ['mixed 0.25', 'mixed 0.5']
    """
    fractions: dict[str, set[float | None]] = {}
    for record in records:
        fractions.setdefault(record["regime"], set()).add(record.get("synthetic_fraction"))
    groups: dict[str, list[Record]] = {}
    for record in records:
        words = [record["regime"]]
        if len(fractions[record["regime"]]) > 1:
            words.append(f"{record['synthetic_fraction']:g}")
        for key, value in _compared(record).items():
            # A key that is short and a value that every tracker takes in a name.
            words.append(re.sub(r"[^\w.+-]+", " ", f"{key.split('.')[-1]} {value}").strip())
        groups.setdefault(" ".join(words), []).append(record)
    return [
        Arm(label, group[0]["regime"], _compared(group[0]), sorted(group, key=repeat_of))
        for label, group in groups.items()
    ]


def baselines_of(arm: Arm, arms: Sequence[Arm]) -> list[Arm]:
    """The arms trained on real data alone that an arm is compared with, the most alike first.

    Their other settings are the arm's, but that every treatment of real data (classical augmentation, class weights)
    is a baseline of its own. A real arm is compared with those real arms that come before it.
    """
    real = [other for other in arms if other.regime == "real"]
    if arm.regime == "real":
        real = real[: real.index(arm)]

    def shared(other: Arm, keys: Sequence[str]) -> int:
        return sum(other.settings[key] == arm.settings.get(key) for key in keys)

    alike = [
        other for other in real if all(arm.settings[k] == v for k, v in other.settings.items() if k not in TREATMENTS)
    ]
    treated = [key for key in TREATMENTS if key in arm.settings]
    return sorted(alike, key=lambda other: -shared(other, treated))


def stack_scores(records: Sequence[Record]) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """The test subjects of all records as rows: patients (n,), labels (n,), and each record's probabilities (n, K),
    NaN where its split did not test the subject.

    Raises:
        InputError: Two records give one subject two labels.
    """
    rows: dict[str, int] = {}
    patients: list[str] = []
    labels: list[int] = []
    for record in records:
        for row in record["predictions"]:
            name = row.get("subject_id", row["patient_id"])
            if name not in rows:
                rows[name] = len(rows)
                patients.append(row["patient_id"])
                labels.append(row["label"])
            elif labels[rows[name]] != row["label"]:
                raise InputError(
                    f"Subject {name!r} has label {labels[rows[name]]} in one cell, {row['label']} in another."
                )
    stacked = []
    for record in records:
        predictions = record["predictions"]
        scores = np.full((len(rows), len(predictions[0]["probabilities"])), np.nan)
        places = [rows[row.get("subject_id", row["patient_id"])] for row in predictions]
        scores[places] = [row["probabilities"] for row in predictions]
        stacked.append(scores)
    return patients, np.array(labels), stacked


def _compared(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.get("settings", {}).items() if key not in REPEATS}
