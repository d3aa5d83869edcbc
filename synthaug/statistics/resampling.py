"""What resampled patients say of classifiers: intervals, p-values of paired differences, Holm's correction.

A resample is a weighting of the rows (:mod:`synthaug.statistics.weighted`), so that all resamples share one sort. Arms
tested on the same patients share their resamples.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.statistics.detectable import is_small
from synthaug.statistics.intervals import Interval, checked_confidence, draw_weights
from synthaug.statistics.swaps import swapped_differences
from synthaug.statistics.weighted import STATISTICS, weighted_statistics

DRAWN_AT_ONCE = 1000
"""Swaps drawn together, as ``scipy.stats.permutation_test(batch=1000)`` does: the number names the swaps."""
DIGITS = 12
"""Decimals of a difference that count: what rounding sets apart is as large."""

FEWEST_SWAPS, MOST_SWAPS = 1999, 99_999
"""Of one comparison and of very many."""
SPARE = 5
"""How many times the fewest swaps with which a comparison can be clear: then some may give a difference as large."""


class Resamples:
    """The statistics of trainings on resampled patients.

    Trainings tested on the same rows share their resamples, and each training is measured once.

    Args:
        resamples: Bootstrap resamples.
        seed: Names them.
    """

    def __init__(self, resamples: int, *, seed: int = 0) -> None:
        self.resamples, self.seed = resamples, seed
        self._weights: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
        self.measured: dict[tuple, np.ndarray] = {}
        """Statistics (1 + R, S) of each training so far."""

    def draws(
        self,
        patient_ids: Sequence[str],
        labels: np.ndarray,
        scores: Sequence[np.ndarray],
        *,
        shares: np.ndarray | None = None,
    ) -> np.ndarray:
        """Each statistic on all rows and on each resample, averaged over the trainings in it.

        Args:
            patient_ids: Patient of each row (n,).
            labels: Classes (n,).
            scores: Probabilities (n, K) of each training; rows that it was not tested on are NaN.
            shares: As of :func:`average_trainings`.

        Returns:
            (1 + R, len(STATISTICS)); a training whose resampled rows lack a class does not count, and NaN stands where
            none counts.

        Raises:
            InputError: Patients and labels do not fit, or a label is none of the K classes.

        Example:
            >>> scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
            >>> Resamples(20).draws(list("abcd"), np.array([0, 0, 1, 1]), [scores])[0, :2].tolist()
            [0.75, 1.0]
        """
        labels = _checked_labels(labels, scores)
        rows = (tuple(patient_ids), labels.tobytes(), len(scores))
        if rows not in self._weights:
            self._weights[rows] = draw_weights(
                patient_ids, labels, n_repeats=len(scores), resamples=self.resamples, seed=self.seed
            )
        weights, repeats = self._weights[rows]
        values = np.stack([self._measure(rows, labels, each, weights) for each in scores])
        return average_trainings(values, repeats, shares=shares)

    def _measure(self, rows: tuple, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        key = (rows, scores.tobytes())
        if key not in self.measured:
            tested = np.isfinite(scores).all(axis=1)
            self.measured[key] = weighted_statistics(labels[tested], scores[tested], weights[:, tested])
        return self.measured[key]


def average_trainings(values: np.ndarray, repeats: np.ndarray, *, shares: np.ndarray | None = None) -> np.ndarray:
    """The mean of the trainings in each resample.

    Args:
        values: Statistics of each training on each resample (T, R, S); NaN does not count.
        repeats: How often each resample holds each training (R, T).
        shares: Weights of the trainings in each statistic (T, S); None = all alike.

    Example:
        >>> average_trainings(np.array([[[1.0]], [[0.25]], [[np.nan]]]), np.array([[1, 2, 3]])).tolist()
        [[0.5]]
    """
    weights = repeats.T[:, :, None] * (1 if shares is None else shares[:, None, :])
    counted = np.where(np.isnan(values), 0, weights)
    with np.errstate(invalid="ignore"):
        return (np.nan_to_num(values) * counted).sum(axis=0) / counted.sum(axis=0)


def interval_of(draws: np.ndarray, *, confidence: float) -> Interval:
    """The percentile interval of ``draws`` (1 + R,), whose first is the statistic on all rows.

    Raises:
        InputError: The statistic, or more than half of the draws, is not defined.

    Example:
        >>> interval_of(np.array([0.5, 0.0, 0.5, 1.0]), confidence=0.5)
        Interval(value=0.5, low=0.25, high=0.75)
    """
    checked_confidence(confidence)
    value, resampled = draws[0], draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(value) or 2 * len(resampled) < len(draws) - 1:
        raise InputError("The statistic is not defined on all rows or on most resamples: a class is missing there.")
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value=float(value), low=float(low), high=float(high))


def centred_interval_of(draws: np.ndarray, *, confidence: float, least: float, most: float) -> Interval:
    """Likewise of a statistic that resampling biases, as it does the calibration error: the spread of the draws about
    their mean, laid around the value. It holds the value, and lies within what the statistic can be.

    Resampled rows repeat each other, so that their bins scatter more: the draws lie above the value as the value lies
    above the truth.

    Example:
        >>> centred_interval_of(np.array([0.5, 0.75, 1.0, 1.25]), confidence=0.5, least=0, most=1)
        Interval(value=0.5, low=0.375, high=0.625)
    """
    found = interval_of(draws, confidence=confidence)
    middle = draws[1:][np.isfinite(draws[1:])].mean()
    low, high = (found.value - (end - middle) for end in (found.high, found.low))
    return Interval(
        value=found.value,
        low=max(float(min(low, found.value)), least),
        high=min(float(max(high, found.value)), most),
    )


def paired_permutation(
    *,
    patient_ids: Sequence[str],
    labels: np.ndarray,
    scores: Sequence[np.ndarray],
    baseline: Sequence[np.ndarray],
    resamples: int,
    seed: int = 0,
) -> dict[str, float]:
    """Two-sided p of the paired difference of each statistic, by swapping the two classifiers' predictions by patient.

    It is the share of swaps that give a difference as large, as in ``scipy.stats.permutation_test``; exact where there
    are few patients.

    The hypothesis is that the two predict alike, up to chance, for each patient; the trainings are taken as they are.
    For statistics of the order alone, ranks are swapped in place of probabilities, so that two scales of confidence
    are no difference (Venkatraman & Begg 1996). Differences are equal where ``DIGITS`` decimals are.

    Args:
        patient_ids: Patient of each row (n,); all rows of a patient, in all trainings, are swapped together.
        labels: Classes (n,).
        scores: Probabilities (n, K) of each training; NaN rows were not tested.
        baseline: As many arrays in the same order, tested on the same rows.
        resamples: Random swaps; all 2 ** patients are tried where these are no more.
        seed: Names the swaps.

    Raises:
        InputError: No training was tested on every class; one that was not does not count. Or a training and its
            baseline were tested on different rows, or a label is none of the K classes.

    Example:
        Three patients: of the eight ways to swap, two give a difference as large.

        >>> right, wrong = np.eye(2)[[0, 1, 1]], np.eye(2)[[1, 0, 0]]
        >>> paired_permutation(patient_ids=list("abc"), labels=np.array([0, 1, 1]), scores=[right], baseline=[wrong],
        ...                    resamples=100)["accuracy"]
        0.25
    """
    labels = _checked_labels(labels, scores)
    patients, patient_of = np.unique(np.asarray(patient_ids), return_inverse=True)
    swaps, count = draw_swaps(len(patients), resamples, seed), min(resamples, 2 ** len(patients))
    differences, counted = np.zeros((1 + count, len(STATISTICS))), 0
    for number, (ours, theirs) in enumerate(zip(scores, baseline, strict=True)):
        tested = np.isfinite(ours).all(axis=1)
        if len(odd := np.flatnonzero(tested != np.isfinite(theirs).all(axis=1))):
            raise InputError(f"Of training {number} row {odd[0]} is finite on one side only; pair tests of equal rows.")
        if len(np.unique(labels[tested])) < ours.shape[1]:
            continue  # as in the intervals
        differences += swapped_differences(
            labels[tested], ours[tested], theirs[tested], swaps=swaps, count=count, patient_of=patient_of[tested]
        )
        counted += 1
    if not counted:
        raise InputError("No training was tested on every class: there is no difference to test.")
    observed, null = np.split((differences / counted).round(DIGITS), [1])
    uncounted = 0 if count == 2 ** len(patients) else 1  # the observed is a swap too, among random ones
    sides = [(each.sum(axis=0) + uncounted) / (count + uncounted) for each in (null <= observed, null >= observed)]
    return dict(zip(STATISTICS, np.minimum(2 * np.minimum(*sides), 1).tolist(), strict=True))


def _checked_labels(labels: np.ndarray, scores: Sequence[np.ndarray]) -> np.ndarray:
    """Classes as integers: the second of two that are numbered from 1 would count as not the first."""
    labels = np.asarray(labels)
    for each in scores:
        if len(odd := np.flatnonzero(~np.isin(labels, np.arange(each.shape[1])))):
            raise InputError(
                f"Label {odd[0]} is {labels[odd[0]]}; the probabilities are of the classes 0 to {each.shape[1] - 1}."
            )
    return labels.astype(int)


@lru_cache(maxsize=4)
def draw_swaps(patients: int, resamples: int, seed: int = 0) -> np.ndarray:
    """Which swaps swap each patient: bits (patients, R / 8), as ``np.packbits`` packs them.

    They are those that ``scipy.stats.permutation_test`` draws; all 2 ** patients where these are no more.
    """
    if resamples >= 2**patients:
        return np.packbits(np.arange(2**patients) >> np.arange(patients)[:, None] & 1, axis=1)
    rng = numpy_generator("paired permutation", seed)
    pairs = np.tile(np.arange(2), (min(DRAWN_AT_ONCE, resamples), patients, 1))
    blocks = [np.packbits(rng.permuted(pairs, axis=-1)[..., 0].T, axis=1) for _ in range(0, resamples, DRAWN_AT_ONCE)]
    return np.concatenate(blocks, axis=1)


def enough_swaps(comparisons: int, *, alpha: float) -> int:
    """How many random swaps it takes for one of many comparisons to have a p that is small after Holm's correction.

    At most ``MOST_SWAPS``; :func:`tell_limit` says where these, or few patients, are too few.

    Example:
        >>> [enough_swaps(comparisons, alpha=0.05) for comparisons in (1, 100, 10_000)]
        [1999, 19999, 99999]
    """
    return min(max(math.ceil(SPARE * 2 * comparisons / alpha) - 1, FEWEST_SWAPS), MOST_SWAPS)


def tell_limit(comparisons: int, *, swaps: int, patients: int, alpha: float) -> str:
    """One sentence where no comparison's p can be small enough, however large its difference; else nothing.

    Args:
        comparisons: What Holm's correction is over.
        swaps: Random swaps behind a p.
        patients: Whose predictions are swapped.
        alpha: What is small after the correction.

    Example:
        >>> tell_limit(2, swaps=1999, patients=600, alpha=0.05)
        ''
        >>> print(tell_limit(1, swaps=1999, patients=4, alpha=0.05))
        No comparison can come out clear: all 16 swaps of 4 test patients give no p below 0.12; needed is 0.05.
    """
    every = 2**patients <= swaps
    smallest = 2 / (2**patients if every else swaps + 1)
    if is_small(comparisons * smallest, alpha=alpha):
        return ""
    cause = f"all {2**patients} swaps of {patients} test patients" if every else f"{swaps} random swaps"
    family = f" before Holm's correction over {comparisons} comparisons" if comparisons > 1 else ""
    mend = "" if every else f" (metrics.permutations: at least {math.ceil(2 * comparisons / alpha) - 1})"
    return (
        f"No comparison can come out clear: {cause} give no p below {smallest:.2g}; needed is {alpha / comparisons:.2g}"
        f"{family}{mend}."
    )


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's (1979) step-down method.

    Example:
        >>> correct_holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values)[order]), 1)
    return corrected.tolist()
