"""The image autoencoder: MONAI's MAISI VAE, one sequence at a time, latents of several sequences stacked."""

import copy
from collections.abc import Callable, Sequence
from typing import Self

import torch
from diffusers.configuration_utils import register_to_config
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi, MaisiConvolution
from monai.inferers import SlidingWindowInferer
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn

from synthaug.config.latents import LATENT_DESIGNS
from synthaug.ground.errors import InputError
from synthaug.models.latent_space import LatentSpace

TILE_OVERLAP = 0.4
"""Share of a tile that its neighbour covers too."""


class ImageAutoencoder(LatentSpace):
    """Volumes (B, C, X, Y, Z) in [0, 1] to latents (B, C * latent_channels, X/f, Y/f, Z/f) and back.

    As in CCELLA++, each of the C sequences passes the same one-channel VAE and the latents are stacked. Published
    latents are multiplied by ``scale_factor`` = 1 / their standard deviation on the training set.

    With ``patch`` > 1 (ours) a space-to-depth step comes first, because the full-resolution layers are most of the cost
    on a CPU. Folders of version 0.1 may have a linear path around the VAE (``shortcut``), a mean latent
    (``centre_shape``) and noise added after decoding (``residual_deviation``). They are loaded and sampled, and no
    longer trained.

    Args:
        channels: Channels of each level; each level but the first halves the sides.
        latent_channels: Latent channels a sequence.
        residual_blocks: Residual blocks a level.
        norm_groups: Groups of the group norm.
        patch: Space-to-depth factor, 1 = none.
        shortcut: Whether the linear path is there.
        splits: Parts in which a convolution is computed, to bound memory.
        tile: Longest side of a latent that is decoded or encoded at once, to bound memory further; 0 = any. Larger ones
            are computed tile by tile and blended, as in MAISI's scripts. Norms then see one tile at a time, so that
            values differ slightly.
        sequences: C, the number of sequences.
        scale_factor: Set when trained.
        centre_shape: Sides of the mean latent; None = none.
        residual_deviation: Standard deviation of training volume - reconstruction; 0 = none.
    """

    facts = LATENT_DESIGNS["autoencoder"]
    named = False

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (64, 128, 256),
        latent_channels: int = 4,
        residual_blocks: int = 2,
        norm_groups: int = 32,
        patch: int = 1,
        shortcut: bool = False,
        splits: int = 1,
        tile: int = 0,
        sequences: int = 1,
        scale_factor: float = 1.0,
        centre_shape: tuple[int, int, int] | None = None,
        residual_deviation: float = 0.0,
    ) -> None:
        super().__init__()
        levels = len(channels)
        self.factor = patch * 2 ** (levels - 1)
        # norm_float16 crashes on a CPU, and half precision is autocast's decision, so it stays off.
        self.vae = AutoencoderKlMaisi(
            spatial_dims=3,
            in_channels=patch**3,
            out_channels=patch**3,
            num_channels=tuple(channels),
            latent_channels=latent_channels,
            num_res_blocks=(residual_blocks,) * levels,
            attention_levels=(False,) * levels,
            norm_num_groups=norm_groups,
            norm_eps=1e-6,
            use_convtranspose=False,
            num_splits=splits,
            norm_float16=False,
            save_mem=False,
        )
        if shortcut:
            self.shrink = nn.Conv3d(self.factor**3, latent_channels, 1)
            self.grow = nn.Conv3d(latent_channels, self.factor**3, 1)
        if centre_shape is not None:
            self.register_buffer("centre", torch.zeros(self.latent_channels, *centre_shape))

    def set_scale(self, latents: torch.Tensor) -> None:
        """Set the scale so that the training latents (N, c, x, y, z), unscaled, deviate by 1, as published."""
        self.register_to_config(scale_factor=1 / latents.std().item())

    @torch.no_grad()
    def finish(self, volumes: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Decoded volumes (B, C, X, Y, Z) with the noise that the decoder left out, each drawn by its own generator."""
        if not self.config.residual_deviation:
            return volumes
        noise = torch.stack([torch.randn(volumes.shape[1:], generator=generator) for generator in generators])
        return volumes + self.config.residual_deviation * noise.to(volumes)

    def latent_shape(self, level: int, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Channels and sides of the latents of volumes of ``shape`` voxels.

        Raises:
            InputError: A side is no multiple of ``factor``.
        """
        if len(shape) != 3 or any(side < 1 or side % self.factor for side in shape):
            raise InputError(f"shape={tuple(shape)}: give three sides, each a multiple of {self.factor}.")
        x, y, z = (side // self.factor for side in shape)
        return self.latent_channels, x, y, z

    def to_levels(self, volumes: torch.Tensor, *, count: int | None = None) -> list[torch.Tensor]:
        """The latents of the one level."""
        return [self.encode(volumes)]

    def from_levels(self, latents: Sequence[torch.Tensor]) -> torch.Tensor:
        """Volumes (B, C, X, Y, Z), not clipped."""
        return self.decode(latents[0].to(self.dtype))

    def with_sequences(self, places: Sequence[int], count: int, volumes: Callable[[], torch.Tensor]) -> Self:
        """The same network, which each sequence passes by itself; no volume is read."""
        if self.config.centre_shape is not None:
            raise InputError("An autoencoder with a mean latent takes the sequences that it was made for.")
        space = copy.deepcopy(self)
        space.register_to_config(sequences=count)
        return space

    @property
    def latent_channels(self) -> int:
        """Channels of the stacked latent."""
        return self.config.latent_channels * self.config.sequences

    def posterior(self, volumes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unscaled mean and standard deviation of the latents, each (B, C * latent_channels, x, y, z)."""
        self._require_shape(volumes)
        single = volumes.flatten(0, 1).unsqueeze(1)
        mean, deviation = self._encoded(single)
        if self.config.shortcut:
            mean = mean + self.shrink(_space_to_depth(single, self.factor))
        return self._stacked(mean, len(volumes)), self._stacked(deviation, len(volumes))

    def _encoded(self, single: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of one sequence's latents, of volumes (B, 1, X, Y, Z)."""
        tile = self.config.tile * self.factor
        if tile and max(single.shape[2:]) > tile:
            sides = [min(tile, side) for side in single.shape[2:]]
            inferer = SlidingWindowInferer(sides, mode="gaussian", overlap=TILE_OVERLAP)
            return inferer(single, self._encoded)
        self._bound_splits(single.shape[2] // self.factor)
        with self.autocast():
            return self.vae.encode(_space_to_depth(single, self.config.patch))

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """Scaled latent means (B, C * latent_channels, x, y, z)."""
        mean = self.posterior(volumes)[0]
        return (mean - self._centre(mean)) * self.config.scale_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents to volumes (B, C, X, Y, Z), not clipped."""
        return self.decode_unscaled(latents / self.config.scale_factor + self._centre(latents))

    def _centre(self, latents: torch.Tensor) -> torch.Tensor | float:
        """The mean latent, stretched where the latents are of another shape than the training ones."""
        if self.config.centre_shape is None:
            return 0.0
        centre = self.centre.unsqueeze(0)
        if centre.shape[2:] != latents.shape[2:]:
            centre = nn.functional.interpolate(centre, size=latents.shape[2:], mode="trilinear")
        return centre

    def decode_unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the VAE made them to volumes (B, C, X, Y, Z), not clipped."""
        batch = len(latents)
        single = latents.reshape(batch * self.config.sequences, self.config.latent_channels, *latents.shape[2:])
        volumes = self._decoded(single)
        if self.config.shortcut:
            volumes = volumes + _depth_to_space(self.grow(single), self.factor)
        return self._stacked(volumes, batch)

    def _decoded(self, single: torch.Tensor) -> torch.Tensor:
        """What the VAE makes of one sequence's latents (B, latent_channels, x, y, z): (B, 1, X, Y, Z)."""
        tile = self.config.tile
        if tile and max(single.shape[2:]) > tile:
            sides = [min(tile, side) for side in single.shape[2:]]
            inferer = SlidingWindowInferer(sides, mode="gaussian", overlap=TILE_OVERLAP)
            return inferer(single, self._decoded)
        self._bound_splits(single.shape[2])
        with self.autocast():
            return _depth_to_space(self.vae.decode(single), self.config.patch)

    def _bound_splits(self, side: int) -> None:
        """Split convolutions in at most ``splits`` parts: MONAI's parts must be equal and wider than their overlap."""
        if self.config.splits > 1:
            fitting = [n for n in range(1, self.config.splits + 1) if side % n == 0 and side // n >= 4]
            for module in self.vae.modules():
                if isinstance(module, MaisiConvolution):
                    module.num_splits = max(fitting, default=1)

    def _stacked(self, single: torch.Tensor, batch: int) -> torch.Tensor:
        return single.reshape(batch, -1, *single.shape[2:])

    def _require_shape(self, volumes: torch.Tensor) -> None:
        channels, *sides = volumes.shape[1:]
        if channels != self.config.sequences:
            raise InputError(
                f"The autoencoder was made for {self.config.sequences} sequences, the volumes have {channels}."
            )
        if any(side % self.factor for side in sides):
            raise InputError(f"Volumes of {tuple(sides)} voxels: each side must be a multiple of {self.factor}.")


def _space_to_depth(volumes: torch.Tensor, factor: int) -> torch.Tensor:
    return volumes if factor == 1 else pixelunshuffle(volumes, spatial_dims=3, scale_factor=factor)


def _depth_to_space(volumes: torch.Tensor, factor: int) -> torch.Tensor:
    return volumes if factor == 1 else pixelshuffle(volumes, spatial_dims=3, scale_factor=factor)
