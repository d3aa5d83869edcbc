"""Did the generator copy a training patient? Nearest training volumes, against a threshold from real held-out ones.

Three measures are used, because each misses copies that another finds. Voxel correlation finds copies with noise or
changed contrast. Feature distance uses an extractor. Correlation of detail over moves finds copies that were shifted,
cropped or rescaled (:mod:`synthaug.metrics.copies.moved`).
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from torch.nn.functional import adaptive_avg_pool3d

from synthaug.ground.errors import InputError
from synthaug.metrics.copies.moved import MovedCopies, Template, templates_of
from synthaug.metrics.features import Extractor
from synthaug.metrics.volumes import VolumeSet
from synthaug.statistics.shares import share_interval

BATCH = 8
"""Volumes that are held at a time."""
LEFT_RIGHT = 2
"""Axis of a batch (B, C, X, Y, Z) in RAS+ that runs from left to right."""
WAYS = 3
"""In which a copy is looked for, each with a limit of its own."""
TAIL = 4
"""One held-out volume in so many, the nearest ones, tells how the nearness of real patients tails off."""
SAME = 1 - 1e-5
"""A correlation above it is that of one and the same volume."""
SIDE = 32
"""Volumes are averaged down to at most so many voxels a side: copies show there too, and memory stays small."""


@dataclass(frozen=True)
class CopyAudit:
    """The nearest training volume of each audited volume, and whether it is too near. Arrays are (m,), in order."""

    nearest: np.ndarray
    """Place of the training volume most alike in its voxels."""
    mirrored: np.ndarray
    """Whether the likeness is to that volume's left-right mirror image."""
    correlation: np.ndarray
    """Voxel correlation with it, beyond what all training volumes share; 1 = the same up to contrast."""
    nearest_features: np.ndarray
    """Place of the training volume with the nearest features."""
    feature_distance: np.ndarray
    """Distance to its features, in deviations of the training features."""
    nearest_moved: np.ndarray
    """Place of the training volume whose detail is most alike, shifted, cut, rescaled or mirrored."""
    moved_correlation: np.ndarray
    """Correlation of the details where they fit best."""
    correlation_limit: float
    """Above it a correlation is a copy's."""
    distance_limit: float
    """Below it a feature distance is a copy's."""
    moved_limit: float
    """Above it a correlation of details is a copy's."""
    false_alarms: float
    """Share of unseen real patients that the three limits together call copies, at most, however they are spread."""
    expected_false_alarms: float
    """The share that was asked for: what to expect where their nearness tails off exponentially."""
    n_training: int
    n_held_out: int
    """Patients, where these are told; else volumes."""
    fingerprint: str
    """Of the extractor."""

    @property
    def copies(self) -> np.ndarray:
        """Verdicts (m,), bool."""
        return np.logical_or.reduce(list(self.verdicts().values()))

    def verdicts(self) -> dict[str, np.ndarray]:
        """Verdicts (m,) of each of the three ways alone: ``voxels``, ``features`` and ``moved``."""
        return {
            "voxels": self.correlation > self.correlation_limit,
            "features": self.feature_distance < self.distance_limit,
            "moved": self.moved_correlation > self.moved_limit,
        }

    def to_dict(self) -> dict[str, Any]:
        """Figures and verdicts, as JSON can hold them."""
        values = {item.name: getattr(self, item.name) for item in fields(self)} | {"copies": self.copies}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}

    def share(self, confidence: float = 0.95) -> tuple[float, float, float]:
        """Share of copies with its Wilson interval: (share, low, high); ``confidence`` lies in (0, 1)."""
        found = share_interval(int(self.copies.sum()), len(self.copies), confidence=confidence)
        return found.value, found.low, found.high


class CopyDetector:
    """Knows the training volumes and how near to them real patients come who were not among them.

    Args:
        training: The generator's training volumes (C, X, Y, Z) in [0, 1], preprocessed.
        held_out: Real volumes of other patients, preprocessed alike, that set the limits. Of a patient with several in
            a :class:`VolumeSet` the nearest counts. With n patients the guaranteed
            false-alarm rate is at least 3 / (n + 1). Lower rates are extrapolated from the tail (:func:`tail_limit`).
        extractor: Where feature distances are measured.
        false_alarms: Share of unseen real patients that may be called copies, in (0, 1).
        mirror: Whether left-right mirror images of training volumes are looked for too.

    Raises:
        InputError: Too few volumes, unlike shapes, constant volumes, values outside [0, 1], or a held-out volume that
            is one of the training volumes.

    Example:
        >>> from synthaug.metrics.features import seeded_extractor
        >>> draw = torch.Generator().manual_seed(0)
        >>> volumes = [torch.rand(1, 16, 16, 8, generator=draw) for _ in range(50)]
        >>> detector = CopyDetector(volumes[:10], volumes[10:49], seeded_extractor(), false_alarms=0.05)
        >>> audit = detector.audit([volumes[3].flip(1) * 0.5 + 0.2, volumes[49]])
        >>> audit.copies.tolist(), int(audit.nearest[0]), bool(audit.mirrored[0])
        ([True, False], 3, True)
    """

    def __init__(
        self,
        training: Iterable[torch.Tensor],
        held_out: Iterable[torch.Tensor],
        extractor: Extractor,
        *,
        false_alarms: float = 0.01,
        mirror: bool = True,
    ) -> None:
        if not 0 < false_alarms < 1:
            raise InputError(f"false_alarms={false_alarms} must lie between 0 and 1.")
        self.extractor, self.mirror = extractor, mirror
        templates: list[Template] = []
        count = itertools.count()
        known, features = _read(training, extractor, lambda each: templates.extend(templates_of(each, next(count))))
        self._moved = MovedCopies(templates, mirror=mirror)
        if len(known) < 2:
            raise InputError("There are fewer than two training volumes, so nothing is known of what all share.")
        self._shared = known.mean(0)
        self._known = [_directions(known - self._shared)]
        if mirror:
            self._known.append(_directions(known.flip(LEFT_RIGHT) - self._shared))
        self._spread = np.maximum(features.std(axis=0), 1e-12) * np.sqrt(features.shape[1])
        self._features = features / self._spread
        self.expected_false_alarms = false_alarms
        people = held_out.patients if isinstance(held_out, VolumeSet) else None
        self._set_limits(_by_patient(self._nearest(held_out), people))

    def audit(self, volumes: Iterable[torch.Tensor]) -> CopyAudit:
        """Look for each volume (C, X, Y, Z) among the training volumes; one batch of them is held at a time."""
        return CopyAudit(
            **self._nearest(volumes),
            correlation_limit=self.correlation_limit,
            distance_limit=self.distance_limit,
            moved_limit=self.moved_limit,
            false_alarms=self.false_alarms,
            expected_false_alarms=self.expected_false_alarms,
            n_training=len(self._features),
            n_held_out=self.n_held_out,
            fingerprint=self.extractor.fingerprint,
        )

    def _set_limits(self, held_out: dict[str, np.ndarray]) -> None:
        """Each limit may be passed by a third of the false alarms."""
        correlation, distance, moved = (
            held_out[name] for name in ("correlation", "feature_distance", "moved_correlation")
        )
        n, third = len(correlation), self.expected_false_alarms / WAYS
        if n < 2:
            raise InputError("There are fewer than two held-out volumes to set the limits by.")
        if correlation.max() > SAME:
            place = int(correlation.argmax())
            raise InputError(
                f"Held-out volume {place} is training volume {held_out['nearest'][place]}, so that no copy could be "
                "told from it; hold out other patients."
            )
        self.false_alarms, self.n_held_out = max(WAYS * third, WAYS / (n + 1)), n
        # The order statistic that a further volume exceeds with at most its part of the promise (split conformal).
        rank = min(n, int(np.ceil((n + 1) * (1 - self.false_alarms / WAYS) - 1e-9)))

        def limit(values: np.ndarray) -> float:
            return max(float(np.sort(values)[rank - 1]), tail_limit(values, third))

        # The tails are read where likeness has no end: Fisher's z, and the logarithm of a distance.
        self.correlation_limit = float(np.tanh(limit(np.arctanh(correlation))))
        self.distance_limit = float(np.exp(-limit(-np.log(np.maximum(distance, 1e-12)))))
        self.moved_limit = float(np.tanh(limit(np.arctanh(moved))))

    def _nearest(self, volumes: Iterable[torch.Tensor]) -> dict[str, np.ndarray]:
        stream, found = iter(volumes), []
        while batch := list(islice(stream, BATCH)):
            seen, features = _read(batch, self.extractor)
            if seen.shape[1:] != self._shared.shape:
                raise InputError(f"A volume of {tuple(batch[0].shape)} is not of the training volumes' shape.")
            directions = _directions(seen - self._shared)
            alike = np.stack([directions @ known.T for known in self._known], axis=1)  # (B, plain | mirrored, N)
            best = alike.reshape(len(batch), -1).argmax(axis=1)
            distances = cdist(features / self._spread, self._features)
            moved = [self._moved.nearest(volume) for volume in batch]
            found.append(
                {
                    "nearest": best % alike.shape[2],
                    "mirrored": best >= alike.shape[2],
                    "correlation": alike.reshape(len(batch), -1).max(axis=1),
                    "nearest_features": distances.argmin(axis=1),
                    "feature_distance": distances.min(axis=1),
                    "nearest_moved": np.array([place for place, _ in moved]),
                    "moved_correlation": np.array([alike for _, alike in moved]),
                }
            )
        if not found:
            raise InputError("There are no volumes to audit.")
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _by_patient(nearest: dict[str, np.ndarray], patients: Sequence[str] | None) -> dict[str, np.ndarray]:
    """How near each patient comes at most: volumes of one patient are no further observations."""
    rows: dict[object, list[int]] = {}
    for row, patient in enumerate(patients or [""] * len(nearest["correlation"])):
        rows.setdefault(patient or row, []).append(row)
    ways = {"correlation": np.argmax, "feature_distance": np.argmin, "moved_correlation": np.argmax}
    chosen = {name: [own[int(best(nearest[name][own]))] for own in rows.values()] for name, best in ways.items()}
    found = {name: nearest[name][places] for name, places in chosen.items()}
    return found | {"nearest": nearest["nearest"][chosen["correlation"]]}


def tail_limit(values: np.ndarray, share: float) -> float:
    """The value that a further draw exceeds with a probability of ``share``, read off the largest draws.

    Peaks over a threshold (Pickands 1975) with an exponential tail. The excess of a further draw over the threshold,
    divided by the mean of the k known ones, follows F(2, 2k). The fewer there are, the farther out the limit. Where the
    tail is lighter, as a Gaussian's is, fewer exceed it.

    Args:
        values: (n,), n >= 2; the largest quarter make up the tail.
        share: In (0, 1).

    Example:
        Of four, one exceeds the threshold 3, by 1; two in five draws would, one in ten by more than 3.

        >>> tail_limit(np.array([1.0, 2, 3, 4]), 0.1)
        6.0
    """
    ordered, n = np.sort(values)[::-1], len(values)
    k = -(-n // TAIL)
    mean_excess = (ordered[:k] - ordered[k]).mean()
    return float(ordered[k] + mean_excess * stats.f.isf(min(share * (n + 1) / (k + 1), 1), 2, 2 * k))


def _read(
    volumes: Iterable[torch.Tensor], extractor: Extractor, learn: Callable[[torch.Tensor], None] = lambda volume: None
) -> tuple[torch.Tensor, np.ndarray]:
    """Small volumes (N, C, x, y, z) of mean 0 and deviation 1, whatever their contrast was; features (N, d).

    ``learn`` is called with each volume once it is known to be one.
    """
    stream, small, features = iter(volumes), [], []
    while batch := list(islice(stream, BATCH)):
        features.append(extractor.features(batch))  # checks shapes and values too
        stacked = torch.stack(batch).float()
        x, y, z = (min(side, SIDE) for side in stacked.shape[2:])
        pooled = adaptive_avg_pool3d(stacked, (x, y, z))
        deviation = pooled.std((1, 2, 3, 4), keepdim=True)
        if not deviation.all():
            raise InputError("A volume is constant, so it is like none and every other.")
        small.append((pooled - pooled.mean((1, 2, 3, 4), keepdim=True)) / deviation)
        for volume in batch:
            learn(volume)
    if not small:
        raise InputError("There are no volumes to look for copies in.")
    return torch.cat(small), np.concatenate(features)


def _directions(volumes: torch.Tensor) -> np.ndarray:
    """Rows (N, voxels) of length 1, so that inner products are correlations."""
    rows = volumes.flatten(1)
    return (rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-12)).numpy()
