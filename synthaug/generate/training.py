"""Training of the autoencoder and of the latent diffusion model (arXiv 2506.10230), resumable and watched."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torchio as tio

from synthaug.config import AutoencoderConfig, GeneratorConfig, PreprocessConfig, SamplingConfig
from synthaug.data.manifest import class_counts, stack_images
from synthaug.generate.diffusion import TRAIN_TIMESTEPS, is_flow, training_scheduler
from synthaug.generate.encode import NO_CACHE, TensorCache, encode_reports, encode_volumes, jitter
from synthaug.generate.objectives import AutoencoderObjective, DiffusionObjective, ReadingObjective
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.record import training_record
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed, torch_generator
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.optimisation import Batch, OnStep, optimise
from synthaug.models.text_encoder import build_text_encoder, tokenize
from synthaug.models.variants import VARIANTS

LAYOUT_COMPONENTS = 160
"""Components that tell a layout, at most. On phantoms the side of a lesion in the peripheral zone shows in the first
24; that of one in the transition zone, near the midline, only beyond the first 48: from 48 a linear probe reads it no
better than chance, from 96 in 80 %, from 192 in 88 %."""
VALIDATION_TIMESTEPS = (50, 250, 450, 650, 850)
"""Noise levels at which every validation subject is looked at."""

AutoencoderMonitor = Callable[[int, dict[str, float], torch.Tensor], None]
"""(step, validation values, reconstructions of the validation volumes)."""
GeneratorMonitor = Callable[[int, dict[str, float], CCELLAPipeline], None]
"""(step, validation values, the pipeline as it would be if the training ended now)."""


def train_autoencoder(
    volumes: torch.Tensor,
    config: AutoencoderConfig,
    *,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    validation: torch.Tensor | None = None,
    monitor: AutoencoderMonitor | None = None,
) -> ImageAutoencoder:
    """Train the VAE on small shifts and mirror images of ``volumes`` and set its latent scale and residual noise.

    Args:
        volumes: (N, C, X, Y, Z) in [0, 1], preprocessed.
        config: Size and loop.
        checkpoint: File that a killed training resumes from.
        on_step: Progress.
        validation: Volumes to look at every ``config.monitor_every`` steps.
        monitor: Told what they look like.
    """
    autoencoder = new_autoencoder(config, sequences=volumes.shape[1])
    if config.shortcut:
        autoencoder.fit_shortcut(volumes, whitening=config.whitening)
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
    autoencoder.set_statistics(encode_volumes(autoencoder, volumes), centred=config.centred)
    if config.residual_noise:
        deviation = (volumes - rebuild(autoencoder, volumes)).square().mean(dtype=torch.float64).sqrt().item()
        autoencoder.register_to_config(residual_deviation=deviation)
    return autoencoder


def psnr(rebuilt: torch.Tensor, volumes: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB, for intensities in [0, 1]; the mean over the volumes (N, C, X, Y, Z).

    Example:
        >>> round(psnr(torch.full((1, 1, 2, 2, 2), 0.5), torch.full((1, 1, 2, 2, 2), 0.6)), 3)
        20.0
    """
    return (-10 * (rebuilt - volumes).square().flatten(1).mean(1).log10()).mean().item()


def train_ldm(
    subjects: Sequence[tio.Subject],
    autoencoder: ImageAutoencoder,
    config: GeneratorConfig,
    *,
    preprocessing: PreprocessConfig,
    images: Sequence[str],
    micro_batch: int = 8,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    on_reading_step: OnStep | None = None,
    cache: TensorCache = NO_CACHE,
    validation: Sequence[tio.Subject] = (),
    monitor: GeneratorMonitor | None = None,
) -> CCELLAPipeline:
    """Train the latent diffusion model on preprocessed training subjects and return a pipeline that samples it.

    Args:
        subjects: Training subjects, preprocessed; their patients are recorded in the pipeline, hashed.
        autoencoder: A trained autoencoder; that of ``config.pretrained`` where the training goes on from it.
        config: Variant, sizes, loop.
        preprocessing: What the subjects went through; the pipeline generates at its shape and spacing.
        images: Image names, in channel order.
        micro_batch: Batch size at which the pipeline's network will run.
        checkpoint: File that a killed training resumes from.
        on_step: Progress.
        on_reading_step: Progress of ``config.reading_steps``.
        cache: Keeps latents and the states of a frozen text encoder from one training to the next.
        validation: Subjects, preprocessed alike, to look at every ``config.monitor_every`` steps.
        monitor: Told the losses on them, and given the pipeline to draw with.
    """
    begun = None
    if config.pretrained:
        begun = pretrained_generator(config, classes=len(class_counts(subjects)), sequences=len(images))
        text_encoder, tokenizer, denoiser = begun.text_encoder, begun.tokenizer, begun.denoiser
    else:
        text_encoder, tokenizer, denoiser = _networks(
            config,
            autoencoder,
            classes=len(class_counts(subjects)),
            shape=preprocessing.shape,
            subjects=len(subjects),
        )
    trained_text = config.text_encoder.trainable and denoiser.conditioning.text
    text_encoder.requires_grad_(trained_text).eval()
    scheduler = training_scheduler(config.prediction)
    pipeline = CCELLAPipeline(
        autoencoder=autoencoder,
        denoiser=denoiser,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler,
        images=list(images),
        spacing_mm=list(preprocessing.spacing_mm),
        shape=list(preprocessing.shape),
        micro_batch=micro_batch,
    ).with_scheduler(SamplingConfig.scheduler)
    pipeline.record = training_record(subjects, config, preprocessing, images=images, begun=begun)

    def encode(part: Sequence[tio.Subject], *, copies: int) -> EncodedSubjects:
        return EncodedSubjects.of(part, pipeline, trained_text=trained_text, copies=copies, config=config, cache=cache)

    encoded = encode(subjects, copies=config.shifted_copies)
    deviations: list[float] = []
    if config.preconditioned:
        own = begun.config.latent_deviations if begun else encoded.latents.std((0, 1, 3, 4, 5)).tolist()
        deviations = list(own)
        pipeline.register_to_config(latent_deviations=deviations)
    if denoiser.config.layout_shape and not begun:
        denoiser.fit_layout(encoded.latents.flatten(0, 1), torch.tensor(deviations or [1.0]))
    objective = DiffusionObjective(
        denoiser,
        text_encoder if trained_text else None,
        scheduler,
        config.class_loss_weight,
        distance=config.distance,
        layout_weight=config.layout_loss_weight,
        deviations=deviations,
    )
    size, seed = config.training.batch_size, config.training.seed

    def batch_of(step: int) -> Batch:
        return encoded.draw(size, torch_generator("ldm", seed, step), report_dropout=config.report_dropout)

    if config.reading_steps and objective.layout_weight and not (checkpoint and checkpoint.is_file()):
        _train_reading(objective, encoded, config, checkpoint=checkpoint, on_step=on_reading_step)

    look = None
    if validation and monitor:
        watched = encode(validation, copies=0)

        def look(step: int) -> None:
            monitor(step, validation_losses(objective, watched), pipeline)

    optimise(
        objective,
        batch_of,
        config.training,
        checkpoint=checkpoint,
        on_step=on_step,
        every=config.monitor_every,
        on_interval=look,
    )
    text_encoder.eval()
    return pipeline.to(denoiser.device)


def _train_reading(
    objective: DiffusionObjective,
    encoded: "EncodedSubjects",
    config: GeneratorConfig,
    *,
    checkpoint: Path | None,
    on_step: OnStep | None,
) -> None:
    """Teach text encoder and adapter what the reports say, the U-Net left as it is."""
    unet, size, seed = objective.denoiser.unet, config.training.batch_size, config.training.seed
    warmup = min(config.training.warmup, config.reading_steps - 1)

    def batch_of(step: int) -> Batch:
        return encoded.draw(size, torch_generator("reading", seed, step), report_dropout=config.report_dropout)

    unet.requires_grad_(False)
    optimise(
        ReadingObjective(objective),
        batch_of,
        replace(config.training, steps=config.reading_steps, warmup=warmup),
        checkpoint=checkpoint and checkpoint.with_suffix(".reading"),
        on_step=on_step,
    )
    unet.requires_grad_(True)


@dataclass
class EncodedSubjects:
    """What the LDM is trained on, computed once."""

    latents: torch.Tensor
    """(copies, N, c, x, y, z): the unmoved volumes first."""
    text: list[torch.Tensor]
    """Token ids (L,) of each report where the text encoder is trained, else its hidden states (L, width)."""
    null: torch.Tensor
    """The same of the empty report."""
    labels: torch.Tensor
    """(N,)"""
    has_report: torch.Tensor
    """(N,)"""
    spacing_mm: torch.Tensor
    """(3,)"""

    @classmethod
    def of(
        cls,
        subjects: Sequence[tio.Subject],
        pipeline: CCELLAPipeline,
        *,
        trained_text: bool,
        copies: int,
        config: GeneratorConfig,
        cache: TensorCache,
    ) -> "EncodedSubjects":
        """Encode preprocessed subjects with the networks of a pipeline."""
        images, seed = pipeline.config.images, config.training.seed
        volumes = torch.stack([stack_images(subject, images) for subject in subjects])
        moved = [jitter(volumes, shift=2, flip=False, seed_parts=("latents", seed, copy)) for copy in range(copies)]
        latents = torch.stack([encode_volumes(pipeline.autoencoder, each, cache=cache) for each in (volumes, *moved)])
        reports = [subject["report"] for subject in subjects]
        if trained_text:
            text = list(tokenize(pipeline.tokenizer, [*reports, ""]))
        else:
            states = encode_reports(pipeline.text_encoder, pipeline.tokenizer, [*reports, ""], cache=cache)
            text = [states[report].cpu() for report in [*reports, ""]]
        return cls(
            latents=latents,
            text=text[:-1],
            null=text[-1],
            labels=torch.tensor([subject["label"] for subject in subjects]),
            has_report=torch.tensor([bool(report) for report in reports]),
            spacing_mm=torch.tensor(pipeline.config.spacing_mm, dtype=torch.float32),
        )

    def draw(self, size: int, generator: torch.Generator, *, report_dropout: float = 0.0) -> Batch:
        """A random batch: subjects, copies, noise, timesteps and dropped reports."""
        rows = torch.randint(len(self.labels), (size,), generator=generator)
        copies = torch.randint(len(self.latents), (size,), generator=generator)
        kept = self.has_report[rows] & (torch.rand(size, generator=generator) >= report_dropout)
        noise = torch.randn(size, *self.latents.shape[2:], generator=generator)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (size,), generator=generator)
        return self.batch(rows, copies=copies, kept=kept, noise=noise, timesteps=timesteps)

    def batch(
        self,
        rows: torch.Tensor,
        *,
        copies: torch.Tensor,
        kept: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> Batch:
        """The joint loss's arguments for the subjects ``rows`` (B,); reports that are not ``kept`` are shown empty."""
        text = [self.text[row] if shown else self.null for row, shown in zip(rows.tolist(), kept.tolist(), strict=True)]
        return {
            "latents": self.latents[copies, rows],
            "noise": noise,
            "timesteps": timesteps,
            "text": torch.stack(text),
            "labels": self.labels[rows],
            # Divided by the global share of reports, so that a mean over any process's rows averages right.
            "report_weight": kept / kept.float().mean().clamp(min=1e-6),
            "spacing_mm": self.spacing_mm.expand(len(rows), 3),
        }


@torch.no_grad()
def validation_losses(objective: DiffusionObjective, encoded: EncodedSubjects) -> dict[str, float]:
    """The joint loss and its parts on every subject at fixed noise levels: the same draws at every look."""
    device = next(objective.parameters()).device
    total: dict[str, float] = {}
    for timestep in VALIDATION_TIMESTEPS:
        count = len(encoded.labels)
        noise = torch.randn(count, *encoded.latents.shape[2:], generator=torch_generator("validation", timestep))
        for rows in torch.arange(count).split(16):
            zeros, times = torch.zeros_like(rows), torch.full_like(rows, timestep)
            kept = encoded.has_report[rows]
            batch = encoded.batch(rows, copies=zeros, kept=kept, noise=noise[rows], timesteps=times)
            loss, values = objective(**{name: value.to(device) for name, value in batch.items()})
            for name, value in {"loss": loss, **values}.items():
                share = len(rows) / (count * len(VALIDATION_TIMESTEPS))
                total[f"val_{name}"] = total.get(f"val_{name}", 0.0) + share * float(value)
    return total


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
            shortcut=config.shortcut,
            splits=config.splits,
            sequences=sequences,
        )


def pretrained_generator(config: GeneratorConfig, *, classes: int, sequences: int) -> CCELLAPipeline:
    """The generator that ``config.pretrained`` names.

    Raises:
        InputError: There is none, or it cannot be trained as ``config`` asks.
    """
    begun = CCELLAPipeline.from_pretrained(str(config.pretrained))
    prediction = "flow_prediction" if is_flow(begun.scheduler) else begun.scheduler.config.prediction_type
    if config.preconditioned:
        prediction = config.prediction  # behind the linear predictor the network's own part is the same for each
    found = {
        "generator.variant": (begun.denoiser.config.variant, config.variant),
        "generator.prediction": (prediction, config.prediction),
        "generator.preconditioned": (bool(begun.config.latent_deviations), config.preconditioned),
        "the number of classes": (begun.denoiser.config.classes, classes),
        "the number of images": (begun.autoencoder.config.sequences, sequences),
    }
    for name, (its, asked) in found.items():
        if its != asked:
            raise InputError(f"generator.pretrained={config.pretrained!r}: {name} is {its!r} there and {asked!r} here.")
    return begun


def _networks(
    config: GeneratorConfig, autoencoder: ImageAutoencoder, *, classes: int, shape: Sequence[int], subjects: int
):
    sides = tuple(side // autoencoder.factor for side in shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("ldm", config.training.seed))
        text_encoder, tokenizer = build_text_encoder(config.text_encoder)
        denoiser = CCELLADenoiser(
            latent_channels=autoencoder.latent_channels,
            classes=classes,
            variant=config.variant,
            text_width=text_encoder.config.hidden_size,
            unet_size=asdict(config.denoiser),
            adapter_size=asdict(config.adapter),
            layout_shape=sides if config.layout_loss_weight and VARIANTS[config.variant].text else None,
            layout_components=min(LAYOUT_COMPONENTS, subjects - 1, autoencoder.latent_channels * math.prod(sides)),
        )
    return text_encoder, tokenizer, denoiser
