"""How easily synthetic volumes are told from real ones: a cross-validated classifier two-sample test.

A classifier learns real against synthetic on some patients and is scored on others. AUROC 0.5 = it cannot tell them
apart; 1 = it always can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torchio as tio

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.realism.texture import LEAST_SIDE, Aspect, aspects, texture
from synthaug.metrics.realism.two_sample import Side, compare_sides, told_by
from synthaug.metrics.volumes import VolumeSet
from synthaug.statistics.intervals import Interval, checked_confidence

ENOUGH = 40
"""Volumes a side under which nothing is concluded."""
LEAST = 10
"""Volumes a side under which nothing is measured."""
TOLD_APART = 0.9
"""AUROC above which synthetic volumes are called easily told from real ones."""
MOST = 200
"""Volumes a side that are judged; of more, so many are drawn."""
LOOK = 64
"""Central voxels along an axis that the network sees."""
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
    told_by: Mapping[Aspect, float] = field(default_factory=dict)
    """AUROC by the statistics of one aspect alone: what to mend. Empty = too few volumes."""

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

    def sentence(self) -> str:
        """What was found, for a report.

        Example:
            >>> RealismReport.too_few(12, 12).sentence()
            'Realism: cannot tell from 12 volumes a side; 40 are needed.'
        """
        if self.statistics is None or min(self.n_real, self.n_synthetic) < ENOUGH:
            return (
                f"Realism: cannot tell from {min(self.n_real, self.n_synthetic)} volumes a side; {ENOUGH} are needed."
            )
        parts = (
            ("texture statistics", self.statistics, self.statistics_floor),
            ("a network", self.cnn, self.cnn_floor),
        )
        told = [
            f"AUROC {_shown(part)} by {name}" + (f" (real training volumes: {_shown(floor)})" if floor else "")
            for name, part, floor in parts
            if part is not None
        ]
        start = "The synthetic volumes are easily told from real ones" if self.kind == "told apart" else "Realism"
        most = f" Most by {self._most()}." if self.told_by and self.kind == "told apart" else ""
        return f"{start}: {', '.join(told)}; {self.n_real} volumes a side.{most}"

    def _most(self) -> str:
        """The two aspects that tell most."""
        order = sorted(self.told_by, key=lambda aspect: -self.told_by[aspect])
        return " and ".join(f"{aspect} ({self.told_by[aspect]:.2f})" for aspect in order[:2])

    def to_metrics(self) -> dict[str, float]:
        """Flat names and numbers, as MLflow logs them."""
        flat: dict[str, float] = {}
        for name in ("statistics", "cnn", "statistics_floor", "cnn_floor"):
            if (part := getattr(self, name)) is not None:
                flat |= {f"realism_{name}": part.value}
                flat |= {f"realism_{name}_ci_low": part.low, f"realism_{name}_ci_high": part.high}
        return flat

    def to_rows(self) -> list[dict[str, Any]]:
        """One row a part that was measured, as tables of distances have them."""
        parts = (("statistics", self.statistics, self.statistics_floor), ("cnn", self.cnn, self.cnn_floor))
        return [
            {
                "metric": f"realism_{name}",
                "value": part.value,
                "ci_low": part.low,
                "ci_high": part.high,
                "floor": floor.value if floor else None,
                "n_floor": self.n_floor,
                "n_real": self.n_real,
                "n_synthetic": self.n_synthetic,
                "larger_is_better": False,
                "told_apart": min(self.n_real, self.n_synthetic) >= ENOUGH and part.low > TOLD_APART,
            }
            for name, part, floor in parts
            if part is not None
        ]

    @classmethod
    def too_few(cls, n_real: int, n_synthetic: int) -> "RealismReport":
        """Nothing was measured."""
        return cls(None, None, None, None, n_real=n_real, n_synthetic=n_synthetic, n_floor=0)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {"kind": self.kind, **asdict(self)}


def _shown(part: Interval) -> str:
    return f"{part.value:.2f} ({part.low:.2f} to {part.high:.2f})"


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
        real_groups: Patient of each real volume; None = that of its subject, of a tensor each its own.
        synthetic_groups: Patient whose report or label prompted each synthetic volume; None = volumes of one report go
            together, where there are ten different reports. A patient on both sides is in the same fold on both.
        training: Real volumes that the generator was trained on: their AUROC against ``real`` is the floor.
        training_groups: Patient of each.
        images: Image names in channel order, for subjects; None = all images of the first real one.
        seed: Names folds, trees, weights and resamples.
        cnn: Whether a network judges too. It takes nearly all of the time, and twice as long with a floor.
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
    checked_confidence(confidence)
    given: dict[str, tuple[Any, Sequence[str] | None]] = {
        "real": (real, real_groups),
        "synthetic": (synthetic, synthetic_groups),
    }
    if training is not None:
        given["training"] = (training, training_groups)
    sets: dict[str, VolumeSet] = {}
    for name, (volumes, _) in given.items():
        sets[name] = volumes if isinstance(volumes, VolumeSet) else VolumeSet.of(volumes, images)
        images = images or sets["real"].images  # subjects may hold the same images in another order
    groups = {name: _groups(name, sets[name], told) for name, (_, told) in given.items()}
    n = min(MOST, len(sets["real"]), len(sets["synthetic"]))
    shape = tuple(sets["real"][0].shape)
    sides = {name: _read(name, sets[name], groups[name], shape=shape, most=n, crops=cnn, seed=seed) for name in given}
    floor_n = min(n, len(sides["training"].groups)) if "training" in sides else 0

    def measured(second: str, count: int) -> tuple[Interval | None, Interval | None]:
        if count < LEAST:
            return None, None
        pair = [sides[name].first(count) for name in ("real", second)]
        return compare_sides(*pair, cnn=cnn, seed=seed, confidence=confidence)

    (statistics, network), floors = measured("synthetic", n), measured("training", floor_n)
    by = told_by(sides["real"], sides["synthetic"], aspects(np.zeros(shape)), seed=seed) if n >= LEAST else {}
    return RealismReport(statistics, network, *floors, n_real=n, n_synthetic=n, n_floor=floor_n, told_by=by)


def _groups(name: str, volumes: VolumeSet, told: Sequence[str] | None) -> list[str]:
    """Patient of each volume, as text."""
    if told is None:
        # Few reports would leave nothing to divide; the volumes of a real patient stay together however few there are.
        apart = name == "synthetic" and len(set(volumes.patients)) < LEAST
        known = [""] * len(volumes) if apart else volumes.patients
        return [patient or f"{name} {place}" for place, patient in enumerate(known)]
    if len(told) != len(volumes):
        raise InputError(f"{name}_groups names {len(told)} patients for {len(volumes)} volumes; give one each.")
    return [str(patient) for patient in told]


def _read(
    name: str, volumes: VolumeSet, groups: Sequence[str], *, shape: tuple[int, ...], most: int, crops: bool, seed: int
) -> Side:
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
    return Side([groups[place] for place in places], np.array(rows), torch.stack(middles) if middles else None)


def _middle(volume: torch.Tensor) -> torch.Tensor:
    """The central ``LOOK`` voxels along each axis: enough to judge by, and memory stays bounded."""
    cut = [slice(None)]
    for side in volume.shape[1:]:
        first = max(side - LOOK, 0) // 2
        cut.append(slice(first, first + LOOK))
    return volume[tuple(cut)]
