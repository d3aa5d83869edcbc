"""Records of cells become statistics: each arm with its interval, each difference to real data with its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torchio as tio

from synthaug.config import MetricsConfig
from synthaug.data.reading.manifest import stack_images
from synthaug.ground.errors import InputError
from synthaug.metrics.class_shown import class_shown
from synthaug.metrics.copies.diversity import pair_similarity
from synthaug.metrics.distances.estimates import distance_report, metrics_for
from synthaug.metrics.features import seeded_extractor
from synthaug.metrics.realism.judgement import ENOUGH, judge_realism
from synthaug.metrics.volumes import VolumeSet
from synthaug.pool.pool import SyntheticPool
from synthaug.statistics.resampling import (
    Resamples,
    centred_interval_of,
    correct_holm,
    enough_swaps,
    interval_of,
    paired_permutation,
    tell_limit,
)
from synthaug.statistics.weighted import STATISTICS
from synthaug.study.records import CellRecord, Contrast, Estimate, ImageComparison, Summary, judge
from synthaug.study.summary.arms import ArmRecords, arms_of, baselines_of, stack_scores

MOST_PAIRS = 40
"""Pairs of volumes behind a similarity: of large volumes each takes seconds."""


def summarise(
    records: Sequence[CellRecord],
    failed: Sequence[Mapping[str, Any]],
    config: MetricsConfig,
    *,
    on_statistic: Callable[[], None] = lambda: None,
) -> Summary:
    """Statistics over patients, seeds and splits.

    Args:
        records: Finished cells.
        failed: Cells that failed: regime, seed, error.
        config: Resamples and coverage.
        on_statistic: Called after each of ``count_statistics(records)`` arms and contrasts.

    Returns:
        Each arm with its metrics, the paired differences to real data and the verdict; no image metrics yet. A
        difference has the p of its permutation test, and p corrected over the contrasts of the same metric.
    """
    groups, resamples = arms_of(records), Resamples(config.bootstrap)
    pairs, alpha = _pairs(groups), 1 - config.confidence
    swaps = config.permutations or enough_swaps(len(pairs), alpha=alpha)
    arms = []
    for group in groups:
        arms.append(replace(group.arm, metrics=measure_arm(group.records, config, resamples)))
        on_statistic()
    contrasts: list[Contrast] = []
    for ours, theirs in pairs:
        contrasts += _contrasts(ours, theirs, config, resamples, swaps)
        on_statistic()
    contrasts = _corrected(contrasts)
    patients = max((contrast.n_test for contrast in contrasts), default=0)
    verdict = judge(
        contrasts,
        confidence=config.confidence,
        n_test=len({row.patient_id for record in records for row in record.predictions}),
        augmentations=_augmentations(records),
        limit=tell_limit(len(pairs), swaps=swaps, patients=patients, alpha=alpha),
    )
    return Summary(len(records), tuple(arms), tuple(contrasts), verdict, failed=tuple(failed), permutations=swaps)


def count_statistics(records: Sequence[CellRecord]) -> int:
    """How many arms and contrasts :func:`summarise` goes through."""
    arms = arms_of(records)
    return len(arms) + len(_pairs(arms))


def image_metrics(
    real: Sequence[tio.Subject], pool: SyntheticPool, images: Sequence[str], config: MetricsConfig
) -> list[ImageComparison]:
    """The pool against real subjects that the generator never saw: each metric with floor, interval and fingerprint.

    Metrics that need more volumes than there are (:func:`metrics_for`) are left out.
    """
    extractor = seeded_extractor(channels=len(images), seed=config.extractor_seed)
    features = [extractor.features(stack_images(each, images) for each in part) for part in (real, pool.subjects())]
    results = distance_report(
        *features,
        metrics=metrics_for(min(map(len, features))),
        resamples=min(config.bootstrap, 500),
        confidence=config.confidence,
        fingerprint=extractor.fingerprint,
    )
    return [ImageComparison.from_json({**vars(result), "extractor": extractor.name}) for result in results.values()]


def realism_metrics(
    real: Sequence[tio.Subject],
    pool: SyntheticPool,
    training: Sequence[tio.Subject],
    images: Sequence[str],
    config: MetricsConfig,
) -> tuple[list[ImageComparison], str]:
    """How easily the pool is told from real subjects that the generator never saw, or why that cannot be said.

    The floor is the same judgement of the training subjects.
    """
    if min(len(real), len(pool)) < ENOUGH:
        return [], f"{len(real)} held-out and {len(pool)} synthetic volumes cannot tell; {ENOUGH} of each are needed."
    synthetic, known = list(pool.subjects()), training or None
    cnn = config.realism == "network"
    report = judge_realism(real, synthetic, training=known, images=images, cnn=cnn, confidence=config.confidence)
    return [ImageComparison.from_json(row) for row in report.to_rows()], ""


def class_metrics(
    real: Sequence[tio.Subject],
    pool: SyntheticPool,
    training: Sequence[tio.Subject],
    images: Sequence[str],
    config: MetricsConfig,
) -> tuple[list[ImageComparison], str]:
    """How well the pool shows its classes to a reader of the training volumes, or why that cannot be said."""
    try:
        sets = [VolumeSet.of(list(each), images) for each in (training, real, pool.subjects())]
        found = class_shown(*sets, confidence=config.confidence)
    except InputError as error:
        return [], str(error)
    more = {"real": found.real.value, "real_low": found.real.low, "real_high": found.real.high}
    row = ImageComparison(
        "class_shown",
        fingerprint=found.reader,
        estimate=Estimate(found.synthetic.value, found.synthetic.low, found.synthetic.high),
        larger_is_better=True,
        n_real=found.n_real,
        n_synthetic=found.n_synthetic,
        more={**more, "missing": found.missing},
    )
    return [row], ""


def variety_metrics(
    real: Sequence[tio.Subject], pool: SyntheticPool, images: Sequence[str], config: MetricsConfig
) -> tuple[list[ImageComparison], str]:
    """How alike pairs of synthetic volumes are beside pairs of real ones, or why that cannot be said."""
    sets = [VolumeSet.of(list(each), images) for each in (pool.subjects(), real)]
    try:
        synthetic, known = (pair_similarity(each, pairs=MOST_PAIRS, confidence=config.confidence) for each in sets)
    except InputError as error:
        return [], str(error)
    more = {"real": known.value, "real_low": known.ci_low, "real_high": known.ci_high, "real_pairs": known.pairs}
    row = ImageComparison(
        "ms_ssim",
        Estimate(synthetic.value, synthetic.ci_low, synthetic.ci_high),
        fingerprint=synthetic.settings,
        n_real=len(sets[1]),
        n_synthetic=len(sets[0]),
        more={**more, "pairs": synthetic.pairs, "settings": synthetic.settings},
    )
    return [row], ""


def _pairs(arms: Sequence[ArmRecords]) -> list[tuple[ArmRecords, ArmRecords]]:
    """Arms that are compared: those that have a seed and split in common."""
    pairs = [(arm, baseline) for arm in arms for baseline in baselines_of(arm, arms)]
    return [(ours, theirs) for ours, theirs in pairs if ours.repeats.keys() & theirs.repeats.keys()]


def measure_arm(
    records: Sequence[CellRecord], config: MetricsConfig, resamples: Resamples | None = None
) -> dict[str, Estimate]:
    """Each metric of an arm's records.

    Args:
        records: Of the arm.
        config: Resamples and coverage.
        resamples: Those of the arms measured before; None = new ones.

    Raises:
        InputError: The test subjects lack a class.
    """
    draws = (resamples or Resamples(config.bootstrap)).draws(*stack_scores(records))
    return {metric: _estimate(metric, each, config) for metric, each in zip(STATISTICS, draws.T, strict=True)}


def _contrasts(
    ours: ArmRecords, theirs: ArmRecords, config: MetricsConfig, resamples: Resamples, swaps: int
) -> list[Contrast]:
    """Differences on the seeds and splits that both have; p is not corrected yet."""
    shared = sorted(ours.repeats.keys() & theirs.repeats.keys())
    records = [group.repeats[repeat] for group in (ours, theirs) for repeat in shared]
    patients, labels, scores = stack_scores(records)
    sets = scores[: len(shared)], scores[len(shared) :]
    first, second = (resamples.draws(patients, labels, each) for each in sets)
    p_values = paired_permutation(
        patient_ids=patients, labels=labels, scores=sets[0], baseline=sets[1], resamples=swaps
    )
    return [
        Contrast(
            ours.arm,
            theirs.arm,
            metric,
            _estimate(metric, draws, config, least=-1),
            p=p_values[metric],
            p_holm=p_values[metric],
            n_train=records[0].n_train,
            n_test=len(set(patients)),
            seeds=tuple(sorted({record.seed for record in records})),
            repeats=len(shared),
            protocol=records[0].protocol,
        )
        for metric, draws in zip(STATISTICS, (first - second).T, strict=True)
    ]


def _corrected(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """With p corrected by Holm over the contrasts of each metric."""
    holm: dict[int, float] = {}
    for metric in STATISTICS:
        places = [place for place, contrast in enumerate(contrasts) if contrast.metric == metric]
        holm |= zip(places, correct_holm([contrasts[place].p for place in places]), strict=True)
    return [replace(contrast, p_holm=holm[place]) for place, contrast in enumerate(contrasts)]


def _estimate(metric: str, draws: np.ndarray, config: MetricsConfig, *, least: float = 0) -> Estimate:
    """With the interval of the metric; ``least`` is the smallest that a calibration error or its difference can be."""
    if metric == "ece":
        interval = centred_interval_of(draws, confidence=config.confidence, least=least, most=1)
    else:
        interval = interval_of(draws, confidence=config.confidence)
    return Estimate(interval.value, interval.low, interval.high)


def _augmentations(records: Sequence[CellRecord]) -> tuple[str, ...]:
    """Kinds of augmentation that the arms have; none where an arm has none."""
    used = [record.treatment.get("augment", True) for record in records]
    if not all(used):
        return ()
    return tuple(sorted({"labelled" if each == "labelled" else "classical" for each in used}))
