"""Latent spaces: what the settings and the stages of a study must know of each."""

from dataclasses import dataclass
from typing import Literal

Latents = Literal["cascade", "autoencoder"]
"""Names of the latent spaces."""
Process = Literal["edm", "epsilon", "v_prediction", "flow_prediction", "maisi_flow"]
"""What a denoiser is trained to predict, and under which noise; see ``generator.prediction``."""


@dataclass(frozen=True)
class LatentDesign:
    """A latent space, by the name that ``generator.latents`` gives it.

    Attributes:
        model: What a generator over it is called in a methods section.
        source: Key of its reference there.
        processes: Training processes that it allows; the first is the default.
        trained: Whether it is an autoencoder, which is trained before the generator. Otherwise it is fitted to the
            training volumes in seconds, and generators train on volumes that are moved anew at each step.
        sigma_data: Standard deviation of its latents.
        unused: Settings that have no effect with it.
    """

    model: str
    source: str
    processes: tuple[Process, ...]
    trained: bool
    sigma_data: float
    unused: tuple[str, ...]


LATENT_DESIGNS: dict[Latents, LatentDesign] = {
    "cascade": LatentDesign(
        model="a cascade of diffusion models",
        source="edm",
        processes=("edm",),
        trained=False,
        sigma_data=0.5,
        unused=("autoencoder", "generator.denoiser"),
    ),
    "autoencoder": LatentDesign(
        model="a latent diffusion model",
        source="ldm",
        processes=("epsilon", "edm", "v_prediction", "flow_prediction", "maisi_flow"),
        trained=True,
        sigma_data=1.0,
        unused=("generator.levels", "generator.geometry", "generator.guide_noise"),
    ),
}
"""Every latent space. Its class stands in ``synthaug.generate.levels.LATENT_SPACES``."""
