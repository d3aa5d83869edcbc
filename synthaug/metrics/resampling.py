"""Every statistic of every resample at once: patients as weights, so that a thousand resamples cost one sort.

Point values are scikit-learn's (``metrics.classification``); these are the same statistics with a weight a row, as
scikit-learn's ``sample_weight``, over arrays of resamples, where a call for each of them would take minutes.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import permutation_test, rankdata

from synthaug.errors import InputError
from synthaug.metrics.classification import BINS, bin_of
from synthaug.metrics.intervals import Interval, patient_draws
from synthaug.seeding import numpy_generator

STATISTICS = ("accuracy", "auroc", "average_precision", "sensitivity", "specificity", "f1", "brier", "ece")
"""In the order of tables."""
RANKED = ("auroc", "average_precision")
"""These ask for the order of the rows only."""


def statistic_draws(
    statistic: str, *, labels: np.ndarray, scores: Sequence[np.ndarray], weights: np.ndarray, repeats: np.ndarray
) -> np.ndarray:
    """A statistic on each resample, averaged over the trainings in it.

    Args:
        statistic: One of ``STATISTICS``.
        labels: Classes (n,).
        scores: Probabilities (n, K) of each training; rows that it was not tested on are NaN.
        weights: How often each resample holds each row (R, n).
        repeats: How often each resample holds each training (R, len(scores)).

    Returns:
        (R,); a training whose resampled rows lack a class does not count, and NaN stands where none counts.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
        >>> drawn = np.array([[1, 1, 1], [2, 0, 1]])
        >>> statistic_draws("accuracy", labels=np.array([0, 0, 1]), scores=[scores], weights=drawn,
        ...                 repeats=np.ones((2, 1))).round(3).tolist()
        [0.667, 1.0]
    """
    values = np.empty((len(weights), len(scores)))
    for number, each in enumerate(scores):
        tested = np.isfinite(each).all(axis=1)
        values[:, number] = weighted_statistic(
            statistic, labels=labels[tested], probabilities=each[tested], weights=weights[:, tested]
        )
    counted = np.where(np.isnan(values), 0, repeats)
    with np.errstate(invalid="ignore"):
        return (np.nan_to_num(values) * counted).sum(axis=1) / counted.sum(axis=1)


def weighted_statistic(
    statistic: str, *, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """One of ``STATISTICS`` with rows weighted, for many weightings or many sets of probabilities at once.

    Args:
        statistic: Its name; its meaning is that of ``classification_metrics``.
        labels: Classes (n,).
        probabilities: (n, K), or (R, n, K).
        weights: (R, n), or (1, n).

    Returns:
        (R,); NaN where the weighted rows lack a class.
    """
    classes = probabilities.shape[-1]
    called = probabilities.argmax(axis=-1) if classes > 2 else (probabilities[..., 1] >= 0.5).astype(int)
    present = np.stack([(weights * (labels == label)).sum(axis=-1) > 0 for label in range(classes)]).all(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if statistic == "accuracy":
            values = (weights * (called == labels)).sum(axis=-1) / weights.sum(axis=-1)
        elif statistic == "ece":
            values = _calibration_error(labels, probabilities, weights)
        else:
            columns = range(1, 2) if classes == 2 else range(classes)
            each = [
                _of_class(statistic, labels == label, probabilities[..., label], called == label, weights)
                for label in columns
            ]
            values = np.mean(each, axis=0)
    return np.where(present, values, np.nan)


def interval_of(draws: np.ndarray, *, confidence: float) -> Interval:
    """The percentile interval of ``draws`` (1 + R,), whose first is the statistic on all rows.

    Raises:
        InputError: The statistic, or more than half of the draws, is not defined.

    Example:
        >>> interval_of(np.array([0.5, 0.0, 0.5, 1.0]), confidence=0.5)
        Interval(value=0.5, low=0.25, high=0.75)
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} must lie in (0, 1).")
    value, resampled = draws[0], draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(value) or 2 * len(resampled) < len(draws) - 1:
        raise InputError("The statistic is not defined on all rows or on most resamples: a class is missing there.")
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value=float(value), low=float(low), high=float(high))


def draw_weights(
    patient_ids: Sequence[str], labels: np.ndarray, *, n_repeats: int, resamples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """How often each resample holds each row (1 + R, n) and each training (1 + R, n_repeats); the first holds all once.

    The resamples are those of ``patient_bootstrap``: whole patients, classes kept, trainings too.

    Example:
        >>> rows, trainings = draw_weights(["a", "a", "b"], np.array([0, 0, 1]), n_repeats=1, resamples=1)
        >>> rows.tolist(), trainings.tolist()
        ([[1, 1, 1], [1, 1, 1]], [[1], [1]])
    """
    rows, trainings = [], []
    for drawn, repeats in patient_draws(patient_ids, labels, n_seeds=n_repeats, resamples=resamples, seed=seed):
        rows.append(np.bincount(drawn, minlength=len(labels)))
        trainings.append(np.bincount(repeats, minlength=n_repeats))
    return np.stack(rows), np.stack(trainings)


def paired_permutation_p(
    statistic: str,
    *,
    patient_ids: Sequence[str],
    labels: np.ndarray,
    scores: Sequence[np.ndarray],
    baseline: Sequence[np.ndarray],
    resamples: int,
    seed: int = 0,
) -> float:
    """Two-sided p of a paired difference: how often swapping the two classifiers' predictions, patient by patient,
    gives one as large (``scipy.stats.permutation_test``; exact where there are few patients).

    The hypothesis is that the two predict alike, up to chance, for each patient; the trainings are taken as they are.
    For statistics of the order alone, ranks are swapped in place of probabilities, so that two scales of confidence
    are no difference (Venkatraman & Begg 1996).

    Args:
        statistic: One of ``STATISTICS``.
        patient_ids: Patient of each row (n,); all rows of a patient, in all trainings, are swapped together.
        labels: Classes (n,).
        scores: Probabilities (n, K) of each training; NaN rows were not tested.
        baseline: As many arrays in the same order, tested on the same rows.
        resamples: Random swaps; all 2 ** patients are tried where these are no more.
        seed: Names the swaps.

    Example:
        Three patients: of the eight ways to swap, two give a difference as large.

        >>> right, wrong = np.eye(2)[[0, 1, 1]], np.eye(2)[[1, 0, 0]]
        >>> paired_permutation_p("accuracy", patient_ids=list("abc"), labels=np.array([0, 1, 1]), scores=[right],
        ...                      baseline=[wrong], resamples=100)
        0.25
    """
    patients, patient_of = np.unique(np.asarray(patient_ids), return_inverse=True)
    pairs = []
    for ours, theirs in zip(scores, baseline, strict=True):
        tested = np.isfinite(ours).all(axis=1)
        if statistic in RANKED:
            ours, theirs = (_ranks(each, tested) for each in (ours, theirs))
        pairs.append((tested, ours[tested], theirs[tested]))

    def difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        """Entry i of ``first`` is patient i, or, where swapped, i + their number."""
        swapped = np.atleast_2d(np.moveaxis(first, axis, -1)) >= len(patients)
        total = np.zeros(len(swapped))
        for tested, ours, theirs in pairs:
            swap = swapped[:, patient_of[tested], None]
            kept = {"labels": labels[tested], "weights": np.ones((1, int(tested.sum())))}
            total += weighted_statistic(statistic, probabilities=np.where(swap, theirs, ours), **kept)
            total -= weighted_statistic(statistic, probabilities=np.where(swap, ours, theirs), **kept)
        return total if first.ndim > 1 else total[0]

    numbers = np.arange(len(patients))
    found = permutation_test(
        (numbers, numbers + len(patients)),
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=1000,
        rng=numpy_generator("paired permutation", seed),
    )
    return float(found.pvalue)


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: p-values whose threshold may be asked of all at once.

    Example:
        >>> correct_holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values)[order]), 1)
    return corrected.tolist()


def _ranks(scores: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Each column's ranks in (0, 1] among the tested rows."""
    ranks = np.full(scores.shape, np.nan)
    ranks[tested] = rankdata(scores[tested], axis=0) / tested.sum()
    return ranks


def _of_class(
    statistic: str, member: np.ndarray, scores: np.ndarray, called: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """A statistic of one class against the rest."""
    if statistic in RANKED:
        return _ranked(statistic, member, scores, weights)
    if statistic == "brier":
        return (weights * (scores - member) ** 2).sum(axis=-1) / weights.sum(axis=-1)
    hits, false_alarms = ((weights * (called & each)).sum(axis=-1) for each in (member, ~member))
    positives, negatives = ((weights * each).sum(axis=-1) for each in (member, ~member))
    if statistic == "sensitivity":
        return hits / positives
    if statistic == "specificity":
        return 1 - false_alarms / negatives
    return 2 * hits / (hits + false_alarms + positives)  # f1


def _ranked(statistic: str, member: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve (trapezoids) or average precision (steps), over thresholds from the highest score."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=-1)
    if scores.ndim == 1:
        order, ordered = order[None], ordered[None]
    rows = max(len(weights), len(order))
    weights, order = (np.broadcast_to(each, (rows, each.shape[-1])) for each in (weights, order))
    weights = np.take_along_axis(weights, order, axis=-1)
    hits, alarms = (np.cumsum(weights * each[order], axis=-1) for each in (member, ~member))
    # Equal scores are passed by one threshold: each place takes the counts at the end of its run of equals.
    places = np.arange(ordered.shape[-1])
    last = np.concatenate([ordered[:, :-1] != ordered[:, 1:], np.ones((len(ordered), 1), dtype=bool)], axis=1)
    ends = np.minimum.accumulate(np.where(last, places, len(places))[:, ::-1], axis=1)[:, ::-1]
    ends = np.broadcast_to(ends, hits.shape)
    hits, alarms = (np.take_along_axis(each, ends, axis=-1) for each in (hits, alarms))
    if statistic == "auroc":
        before = np.concatenate([np.zeros((rows, 1)), hits[:, :-1]], axis=1)
        area = (np.diff(alarms, axis=1, prepend=0) * (hits + before) / 2).sum(axis=1)
        return area / (hits[:, -1] * alarms[:, -1])
    precision = hits / np.maximum(hits + alarms, np.finfo(float).tiny)
    return (np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1) / hits[:, -1]


def _calibration_error(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    confidence = probabilities.max(axis=-1)
    gaps = weights * (confidence - (probabilities.argmax(axis=-1) == labels))
    bins = bin_of(confidence)
    return sum(np.abs((gaps * (bins == number)).sum(axis=-1)) for number in range(BINS)) / weights.sum(axis=-1)
