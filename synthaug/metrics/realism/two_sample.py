"""A classifier two-sample test of volumes: folds by patient, scores of the volumes left out, AUROC with interval.

Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017; AUROC in place of accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed
from synthaug.metrics.realism.critic import critic_scores
from synthaug.metrics.realism.texture import Aspect, texture
from synthaug.metrics.volumes import VolumeSet
from synthaug.statistics.intervals import Interval, draw_weights

REPEATS = 3
"""Divisions into folds that the statistics part is averaged over."""
FOLDS = {"statistics": 5, "cnn": 3}
"""Folds of each part."""
RESAMPLES = 1000
"""Bootstrap resamples of patients behind an interval."""

Folds = list[tuple[np.ndarray, np.ndarray]]
"""Training and test places of each fold."""


@dataclass(frozen=True)
class Side:
    """What is kept of one side's volumes, in an order drawn at random."""

    groups: list[str]
    """Patient of each (n,)."""
    rows: np.ndarray
    """Statistics (n, d)."""
    crops: torch.Tensor | None
    """Middle of each volume (n, C, x, y, z), float16."""

    def first(self, count: int) -> "Side":
        """The first volumes of it."""
        return Side(self.groups[:count], self.rows[:count], None if self.crops is None else self.crops[:count])


def compare_sides(
    real: Side, other: Side, *, cnn: bool, seed: int, confidence: float
) -> tuple[Interval | None, Interval | None]:
    """AUROC by the statistics and by the network; None = too few patients, or no crops for the network.

    Args:
        real: One side; ``other`` is what is told from it.
        other: The other side.
        cnn: Whether the network judges too.
        seed: Names folds, trees, weights and resamples.
        confidence: Coverage of the intervals, in (0, 1).
    """
    labels = np.repeat([0, 1], [len(real.groups), len(other.groups)])
    groups = [*real.groups, *other.groups]
    rows = np.concatenate([real.rows, other.rows])
    seeds = [derive_seed("realism folds", seed, repeat) for repeat in range(REPEATS)]
    divisions = [folds for each in seeds if (folds := _folds(labels, groups, FOLDS["statistics"], seed=each))]
    scored = [(_statistics_scores(rows, labels, folds, seed=seed), folds) for folds in divisions]
    statistics = _auroc(scored, labels, groups, seed=seed, confidence=confidence)
    folds = _folds(labels, groups, FOLDS["cnn"], seed=seed) if cnn else []
    if not folds or real.crops is None or other.crops is None:
        return statistics, None
    scores = critic_scores(torch.cat([real.crops, other.crops]), labels, folds, seed=seed)
    return statistics, _auroc([(scores, folds)], labels, groups, seed=seed, confidence=confidence)


def told_by(real: Side, other: Side, about: Sequence[Aspect], *, seed: int) -> dict[Aspect, float]:
    """AUROC by the statistics of one aspect alone, a shrunk linear discriminant; {} = too few patients.

    It says what to mend, not how realistic the volumes are: several aspects together tell more apart than the first.

    Args:
        real: One side; ``other`` is what is told from it.
        other: The other side.
        about: What each statistic is about (d,).
        seed: Names the folds, the first of those of :func:`compare_sides`.
    """
    labels = np.repeat([0, 1], [len(real.groups), len(other.groups)])
    groups, rows = [*real.groups, *other.groups], np.concatenate([real.rows, other.rows])
    folds = _folds(labels, groups, FOLDS["statistics"], seed=derive_seed("realism folds", seed, 0))
    found: dict[Aspect, float] = {}
    for aspect in dict.fromkeys(about if folds else ()):
        own, values = rows[:, [each == aspect for each in about]], []
        for training, test in folds:
            judge = _discriminant(own[training], labels[training])
            values.append(roc_auc_score(labels[test], judge.decision_function(own[test])))
        found[aspect] = float(np.mean(values))
    return found


def realism_scores(real: VolumeSet, synthetic: VolumeSet, *, seed: int = 0) -> np.ndarray:
    """Of each synthetic volume, the probability that it is real, by classifiers that did not see it: (m,).

    The mean of a shrunk linear discriminant's and the trees', over the divisions into folds.

    Args:
        real: Real volumes.
        synthetic: Synthetic volumes of the same shape, preprocessed alike.
        seed: Names folds and trees.

    Raises:
        InputError: There are too few patients or volumes for the folds.
    """
    labels = np.repeat([0, 1], [len(real), len(synthetic)])
    groups = [f"{side}-{place}" for side, each in enumerate((real, synthetic)) for place in range(len(each))]
    groups[: len(real)] = [name or other for name, other in zip(real.patients, groups, strict=False)]
    rows = np.stack([texture(volume.numpy()) for each in (real, synthetic) for volume in each])
    found = np.zeros((REPEATS, len(labels)))
    for repeat in range(REPEATS):
        folds = _folds(labels, groups, FOLDS["statistics"], seed=derive_seed("realism folds", seed, repeat))
        if not folds:
            raise InputError(
                f"{len(real)} real and {len(synthetic)} synthetic volumes are too few to rank by realism; "
                f"{FOLDS['statistics']} patients a side are needed."
            )
        for training, test in folds:
            judges = _judges(rows[training], labels[training], seed=seed)
            found[repeat, test] = np.mean([judge.predict_proba(rows[test])[:, 0] for judge in judges], axis=0)
    return found[:, labels == 1].mean(axis=0)


def _folds(labels: np.ndarray, groups: Sequence[str], count: int, *, seed: int) -> Folds:
    """Folds that part no patient, each with both sides in training and test; [] = too few patients."""
    patients = [len({group for group, side in zip(groups, labels, strict=True) if side == label}) for label in (0, 1)]
    if min(patients) < count:
        return []
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed % 2**32)
    folds = list(splitter.split(labels, labels, groups))
    return [fold for fold in folds if all(len(set(labels[part])) == 2 for part in fold)]


def _statistics_scores(rows: np.ndarray, labels: np.ndarray, folds: Folds, *, seed: int) -> np.ndarray:
    """Score of each volume, comparable within its fold: rank by a shrunk linear discriminant plus rank by trees.

    The first sees small differences of many statistics, the second those that are not linear.
    """
    scores = np.zeros(len(labels))
    for training, test in folds:
        with threadpool_limits(1, user_api="blas"):
            linear, trees = _judges(rows[training], labels[training], seed=seed)
            scores[test] = rankdata(linear.decision_function(rows[test])) + rankdata(
                trees.predict_proba(rows[test])[:, 1].round(9)
            )
    return scores


def _judges(
    rows: np.ndarray, labels: np.ndarray, *, seed: int
) -> tuple[LinearDiscriminantAnalysis, ExtraTreesClassifier]:
    """Both classifiers, fitted."""
    with threadpool_limits(1, user_api="blas"):
        trees = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=seed % 2**32).fit(rows, labels)
    return _discriminant(rows, labels), trees


def _discriminant(rows: np.ndarray, labels: np.ndarray) -> LinearDiscriminantAnalysis:
    with threadpool_limits(1, user_api="blas"):
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(rows, labels)


def _auroc(
    scored: Sequence[tuple[np.ndarray, Folds]],
    labels: np.ndarray,
    groups: Sequence[str],
    *,
    seed: int,
    confidence: float,
) -> Interval | None:
    """AUROC over pairs of the same fold, and its bootstrap over patients; None = no such pairs.

    Each end is that of the resampled AUROC with one tied volume added a side: an AUROC of 1 keeps a width.
    """
    real, other = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    right, pairs = np.zeros((2, len(real), len(other)))
    for scores, folds in scored:
        fold = np.full(len(labels), -1)
        for number, (_, test) in enumerate(folds):
            fold[test] = number
        same = (fold[real][:, None] == fold[other]) & (fold[real][:, None] >= 0)
        pairs += same
        right += same * (np.sign(scores[other] - scores[real][:, None]) + 1) / 2
    if not pairs.any():
        return None
    weights, _ = draw_weights(groups, labels, n_repeats=1, resamples=RESAMPLES, seed=seed)
    ours, theirs = weights[:, real].astype(float), weights[:, other].astype(float)
    won, all_pairs = (np.sum((ours @ matrix) * theirs, axis=1) for matrix in (right, pairs))
    value = won[0] / all_pairs[0]
    # Shares of pairs that a tied volume a side adds.
    added = all_pairs[0] * ((len(real) + 1) * (len(other) + 1) / (len(real) * len(other)) - 1)
    tail = (1 - confidence) / 2
    low, high = np.quantile((won[1:] + added / 2) / (all_pairs[1:] + added), [tail, 1 - tail])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))
