"""Records of cells become statistics: each arm with its interval, each difference to real data with its own."""

from collections.abc import Callable, Sequence
from typing import Any

import torchio as tio

from synthaug.config import MetricsConfig
from synthaug.data.manifest import stack_images
from synthaug.metrics.distances import distance_report, metrics_for
from synthaug.metrics.features import seeded_extractor
from synthaug.pool.pool import SyntheticPool
from synthaug.statistics.intervals import Interval
from synthaug.statistics.resampling import (
    Resamples,
    correct_holm,
    enough_swaps,
    interval_of,
    paired_permutation,
    tell_limit,
)
from synthaug.statistics.weighted import STATISTICS
from synthaug.study.arms import Arm, arms_of, baselines_of, stack_scores

Record = dict[str, Any]
ANSWERS = {
    "mixed": "Adding synthetic data",
    "finetuned": "Pre-training on synthetic data",
    "synthetic": "Training on synthetic data alone",
}
"""What a verdict says of the arms of a regime."""


def summarise(
    records: Sequence[Record],
    failed: Sequence[dict],
    config: MetricsConfig,
    *,
    on_statistic: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Statistics over patients, seeds and splits.

    Args:
        records: Finished cells.
        failed: Cells that failed: regime, seed, error.
        config: Resamples and coverage.
        on_statistic: Called after each of ``count_statistics(records)`` arms and contrasts.

    Returns:
        cells, failed, regimes (an arm each, with value, ci_low, ci_high of each metric), contrasts (paired differences
        to real, with interval, permutation p, and p_holm, corrected over the contrasts of the same metric),
        permutations (behind each p), p_limit (a sentence where no p can be small enough, else ""), and the verdict in
        one sentence, followed by that.
    """
    arms, resamples = arms_of(records), Resamples(config.bootstrap)
    pairs, alpha = _pairs(arms), 1 - config.confidence
    swaps = config.permutations or enough_swaps(len(pairs), alpha=alpha)
    regimes = []
    for arm in arms:
        regimes.append(_regime(arm, config, resamples))
        on_statistic()
    contrasts = []
    for ours, theirs in pairs:
        contrasts += _contrasts(ours, theirs, config, resamples, swaps)
        on_statistic()
    for metric in STATISTICS:
        family = [contrast for contrast in contrasts if contrast["metric"] == metric]
        for contrast, corrected in zip(family, correct_holm([row["p"] for row in family]), strict=True):
            contrast["p_holm"] = corrected
    patients = max((contrast["n_test"] for contrast in contrasts), default=0)
    limit = tell_limit(len(pairs), swaps=swaps, patients=patients, alpha=alpha)
    verdict = write_verdict(contrasts, records, config.confidence)
    return {
        "cells": len(records),
        "failed": list(failed),
        "regimes": regimes,
        "contrasts": contrasts,
        "permutations": swaps,
        "p_limit": limit,
        "verdict": f"{verdict} {limit}".rstrip(),
    }


def count_statistics(records: Sequence[Record]) -> int:
    """How many arms and contrasts :func:`summarise` goes through."""
    arms = arms_of(records)
    return len(arms) + len(_pairs(arms))


def image_metrics(
    real: Sequence[tio.Subject], pool: SyntheticPool, images: Sequence[str], config: MetricsConfig
) -> list[Record]:
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
    return [{**vars(result), "extractor": extractor.name} for result in results.values()]


def _pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Arms that are compared: those that have a seed and split in common."""
    pairs = [(arm, baseline) for arm in arms for baseline in baselines_of(arm, arms)]
    return [(ours, theirs) for ours, theirs in pairs if ours.repeats.keys() & theirs.repeats.keys()]


def _regime(arm: Arm, config: MetricsConfig, resamples: Resamples) -> dict[str, Any]:
    first = arm.records[0]
    return {
        "regime": arm.label,
        "settings": arm.settings,
        "seeds": sorted({record["seed"] for record in arm.records}),
        "repeats": len(arm.records),
        "n_train": first["n_train"],
        "n_train_real": first["n_train_real"],
        "n_train_synthetic": first["n_train_synthetic"],
        "protocol": first["protocol"],
        "n_test": len({row["patient_id"] for record in arm.records for row in record["predictions"]}),
        **measure_arm(arm.records, config, resamples),
    }


def measure_arm(
    records: Sequence[Record], config: MetricsConfig, resamples: Resamples | None = None
) -> dict[str, dict[str, float]]:
    """Each metric of an arm's records: value, ci_low, ci_high.

    Args:
        records: Of the arm.
        config: Resamples and coverage.
        resamples: Those of the arms measured before; None = new ones.

    Raises:
        InputError: The test subjects lack a class.
    """
    draws = (resamples or Resamples(config.bootstrap)).draws(*stack_scores(records))
    return {
        metric: _ends(interval_of(each, confidence=config.confidence))
        for metric, each in zip(STATISTICS, draws.T, strict=True)
    }


def _contrasts(ours: Arm, theirs: Arm, config: MetricsConfig, resamples: Resamples, swaps: int) -> list[dict[str, Any]]:
    """Differences on the seeds and splits that both have."""
    shared = sorted(ours.repeats.keys() & theirs.repeats.keys())
    records = [arm.repeats[repeat] for arm in (ours, theirs) for repeat in shared]
    patients, labels, scores = stack_scores(records)
    sets = scores[: len(shared)], scores[len(shared) :]
    first, second = (resamples.draws(patients, labels, each) for each in sets)
    p_values = paired_permutation(
        patient_ids=patients, labels=labels, scores=sets[0], baseline=sets[1], resamples=swaps
    )
    rows = []
    for metric, draws in zip(STATISTICS, (first - second).T, strict=True):
        interval = _ends(interval_of(draws, confidence=config.confidence))
        rows.append(
            {
                "contrast": f"{ours.label} - {theirs.label}",
                "n_train": records[0]["n_train"],
                "metric": metric,
                "difference": interval.pop("value"),
                **interval,
                "p": p_values[metric],
                "seeds": sorted({record["seed"] for record in records}),
                "repeats": len(shared),
                "n_test": len(set(patients)),
                "protocol": records[0]["protocol"],
            }
        )
    return rows


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "ci_low": interval.low, "ci_high": interval.high}


def write_verdict(contrasts: Sequence[dict], records: Sequence[Record], confidence: float) -> str:
    """The answer in one sentence, no bolder than its interval and its corrected p."""
    asked = [c for c in contrasts if c["metric"] == "auroc" and not c["contrast"].startswith("real")]
    added = [c for c in asked if not c["contrast"].startswith("synthetic")] or asked
    if not added:
        return "No comparison: the study needs the regime 'real' and one with synthetic data."
    regimes = {c["contrast"].split()[0] for c in added}
    what = ANSWERS[regimes.pop()] if len(regimes) == 1 else "Adding or pre-training on synthetic data"
    helped, hurt = (sum(sign * c["difference"] > 0 and _is_clear(c, 1 - confidence) for c in added) for sign in (1, -1))
    if len(added) > 1:
        worst, best = (choose(added, key=lambda c: c["difference"]) for choose in (min, max))
        return (
            f"{what} helped clearly in {helped} and hurt clearly in {hurt} of {len(added)} comparisons with real data "
            f"(AUROC {worst['difference']:+.3f}, {worst['contrast']}, to {best['difference']:+.3f}, {best['contrast']};"
            f" {100 * confidence:g} % intervals, p corrected by Holm)."
        )
    answer = "helped" if helped else "hurt" if hurt else "showed no clear effect"
    [only] = added
    tested = len({row["patient_id"] for record in records for row in record["predictions"]})
    return (
        f"{what} {answer}: AUROC {only['difference']:+.3f} against real data{_classical(records)} "
        f"({100 * confidence:g} % interval {only['ci_low']:+.3f} to {only['ci_high']:+.3f}; corrected p "
        f"{only['p_holm']:.3g}; {tested} test patients, {len(only['seeds'])} seed{'s' * (len(only['seeds']) > 1)})."
    )


def _is_clear(contrast: dict, alpha: float) -> bool:
    return contrast["ci_low"] * contrast["ci_high"] > 0 and contrast["p_holm"] <= alpha


def _classical(records: Sequence[Record]) -> str:
    used = {str(record.get("augment", True)) for record in records} - {"[]"}
    if "False" in used:
        return ""
    told = ["labelled"] * ("labelled" in used)
    return f" with {' or '.join(['classical'] * bool(used - {'labelled'}) + told)} augmentation"
