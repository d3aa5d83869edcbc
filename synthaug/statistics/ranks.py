"""Statistics of the ranks of scores: a record each, from which resampling, swaps and plain values follow.

A record holds the statistic of one class against the rest as a function of the weights down the ranks
(:class:`WeightedRanks`). The plain value is the one with weights of one. Two classifiers whose predictions are swapped
are two weightings of both classifiers' rows. A record may hold a faster form for swaps (:class:`Swaps`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class WeightedRanks:
    """One class by falling score, under R weightings, at each of G groups of equal scores that hold members of it."""

    hits: np.ndarray
    """Weight of the group's members (G, R)."""
    hits_so_far: np.ndarray
    """Weight of the members of this group and those above it (G, R)."""
    above: np.ndarray
    """Weight of the rows of higher score, of the class or not (G, R)."""
    down_to: np.ndarray
    """Weight of the rows of this score or a higher one (G, R)."""
    total: np.ndarray
    """Weight of all rows (R,)."""

    @property
    def positives(self) -> np.ndarray:
        """Weight of all members (R,)."""
        return self.hits_so_far[-1]


@dataclass(frozen=True)
class ClassOrder:
    """The rows by falling score of one class. Equal scores make one group."""

    rows: np.ndarray
    """Row numbers (n,), highest score first."""
    members: np.ndarray
    """Row numbers of the class's members, in that order."""
    starts: np.ndarray
    """Where among ``members`` each group that has any begins (G,)."""
    above: np.ndarray
    """How many rows have a higher score than each of these groups (G,)."""
    down_to: np.ndarray
    """How many have its score or a higher one (G,)."""

    @classmethod
    def of(cls, member: np.ndarray, scores: np.ndarray) -> "ClassOrder":
        """Of membership and score (n,)."""
        rows = np.argsort(-scores, kind="stable")
        members = rows[member[rows]]
        rising = scores[rows[::-1]]
        groups, starts = np.unique(-scores[members], return_index=True)
        above, down_to = (len(rows) - np.searchsorted(rising, -groups, side=side) for side in ("right", "left"))
        return cls(rows, members, starts, above, down_to)

    def weighted(self, weights: np.ndarray) -> WeightedRanks:
        """Under columns of weights (n, R)."""
        passed = np.cumsum(weights[self.rows], axis=0)
        total, hits = passed[-1], weights[self.members]
        passed = np.concatenate([np.zeros_like(passed[:1]), passed])
        if len(self.starts) < len(self.members):
            hits = np.add.reduceat(hits, self.starts, axis=0)
        return WeightedRanks(hits, np.cumsum(hits, axis=0), passed[self.above], passed[self.down_to], total)


class Swaps(Protocol):
    """Differences in a statistic of one class between two classifiers, under swaps of their predictions."""

    @property
    def terms(self) -> np.ndarray:
        """What each row adds to sums without a swap (T, n); a swap of the row changes its sign. T may be 0."""

    def differences(self, sums: np.ndarray, swapped: np.ndarray) -> np.ndarray:
        """The differences (R,), of the sums (T, R) and of which rows are swapped (n, R)."""


@dataclass(frozen=True)
class WeighedSwaps:
    """Both classifiers' rows, one under the other, of which a swap weights one of each row's two with 0."""

    statistic: Callable[[WeightedRanks], np.ndarray]
    order: ClassOrder
    terms: np.ndarray

    @classmethod
    def of(
        cls, statistic: Callable[[WeightedRanks], np.ndarray], member: np.ndarray, order: np.ndarray
    ) -> "WeighedSwaps":
        """Of membership (n,) and the order of both (2, n)."""
        return cls(statistic, ClassOrder.of(np.tile(member, 2), order.ravel()), np.empty((0, len(member))))

    def differences(self, sums: np.ndarray, swapped: np.ndarray) -> np.ndarray:
        """As :class:`Swaps`."""
        kept = np.concatenate([1 - swapped, swapped]).astype(float)
        return self.statistic(self.order.weighted(kept)) - self.statistic(self.order.weighted(1 - kept))


@dataclass(frozen=True)
class RankStatistic:
    """A statistic of one class against the rest, averaged over classes."""

    weighted: Callable[[WeightedRanks], np.ndarray]
    """The statistic (R,) under R weightings."""
    faster_swaps: Callable[[np.ndarray, np.ndarray], Swaps] | None = None
    """Of membership (n,) and the order of both classifiers (2, n). None = by weights."""

    def plain(self, member: np.ndarray, scores: np.ndarray) -> float:
        """Of membership and score (n,), each row once."""
        return float(self.weighted(ClassOrder.of(member, scores).weighted(np.ones((len(member), 1))))[0])

    def swaps(self, member: np.ndarray, order: np.ndarray) -> Swaps:
        """Of membership (n,) and the order of both classifiers (2, n)."""
        return self.faster_swaps(member, order) if self.faster_swaps else WeighedSwaps.of(self.weighted, member, order)


def roc_area(ranks: WeightedRanks) -> np.ndarray:
    """Area under the ROC curve (trapezoids)."""
    # The negatives above each member, those of its own score by half, are pairs in the wrong order.
    opponents = ranks.above + ranks.down_to - 2 * ranks.hits_so_far + ranks.hits
    wrong = np.einsum("ij,ij->j", ranks.hits, opponents) / 2
    pairs = ranks.positives * (ranks.total - ranks.positives)
    return (pairs - wrong) / pairs


def mean_precision(ranks: WeightedRanks) -> np.ndarray:
    """Average precision (steps)."""
    precision = ranks.hits_so_far / np.maximum(ranks.down_to, np.finfo(float).tiny)
    return np.einsum("ij,ij->j", ranks.hits, precision) / ranks.positives


@dataclass(frozen=True)
class SwappedAreas:
    """AUROC, whose difference is linear in swaps.

    Each pair of a positive and a negative counts K(x, y), and x and y come from either classifier. All terms but one a
    row cancel: half the difference of its places among the opponents of both classifiers.
    """

    terms: np.ndarray

    @classmethod
    def of(cls, member: np.ndarray, order: np.ndarray) -> "SwappedAreas":
        """Of membership (n,) and the order of both (2, n)."""
        found = np.empty(order.shape[1])
        for own, sign in ((member, 1), (~member, -1)):
            opponents = np.sort(order[:, ~own], axis=None)
            # A row above an opponent counts 1, beside it 1/2: the mean of both sides of an insertion.
            left, right = (np.searchsorted(opponents, order[:, own], side=side) for side in ("left", "right"))
            above = left + right
            found[own] = sign * (above[0] - above[1]) / 4
        return cls(found[None] / (member.sum() * (~member).sum()))

    def differences(self, sums: np.ndarray, swapped: np.ndarray) -> np.ndarray:
        """As :class:`Swaps`."""
        return sums[0]


@dataclass(frozen=True)
class SwappedPrecisions:
    """Average precision, by a count down the ranks of both classifiers' rows: a swap keeps one of each row's two.

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
    terms: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, member: np.ndarray, order: np.ndarray) -> "SwappedPrecisions":
        """Of membership (n,) and the order of both (2, n)."""
        scores = order.ravel()
        places = np.argsort(-scores, kind="stable")
        sides, rows = np.divmod(places, len(member))
        last = np.append(np.diff(scores[places]) != 0, True)
        groups = np.cumsum(last) - last
        ends = 1 + np.flatnonzero(last)[np.unique(groups[member[rows]])]
        return cls(sides.tolist(), rows.tolist(), member[rows].tolist(), ends, np.empty((0, len(member))))

    def differences(self, sums: np.ndarray, swapped: np.ndarray) -> np.ndarray:
        """As :class:`Swaps`."""
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


RANK_STATISTICS: dict[str, RankStatistic] = {
    "auroc": RankStatistic(roc_area, SwappedAreas.of),
    "average_precision": RankStatistic(mean_precision, SwappedPrecisions.of),
}
"""Statistics of ranks. A new one is a record here: cells, intervals, p-values, report and tracking take it from this
list. Its name stands where the report names no other."""


def rank_statistics(order: ClassOrder, weights: np.ndarray) -> np.ndarray:
    """All of them (S, R) of one class, under columns of weights (n, R)."""
    ranks = order.weighted(weights)
    return np.stack([statistic.weighted(ranks) for statistic in RANK_STATISTICS.values()])
