"""Slices of the test patients by a column of the manifest: does an arm do as well for all of them?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from synthaug.config import Config, MetricsConfig
from synthaug.data.reading.manifest import read_columns
from synthaug.ground.errors import InputError
from synthaug.statistics.intervals import lone_classes
from synthaug.statistics.resampling import Resamples
from synthaug.statistics.weighted import STATISTICS
from synthaug.study.grid import settings_of
from synthaug.study.records import CellRecord, Estimate, Subgroup
from synthaug.study.records.fields import Settings
from synthaug.study.summary.aggregate import measure_arm
from synthaug.study.summary.arms import ArmRecords, arms_of, stack_scores

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


def subgroups_of_cohorts(config: Config) -> list[tuple[Settings, dict[str, dict[str, str]]]]:
    """For each cohort of a study the axis values that say which it is, and its :func:`subgroups_of`.

    Raises:
        InputError: As of :func:`subgroups_of`.
    """
    return [(settings, subgroups_of(each)) for settings, each in settings_of(config, "data")]


def slice_cohorts(
    records: Sequence[CellRecord],
    cohorts: Sequence[tuple[Settings, Mapping[str, Mapping[str, str]]]],
    config: MetricsConfig,
) -> list[Subgroup]:
    """:func:`slice_arms` of the arms of each cohort, from :func:`subgroups_of_cohorts`."""
    return [row for axes, groups in cohorts for row in slice_arms(records, groups, config, axes=axes)]


def slice_arms(
    records: Sequence[CellRecord],
    groups: Mapping[str, Mapping[str, str]],
    config: MetricsConfig,
    *,
    axes: Settings | None = None,
) -> list[Subgroup]:
    """Every metric of every arm on the test patients of each value of each column.

    Args:
        records: Finished cells.
        groups: From :func:`subgroups_of`.
        config: Resamples and coverage.
        axes: Axis values that an arm must have; None = any.

    Returns:
        Column by column, value by value, arm by arm.
    """
    resamples = Resamples(config.bootstrap)
    wanted = (axes or {}).items()
    arms = [arm for arm in arms_of(records) if all(arm.arm.settings.get(key) == value for key, value in wanted)]
    return [
        _slice(arm, column, value, value_of, config, resamples)
        for column, value_of in groups.items()
        for value in sorted(set(value_of.values()))
        for arm in arms
    ]


def _slice(
    arm: ArmRecords,
    column: str,
    value: str,
    value_of: Mapping[str, str],
    config: MetricsConfig,
    resamples: Resamples,
) -> Subgroup:
    kept = [_sliced(record, value_of, value) for record in arm.records]
    records = [record for record in kept if record.predictions]
    patients = {row.patient_id for record in records for row in record.predictions}
    # A split whose slice lacks a class says nothing of how well the classes are told apart there.
    complete = [each for each in records if len({row.label for row in each.predictions}) == each.classes]
    metrics: dict[str, Estimate | None] = dict.fromkeys(STATISTICS)
    if not complete:
        return Subgroup(column, value, arm.label, len(patients), metrics, reason="one class only")
    measured = measure_arm(complete, config, resamples)
    people, labels, _ = stack_scores(complete)
    if lone := lone_classes(people, labels):
        measured = {metric: each.without_interval for metric, each in measured.items()}
    reason = f"class {lone[0]} has one patient here, so no interval" if lone else ""
    return Subgroup(column, value, arm.label, len(patients), metrics | measured, reason)


def _sliced(record: CellRecord, value_of: Mapping[str, str], value: str) -> CellRecord:
    return replace(record, predictions=tuple(row for row in record.predictions if value_of[row.subject_id] == value))
