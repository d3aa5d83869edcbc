"""Which levels a generator has: those of its config, or those that follow from the volume's shape."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from synthaug.config import GeneratorConfig, LevelConfig, TrainingConfig
from synthaug.ground.errors import InputError
from synthaug.models.latent_space import LatentSpace, space_class


def levels_of(config: GeneratorConfig, shape: Sequence[int]) -> list[LevelConfig]:
    """The levels of a generator of volumes of ``shape`` voxels, coarse to fine, each with its own steps and batch size.

    Example:
        >>> [(level.pooling, level.patch) for level in levels_of(GeneratorConfig(), (32, 40, 24))]
        [(4, 1), (1, 2)]
    """
    training = config.training
    levels = space_class(config.latent_design).level_configs(config, shape)
    sizes = ((level.steps or training.steps, level.batch_size or training.batch_size) for level in levels)
    return [replace(level, steps=steps, batch_size=size) for level, (steps, size) in zip(levels, sizes, strict=True)]


def training_of(config: GeneratorConfig, level: LevelConfig, **changes: Any) -> TrainingConfig:
    """The optimisation of one level."""
    warmup = min(config.training.warmup, level.steps - 1)
    return replace(config.training, steps=level.steps, batch_size=level.batch_size, warmup=warmup, **changes)


def total_steps(config: GeneratorConfig, shape: Sequence[int]) -> int:
    """Optimiser steps of all levels."""
    return sum(level.steps for level in levels_of(config, shape))


def fit_space(volumes: torch.Tensor, config: GeneratorConfig) -> LatentSpace:
    """The latent space of training volumes (N, C, X, Y, Z) in [0, 1], where it needs no training.

    Raises:
        InputError: A side is smaller than the pooling, the poolings do not divide each other, a value is not finite,
            or all volumes are one and the same.
    """
    if not torch.isfinite(volumes).all():
        rows = [row for row, volume in enumerate(volumes) if not torch.isfinite(volume).all()]
        raise InputError(f"Training volumes {rows[:5]} (counted from 0) hold NaN or infinite voxels; mend the images.")
    if len(volumes) < 2 or not (volumes - volumes[:1]).any():
        raise InputError(f"{len(volumes)} training volume(s), all alike: a generator needs at least two that differ.")
    return space_class(config.latent_design).fitted(volumes, levels_of(config, volumes.shape[2:]))
