"""Differences between two classifiers whose predictions are swapped patient by patient, for many swaps at once.

A swap keeps the labels, so that most statistics are linear in it: what a row adds changes its sign. The difference in
AUROC is linear too. Each pair of a positive and a negative counts K(x, y), and x and y come from either classifier. All
terms but one a row cancel: half the difference of its places among the opponents of both classifiers. What remains of a
swap is one matrix product, and a count down the ranks for average precision.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import rankdata

from synthaug.statistics.bins import BINS
from synthaug.statistics.weighted import OF_COUNTS, STATISTICS, Counts, calibration_gaps, called_classes

MOST_AT_ONCE, BITS_AT_ONCE = 2048, 2**22
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
    places: np.ndarray
    """What each row adds to the difference in AUROC without a swap (n,)."""
    ordered: "_Ordered"

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
        negatives = len(member) - positives
        return cls(
            positives,
            negatives,
            np.stack(sums).astype(float),
            _places(member, order) / (positives * negatives),
            _Ordered.of(member, order),
        )


def _places(member: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Half the difference of each row's places (n,) among the opponents of both classifiers; ``order`` (2, n)."""
    found = np.empty(order.shape[1])
    for own, sign in ((member, 1), (~member, -1)):
        opponents = np.sort(order[:, ~own], axis=None)
        # A row above an opponent counts 1, beside it 1/2: the mean of both sides of an insertion.
        left, right = (np.searchsorted(opponents, order[:, own], side=side) for side in ("left", "right"))
        above = left + right
        found[own] = sign * (above[0] - above[1]) / 4
    return found


@dataclass(frozen=True)
class _LinearTerms:
    """What is added over rows: hits, alarms, errors and places of each class, right calls, gaps of each bin."""

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
        places = np.stack([pair.places for pair in classes])
        totals = np.concatenate([first, places]).sum(axis=1), np.concatenate([second, 0 * places]).sum(axis=1)
        return cls(*totals, np.concatenate([second - first, -2 * places]))


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
    of_class = {
        "auroc": ours[split + 1 + BINS :],
        "average_precision": np.stack([pair.ordered.differences(swapped) for pair in classes]),
        **{name: statistic(first) - statistic(second) for name, statistic in OF_COUNTS.items()},
    }
    found = {name: values.mean(axis=0) for name, values in of_class.items()}
    found["accuracy"] = (ours[split] - theirs[split]) / total
    gaps = [np.abs(each[split + 1 : split + 1 + BINS]).sum(axis=0) for each in (ours, theirs)]
    found["ece"] = (gaps[0] - gaps[1]) / total
    return np.stack([found[name] for name in STATISTICS], axis=1)


@dataclass(frozen=True)
class _Ordered:
    """The rows of both classifiers by falling score, one under the other: a swap keeps one of each row's two.

    What the first classifier has down to a place, the second lacks: one count serves both.
    """

    sides: list[int]
    """Whose score it is, 0 or 1, highest score first (2n,)."""
    rows: list[int]
    """Of which row (2n,)."""
    members: list[bool]
    """Whether the row belongs to the class (2n,)."""
    ends: np.ndarray
    """After how many of them each group of equal scores that has members ends (G,)."""

    @classmethod
    def of(cls, member: np.ndarray, order: np.ndarray) -> "_Ordered":
        """Of membership (n,) and the order of both (2, n)."""
        scores = order.ravel()
        places = np.argsort(-scores, kind="stable")
        sides, rows = np.divmod(places, len(member))
        last = np.append(np.diff(scores[places]) != 0, True)
        groups = np.cumsum(last) - last
        ends = 1 + np.flatnonzero(last)[np.unique(groups[member[rows]])]
        return cls(sides.tolist(), rows.tolist(), member[rows].tolist(), ends)

    def differences(self, swapped: np.ndarray) -> np.ndarray:
        """In average precision (R,), under swaps of rows (n, R)."""
        kind = np.int16 if len(self.rows) < np.iinfo(np.int16).max else np.int32
        has = np.empty((2, *swapped.shape), dtype=kind)  # whether the first classifier has this score of the row
        has[1] = swapped
        np.subtract(1, has[1], out=has[0])
        passed, hits = np.zeros((2, swapped.shape[1]), dtype=kind)
        places = np.flatnonzero(self.members)
        members_to, down_to = np.zeros((2, len(places), 1), dtype=kind)
        hits_to, passed_to = np.empty((2, len(places), swapped.shape[1]), dtype=kind)
        counted = 0
        for start, end in pairwise([0, *self.ends.tolist()]):
            first = counted
            for place in range(start, end):
                kept = has[self.sides[place], self.rows[place]]
                passed += kept
                if self.members[place]:
                    hits += kept
                    counted += 1
            hits_to[first:counted], passed_to[first:counted] = hits, passed
            members_to[first:counted], down_to[first:counted] = counted, end
        # Where the second has the score, its counts are the rest of both, and it adds to the other side.
        lacks = has[1 - np.array(self.sides)[places], np.array(self.rows)[places]]
        hits_to -= members_to * lacks
        passed_to -= down_to * lacks
        return (hits_to / np.abs(passed_to, out=passed_to)).sum(axis=0) / (len(places) / 2)
