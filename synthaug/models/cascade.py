"""A latent space without an encoder: a volume as its average-pooled self plus the detail that pooling left out (ours).

Levels run from coarse to fine. Let :math:`x_k` be the volume pooled to level ``k``, and ``up`` the trilinear
interpolation from the level before. Level 0 holds :math:`x_0`. Each finer level holds the residual
:math:`x_k - up(x_{k-1})`, rearranged from space to depth. Every level is exactly invertible and needs no training, so
it can neither blur nor memorise.
"""

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Self

import torch
from diffusers.configuration_utils import register_to_config
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch.nn import functional

from synthaug.config import DenoiserConfig, GeneratorConfig, LevelConfig
from synthaug.config.latents import LATENT_DESIGNS
from synthaug.ground.errors import InputError
from synthaug.models.latent_space import LatentSpace

SIGMA_DATA = LATENT_DESIGNS["cascade"].sigma_data
"""Standard deviation that every level is scaled to, as in EDM (arXiv 2206.00364)."""
BASE_VOXELS = 8192
"""Voxels of the coarsest level above which a third level is put between."""

BASE = LevelConfig(
    denoiser=DenoiserConfig(channels=(64, 128), attention=(False, True), norm_groups=16),
    sigma_mean=-0.4,
    sigma_deviation=1.3,
    sigma_max=40.0,
)
"""The coarsest level: anatomy. A wide network on few voxels."""
DETAIL = LevelConfig(patch=2, denoiser=DenoiserConfig(channels=(32, 64), attention=(False, False), norm_groups=16))
"""A finer level: what pooling left out, half of it seen in the level before."""
logger = logging.getLogger(__name__)


def default_poolings(shape: Sequence[int]) -> tuple[int, ...]:
    """Pooling factors of the levels that suit a shape: two levels, or three for large volumes.

    Example:
        >>> default_poolings((32, 40, 24)), default_poolings((256, 256, 128))
        ((4, 1), (16, 4, 1))
    """
    voxels = shape[0] * shape[1] * shape[2]
    return (4, 1) if voxels <= BASE_VOXELS * 4**3 else (16, 4, 1)


def padded_shape(shape: Sequence[int], *, multiple: int) -> tuple[int, int, int]:
    """The sides rounded up to a multiple.

    Example:
        >>> padded_shape((30, 40, 24), multiple=8)
        (32, 40, 24)
    """
    x, y, z = (-(-side // multiple) * multiple for side in shape)
    return x, y, z


class Cascade(LatentSpace):
    """Volumes (B, C, X, Y, Z) to the latents of each level and back, without loss.

    Args:
        poolings: Average-pooling factor of each level, coarse to fine; the last is 1, and each divides the one before.
        patches: Space-to-depth factor of each level.
        shape: Voxels of a volume.
        multiple: Sides are padded to a multiple of this (edges repeated) and cropped again.
        sequences: C.
        deviations: Standard deviation of each level's residual, set by :meth:`fit`.

    Example:
        >>> space = Cascade(poolings=(2, 1), patches=(1, 2), shape=(4, 4, 4), multiple=4)
        >>> volumes = torch.rand(3, 1, 4, 4, 4)
        >>> space.fit(volumes)
        >>> coarse, fine = space.to_levels(volumes)
        >>> coarse.shape, fine.shape, torch.allclose(space.from_levels([coarse, fine]), volumes, atol=1e-5)
        (torch.Size([3, 1, 2, 2, 2]), torch.Size([3, 8, 2, 2, 2]), True)
    """

    facts = LATENT_DESIGNS["cascade"]

    @register_to_config
    def __init__(
        self,
        poolings: tuple[int, ...] = (4, 1),
        patches: tuple[int, ...] = (1, 2),
        shape: tuple[int, int, int] = (32, 32, 16),
        multiple: int = 8,
        sequences: int = 1,
        deviations: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        steps_down = all(a % b == 0 and a > b for a, b in itertools.pairwise(poolings))
        if len(poolings) != len(patches) or poolings[-1] != 1 or not steps_down:
            raise InputError(
                f"poolings={tuple(poolings)} must fall to 1, each dividing the one before, beside as many patches "
                f"({tuple(patches)})."
            )
        if min(shape) < poolings[0]:
            raise InputError(f"shape={tuple(shape)}: a side is smaller than the pooling of {poolings[0]}.")
        self.padded = padded_shape(shape, multiple=multiple)
        if self.padded != tuple(shape):
            logger.info("Volumes of %s voxels are padded to %s and cropped again.", tuple(shape), self.padded)
        for level, pooling in enumerate(poolings):
            sides = [side // pooling for side in self.padded]
            self.register_buffer(f"mean_{level}", torch.zeros(sequences, *sides))

    @property
    def levels(self) -> int:
        """How many levels there are."""
        return len(self.config.poolings)

    @classmethod
    def level_configs(cls, config: GeneratorConfig, shape: Sequence[int]) -> list[LevelConfig]:
        """The levels of its settings, or those that suit the shape."""
        coarsest, *finer = default_poolings(shape)
        return list(config.levels) or [
            replace(BASE, pooling=coarsest),
            *(replace(DETAIL, pooling=pooling) for pooling in finer),
        ]

    @classmethod
    def fitted(cls, volumes: torch.Tensor, levels: Sequence[LevelConfig]) -> Self:
        """The cascade of training volumes (N, C, X, Y, Z) with these levels."""
        space = cls(
            poolings=tuple(level.pooling for level in levels),
            patches=tuple(level.patch for level in levels),
            shape=tuple(volumes.shape[2:]),
            multiple=math.lcm(*(level.pooling * level.patch * level.denoiser.factor for level in levels)),
            sequences=volumes.shape[1],
        )
        space.fit(volumes)
        return space.eval()

    def with_sequences(self, places: Sequence[int], count: int, volumes: Callable[[], torch.Tensor]) -> Self:
        """Means of new sequences are those of the volumes; each level keeps its one deviation."""
        space = type(self)(**self.settings | {"sequences": count})
        space.fit(volumes())
        for level in range(self.levels):
            space._mean(level)[[*places]] = self._mean(level)
        space.register_to_config(deviations=self.config.deviations)
        return space.eval()

    def level_settings(self, levels: Sequence[LevelConfig]) -> list[dict[str, Any]]:
        """What :class:`CCELLADenoiser` must know of the levels."""
        return [self._level_settings(number, level) for number, level in enumerate(levels)]

    def _level_settings(self, number: int, level: LevelConfig) -> dict[str, Any]:
        told: dict[str, Any] = {
            "latent_channels": self.latent_shape(number)[0],
            "guide_channels": self.guide_channels(number),
            "unet_size": asdict(level.denoiser),
            "sigma_max": level.sigma_max,
        }
        if level.linear_components and number == 0:
            told["linear"] = {"shape": list(self.latent_shape(0)), "components": level.linear_components}
        parts = ("low_frequencies", "fine_channels", "texture")
        told |= {part: getattr(level, part) for part in parts if getattr(level, part)}
        if level.fine_channels or level.texture:
            told["patch"] = level.patch
        return told

    def require_possible(self) -> None:
        """InputError where its deviations cannot be."""
        deviations = [*self.config.deviations]
        numbers = all(isinstance(each, int | float) and 0 < each < 1e9 for each in deviations)
        if not numbers or len(deviations) != self.levels:
            raise InputError(f"deviations of the cascade must be a positive number a level, not {deviations!r:.100}.")

    def latent_shape(self, level: int, shape: Sequence[int] | None = None) -> tuple[int, int, int, int]:
        """Channels and sides of a level's latents.

        Raises:
            InputError: ``shape`` is another than that of training.
        """
        if shape is not None and tuple(shape) != tuple(self.config.shape):
            raise InputError(f"shape={tuple(shape)}: this generator draws {tuple(self.config.shape)} voxels only.")
        pooling, patch = self.config.poolings[level], self.config.patches[level]
        x, y, z = (side // (pooling * patch) for side in self.padded)
        return self.config.sequences * patch**3, x, y, z

    def guide_channels(self, level: int) -> int:
        """Channels of what a level is shown of the coarser ones."""
        return 0 if level == 0 else self.latent_shape(level)[0]

    @torch.no_grad()
    def fit(self, volumes: torch.Tensor) -> None:
        """Set the mean image and the deviation of every level from training volumes (N, C, X, Y, Z)."""
        deviations = []
        for level, residual in enumerate(self._residuals(self._pad(volumes))):
            mean = residual.mean(0)
            self._mean(level).copy_(mean)
            deviations.append(max((residual - mean).std().item(), 1e-6))
        self.register_to_config(deviations=tuple(deviations))

    def to_levels(self, volumes: torch.Tensor, *, count: int | None = None) -> list[torch.Tensor]:
        """Latents of the ``count`` coarsest levels (None = all), of deviation ``SIGMA_DATA`` in training volumes."""
        self._require_shape(volumes)
        residuals = self._residuals(self._pad(volumes), count=count)
        return [self._normalised(level, residual) for level, residual in enumerate(residuals)]

    def from_levels(self, latents: Sequence[torch.Tensor]) -> torch.Tensor:
        """Volumes (B, C, X, Y, Z), not clipped, of the coarsest levels' latents; what is finer is taken as its mean."""
        missing = range(len(latents), self.levels)
        zeros = [latents[0].new_zeros(len(latents[0]), *self.latent_shape(level)) for level in missing]
        return self._crop(self._volume([*latents, *zeros]))

    def guide(self, level: int, latents: Sequence[torch.Tensor], noise: torch.Tensor | None = None) -> torch.Tensor:
        """What a finer level is shown: the coarser volume on its grid, about its mean, in units like the latents'.

        Args:
            level: The finer level, from 1.
            latents: Of the levels before it.
            noise: Added to the coarser volume, in units of its residual's deviation (B, C, x, y, z). In training it
                makes the level robust to errors of the coarser one (noise-conditioning augmentation, arXiv 2106.15282).
        """
        coarse = self._volume(latents[:level]) - self._mean_volume(level - 1)
        scale = self.config.deviations[0]
        if noise is not None:
            coarse = coarse + scale * noise
        return self._to_depth(level, self._up(level, coarse)) * (SIGMA_DATA / scale)

    def coarse_shape(self, level: int) -> tuple[int, int, int, int]:
        """Channels and sides of the volume that :meth:`guide` shows to ``level``."""
        pooling = self.config.poolings[level - 1]
        x, y, z = (side // pooling for side in self.padded)
        return self.config.sequences, x, y, z

    def _residuals(self, volumes: torch.Tensor, *, count: int | None = None) -> list[torch.Tensor]:
        """At each level's resolution, what the level before does not tell."""
        residuals: list[torch.Tensor] = []
        before = None
        for level, pooling in enumerate(self.config.poolings[:count]):
            pooled = functional.avg_pool3d(volumes, pooling) if pooling > 1 else volumes
            residuals.append(pooled if before is None else pooled - self._up(level, before))
            before = pooled
        return residuals

    def _volume(self, latents: Sequence[torch.Tensor]) -> torch.Tensor:
        """The volume at the resolution of the last of these levels."""
        volume = None
        for level, latent in enumerate(latents):
            patch = self.config.patches[level]
            residual = latent if patch == 1 else pixelshuffle(latent, spatial_dims=3, scale_factor=patch)
            residual = residual * (self.config.deviations[level] / SIGMA_DATA) + self._mean(level)
            volume = residual if volume is None else self._up(level, volume) + residual
        assert volume is not None
        return volume

    def _mean_volume(self, level: int) -> torch.Tensor:
        """The mean training volume at a level's resolution (1, C, x, y, z)."""
        volume = self._mean(0).unsqueeze(0)
        for finer in range(1, level + 1):
            volume = self._up(finer, volume) + self._mean(finer)
        return volume

    def _normalised(self, level: int, residual: torch.Tensor) -> torch.Tensor:
        scaled = (residual - self._mean(level)) * (SIGMA_DATA / self.config.deviations[level])
        return self._to_depth(level, scaled)

    def _to_depth(self, level: int, volume: torch.Tensor) -> torch.Tensor:
        patch = self.config.patches[level]
        return volume if patch == 1 else pixelunshuffle(volume, spatial_dims=3, scale_factor=patch)

    def _up(self, level: int, coarse: torch.Tensor) -> torch.Tensor:
        sides = [side // self.config.poolings[level] for side in self.padded]
        return functional.interpolate(coarse, size=sides, mode="trilinear")

    def _mean(self, level: int) -> torch.Tensor:
        return getattr(self, f"mean_{level}")

    def _pad(self, volumes: torch.Tensor) -> torch.Tensor:
        before = [(padded - side) // 2 for padded, side in zip(self.padded, volumes.shape[2:], strict=True)]
        after = [p - s - b for p, s, b in zip(self.padded, volumes.shape[2:], before, strict=True)]
        sides = [side for axis in (2, 1, 0) for side in (before[axis], after[axis])]
        return functional.pad(volumes, sides, mode="replicate") if any(sides) else volumes

    def _crop(self, volumes: torch.Tensor) -> torch.Tensor:
        starts = [(padded - side) // 2 for padded, side in zip(self.padded, self.config.shape, strict=True)]
        x, y, z = (slice(at, at + side) for at, side in zip(starts, self.config.shape, strict=True))
        return volumes[:, :, x, y, z]

    def _require_shape(self, volumes: torch.Tensor) -> None:
        found, wanted = tuple(volumes.shape[1:]), (self.config.sequences, *self.config.shape)
        if found != wanted:
            raise InputError(f"Volumes of {found} (sequences, voxels): the cascade was made for {tuple(wanted)}.")
