"""Training of the autoencoder and of the generator over its latents or a cascade (arXiv 2506.10230), resumable."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchio as tio
from accelerate.utils import broadcast
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from synthaug.config import AutoencoderConfig, GeneratorConfig, LevelConfig, PreprocessConfig, SamplingConfig
from synthaug.data.geometry import CONDITIONS, NEUTRAL
from synthaug.data.manifest import class_counts
from synthaug.data.relabel import Relabeller
from synthaug.errors import InputError
from synthaug.files import atomic_path
from synthaug.generate.choice import BestWeights
from synthaug.generate.diffusion import prediction_of, training_scheduler
from synthaug.generate.encode import NO_CACHE, TensorCache, encode_volumes, jitter
from synthaug.generate.examples import Examples, longest_report
from synthaug.generate.levels import LatentSpace, denoiser_levels, levels_of, training_of
from synthaug.generate.objectives import AutoencoderObjective, DiffusionObjective
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.record import training_record
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.cascade import Cascade
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.optimisation import Batch, OnStep, optimise, processes
from synthaug.models.precision import Precision, resolve_precision
from synthaug.models.pretrained import load_strictly
from synthaug.models.text_encoder import build_text_encoder
from synthaug.models.training_log import TrainingLog
from synthaug.seeding import derive_seed, torch_generator

logger = logging.getLogger(__name__)

VALIDATION_TIMESTEPS = (50, 250, 450, 650, 850)
"""Noise levels at which every validation subject is looked at."""

AutoencoderMonitor = Callable[[int, dict[str, float], torch.Tensor], None]
"""(step, validation values, reconstructions of the validation volumes)."""
GeneratorMonitor = Callable[[int, dict[str, float], CCELLAPipeline, int], dict[str, float] | None]
"""(step, validation values, the pipeline as it would be if the training ended now, how many of its levels are trained)
to further values, such as ``val_fid``."""
VALIDATION_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""The same of EDM, in units in which the data's deviation is 0.5."""


def train_autoencoder(
    volumes: torch.Tensor,
    config: AutoencoderConfig,
    *,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    validation: torch.Tensor | None = None,
    monitor: AutoencoderMonitor | None = None,
) -> ImageAutoencoder:
    """Train the VAE on small shifts and mirror images of ``volumes`` and set its latent scale.

    Args:
        volumes: (N, C, X, Y, Z) in [0, 1], preprocessed.
        config: Size and loop.
        checkpoint: File that a killed training resumes from.
        on_step: Progress.
        validation: Volumes to look at every ``config.monitor_every`` steps.
        monitor: Told what they look like.
    """
    autoencoder = new_autoencoder(config, sequences=volumes.shape[1])
    sides = [side // autoencoder.factor for side in volumes.shape[2:]]
    training = config.training

    def batch_of(step: int) -> Batch:
        generator = torch_generator("autoencoder", training.seed, step)
        rows = torch.randint(len(volumes), (training.batch_size,), generator=generator)
        moved = jitter(volumes[rows], shift=2, flip=True, seed_parts=("autoencoder", training.seed, step))
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
        on_step=on_step,
        every=config.monitor_every,
        on_interval=look,
    )
    autoencoder.set_scale(encode_volumes(autoencoder, volumes))
    return autoencoder


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


def pretrained_generator(config: GeneratorConfig, *, classes: int, sequences: int) -> CCELLAPipeline:
    """The generator that ``config.pretrained`` names.

    Raises:
        InputError: There is none, or it cannot be trained as ``config`` asks.
    """
    begun = CCELLAPipeline.from_pretrained(str(config.pretrained))
    old = "layout_shape" if begun.denoiser.config.layout_shape else ""
    old = old or ("latent_deviations" if begun.config.latent_deviations else "")
    if old:
        raise InputError(
            f"generator.pretrained={config.pretrained!r}: it was trained by an earlier version ({old}), which can only "
            "be sampled now; train a new one."
        )
    kind = "cascade" if isinstance(begun.autoencoder, Cascade) else "autoencoder"
    found = {
        "generator.latents": (kind, config.latents),
        "generator.variant": (begun.denoiser.config.variant, config.variant),
        "generator.prediction": (prediction_of(begun.scheduler), config.process),
        "the number of classes": (begun.denoiser.config.classes, classes),
        "the number of images": (begun.autoencoder.config.sequences, sequences),
    }
    for name, (its, asked) in found.items():
        if its != asked:
            raise InputError(f"generator.pretrained={config.pretrained!r}: {name} is {its!r} there and {asked!r} here.")
    return begun


def _new_pipeline(
    space: LatentSpace,
    config: GeneratorConfig,
    begun: CCELLAPipeline | None,
    *,
    classes: int,
    preprocessing: PreprocessConfig,
    images: Sequence[str],
) -> CCELLAPipeline:
    """Untrained networks, or those that the training goes on from, behind the sampler of the process."""
    if begun:
        text_encoder, tokenizer, denoiser = begun.text_encoder, begun.tokenizer, begun.denoiser
    else:
        text_encoder, tokenizer, denoiser = _networks(config, space, classes=classes, shape=preprocessing.shape)
    return CCELLAPipeline(
        autoencoder=space,
        denoiser=denoiser,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=training_scheduler(config.process),
        images=list(images),
        spacing_mm=list(preprocessing.spacing_mm),
        shape=list(preprocessing.shape),
    ).with_scheduler(SamplingConfig.scheduler)


def _networks(config: GeneratorConfig, space: LatentSpace, *, classes: int, shape: Sequence[int]):
    levels = denoiser_levels(space, levels_of(config, shape))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("ldm", config.training.seed))
        text_encoder, tokenizer = build_text_encoder(config.text_encoder)
        denoiser = CCELLADenoiser(
            latent_channels=space.latent_shape(0, shape)[0],
            classes=classes,
            variant=config.variant,
            text_width=text_encoder.config.hidden_size,
            unet_size=asdict(config.denoiser),
            adapter_size=asdict(config.adapter),
            levels=levels,
            moves=len(CONDITIONS) if levels else 0,
        )
    return text_encoder, tokenizer, denoiser
