"""Which levels a generator has: those of its config, or those that follow from the volume's shape."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from synthaug.config import DenoiserConfig, GeneratorConfig, LevelConfig, TrainingConfig
from synthaug.ground.errors import InputError
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.cascade import Cascade, default_poolings

LatentSpace = Cascade | ImageAutoencoder
"""What maps volumes to the levels that are denoised, and back."""
BASE = LevelConfig(
    denoiser=DenoiserConfig(channels=(64, 128), attention=(False, True), norm_groups=16),
    sigma_mean=-0.4,
    sigma_deviation=1.3,
    sigma_max=40.0,
)
"""The coarsest level: anatomy. A wide network on few voxels."""
DETAIL = LevelConfig(patch=2, denoiser=DenoiserConfig(channels=(32, 64), attention=(False, False), norm_groups=16))
"""A finer level: what pooling left out, half of it seen in the level before."""


def levels_of(config: GeneratorConfig, shape: Sequence[int]) -> list[LevelConfig]:
    """The levels of a generator of volumes of ``shape`` voxels, coarse to fine, each with its own steps and batch size.

    Example:
        >>> [(level.pooling, level.patch) for level in levels_of(GeneratorConfig(), (32, 40, 24))]
        [(4, 1), (1, 2)]
    """
    training = config.training
    if config.latents == "autoencoder":
        levels = [LevelConfig(denoiser=config.denoiser)]
    else:
        coarsest, *finer = default_poolings(shape)
        levels = list(config.levels) or [
            replace(BASE, pooling=coarsest),
            *(replace(DETAIL, pooling=pooling) for pooling in finer),
        ]
    sizes = ((level.steps or training.steps, level.batch_size or training.batch_size) for level in levels)
    return [replace(level, steps=steps, batch_size=size) for level, (steps, size) in zip(levels, sizes, strict=True)]


def training_of(config: GeneratorConfig, level: LevelConfig, **changes: Any) -> TrainingConfig:
    """The optimisation of one level."""
    warmup = min(config.training.warmup, level.steps - 1)
    return replace(config.training, steps=level.steps, batch_size=level.batch_size, warmup=warmup, **changes)


def total_steps(config: GeneratorConfig, shape: Sequence[int]) -> int:
    """Optimiser steps of all levels."""
    return sum(level.steps for level in levels_of(config, shape))


def fit_cascade(volumes: torch.Tensor, config: GeneratorConfig) -> Cascade:
    """The cascade of training volumes (N, C, X, Y, Z) in [0, 1].

    Raises:
        InputError: A side is smaller than the pooling, the poolings do not divide each other, a value is not finite,
            or all volumes are one and the same.
    """
    if not torch.isfinite(volumes).all():
        rows = [row for row, volume in enumerate(volumes) if not torch.isfinite(volume).all()]
        raise InputError(f"Training volumes {rows[:5]} (counted from 0) hold NaN or infinite voxels; mend the images.")
    if len(volumes) < 2 or not (volumes - volumes[:1]).any():
        raise InputError(f"{len(volumes)} training volume(s), all alike: a generator needs at least two that differ.")
    levels = levels_of(config, volumes.shape[2:])
    multiple = math.lcm(*(level.pooling * level.patch * level.denoiser.factor for level in levels))
    space = Cascade(
        poolings=tuple(level.pooling for level in levels),
        patches=tuple(level.patch for level in levels),
        shape=tuple(volumes.shape[2:]),
        multiple=multiple,
        sequences=volumes.shape[1],
    )
    space.fit(volumes)
    return space.eval()


def denoiser_levels(space: LatentSpace, levels: Sequence[LevelConfig]) -> list[dict[str, Any]] | None:
    """What :class:`CCELLADenoiser` must know of the levels; None for an autoencoder's latents."""
    if not isinstance(space, Cascade):
        return None
    return [
        {
            "latent_channels": space.latent_shape(number)[0],
            "guide_channels": space.guide_channels(number),
            "unet_size": asdict(level.denoiser),
            "sigma_max": level.sigma_max,
            **({"linear": _linear(space, level)} if level.linear_components and number == 0 else {}),
            **({"low_frequencies": level.low_frequencies} if level.low_frequencies else {}),
            **({"fine_channels": level.fine_channels, "patch": level.patch} if level.fine_channels else {}),
        }
        for number, level in enumerate(levels)
    ]


def _linear(space: Cascade, level: LevelConfig) -> dict[str, Any]:
    return {"shape": list(space.latent_shape(0)), "components": level.linear_components}
