"""Training of the image autoencoder whose latents a generator denoises (arXiv 2506.10230), resumable."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from synthaug.config import AutoencoderConfig
from synthaug.generate.encode import encode_volumes, jitter
from synthaug.generate.training.objectives import AutoencoderObjective
from synthaug.generate.training.resumption import changed_settings, forget
from synthaug.ground.files import content_hash
from synthaug.ground.seeding import derive_seed, torch_generator
from synthaug.metrics.volumes import Volumes
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.training.loop import Batch
from synthaug.models.training.optimisation import OnStep, Part, optimise

AutoencoderMonitor = Callable[[int, dict[str, float], torch.Tensor], None]
"""(step, validation values, reconstructions of the validation volumes)."""


def train_autoencoder(
    volumes: Volumes,
    config: AutoencoderConfig,
    *,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    validation: torch.Tensor | None = None,
    monitor: AutoencoderMonitor | None = None,
    store: Callable[[ImageAutoencoder], None] | None = None,
) -> ImageAutoencoder:
    """Train the VAE on small shifts and mirror images of ``volumes`` and set its latent scale.

    Args:
        volumes: N of (C, X, Y, Z) in [0, 1], preprocessed; a tensor, or a sequence that is read batch by batch.
        config: Size and loop.
        checkpoint: File that a killed training resumes from.
        on_step: Progress.
        validation: Volumes to look at every ``config.monitor_every`` steps.
        monitor: Told what they look like.
        store: Saves the autoencoder. Until then the checkpoint stays.
    """
    autoencoder = new_autoencoder(config, sequences=volumes[0].shape[0])
    sides = [side // autoencoder.factor for side in volumes[0].shape[1:]]
    training = config.training

    def batch_of(step: int) -> Batch:
        generator = torch_generator("autoencoder", training.seed, step)
        rows = torch.randint(len(volumes), (training.batch_size,), generator=generator)
        drawn = torch.stack([volumes[row] for row in rows.tolist()])
        moved = jitter(drawn, shift=2, flip=True, seed_parts=("autoencoder", training.seed, step))
        noise = torch.randn(training.batch_size, autoencoder.latent_channels, *sides, generator=generator)
        return {"volumes": moved, "noise": noise}

    look = None
    if validation is not None and monitor is not None:

        def look(step: int) -> None:
            rebuilt = rebuild(autoencoder, validation)
            values = {"val_l1": (rebuilt - validation).abs().mean().item(), "val_psnr": psnr(rebuilt, validation)}
            monitor(step, values, rebuilt)

    optimise(
        AutoencoderObjective(autoencoder, config.kl_weight),
        batch_of,
        training,
        checkpoint=checkpoint,
        part=Part("autoencoder", _settings_hash(config)),
        on_step=on_step,
        every=config.monitor_every,
        on_interval=look,
    )
    autoencoder.set_scale(encode_volumes(autoencoder, volumes))
    if store:
        store(autoencoder)
    forget(checkpoint)
    return autoencoder


def _settings_hash(config: AutoencoderConfig) -> str:
    """Of what decides the weights beside the loop's own settings."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("training", "monitor_every")}
    return content_hash(changed_settings(settings, asdict(AutoencoderConfig())))


def psnr(rebuilt: torch.Tensor, volumes: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB, for intensities in [0, 1]; the mean over the volumes (N, C, X, Y, Z).

    Example:
        >>> round(psnr(torch.full((1, 1, 2, 2, 2), 0.5), torch.full((1, 1, 2, 2, 2), 0.6)), 3)
        20.0
    """
    return (-10 * (rebuilt - volumes).square().flatten(1).mean(1).log10()).mean().item()


@torch.no_grad()
def rebuild(autoencoder: ImageAutoencoder, volumes: torch.Tensor, *, batch_size: int = 8) -> torch.Tensor:
    """Reconstructions (N, C, X, Y, Z) from the latent means, clipped to [0, 1], on the CPU."""
    parts = [part.to(autoencoder.device) for part in volumes.split(batch_size)]
    return torch.cat([autoencoder.decode(autoencoder.encode(part)).clamp(0, 1).cpu() for part in parts])


def new_autoencoder(config: AutoencoderConfig, *, sequences: int) -> ImageAutoencoder:
    """The untrained network that a config describes, its weights drawn from ``config.training.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("autoencoder", config.training.seed))
        return ImageAutoencoder(
            channels=tuple(config.channels),
            latent_channels=config.latent_channels,
            residual_blocks=config.residual_blocks,
            norm_groups=config.norm_groups,
            patch=config.patch,
            splits=config.splits,
            sequences=sequences,
        )
