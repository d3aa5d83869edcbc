"""The two findings behind the classes, and how well scores tell them: pairs within a fold, intervals over people."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from synthaug.ground.seeding import numpy_generator
from synthaug.statistics.intervals import Interval, paired_difference, patient_bootstrap

FINDINGS = {"EPE": 1, "SVI": 2}
"""Lowest class ``extent`` that has the finding: 0 neither, 1 extraprostatic extension, 2 vesicle invasion too."""
RESAMPLES = 1000
"""Resamples behind an interval; a p-value has one permutation less."""


def probability_of(probabilities: np.ndarray, finding: str) -> np.ndarray:
    """Of a finding (n,), from those of the three classes (n, 3).

    Example:
        >>> probability_of(np.array([[0.5, 0.3, 0.2]]), "EPE").tolist()
        [0.5]
    """
    return np.asarray(probabilities)[:, FINDINGS[finding] :].sum(axis=1)


def fold_auroc(strata: np.ndarray, scores: np.ndarray) -> float:
    """Share of (positive, negative) pairs of one fold that the scores put in order; a tie counts half.

    Scores of unlike folds come from unlike trainings, so they are not held against each other.

    Args:
        strata: 2 * fold + (1 if positive else 0), of each (n,).
        scores: (n,) or (n, 1).

    Example:
        The second fold's scores are another training's, and all higher.

        >>> fold_auroc(np.array([0, 1, 2, 3]), np.array([0.1, 0.2, 0.8, 0.9]))
        1.0
    """
    scores, right, pairs = np.asarray(scores).reshape(len(strata)), 0.0, 0
    for fold in np.unique(strata // 2):
        positive, negative = scores[strata == 2 * fold + 1], scores[strata == 2 * fold]
        gaps = positive[:, None] - negative[None]
        right += float((gaps > 0).sum() + (gaps == 0).sum() / 2)
        pairs += gaps.size
    return right / pairs


def _accuracy(strata: np.ndarray, scores: np.ndarray) -> float:
    return float(((scores.reshape(len(strata)) >= 0.5) == strata % 2).mean())


def _balanced_accuracy(strata: np.ndarray, scores: np.ndarray) -> float:
    called, positive = scores.reshape(len(strata)) >= 0.5, strata % 2 == 1
    return float((called[positive].mean() + (~called[~positive]).mean()) / 2)


def strata_of(extents: np.ndarray, folds: np.ndarray, finding: str) -> np.ndarray:
    """What :func:`fold_auroc` takes, from class and fold of each person."""
    return 2 * np.asarray(folds) + (np.asarray(extents) >= FINDINGS[finding])


def judge(
    scores: np.ndarray,
    extents: np.ndarray,
    folds: np.ndarray,
    finding: str,
    *,
    calls: bool = True,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """How well scores (n,), one a person, tell a finding: AUROC with interval and permutation p, accuracies.

    Args:
        scores: Larger = more likely positive; probabilities where ``calls``.
        extents: Classes (n,).
        folds: Which training each score comes from (n,).
        finding: A name of ``FINDINGS``.
        calls: Whether 0.5 parts the scores into calls.
        resamples: Behind interval and p.
    """
    strata = strata_of(extents, folds, finding)
    measures = {"auroc": fold_auroc}
    if calls:
        measures |= {"accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy}
    found: dict[str, Any] = {"n": len(scores), "positives": int((strata % 2).sum())}
    for name, measure in measures.items():
        found |= _written(name, patient_bootstrap(measure, **_rows(strata, scores), resamples=resamples))
    return found | {"p": permutation_p(strata, scores, resamples - 1)}


def difference(
    ours: np.ndarray,
    theirs: np.ndarray,
    extents: np.ndarray,
    folds: np.ndarray,
    finding: str,
    *,
    resamples: int = RESAMPLES,
) -> Mapping[str, Any]:
    """AUROC of one reader minus that of another, on the same resampled people."""
    strata = strata_of(extents, folds, finding)
    rows = _rows(strata, ours)
    gap = paired_difference(fold_auroc, **rows, baseline=np.asarray(theirs)[:, None], resamples=resamples)
    return {"n": len(ours), "positives": int((strata % 2).sum())} | _written("auroc", gap)


def permutation_p(strata: np.ndarray, scores: np.ndarray, permutations: int) -> float:
    """Two-sided: how often classes dealt out anew within each fold lie as far from 0.5."""
    rng, reach, folds = numpy_generator("real reports", "auroc"), 0, np.unique(strata // 2)
    seen = abs(fold_auroc(strata, scores) - 0.5)
    for _ in range(permutations):
        dealt = strata.copy()
        for fold in folds:
            inside = strata // 2 == fold
            dealt[inside] = rng.permutation(strata[inside])
        reach += abs(fold_auroc(dealt, scores) - 0.5) >= seen - 1e-12
    return (reach + 1) / (permutations + 1)


def _rows(strata: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Arguments of the bootstraps: people are drawn within fold and class."""
    people = [str(person) for person in range(len(strata))]
    return {"patient_ids": people, "labels": strata, "arrays": np.asarray(scores, dtype=float)[:, None]}


def _written(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
