"""Latent spaces: what the settings and the stages of a study must know of each.

A latent space is named by its class, as "package.module.Class", which brings its own record. The two that are used most
have short names here, and their records stand here, so that settings are checked before torch is loaded.
"""

import importlib
from dataclasses import dataclass
from typing import Literal

from synthaug.ground.errors import InputError

Process = Literal["edm", "epsilon", "v_prediction", "flow_prediction", "maisi_flow"]
"""What a denoiser is trained to predict, and under which noise; see ``generator.prediction``."""


@dataclass(frozen=True)
class LatentDesign:
    """A latent space.

    Attributes:
        space: Its class, as "package.module.Class".
        model: What a generator over it is called in a methods section.
        source: Its reference there, or the key of one.
        processes: Training processes that it allows; the first is the default.
        trained: Whether it is an autoencoder, which is trained before the generator. Otherwise it is fitted to the
            training volumes in seconds, and generators train on volumes that are moved anew at each step.
        sigma_data: Standard deviation of its latents.
        unused: Settings that have no effect with it.
    """

    space: str
    model: str
    source: str
    processes: tuple[Process, ...]
    trained: bool
    sigma_data: float
    unused: tuple[str, ...]

    @property
    def name(self) -> str:
        """As ``generator.latents`` has it: the short name, or the class."""
        return next((name for name, design in LATENT_DESIGNS.items() if design == self), self.space)


LATENT_DESIGNS = {
    "cascade": LatentDesign(
        space="synthaug.models.cascade.Cascade",
        model="a cascade of diffusion models",
        source="edm",
        processes=("edm",),
        trained=False,
        sigma_data=0.5,
        unused=("autoencoder", "generator.denoiser"),
    ),
    "autoencoder": LatentDesign(
        space="synthaug.models.autoencoder.ImageAutoencoder",
        model="a latent diffusion model",
        source="ldm",
        processes=("epsilon", "edm", "v_prediction", "flow_prediction", "maisi_flow"),
        trained=True,
        sigma_data=1.0,
        unused=("generator.levels", "generator.geometry", "generator.guide_noise"),
    ),
}
"""Latent spaces with a short name."""


def latent_design(name: str) -> LatentDesign:
    """What is known of a latent space, by its short name or, where it has none, by its class, which is imported.

    Raises:
        InputError: There is no such class, or it has no record, or it is trained.

    Example:
        >>> latent_design("cascade").processes
        ('edm',)
    """
    if name in LATENT_DESIGNS:
        return LATENT_DESIGNS[name]
    module, _, kind = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), kind, None)
    except (ImportError, ValueError):
        found = None
    facts = getattr(found, "facts", None)
    if not isinstance(facts, LatentDesign) or facts.name != name:
        known = ", ".join(LATENT_DESIGNS)
        raise InputError(f"generator.latents={name}: give {known}, or package.module.Class of a latent space.")
    if facts.trained:
        raise InputError(
            f"generator.latents={name} is trained; of the spaces that are, only the autoencoder has a stage."
        )
    return facts
