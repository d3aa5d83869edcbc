"""Differences between two classifiers whose predictions are swapped patient by patient, for many swaps at once.

A swap keeps the labels, so that most statistics are linear in it: what a row adds changes its sign. Their sums are one
matrix product for all swaps. Statistics of ranks tell what they add to it and what else they need
(:class:`synthaug.statistics.ranks.Swaps`).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from synthaug.statistics.bins import BINS
from synthaug.statistics.ranks import RANK_STATISTICS, Swaps
from synthaug.statistics.weighted import OF_COUNTS, STATISTICS, Counts, calibration_gaps, called_classes

MOST_AT_ONCE, BITS_AT_ONCE = 4096, 2**22
"""Swaps, and swaps times patients, gone through at a time: a count of as many stays in a core's cache."""


def swapped_differences(
    labels: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    *,
    swaps: np.ndarray,
    count: int,
    patient_of: np.ndarray,
) -> np.ndarray:
    """Differences (1 + R, S) of the ``STATISTICS`` of two classifiers without a swap and with each of R.

    Args:
        labels: Classes (n,), every class among them.
        ours: Probabilities (n, K).
        theirs: Of the other classifier (n, K).
        swaps: Which swaps swap each patient: bits (patients, R / 8), as ``np.packbits`` packs them.
        count: R.
        patient_of: Number of each row's patient (n,).
    """
    ranks = [rankdata(each, axis=0) for each in (ours, theirs)]
    counted = range(1, 2) if ours.shape[1] == 2 else range(ours.shape[1])
    classes = [_ClassPair.of(labels, label, ours, theirs, ranks) for label in counted]
    linear = _LinearTerms.of(labels, ours, theirs, classes)
    by_patient = np.zeros((len(linear.changes), len(swaps)))
    np.add.at(by_patient.T, patient_of, linear.changes.T)
    found = np.empty((1 + count, len(STATISTICS)))
    found[:1] = _differences(linear, by_patient, classes, np.zeros((len(swaps), 1), dtype=np.uint8), patient_of)
    step = min(MOST_AT_ONCE, max(BITS_AT_ONCE // len(swaps) // 8, 1) * 8)
    for start in range(0, count, step):
        size = min(step, count - start)
        bits = np.unpackbits(swaps[:, start // 8 : (start + step) // 8], axis=1, count=size)
        found[1 + start : 1 + start + size] = _differences(linear, by_patient, classes, bits, patient_of)
    return found


@dataclass(frozen=True)
class _ClassPair:
    """One class as two classifiers see it."""

    positives: int
    negatives: int
    sums: np.ndarray
    """Hits, false alarms and squared errors of each row, of both (2, 3, n)."""
    ranked: list[Swaps]
    """Of each of the ``RANK_STATISTICS``."""

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        label: int,
        ours: np.ndarray,
        theirs: np.ndarray,
        ranks: list[np.ndarray],
    ) -> "_ClassPair":
        member = labels == label
        sums = []
        for scores in (ours, theirs):
            called = called_classes(scores) == label
            sums.append(np.stack([member & called, ~member & called, (scores[:, label] - member) ** 2]))
        order = np.stack([each[:, label] for each in ranks])
        positives = int(member.sum())
        ranked = [statistic.swaps(member, order) for statistic in RANK_STATISTICS.values()]
        return cls(positives, len(member) - positives, np.stack(sums).astype(float), ranked)


@dataclass(frozen=True)
class _LinearTerms:
    """What is added over rows: hits, alarms, errors of each class, right calls, gaps of each bin, terms of ranks."""

    ours: np.ndarray
    """Totals without a swap (T,)."""
    theirs: np.ndarray
    """Of the other classifier (T,)."""
    changes: np.ndarray
    """What a swap of each row adds to the first and takes from the second (T, n)."""

    @classmethod
    def of(cls, labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, classes: list[_ClassPair]) -> "_LinearTerms":
        sides = []
        for side, scores in enumerate((ours, theirs)):
            right, gaps = called_classes(scores) == labels, calibration_gaps(labels, scores)
            sides.append(np.concatenate([*(pair.sums[side] for pair in classes), right[None], gaps]))
        first, second = sides
        ranked = np.concatenate([swaps.terms for pair in classes for swaps in pair.ranked])
        totals = np.concatenate([first, ranked]).sum(axis=1), np.concatenate([second, 0 * ranked]).sum(axis=1)
        return cls(*totals, np.concatenate([second - first, -2 * ranked]))


def _differences(
    linear: _LinearTerms, by_patient: np.ndarray, classes: list[_ClassPair], bits: np.ndarray, patient_of: np.ndarray
) -> np.ndarray:
    """Differences (R, S) under swaps whose bits (patients, R) are given."""
    change = by_patient @ bits.astype(float)
    ours, theirs = linear.ours[:, None] + change, linear.theirs[:, None] - change
    total, split = len(patient_of), 3 * len(classes)
    of_classes = [each[:split].reshape(len(classes), 3, -1) for each in (ours, theirs)]
    positives, negatives = (
        np.array([[getattr(pair, name)] for pair in classes]) for name in ("positives", "negatives")
    )
    first, second = (
        Counts(positives, negatives, hits, alarms, errors, total)
        for hits, alarms, errors in (each.swapaxes(0, 1) for each in of_classes)
    )
    swapped = bits if np.array_equal(patient_of, np.arange(len(bits))) else bits[patient_of]
    of_class = dict(zip(RANK_STATISTICS, _ranked(classes, ours[split + 1 + BINS :], swapped), strict=True))
    of_class |= {name: statistic(first) - statistic(second) for name, statistic in OF_COUNTS.items()}
    found = {name: values.mean(axis=0) for name, values in of_class.items()}
    found["accuracy"] = (ours[split] - theirs[split]) / total
    gaps = [np.abs(each[split + 1 : split + 1 + BINS]).sum(axis=0) for each in (ours, theirs)]
    found["ece"] = (gaps[0] - gaps[1]) / total
    return np.stack([found[name] for name in STATISTICS], axis=1)


def _ranked(classes: list[_ClassPair], sums: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """Differences in the ``RANK_STATISTICS`` (S, K, R), of the sums of all their terms (T, R)."""
    every = [swaps for pair in classes for swaps in pair.ranked]
    parts = np.split(sums, np.cumsum([len(swaps.terms) for swaps in every[:-1]]))
    found = [swaps.differences(part, swapped) for swaps, part in zip(every, parts, strict=True)]
    return np.stack(found).reshape(len(classes), len(RANK_STATISTICS), -1).swapaxes(0, 1)
