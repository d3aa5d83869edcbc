"""Arms of a study: records that differ in nothing but seed and split, and which real arms each is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.study.grid import REPEATS
from synthaug.study.identity import revisions_of
from synthaug.study.records import Arm, CellRecord
from synthaug.study.records.arm_fields import TREATMENTS, ArmFields


@dataclass(frozen=True)
class ArmRecords:
    """An arm and the records behind it, in the order of their repeats."""

    arm: Arm
    records: list[CellRecord]

    @property
    def label(self) -> str:
        """Of the arm."""
        return self.arm.label

    @cached_property
    def repeats(self) -> dict[str, CellRecord]:
        """The records by what repeats: split and seed."""
        return {repeat_of(record): record for record in self.records}


def repeat_of(record: CellRecord) -> str:
    """Names the split and seed of a record, in an order that sorts."""
    splits = [f"{key} {record.settings[key]}" for key in REPEATS if key in record.settings]
    return ", ".join([*splits, f"seed {record.seed:06d}"])


def arms_of(records: Sequence[CellRecord]) -> list[ArmRecords]:
    """The records, gathered into arms, in order of first appearance.

    Raises:
        InputError: An arm has cells of two revisions.

    Example:
        >>> records = [CellRecord("mixed", 0, synthetic_fraction=share) for share in (0.25, 0.5)]
        >>> [arm.label for arm in arms_of(records)]
        ['mixed 0.25', 'mixed 0.5']
    """
    fractions: dict[str, set[float | None]] = {}
    for record in records:
        fractions.setdefault(record.regime, set()).add(record.synthetic_fraction)
    several = {regime for regime, shares in fractions.items() if len(shares) > 1}
    groups: dict[str, list[CellRecord]] = {}
    for record in records:
        groups.setdefault(_fields_of_arm(record), []).append(record)
    arms, known = [], set[str]()
    for group in groups.values():
        arm = _arm_of(group, tells_fraction=group[0].regime in several)
        while arm.label in known:  # labels write settings without signs and with few digits
            arm = replace(arm, number=arm.number + 1)
        known.add(arm.label)
        arms.append(ArmRecords(arm, sorted(group, key=repeat_of)))
    _refuse_mixed_revisions(arms)
    return arms


def _fields_of_arm(record: CellRecord) -> str:
    """The same for records that differ in nothing but seed and split."""
    settings = {key: value for key, value in record.settings.items() if key not in REPEATS}
    return content_hash([record.regime, record.name, record.synthetic_fraction, settings])


def _refuse_mixed_revisions(arms: Sequence[ArmRecords]) -> None:
    for arm in arms:
        found = {tuple(sorted(revisions_of(record.identity).items())) for record in arm.records}
        if len(found) > 1:
            told = " and ".join(str(dict(each)) for each in sorted(found))
            raise InputError(f"The arm {arm.label!r} has cells of revisions {told}; run the study again to have one.")


def _arm_of(records: Sequence[CellRecord], *, tells_fraction: bool) -> Arm:
    """The arm of records that differ in nothing but seed and split, without its metrics."""
    first = records[0]
    same = ("regime", "name", "protocol", *(each.name for each in fields(ArmFields)))
    counts = ("n_train", "n_train_real", "n_train_synthetic")
    return Arm(
        **{name: getattr(first, name) for name in (*same, *counts)},
        fraction=first.synthetic_fraction,
        tells_fraction=tells_fraction,
        settings={key: value for key, value in first.settings.items() if key not in REPEATS},
        seeds=tuple(sorted({record.seed for record in records})),
        repeats=len(records),
        n_test=len({row.patient_id for record in records for row in record.predictions}),
    )


def baselines_of(ours: ArmRecords, arms: Sequence[ArmRecords]) -> list[ArmRecords]:
    """The arms trained on real data alone that an arm is compared with, the most alike first.

    Their other settings are the arm's, but that every treatment of real data (classical augmentation, class weights)
    is a baseline of its own. A real arm is compared with those real arms that come before it.
    """
    real = [other for other in arms if other.arm.regime == "real"]
    if ours.arm.regime == "real":
        real = real[: real.index(ours)]
    own = ours.arm.settings

    def alike(theirs: Mapping[str, Any]) -> bool:
        return all(own[key] == value for key, value in theirs.items() if key not in TREATMENTS)

    def shared(theirs: Mapping[str, Any]) -> int:
        return sum(theirs[key] == own[key] for key in TREATMENTS if key in own)

    found = [other for other in real if alike(other.arm.settings)]
    return sorted(found, key=lambda other: -shared(other.arm.settings))


def stack_scores(records: Sequence[CellRecord]) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Test subjects of all records as rows: patients (n,), labels (n,), and probabilities (n, K) per record. NaN where
    a split did not test the subject.

    Raises:
        InputError: Two records give one subject two labels.
    """
    rows: dict[str, int] = {}
    patients: list[str] = []
    labels: list[int] = []
    for record in records:
        for row in record.predictions:
            place = rows.setdefault(row.subject_id, len(rows))
            if place == len(patients):
                patients.append(row.patient_id)
                labels.append(row.label)
            elif labels[place] != row.label:
                raise InputError(
                    f"Subject {row.subject_id!r} has label {labels[place]} in one cell, {row.label} in another."
                )
    stacked = []
    for record in records:
        scores = np.full((len(rows), record.classes), np.nan)
        scores[[rows[row.subject_id] for row in record.predictions]] = [row.probabilities for row in record.predictions]
        stacked.append(scores)
    return patients, np.array(labels), stacked
