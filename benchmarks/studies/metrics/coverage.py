"""How often 95 % intervals hold the truth: AUROC of few positives, and the calibration error of few patients.

    python benchmarks/studies/metrics/coverage.py

Prints one line a setting; under two minutes on one core. The figures stand in docs/statistics.md.
"""

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from synthaug.ground.seeding import numpy_generator
from synthaug.statistics.resampling import Resamples, centred_interval_of, interval_of
from synthaug.statistics.weighted import STATISTICS

RESAMPLES, CONFIDENCE = 300, 0.95
PATIENTS, STUDIES = 60, 120
"""Test patients of a study, and studies, behind the calibration error."""
NEGATIVES, TESTS = 40, 600
"""Negative test patients, and test sets, behind AUROC."""


def draws_of(metric: str, labels: np.ndarray, scores: list[np.ndarray], *, seed: int) -> np.ndarray:
    """The metric on all patients and on each resample of them, for the scores of one or several trainings."""
    patients, sets = [str(row) for row in range(len(labels))], [np.stack([1 - each, each], axis=1) for each in scores]
    return Resamples(RESAMPLES, seed=seed).draws(patients, labels, sets)[:, STATISTICS.index(metric)]


def auroc_coverage(positives: int) -> float:
    """Share of test sets whose interval holds the AUROC of two normal distributions one deviation apart."""
    rng, truth = numpy_generator("coverage of auroc", positives), norm.cdf(1 / np.sqrt(2))
    labels, held = np.repeat([0, 1], [NEGATIVES, positives]), 0
    for seed in range(TESTS):
        scores = [expit(rng.normal(size=len(labels)) + labels)]
        found = interval_of(draws_of("auroc", labels, scores, seed=seed), confidence=CONFIDENCE)
        held += found.low <= truth <= found.high
    return held / TESTS


def ece_coverage(trainings: int) -> dict[str, tuple[float, float]]:
    """Of both forms of interval: share that holds the mean value of all studies, and share beside its own value."""
    rng = numpy_generator("coverage of ece", trainings)
    found: dict[str, list] = {"percentile": [], "centred": []}
    for seed in range(STUDIES):
        logits = rng.normal(0, 1.2, PATIENTS)
        labels = (rng.random(PATIENTS) < expit(logits)).astype(int)
        scores = [expit(0.8 * logits + rng.normal(0, 0.7, PATIENTS)) for _ in range(trainings)]
        draws = draws_of("ece", labels, scores, seed=seed)
        found["percentile"].append(interval_of(draws, confidence=CONFIDENCE))
        found["centred"].append(centred_interval_of(draws, confidence=CONFIDENCE, least=0, most=1))
    truth = np.mean([each.value for each in found["centred"]])
    return {
        name: (
            float(np.mean([each.low <= truth <= each.high for each in intervals])),
            float(np.mean([not each.low <= each.value <= each.high for each in intervals])),
        )
        for name, intervals in found.items()
    }


if __name__ == "__main__":
    for positives in (1, 2, 3, 5, 10, 20):
        print(f"AUROC, {positives} positives: {auroc_coverage(positives):.3f}", flush=True)
    for trainings in (1, 5, 10):
        told = [f"{name} {held:.3f} ({beside:.3f} beside)" for name, (held, beside) in ece_coverage(trainings).items()]
        print(f"ECE, {trainings} trainings: {', '.join(told)}", flush=True)
