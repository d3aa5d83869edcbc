"""The bench's statistics against scikit-learn called for each resample: the same intervals and p-values, in one run.

    python benchmarks/speed/resampling.py [--quick]

Arms of made-up classifiers, all tested on the same patients: eight metrics with bootstrap intervals, each arm's
paired differences to real data with interval and permutation p. Without ``--quick`` the size of a large study is timed
too (ours alone: scikit-learn would take hours). Seconds are CPU seconds. The last line printed is JSON.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from machine import machine
from scipy.special import expit
from scipy.stats import permutation_test, rankdata
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    recall_score,
    roc_auc_score,
)

from synthaug.config import MetricsConfig
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.classification import calibration_error
from synthaug.statistics.intervals import patient_draws
from synthaug.statistics.resampling import DIGITS
from synthaug.statistics.weighted import STATISTICS
from synthaug.study.records import CellRecord
from synthaug.study.summary.aggregate import count_statistics, summarise
from synthaug.study.summary.arms import arms_of, baselines_of, stack_scores

PATIENTS = 600
"""Test patients, a fifth of them positive."""
TARGET = 100.0
"""Times quicker than scikit-learn a resample."""
AGREEMENT = 1e-9
"""Largest difference between two figures."""
REGIMES = (("real", None), ("synthetic", 1.0), ("mixed", 0.5))
STUDY = {"data.phantom.seed": range(9), "classifier.balance": ["a", "b"], "classifier.loss": ["c", "d"]}
"""Axes of the large study: 108 arms."""


def made_records(axes: dict[str, Sequence[Any]], *, patients: int = PATIENTS) -> list[CellRecord]:
    """A record for each regime and combination of axes; scores share what makes a patient hard."""
    labels = np.arange(patients) % 5 == 0
    hard = np.random.default_rng(0).normal(size=patients)
    records = []
    for *values, (regime, fraction) in itertools.product(*axes.values(), REGIMES):
        rng = numpy_generator("resampling speed", len(records))
        scores = expit(labels * rng.uniform(0.5, 1.5) + hard + rng.normal(size=patients) - 0.5)
        records.append(
            {
                "regime": regime,
                "seed": 0,
                "synthetic_fraction": fraction,
                "settings": dict(zip(axes, values, strict=True)),
                **{"n_train": 0, "n_train_real": 0, "n_train_synthetic": 0, "protocol": "same cohort"},
                "predictions": [
                    {"patient_id": f"{number:04d}", "label": int(label), "probabilities": [1 - score, score]}
                    for number, (label, score) in enumerate(zip(labels, scores.tolist(), strict=True))
                ],
            }
        )
    return [CellRecord.from_json(record) for record in records]


def ours(records: Sequence[CellRecord], config: MetricsConfig) -> dict[str, float]:
    """Every figure by name, as the bench finds it."""
    summary = summarise(records, [], config)
    found = {}
    for arm, metric in itertools.product(summary.arms, STATISTICS):
        found |= {f"{arm.label} {metric} {key}": value for key, value in arm.metrics[metric].to_json().items()}
    for row in summary.contrasts:
        told = {**row.difference.to_json(), "p": row.p}
        found |= {f"{row.label} {row.metric} {key}": value for key, value in told.items()}
    return found


def reference(records: Sequence[CellRecord], config: MetricsConfig) -> dict[str, float]:
    """The same with a call of scikit-learn for each metric of each resample and of each swap."""
    found: dict[str, float] = {}
    arms = arms_of(records)
    for arm in arms:
        patients, labels, [scores] = stack_scores(arm.records)
        rows = [rows for rows, _ in patient_draws(patients, labels, n_seeds=1, resamples=config.bootstrap, seed=0)]
        draws = np.array([plain(labels[drawn], scores[drawn, 1]) for drawn in rows])
        found |= told(arm.label, draws)
        for base in baselines_of(arm, arms):
            _, _, [theirs] = stack_scores(base.records)
            less = np.array([plain(labels[drawn], theirs[drawn, 1]) for drawn in rows])
            found |= told(f"{arm.label} - {base.label}", draws - less)
            p_values = swapped(labels, scores[:, 1], theirs[:, 1], config.permutations)
            found |= {
                f"{arm.label} - {base.label} {metric} p": float(p)
                for metric, p in zip(STATISTICS, p_values, strict=True)
            }
    return found


def plain(labels: np.ndarray, scores: np.ndarray, order: np.ndarray | None = None) -> list[float]:
    """``STATISTICS`` of scores (n,) of class 1; ``order`` (n,) is what ranks the rows, if not the scores."""
    called, order = scores >= 0.5, scores if order is None else order
    return [
        accuracy_score(labels, called),
        roc_auc_score(labels, order),
        average_precision_score(labels, order),
        recall_score(labels, called),
        recall_score(labels, called, pos_label=0),
        f1_score(labels, called, zero_division=0),
        brier_score_loss(labels, scores),
        calibration_error(labels, np.stack([1 - scores, scores], axis=1)),
    ]


def told(name: str, draws: np.ndarray) -> dict[str, float]:
    """Value and ends of draws (1 + R, S), whose first is that of all rows; of the calibration error laid around it."""
    ends = np.quantile(draws[1:], [0.025, 0.975], axis=0)
    ece, least = STATISTICS.index("ece"), -1.0 if " - " in name else 0.0
    around = draws[0, ece] + draws[1:, ece].mean() - ends[::-1, ece]
    ends[:, ece] = np.clip([min(around[0], draws[0, ece]), max(around[1], draws[0, ece])], least, 1.0)
    keys = ("value", "ci_low", "ci_high")
    return {
        f"{name} {metric} {key}": float(value)
        for metric, column in zip(STATISTICS, np.stack([draws[0], *ends]).T, strict=True)
        for key, value in zip(keys, column, strict=True)
    }


def swapped(labels: np.ndarray, first: np.ndarray, second: np.ndarray, resamples: int) -> np.ndarray:
    """p of each statistic."""
    places = np.arange(len(labels))
    ranks = rankdata(first), rankdata(second)

    def difference(swap: np.ndarray) -> np.ndarray:
        mine = plain(labels, np.where(swap, second, first), np.where(swap, ranks[1], ranks[0]))
        others = plain(labels, np.where(swap, first, second), np.where(swap, ranks[0], ranks[1]))
        return (np.array(mine) - others).round(DIGITS)

    def differences(chosen: np.ndarray, _: np.ndarray, axis: int) -> np.ndarray:
        swaps = np.moveaxis(chosen, axis, -1) >= len(places)
        return difference(swaps) if swaps.ndim == 1 else np.array([difference(swap) for swap in swaps])

    return permutation_test(
        (places, places + len(places)),
        differences,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=1000,
        rng=numpy_generator("paired permutation", 0),
    ).pvalue


def timed(side: Callable[..., dict[str, float]], *given: Any) -> tuple[float, dict[str, float]]:
    """CPU seconds and figures."""
    started = time.process_time()
    found = side(*given)
    return time.process_time() - started, found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer resamples, no large study: within a minute")
    parser.add_argument("--patients", type=int, default=PATIENTS, help="test patients")
    options = parser.parse_args(arguments)
    quick, patients = options.quick, options.patients
    config = MetricsConfig(bootstrap=20, permutations=39) if quick else MetricsConfig(bootstrap=200, permutations=399)
    records = made_records({"classifier.balance": ["a", "b"]}, patients=patients)
    our_seconds, our_figures = timed(ours, records, config)
    reference_seconds, figures = timed(reference, records, config)
    if our_figures.keys() != figures.keys():
        raise RuntimeError(f"the sides told other figures: {sorted(our_figures.keys() ^ figures.keys())[:5]}")
    difference = max(abs(our_figures[name] - value) for name, value in figures.items())
    ratio = reference_seconds / our_seconds
    large: dict[str, Any] = {}
    if not quick:
        study = made_records(STUDY, patients=patients)
        large["seconds"], _ = timed(ours, study, MetricsConfig())
        large |= {"arms_and_contrasts": count_statistics(study), "arms": len(study)}
    print(
        json.dumps(
            {
                "claim": f"statistics of {len(records)} arms and {count_statistics(records) - len(records)} contrasts, "
                f"{patients} patients, {config.bootstrap} resamples, {config.permutations} swaps: CPU seconds",
                "ours": our_seconds,
                "reference": reference_seconds,
                "ratio": ratio,
                "target": TARGET,
                "holds": bool(ratio >= TARGET and difference <= AGREEMENT),
                "figures": len(figures),
                "largest_difference": difference,
                "large_study": large,
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
