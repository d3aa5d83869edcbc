"""Records of cells become statistics: each regime with its interval, each difference to real data with its own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torchio as tio

from synthaug.augment.pool import SyntheticPool
from synthaug.config import MetricsConfig
from synthaug.data.manifest import stack_images
from synthaug.metrics.classification import auroc, average_precision
from synthaug.metrics.distances import distance_report, metrics_for
from synthaug.metrics.features import seeded_extractor
from synthaug.metrics.intervals import paired_difference, patient_bootstrap

Record = dict[str, Any]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows whose most probable class is the label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


STATISTICS = {"accuracy": accuracy, "auroc": auroc, "average_precision": average_precision}


def summarise(
    records: Sequence[Record],
    failed: Sequence[dict],
    config: MetricsConfig,
    *,
    on_statistic: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Statistics over patients and seeds.

    Args:
        records: Finished cells.
        failed: Cells that failed: regime, seed, error.
        config: Resamples and coverage.
        on_statistic: Called after each of ``count_statistics(records)`` resampled statistics.

    Returns:
        cells, failed, regimes (each with value, ci_low, ci_high of each metric), contrasts (paired differences to
        real), and the verdict in one sentence.
    """
    by_regime: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        by_regime.setdefault(record["regime"], []).append(record)
    regimes = [_regime(name, group, config, on_statistic) for name, group in by_regime.items()]
    contrasts = [
        contrast
        for name, group in by_regime.items()
        if name != "real" and "real" in by_regime
        for contrast in _contrasts(name, group, by_regime["real"], config, on_statistic)
    ]
    return {
        "cells": len(records),
        "failed": list(failed),
        "regimes": regimes,
        "contrasts": contrasts,
        "verdict": _verdict(contrasts, records, config.confidence),
    }


def count_statistics(records: Sequence[Record]) -> int:
    """How many statistics :func:`summarise` resamples: each metric of each regime, and its differences to real."""
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record["regime"], set()).add(record["seed"])
    contrasts = sum(bool(seeds[name] & seeds.get("real", set())) for name in seeds if name != "real")
    return len(STATISTICS) * (len(seeds) + contrasts)


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


def _scores(records: Sequence[Record]) -> list[np.ndarray]:
    return [np.array([row["probabilities"] for row in record["predictions"]]) for record in records]


def _rows(records: Sequence[Record]) -> dict[str, Any]:
    predictions = records[0]["predictions"]
    return {
        "patient_ids": [row["patient_id"] for row in predictions],
        "labels": np.array([row["label"] for row in predictions]),
    }


def _regime(
    name: str, records: Sequence[Record], config: MetricsConfig, on_statistic: Callable[[], None]
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "regime": name,
        "seeds": [record["seed"] for record in records],
        "n_train_real": records[0]["n_train_real"],
        "n_train_synthetic": records[0]["n_train_synthetic"],
        "n_test": len(records[0]["predictions"]),
    }
    for metric, statistic in STATISTICS.items():
        interval = patient_bootstrap(
            statistic,
            **_rows(records),
            arrays=_scores(records),
            resamples=config.bootstrap,
            confidence=config.confidence,
        )
        summary[metric] = {"value": interval.value, "ci_low": interval.low, "ci_high": interval.high}
        on_statistic()
    return summary


def _contrasts(
    name: str,
    records: Sequence[Record],
    real: Sequence[Record],
    config: MetricsConfig,
    on_statistic: Callable[[], None],
) -> list[dict]:
    """Differences to real on the seeds that both have."""
    shared = sorted({r["seed"] for r in records} & {r["seed"] for r in real})
    ours, theirs = ([r for r in group if r["seed"] in shared] for group in (records, real))
    rows = []
    for metric, statistic in STATISTICS.items() if shared else ():
        interval = paired_difference(
            statistic,
            **_rows(ours),
            arrays=_scores(ours),
            baseline=_scores(theirs),
            resamples=config.bootstrap,
            confidence=config.confidence,
        )
        rows.append(
            {
                "contrast": f"{name} - real",
                "metric": metric,
                "difference": interval.value,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "n_train": ours[0]["n_train_real"] or theirs[0]["n_train_real"],
                "seeds": shared,
                "protocol": "same cohort",
            }
        )
        on_statistic()
    return rows


def _verdict(contrasts: Sequence[dict], records: Sequence[Record], confidence: float) -> str:
    """The answer in one sentence, no bolder than its interval."""
    asked = [c for c in contrasts if c["metric"] == "auroc"]
    mixed = next((c for c in asked if c["contrast"].startswith("mixed")), asked[0] if asked else None)
    if mixed is None:
        return "No comparison: the study needs the regime 'real' and one with synthetic data."
    what = "Adding synthetic data" if mixed["contrast"].startswith("mixed") else "Training on synthetic data alone"
    if mixed["ci_low"] > 0:
        answer = "helped"
    elif mixed["ci_high"] < 0:
        answer = "hurt"
    else:
        answer = "showed no clear effect"
    tested = len({row["patient_id"] for row in records[0]["predictions"]})
    return (
        f"{what} {answer}: AUROC {mixed['difference']:+.3f} against real data with classical augmentation "
        f"({100 * confidence:g} % interval {mixed['ci_low']:+.3f} to {mixed['ci_high']:+.3f}; {tested} test patients, "
        f"{len(mixed['seeds'])} seed{'s' * (len(mixed['seeds']) > 1)})."
    )
