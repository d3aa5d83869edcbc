"""Do synthetic volumes show their class? A linear reader learns it from real training volumes and reads both sides.

A pool that ignores what it was asked for can be as near to real volumes as any other: distances and realism hardly see
classes. The reader is no judge of what a network could see: where real volumes do not show it their class, it says
nothing.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from sklearn.linear_model import RidgeClassifierCV
from torch.nn.functional import avg_pool3d

from synthaug.ground.errors import InputError
from synthaug.metrics.classification import auroc
from synthaug.metrics.volumes import VolumeSet
from synthaug.statistics.intervals import Interval, checked_confidence, patient_bootstrap

MOST_VOXELS = 1000
"""Of each channel, after averaging neighbours; a reader of many more voxels than volumes learns noise."""
LEAST = 4
"""Volumes of each class on each side; of the held-out ones patients, as an interval of fewer has no width."""
RESAMPLES = 500
ALPHAS = np.logspace(0, 5, 11)
"""Penalties, of which leaving one out chooses."""


@dataclass(frozen=True)
class ClassShown:
    """AUROC of the class by one reader; 0.5 = not shown."""

    synthetic: Interval
    """In synthetic volumes, of the class that they are listed under."""
    real: Interval
    """In real volumes of other patients than the reader learnt from."""
    n_real: int
    n_synthetic: int
    reader: str
    """What the reader was; figures of another cannot be compared."""

    def sentence(self) -> str:
        """What was read on both sides."""
        sides = {"synthetic": self.synthetic, "real": self.real}
        told = [f"{name} {each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for name, each in sides.items()]
        return f"Class read by a linear reader of the training volumes, AUROC: {', '.join(told)}; 0.5 = not shown."

    @property
    def missing(self) -> bool:
        """Whether real volumes clearly show their class and synthetic ones clearly show less.

        The interval of the difference follows from both, which are of different volumes (Zou & Donner 2008).
        """
        reach = math.hypot(self.real.value - self.real.low, self.synthetic.high - self.synthetic.value)
        return self.real.low > 0.5 and self.real.value - self.synthetic.value > reach


def class_shown(
    training: VolumeSet, held_out: VolumeSet, synthetic: VolumeSet, *, confidence: float = 0.95, seed: int = 0
) -> ClassShown:
    """Train the reader and read both sides.

    Args:
        training: Real volumes that the reader learns from, preprocessed alike as all.
        held_out: Real volumes of other patients.
        synthetic: Synthetic volumes.
        confidence: Coverage of the intervals, in (0, 1). They resample patients and, of synthetic volumes, reports, or
            the volumes themselves where a class has fewer than four reports.
        seed: Names the resamples.

    Raises:
        InputError: A set lacks a class, or has fewer than four volumes of one; or fewer than four held-out patients.

    Example:
        >>> import torchio as tio
        >>> draw = torch.Generator().manual_seed(0)
        >>> def volumes(shown):
        ...     made = [torch.rand(1, 8, 8, 4, generator=draw) / 2 + 0.4 * shown * (k % 2) for k in range(16)]
        ...     images = [tio.ScalarImage(tensor=volume) for volume in made]
        ...     return VolumeSet.of([tio.Subject(t2w=each, label=k % 2) for k, each in enumerate(images)])
        >>> found = class_shown(volumes(1), volumes(1), volumes(0))
        >>> found.real.value, found.synthetic.value < 0.9
        (1.0, True)
    """
    checked_confidence(confidence)
    sides = {"training": training, "held-out": held_out, "synthetic": synthetic}
    # Shorter names first: numbers then stand in their order.
    names = sorted({*training.groups} - {""}, key=lambda group: (len(group), group))
    number = {group: place for place, group in enumerate(names)}
    labels = {name: np.array([number.get(group, -1) for group in side.groups]) for name, side in sides.items()}
    for name, its in labels.items():
        what, units = ("patients", _people(held_out, its)) if name == "held-out" else ("volumes", [*range(len(its))])
        counts = _distinct(units, its, len(names))
        if set(its.tolist()) != {*number.values()} or len(names) < 2 or min(counts) < LEAST:
            raise InputError(
                f"The {name} {what} of each class are {counts}; {LEAST} of two classes or more are needed."
            )
    reader = RidgeClassifierCV(ALPHAS, class_weight="balanced").fit(pooled(training), labels["training"])

    def read(name: str) -> Interval:
        scores = reader.decision_function(pooled(sides[name]))
        columns = scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
        people = _people(sides[name], labels[name])
        if min(_distinct(people, labels[name], len(names))) < LEAST:  # resamples of few reports are all alike
            people = [str(place) for place in range(len(people))]
        return patient_bootstrap(
            auroc,
            patient_ids=people,
            labels=labels[name],
            arrays=softmax(columns, axis=1),
            resamples=RESAMPLES,
            confidence=confidence,
            seed=seed,
        )

    kind = f"ridge on {reader.n_features_in_} means, {len(training)} training volumes"
    return ClassShown(read("synthetic"), read("held-out"), len(held_out), len(synthetic), kind)


def _people(volumes: VolumeSet, labels: np.ndarray) -> list[str]:
    """Patient (or report) and class of each volume; one whose patient is not known is its own."""
    people = [person or str(place) for place, person in enumerate(volumes.patients)]
    return [f"{person} {label}" for person, label in zip(people, labels, strict=True)]


def _distinct(units: Sequence[Hashable], labels: np.ndarray, classes: int) -> list[int]:
    """How many different units each class has."""
    return [len({units[int(place)] for place in np.flatnonzero(labels == label)}) for label in range(classes)]


def pooled(volumes: Iterable[torch.Tensor]) -> np.ndarray:
    """Volumes (C, X, Y, Z), one at a time, as rows of means over cubes of voxels.

    Example:
        >>> pooled([torch.ones(1, 32, 32, 16)]).shape
        (1, 500)
    """
    return np.stack([_pooled(volume.float()) for volume in volumes])


def _pooled(volume: torch.Tensor) -> np.ndarray:
    side = 1
    while np.prod([max(each // side, 1) for each in volume.shape[1:]]) > MOST_VOXELS:
        side += 1
    kernel = [min(side, each) for each in volume.shape[1:]]
    return avg_pool3d(volume[None], kernel).flatten().numpy()
