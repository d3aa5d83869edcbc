"""Intervals that resample patients, because two volumes of one patient are not two observations.

Training seeds are resampled with the patients: an interval then says what another cohort AND another training run
would give. With few seeds that second part is too narrow (its variance by 1 - 1 / seeds), as with any bootstrap.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator

Statistic = Callable[[np.ndarray, np.ndarray], float]
"""Labels (n,) and probabilities (n, K) to a number, such as ``metrics.classification.auroc``."""
Scores = np.ndarray | Sequence[np.ndarray]
"""Probabilities (n, K), or a list of them, one a training seed."""


@dataclass(frozen=True)
class Interval:
    """A statistic and its percentile interval."""

    value: float
    """The statistic on all rows, averaged over the training seeds."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


def checked_confidence(confidence: float) -> float:
    """A coverage, if it is one; InputError unless it lies in (0, 1).

    Example:
        >>> checked_confidence(0.95)
        0.95
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} must lie in (0, 1).")
    return confidence


def patient_bootstrap(
    statistic: Statistic,
    *,
    patient_ids: Sequence[str],
    labels: np.ndarray,
    arrays: Scores,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic over resampled patients (cluster bootstrap; Davison & Hinkley 1997, 3.8).

    Each resample draws patients with replacement, with all their rows, stratified by class. Training seeds are drawn
    with replacement too.

    Args:
        statistic: Called as ``statistic(labels, probabilities)``.
        patient_ids: Patient of each row (n,).
        labels: Classes (n,).
        arrays: Probabilities (n, K), or one such array a training seed, over which the statistic is averaged.
        resamples: Bootstrap resamples.
        confidence: Coverage of the interval, in (0, 1).
        seed: Names the resamples; equal seeds draw equal patients.

    Raises:
        InputError: Unlike lengths, no rows, a statistic that is NaN, unusable settings.

    Example:
        >>> scores = np.array([0.1, 0.3, 0.4, 0.8])
        >>> interval = patient_bootstrap(
        ...     lambda labels, p: float(np.mean((p[:, 1] > 0.5) == labels)), patient_ids=["a", "a", "b", "c"],
        ...     labels=np.array([0, 0, 1, 1]), arrays=np.stack([1 - scores, scores], axis=1), resamples=100)
        >>> interval
        Interval(value=0.75, low=0.5, high=1.0)
    """
    labels, ours = np.asarray(labels), _score_sets(arrays, n_rows=len(patient_ids))

    def measure(rows: np.ndarray, seeds: np.ndarray) -> float:
        return _average(statistic, labels, ours, rows=rows, seeds=seeds)

    draws = patient_draws(patient_ids, labels, n_seeds=len(ours), resamples=resamples, seed=seed)
    return _percentile(measure, draws, confidence=confidence)


def paired_difference(
    statistic: Statistic,
    *,
    patient_ids: Sequence[str],
    labels: np.ndarray,
    arrays: Scores,
    baseline: Scores,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of ``statistic(arrays) - statistic(baseline)`` on the same resampled patients and training seeds.

    What both share (hard patients, lucky seeds) leaves with the difference, so this is narrower than two intervals
    held side by side. Arguments and errors as in ``patient_bootstrap``.

    Args:
        statistic: Called as ``statistic(labels, probabilities)``.
        patient_ids: Patient of each row (n,).
        labels: Classes (n,).
        arrays: Probabilities (n, K), or one such array a training seed.
        baseline: As many arrays, in the same order of training seeds and rows.
        resamples: Bootstrap resamples.
        confidence: Coverage of the interval, in (0, 1).
        seed: Names the resamples.

    Raises:
        InputError: As ``patient_bootstrap``; also unlike numbers of training seeds.

    Example:
        >>> scores = np.eye(2)[[0, 0, 1, 1]]
        >>> paired_difference(
        ...     lambda labels, p: float(np.mean(p.argmax(1) == labels)), patient_ids=list("abcd"),
        ...     labels=np.array([0, 0, 1, 1]), arrays=scores, baseline=1 - scores, resamples=10)
        Interval(value=1.0, low=1.0, high=1.0)
    """
    labels, n_rows = np.asarray(labels), len(patient_ids)
    ours, theirs = _score_sets(arrays, n_rows=n_rows), _score_sets(baseline, n_rows=n_rows)
    if len(ours) != len(theirs):
        raise InputError(f"{len(ours)} and {len(theirs)} training seeds cannot be paired: pass those that both have.")

    def measure(rows: np.ndarray, seeds: np.ndarray) -> float:
        one = _average(statistic, labels, ours, rows=rows, seeds=seeds)
        return one - _average(statistic, labels, theirs, rows=rows, seeds=seeds)

    draws = patient_draws(patient_ids, labels, n_seeds=len(ours), resamples=resamples, seed=seed)
    return _percentile(measure, draws, confidence=confidence)


def _score_sets(scores: Scores, *, n_rows: int) -> list[np.ndarray]:
    """One (n, K) array a training seed."""
    single = isinstance(scores, np.ndarray) and scores.ndim == 2
    sets = [np.asarray(each, dtype=np.float64) for each in ([scores] if single else scores)]
    if not sets:
        raise InputError("There are no probabilities: pass one array (n, K) for each training seed.")
    for index, each in enumerate(sets):
        if each.ndim != 2 or len(each) != n_rows or each.shape[1] != sets[0].shape[1]:
            raise InputError(
                f"The probabilities of training seed {index} have shape {each.shape}; needed are ({n_rows}, K)."
            )
    return sets


def _average(
    statistic: Statistic, labels: np.ndarray, sets: list[np.ndarray], *, rows: np.ndarray, seeds: np.ndarray
) -> float:
    """Mean of the statistic over the drawn training seeds; a seed drawn twice is computed once and counts twice."""
    drawn, times = np.unique(seeds, return_counts=True)
    return float(np.average([statistic(labels[rows], sets[seed][rows]) for seed in drawn], weights=times))


def patient_draws(
    patient_ids: Sequence[str], labels: np.ndarray, *, n_seeds: int, resamples: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of row numbers and training seeds: first all of them, then the resamples."""
    weights, repeats = draw_weights(patient_ids, labels, n_repeats=n_seeds, resamples=resamples, seed=seed)
    for rows, seeds in zip(weights, repeats, strict=True):
        yield np.repeat(np.arange(len(rows)), rows), np.repeat(np.arange(n_seeds), seeds)


def draw_weights(
    patient_ids: Sequence[str], labels: np.ndarray, *, n_repeats: int, resamples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """How often each resample holds each row (1 + R, n) and each training (1 + R, n_repeats); the first holds all once.

    Raises:
        InputError: Unlike lengths, no rows, no resamples.

    Example:
        >>> rows, trainings = draw_weights(["a", "a", "b"], np.array([0, 0, 1]), n_repeats=1, resamples=1)
        >>> rows.tolist(), trainings.tolist()
        ([[1, 1, 1], [1, 1, 1]], [[1], [1]])
    """
    if resamples < 1:
        raise InputError(f"resamples={resamples} must be at least 1.")
    if labels.shape != (len(patient_ids),) or not len(labels):
        raise InputError(f"Labels {labels.shape} and {len(patient_ids)} patients do not fit: needed is one each a row.")
    patient_of = _numbered(patient_ids)
    strata = _strata(patient_of, labels)
    n_patients = int(patient_of.max()) + 1
    rng = numpy_generator("patient bootstrap", seed)
    patients = np.ones((1 + resamples, n_patients), dtype=np.int32)
    repeats = np.ones((1 + resamples, n_repeats), dtype=np.int32)
    for resample in range(1, 1 + resamples):
        drawn = np.concatenate([members[rng.integers(len(members), size=len(members))] for members in strata])
        patients[resample] = np.bincount(drawn, minlength=n_patients)
        repeats[resample] = np.bincount(rng.integers(n_repeats, size=n_repeats), minlength=n_repeats)
    return patients[:, patient_of], repeats


def lone_classes(patient_ids: Sequence[str], labels: np.ndarray) -> list[int]:
    """Classes whose patients no resample draws anew, such as those of one patient: no interval tells their spread.

    Example:
        >>> lone_classes(["a", "a", "b", "c"], np.array([1, 1, 0, 0]))
        [1]
    """
    patient_of = _numbered(patient_ids)
    drawn = [patient for members in _strata(patient_of, labels) if len(members) > 1 for patient in members]
    return [int(each) for each in np.unique(labels) if not np.isin(patient_of[labels == each], drawn).any()]


def _numbered(patient_ids: Sequence[str]) -> np.ndarray:
    """The number of each row's patient, in the order in which they come."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(patient, len(numbers)) for patient in patient_ids])


def _strata(patient_of: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The numbers of the patients, those with the same SET of classes together.

    The set and not the highest class: whichever patients are drawn from each stratum, every class is there.
    """
    classes: dict[int, set[int]] = {}
    for patient, label in zip(patient_of.tolist(), labels.tolist(), strict=True):
        classes.setdefault(patient, set()).add(label)
    strata: dict[tuple[int, ...], list[int]] = {}
    for patient, found in classes.items():
        strata.setdefault(tuple(sorted(found)), []).append(patient)
    return [np.array(strata[found]) for found in sorted(strata)]


def _percentile(
    measure: Callable[[np.ndarray, np.ndarray], float],
    draws: Iterator[tuple[np.ndarray, np.ndarray]],
    *,
    confidence: float,
) -> Interval:
    checked_confidence(confidence)
    value, *resampled = (measure(rows, seeds) for rows, seeds in draws)
    if not np.isfinite([value, *resampled]).all():
        raise InputError("The statistic is not finite on all rows or on a resample: it has no interval.")
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high))
