"""Augmentation of a classifier's training volumes: the published one, or one whose effect on the class is known."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchio as tio

from synthaug.config import MOVES, Move, PreprocessConfig
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.voxels.batched import BatchedAugmentation
from synthaug.data.voxels.geometry import apply_geometry, draw_geometry


@dataclass(frozen=True)
class LabelledAugmentation:
    """Shifts, mirroring, zoom and rotation of training subjects, whose class is rewritten where a rule says so.

    A synthetic subject, which nobody measured, gets the moves that change no class. Subjects are changed in place, as
    the sampler passes copies.
    """

    relabeller: Relabeller
    """Fitted on the training subjects with ``texts=False``."""
    images: Sequence[str]
    """Images that move together."""
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Voxel size."""

    def __call__(self, subjects: Sequence[tio.Subject], seeds: Sequence[int]) -> list[tio.Subject]:
        """Move preprocessed subjects, all images of one alike; a seed each names what is drawn for it."""
        for subject, seed in zip(subjects, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            geometry = draw_geometry(self.relabeller.geometry, generator, self.relabeller.allowed(subject))
            subject["report"], subject["label"] = self.relabeller.rewrite(subject, geometry)
            for name in self.images:
                moved = apply_geometry(subject[name].data.float(), geometry, spacing_mm=self.spacing_mm)
                subject[name].set_data(moved)
        return [*subjects]


def classical_batches(config: PreprocessConfig, images: Sequence[str], moves: Sequence[Move]) -> BatchedAugmentation:
    """The published augmentation for whole batches: what :func:`classical_augmentation` draws, many times quicker.

    Args:
        config: Spacing of the volumes.
        images: Images that move together.
        moves: Those that are used.

    Example:
        >>> classical_batches(PreprocessConfig(), ["t2w"], ["flip"]).rotate_degrees
        0.0
    """
    return BatchedAugmentation(
        images,
        config.spacing_mm,
        flip="flip" in moves,
        rotate_degrees=15.0 * ("rotate" in moves),
        translate=0.1 * ("translate" in moves),
        zoom=0.1 * ("zoom" in moves),
    )


def classical_augmentation(config: PreprocessConfig, moves: Sequence[Move] = MOVES) -> tio.Compose:
    """The published augmentation: flip left-right, rotate in plane, translate, zoom, each with probability 0.5.

    Rotation to 15 degrees, translation to 10 % of the field of view, zoom 0.9 to 1.1. Ours: what is drawn of the last
    three is done in one interpolation, which blurs less than three and is quicker.

    Args:
        config: Shape and spacing of the volumes.
        moves: Those that are used. Leave out zoom where the class is a size.

    Example:
        >>> [type(part).__name__ for part in classical_augmentation(PreprocessConfig(), ["flip", "zoom"]).transforms]
        ['RandomFlip', 'OneOf']
    """
    reach = [0.1 * spacing * side for spacing, side in zip(config.spacing_mm, config.shape, strict=True)]
    settings: dict[str, dict[str, Any]] = {
        "rotate": {"degrees": (0, 0, 0, 0, -15, 15)},
        "translate": {"translation": [bound for r in reach for bound in (-r, r)]},
        "zoom": {"scales": (0.9, 1.1), "isotropic": True},
    }
    parts: list[tio.Transform] = []
    if "flip" in moves:
        parts.append(tio.RandomFlip(axes=("LR",), flip_probability=0.5))
    used = [settings[move] for move in settings if move in moves]
    # Each with probability 0.5 is each of the combinations, the empty one too, with the same probability.
    combinations = [
        {key: value for setting in chosen for key, value in setting.items()}
        for count in range(1, len(used) + 1)
        for chosen in itertools.combinations(used, count)
    ]
    if combinations:
        still: dict[str, Any] = {"scales": (1,) * 6, "degrees": (0,) * 6, "translation": (0,) * 6}
        affines = [tio.RandomAffine(**{**still, **each}, default_pad_value="minimum") for each in combinations]
        parts.append(tio.OneOf(affines, p=len(affines) / (len(affines) + 1)))
    return tio.Compose(parts)
