"""What a latent space is: volumes to the latents of one or more levels, coarse to fine, and back."""

import importlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch

from synthaug.config import GeneratorConfig, LevelConfig
from synthaug.config.latents import LatentDesign
from synthaug.models.pretrained import PretrainedModel


class LatentSpace(PretrainedModel):
    """Base of every latent space; training, sampling and storage know no other.

    Latents of a level are (B, c, x, y, z). A subclass has ``facts`` and the abstract methods; the others have defaults
    that suit an autoencoder of one level.
    """

    facts: ClassVar[LatentDesign]
    """What settings, stages and reports know of it."""
    named: ClassVar[bool] = True
    """Whether fingerprints name it; they are older than the second latent space."""

    @property
    def levels(self) -> int:
        """How many levels are denoised, coarse to fine."""
        return 1

    @property
    def sequences(self) -> int:
        """Images of a subject, stacked as channels."""
        return self.config.sequences

    @classmethod
    def level_configs(cls, config: GeneratorConfig, shape: Sequence[int]) -> list[LevelConfig]:
        """Networks and training of the levels for volumes of ``shape`` voxels."""
        return [LevelConfig(denoiser=config.denoiser)]

    @classmethod
    def fitted(cls, volumes: torch.Tensor, levels: Sequence[LevelConfig]) -> Self:
        """The space of training volumes (N, C, X, Y, Z), where it needs no training."""
        raise NotImplementedError(f"{cls.__name__} is trained, not fitted.")

    @abstractmethod
    def latent_shape(self, level: int, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Channels and sides of a level's latents of volumes of ``shape`` voxels."""

    @abstractmethod
    def to_levels(self, volumes: torch.Tensor, *, count: int | None = None) -> list[torch.Tensor]:
        """Latents of the ``count`` coarsest levels (None = all) of volumes (B, C, X, Y, Z)."""

    @abstractmethod
    def from_levels(self, latents: Sequence[torch.Tensor]) -> torch.Tensor:
        """Volumes (B, C, X, Y, Z), not clipped."""

    def finish(self, volumes: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Drawn volumes with what the latents do not hold, each drawn by its own generator."""
        return volumes

    def guide(self, level: int, latents: Sequence[torch.Tensor], noise: torch.Tensor | None = None) -> torch.Tensor:
        """What a finer level is shown of the coarser ones, with noise of ``coarse_shape`` added in training."""
        raise NotImplementedError(f"{type(self).__name__} has one level.")

    def coarse_shape(self, level: int) -> tuple[int, int, int, int]:
        """Channels and sides of the noise that :meth:`guide` takes."""
        raise NotImplementedError(f"{type(self).__name__} has one level.")

    def level_settings(self, levels: Sequence[LevelConfig]) -> list[dict[str, Any]] | None:
        """What :class:`CCELLADenoiser` must know of the levels; None = there is one, of its own settings."""
        return None

    def with_sequences(self, places: Sequence[int], count: int, volumes: Callable[[], torch.Tensor]) -> Self:
        """The space for more sequences; those that it knew stay as they are.

        Args:
            places: Where each of its sequences stands among the new ones.
            count: Number of sequences, more than it has.
            volumes: Reads the training volumes (N, C, X, Y, Z) of all sequences, for a space that is fitted to them.
        """
        raise NotImplementedError(f"{type(self).__name__} takes the sequences that it was made for.")

    def require_possible(self) -> None:
        """InputError where a setting that was read from a folder cannot be."""


def space_class(design: LatentDesign) -> type[LatentSpace]:
    """The class of a latent space.

    Example:
        >>> from synthaug.config.latents import latent_design
        >>> space_class(latent_design("cascade")).__name__
        'Cascade'
    """
    module, _, name = design.space.rpartition(".")
    return getattr(importlib.import_module(module), name)
