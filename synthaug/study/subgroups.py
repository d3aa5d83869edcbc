"""Slices of the test patients by a column of the manifest: does an arm do as well for all of them?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.config import Config, MetricsConfig
from synthaug.data.manifest import read_columns
from synthaug.ground.errors import InputError
from synthaug.statistics.weighted import STATISTICS
from synthaug.study.aggregate import measure_arm
from synthaug.study.arms import Arm, Record, arms_of

MOST_VALUES = 10
"""A column with more values, such as a measurement, makes slices too small to say anything."""


def subgroups_of(config: Config) -> dict[str, dict[str, str]]:
    """For each column of ``metrics.subgroups`` the value of each subject.

    Raises:
        InputError: There is no manifest, it lacks the column, or the column has more than ``MOST_VALUES`` values.
    """
    columns = config.metrics.subgroups
    if not columns:
        return {}
    if config.data.root is None:
        raise InputError(f"metrics.subgroups={columns} needs a manifest: set data.root.")
    path = Path(config.data.root) / config.data.manifest
    found = read_columns(path, columns, subject=config.data.subject)
    for column, values in found.items():
        if len(set(values.values())) > MOST_VALUES:
            raise InputError(
                f"{path}: column {column!r} of metrics.subgroups has {len(set(values.values()))} values; slice by a "
                f"column of at most {MOST_VALUES}."
            )
    return found


def slice_arms(
    records: Sequence[Record], groups: Mapping[str, Mapping[str, str]], config: MetricsConfig
) -> list[dict[str, Any]]:
    """Every metric of every arm on the test patients of each value of each column.

    Args:
        records: Finished cells.
        groups: From :func:`subgroups_of`.
        config: Resamples and coverage.

    Returns:
        Rows with column, value, regime (the arm's label), n_test and each metric's value and interval; None where the
        patients of the slice lack a class.
    """
    rows = []
    for column, value_of in groups.items():
        for value in sorted(set(value_of.values())):
            for arm in arms_of(records):
                kept = [_sliced(record, value_of, value) for record in arm.records]
                told = _measure(arm, [record for record in kept if record["predictions"]], config)
                rows.append({"column": column, "value": value, "regime": arm.label, **told})
    return rows


def _sliced(record: Record, value_of: Mapping[str, str], value: str) -> Record:
    return {**record, "predictions": [p for p in record["predictions"] if value_of[p["subject_id"]] == value]}


def _measure(arm: Arm, records: list[Record], config: MetricsConfig) -> dict[str, Any]:
    patients = {row["patient_id"] for record in records for row in record["predictions"]}
    told: dict[str, Any] = {"n_test": len(patients)}
    classes = len(arm.records[0]["predictions"][0]["probabilities"])
    # A split whose slice lacks a class says nothing of how well the classes are told apart there.
    complete = [r for r in records if len(np.unique([row["label"] for row in r["predictions"]])) == classes]
    if not complete:
        return told | dict.fromkeys(STATISTICS)
    return told | measure_arm(complete, config)
