"""How easily synthetic volumes are told from real ones: a cross-validated classifier two-sample test.

Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017; AUROC in place of accuracy. A classifier learns
real against synthetic on some patients and is scored on others. AUROC 0.5 = it cannot tell them; 1 = it always can.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
import torchio as tio
from scipy.stats import rankdata
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed, numpy_generator
from synthaug.metrics.critic import critic_scores
from synthaug.metrics.texture import LEAST_SIDE, texture
from synthaug.metrics.volumes import VolumeSet
from synthaug.statistics.intervals import Interval, draw_weights

ENOUGH = 40
"""Volumes a side under which nothing is concluded."""
LEAST = 10
"""Volumes a side under which nothing is measured."""
TOLD_APART = 0.9
"""AUROC above which synthetic volumes are called easily told from real ones."""
MOST = 200
"""Volumes a side that are judged; of more, so many are drawn."""
REPEATS = 3
"""Divisions into folds that the statistics part is averaged over."""
LOOK = 64
"""Central voxels along an axis that the network sees."""
FOLDS = {"statistics": 5, "cnn": 3}
"""Folds of each part."""
RESAMPLES = 1000
"""Bootstrap resamples of patients behind an interval."""

Kind = Literal["realistic", "told apart", "cannot tell"]
Volumes = Sequence[tio.Subject] | Sequence[torch.Tensor] | VolumeSet
"""Subjects, or volumes (C, X, Y, Z) in [0, 1]."""


@dataclass(frozen=True)
class RealismReport:
    """What :func:`judge_realism` found: AUROC of real against synthetic, by two classifiers."""

    statistics: Interval | None
    """By spectrum, histogram, neighbourhoods and steps of each volume; None = too few volumes."""
    cnn: Interval | None
    """By a small 3D network; None = not asked for, or too few volumes."""
    statistics_floor: Interval | None
    """The same classifier on the generator's real training volumes against the real ones; None = not given, too few."""
    cnn_floor: Interval | None
    """Likewise by the network."""
    n_real: int
    """Real volumes judged."""
    n_synthetic: int
    """Synthetic volumes judged."""
    n_floor: int
    """Volumes a side behind the floors."""

    @property
    def kind(self) -> Kind:
        """ "told apart": an interval lies above 0.9. "realistic": every interval lies below it.

        "cannot tell": fewer than 40 volumes a side, or an interval that holds 0.9.
        """
        found = [each for each in (self.statistics, self.cnn) if each is not None]
        if not found or min(self.n_real, self.n_synthetic) < ENOUGH:
            return "cannot tell"
        if any(each.low > TOLD_APART for each in found):
            return "told apart"
        return "realistic" if all(each.high < TOLD_APART for each in found) else "cannot tell"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {"kind": self.kind, **asdict(self)}


def judge_realism(
    real: Volumes,
    synthetic: Volumes,
    *,
    real_groups: Sequence[str] | None = None,
    synthetic_groups: Sequence[str] | None = None,
    training: Volumes | None = None,
    training_groups: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
    seed: int = 0,
    cnn: bool = True,
    confidence: float = 0.95,
) -> RealismReport:
    """Tell synthetic volumes from real ones, cross-validated by patient.

    As many volumes of each side are judged, at most 200: of the larger side some are drawn. The result depends on the
    seed, and the network's on the number of threads in its last digits.

    Args:
        real: Real volumes that the generator never saw.
        synthetic: Synthetic volumes of the same shape, preprocessed alike.
        real_groups: Patient of each real volume; None = each its own.
        synthetic_groups: Patient whose report or label prompted each synthetic volume; None = each its own. A patient
            on both sides is in the same fold on both.
        training: Real volumes that the generator was trained on: their AUROC against ``real`` is the floor.
        training_groups: Patient of each.
        images: Image names in channel order, for subjects; None = all images of the first.
        seed: Names folds, trees, weights and resamples.
        cnn: Whether a network judges too (about 15 CPU seconds at 32 x 40 x 24 voxels, twice that with a floor).
        confidence: Coverage of the intervals, in (0, 1).

    Raises:
        InputError: Unlike shapes, sides of fewer than 4 voxels, NaN, or groups that do not fit the volumes.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> smooth, noise = torch.zeros(40, 1, 8, 8, 8), torch.rand(40, 1, 8, 8, 8, generator=draw)
        >>> smooth += noise.mean(dim=(2, 3, 4), keepdim=True)
        >>> judge_realism(list(smooth), list(noise), cnn=False).kind
        'told apart'
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} must lie in (0, 1).")
    given: dict[str, tuple[Any, Sequence[str] | None]] = {
        "real": (real, real_groups),
        "synthetic": (synthetic, synthetic_groups),
    }
    if training is not None:
        given["training"] = (training, training_groups)
    sets = {name: VolumeSet.of(volumes, images) for name, (volumes, _) in given.items()}
    groups = {name: _groups(name, sets[name], told) for name, (_, told) in given.items()}
    n = min(MOST, len(sets["real"]), len(sets["synthetic"]))
    shape = tuple(sets["real"][0].shape)
    sides = {name: _read(name, sets[name], groups[name], shape=shape, most=n, crops=cnn, seed=seed) for name in given}
    floor_n = min(n, len(sides["training"].groups)) if "training" in sides else 0

    def measured(second: str, count: int) -> list[Interval | None]:
        if count < LEAST:
            return [None, None]
        pair = [sides[name].first(count) for name in ("real", second)]
        return _measured(*pair, cnn=cnn, seed=seed, confidence=confidence)

    statistics, cnn_auroc = measured("synthetic", n)
    statistics_floor, cnn_floor = measured("training", floor_n)
    return RealismReport(
        statistics=statistics,
        cnn=cnn_auroc,
        statistics_floor=statistics_floor,
        cnn_floor=cnn_floor,
        n_real=n,
        n_synthetic=n,
        n_floor=floor_n,
    )


@dataclass(frozen=True)
class _Side:
    """What is kept of one side's volumes, in an order drawn at random."""

    groups: list[str]
    rows: np.ndarray
    """Statistics (n, d)."""
    crops: torch.Tensor | None
    """Middle of each volume (n, C, x, y, z), float16."""

    def first(self, count: int) -> "_Side":
        return _Side(self.groups[:count], self.rows[:count], None if self.crops is None else self.crops[:count])


def _groups(name: str, volumes: VolumeSet, told: Sequence[str] | None) -> list[str]:
    """Patient of each volume, as text."""
    if told is None:
        return [f"{name} {place}" for place in range(len(volumes))]
    if len(told) != len(volumes):
        raise InputError(f"{name}_groups names {len(told)} patients for {len(volumes)} volumes; give one each.")
    return [str(patient) for patient in told]


def _read(
    name: str, volumes: VolumeSet, groups: Sequence[str], *, shape: tuple[int, ...], most: int, crops: bool, seed: int
) -> _Side:
    """Statistics and crops of at most so many volumes, each read once."""
    places = numpy_generator("realism volumes", name, seed).permutation(len(volumes))[:most]
    rows, middles = [], []
    for place in places:
        volume = volumes[place].detach().cpu().float()
        if tuple(volume.shape) != shape or volume.ndim != 4 or min(shape[1:]) < LEAST_SIDE:
            raise InputError(
                f"{name} volume {place} has shape {tuple(volume.shape)}, the first real one {shape}; give (C, X, Y, Z) "
                f"of one shape and at least {LEAST_SIDE} voxels a side."
            )
        if not torch.isfinite(volume).all():
            raise InputError(f"{name} volume {place} holds NaN or infinity; leave it out, or mend what wrote it.")
        rows.append(texture(volume.numpy()))
        if crops:
            middles.append(_middle(volume).half())
    return _Side([groups[place] for place in places], np.array(rows), torch.stack(middles) if middles else None)


def _middle(volume: torch.Tensor) -> torch.Tensor:
    """The central ``LOOK`` voxels along each axis: enough to judge by, and memory stays bounded."""
    cut = [slice(None)]
    for side in volume.shape[1:]:
        first = max(side - LOOK, 0) // 2
        cut.append(slice(first, first + LOOK))
    return volume[tuple(cut)]


def _measured(real: _Side, other: _Side, *, cnn: bool, seed: int, confidence: float) -> list[Interval | None]:
    """AUROC by the statistics and by the network."""
    labels = np.repeat([0, 1], [len(real.groups), len(other.groups)])
    groups = [*real.groups, *other.groups]
    rows = np.concatenate([real.rows, other.rows])
    seeds = [derive_seed("realism folds", seed, repeat) for repeat in range(REPEATS)]
    divisions = [folds for each in seeds if (folds := _folds(labels, groups, FOLDS["statistics"], seed=each))]
    scored = [(_statistics_scores(rows, labels, folds, seed=seed), folds) for folds in divisions]
    found = [_auroc(scored, labels, groups, seed=seed, confidence=confidence)]
    folds = _folds(labels, groups, FOLDS["cnn"], seed=seed) if cnn else []
    if not folds or real.crops is None or other.crops is None:
        return [*found, None]
    scores = critic_scores(torch.cat([real.crops, other.crops]), labels, folds, seed=seed)
    return [*found, _auroc([(scores, folds)], labels, groups, seed=seed, confidence=confidence)]


Folds = list[tuple[np.ndarray, np.ndarray]]
"""Training and test places of each fold."""


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
        linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        trees = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=seed % 2**32)
        with threadpool_limits(1, user_api="blas"):
            linear.fit(rows[training], labels[training])
            trees.fit(rows[training], labels[training])
            scores[test] = rankdata(linear.decision_function(rows[test])) + rankdata(
                trees.predict_proba(rows[test])[:, 1].round(9)
            )
    return scores


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
