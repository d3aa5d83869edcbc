"""Training of the autoencoder and of the latent diffusion model with CCELLA's joint loss (arXiv 2506.10230)."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torchio as tio
from diffusers import SchedulerMixin
from monai.losses import FocalLoss
from torch import nn

from synthaug.config import AutoencoderConfig, GeneratorConfig, PreprocessConfig
from synthaug.data.manifest import class_counts, stack_images
from synthaug.generate.diffusion import TRAIN_TIMESTEPS, corrupt, network_time, training_scheduler
from synthaug.generate.encode import encode_reports, encode_volumes, jitter
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.optimisation import Batch, OnStep, optimise
from synthaug.models.text_encoder import build_text_encoder, encode_tokens, tokenize
from synthaug.seeding import derive_seed, torch_generator


class AutoencoderObjective(nn.Module):
    """L1 reconstruction + KL of the posterior to a unit Gaussian."""

    def __init__(self, autoencoder: ImageAutoencoder, kl_weight: float) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.kl_weight = kl_weight

    def forward(self, volumes: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """volumes (B, C, X, Y, Z), unit noise of the latent's shape -> loss and its parts."""
        mean, deviation = self.autoencoder.posterior(volumes)
        rebuilt = self.autoencoder.decode_unscaled(mean + deviation * noise)
        l1 = (rebuilt - volumes).abs().mean()
        kl = 0.5 * (mean.square() + deviation.square() - 2 * deviation.log() - 1).flatten(1).sum(1).mean()
        return l1 + self.kl_weight * kl, {"l1": l1.detach(), "kl": kl.detach()}


def train_autoencoder(
    volumes: torch.Tensor,
    config: AutoencoderConfig,
    *,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
) -> ImageAutoencoder:
    """Train the VAE on small shifts and mirror images of ``volumes`` and set its latent scale and residual noise.

    Args:
        volumes: (N, C, X, Y, Z) in [0, 1], preprocessed.
        config: Size and loop.
        checkpoint: File that a killed training resumes from.
        on_step: Progress.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("autoencoder", config.training.seed))
        autoencoder = ImageAutoencoder(
            channels=tuple(config.channels),
            latent_channels=config.latent_channels,
            residual_blocks=config.residual_blocks,
            norm_groups=config.norm_groups,
            patch=config.patch,
            shortcut=config.shortcut,
            splits=config.splits,
            sequences=volumes.shape[1],
        )
    if config.shortcut:
        autoencoder.fit_shortcut(volumes)
    sides = [side // autoencoder.factor for side in volumes.shape[2:]]
    training = config.training

    def batch_of(step: int) -> Batch:
        generator = torch_generator("autoencoder", training.seed, step)
        rows = torch.randint(len(volumes), (training.batch_size,), generator=generator)
        moved = jitter(volumes[rows], shift=2, flip=True, seed_parts=("autoencoder", training.seed, step))
        noise = torch.randn(training.batch_size, autoencoder.latent_channels, *sides, generator=generator)
        return {"volumes": moved, "noise": noise}

    objective = AutoencoderObjective(autoencoder, config.kl_weight)
    optimise(objective, batch_of, training, checkpoint=checkpoint, on_step=on_step)
    autoencoder.set_statistics(encode_volumes(autoencoder, volumes), centred=config.centred)
    if config.residual_noise:
        autoencoder.register_to_config(residual_deviation=residual_deviation(autoencoder, volumes))
    return autoencoder


@torch.no_grad()
def residual_deviation(autoencoder: ImageAutoencoder, volumes: torch.Tensor, *, batch_size: int = 8) -> float:
    """Root mean square of what the reconstructions of ``volumes`` (N, C, X, Y, Z) lack."""
    total = 0.0
    for part in volumes.split(batch_size):
        part = part.to(autoencoder.device)
        rebuilt = autoencoder.decode(autoencoder.encode(part)).clamp(0, 1)
        total += (part - rebuilt).square().sum(dtype=torch.float64).item()
    return (total / volumes.numel()) ** 0.5


class DiffusionObjective(nn.Module):
    """CCELLA's joint loss: L1 of the predicted noise, velocity or flow + weight * focal loss of the class logits.

    The focal loss (alpha 0.75, gamma 2, softmax) is averaged over the cases that have a report.
    """

    def __init__(
        self, denoiser: CCELLADenoiser, text_encoder: nn.Module | None, scheduler: SchedulerMixin, class_weight: float
    ):
        super().__init__()
        self.denoiser = denoiser
        self.text_encoder = text_encoder
        self.scheduler = scheduler
        self.class_weight = class_weight if denoiser.conditioning.class_loss else 0.0
        self.focal = FocalLoss(gamma=2.0, alpha=0.75, use_softmax=True, to_onehot_y=True, reduction="none")

    def forward(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        text: torch.Tensor,
        labels: torch.Tensor,
        report_weight: torch.Tensor,
        spacing_mm: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """All rows of one batch; ``text`` holds token ids where the text encoder is trained, else hidden states."""
        denoiser = self.denoiser
        if self.text_encoder is not None:
            text = encode_tokens(self.text_encoder, text)
        noisy, wanted = corrupt(self.scheduler, latents, noise, timesteps)
        time = network_time(self.scheduler, timesteps)
        context, logits = denoiser.read(text, time)
        given = labels if denoiser.conditioning.class_input == "true" else None
        predicted = denoiser(
            noisy,
            time,
            context=context,
            class_vector=denoiser.class_vector(logits, given),
            spacing_mm=spacing_mm,
        )
        loss = l1 = (predicted - wanted).abs().mean()
        values = {"l1": l1.detach()}
        if logits is not None:
            focal = (self.focal(logits.float(), labels.unsqueeze(1)).mean(1) * report_weight).mean()
            loss = l1 + self.class_weight * focal
            values |= {"focal": focal.detach(), "class_accuracy": (logits.argmax(1) == labels).float().mean()}
        return loss, values


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
) -> CCELLAPipeline:
    """Train the latent diffusion model on preprocessed training subjects and return a pipeline that samples it.

    Args:
        subjects: Training subjects, preprocessed; their patients are recorded in the pipeline, hashed.
        autoencoder: A trained autoencoder.
        config: Variant, sizes, loop.
        preprocessing: What the subjects went through; the pipeline generates at its shape and spacing.
        images: Image names, in channel order.
        micro_batch: Batch size at which the pipeline's network will run.
        checkpoint: File that a killed training resumes from.
        on_step: Progress.
    """
    text_encoder, tokenizer, denoiser = _networks(config, autoencoder, len(class_counts(subjects)))
    scheduler = training_scheduler(config.prediction)
    trained_text = config.text_encoder.trainable and denoiser.conditioning.text
    text_encoder.requires_grad_(trained_text)
    objective = DiffusionObjective(
        denoiser, text_encoder if trained_text else None, scheduler, config.class_loss_weight
    )
    batch_of = _batches(subjects, autoencoder, config, text_encoder, tokenizer, preprocessing, images, trained_text)
    optimise(objective, batch_of, config.training, checkpoint=checkpoint, on_step=on_step)
    pipeline = CCELLAPipeline(
        autoencoder=autoencoder,
        denoiser=denoiser,
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        scheduler=scheduler,
        images=list(images),
        spacing_mm=list(preprocessing.spacing_mm),
        shape=list(preprocessing.shape),
        micro_batch=micro_batch,
    )
    pipeline.record = training_record(subjects, config, preprocessing)
    return pipeline.to(denoiser.device).with_scheduler("dpm_solver")


def patient_hash(patient_id: str) -> str:
    """How a checkpoint remembers a patient without naming them."""
    return hashlib.sha256(f"patient:{patient_id}".encode()).hexdigest()[:16]


def training_record(subjects: Sequence[tio.Subject], config: GeneratorConfig, preprocessing: PreprocessConfig) -> dict:
    """What a checkpoint knows of its own training."""
    return {
        "patients": sorted({patient_hash(subject["patient_id"]) for subject in subjects}),
        "class_counts": class_counts(subjects),
        "generator": asdict(config),
        "preprocessing": asdict(preprocessing),
    }


def _networks(config: GeneratorConfig, autoencoder: ImageAutoencoder, classes: int):
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
        )
    return text_encoder, tokenizer, denoiser


def _batches(subjects, autoencoder, config, text_encoder, tokenizer, preprocessing, images, trained_text):
    """The batch of each step, from latents and text that are computed once."""
    volumes = torch.stack([stack_images(subject, images) for subject in subjects])
    copies = [volumes]
    for copy in range(config.shifted_copies):
        copies.append(jitter(volumes, shift=2, flip=False, seed_parts=("latents", config.training.seed, copy)))
    latents = torch.stack([encode_volumes(autoencoder, copy) for copy in copies])
    reports = [subject["report"] for subject in subjects]
    if trained_text:
        text, null = tokenize(tokenizer, reports), tokenize(tokenizer, [""])[0]
    else:
        states = encode_reports(text_encoder, tokenizer, [*reports, ""])
        text, null = torch.stack([states[report].cpu() for report in reports]), states[""].cpu()
    has_report = torch.tensor([bool(report) for report in reports])
    labels = torch.tensor([subject["label"] for subject in subjects])
    spacing = torch.tensor(preprocessing.spacing_mm, dtype=torch.float32)
    size = config.training.batch_size

    def batch_of(step: int) -> Batch:
        generator = torch_generator("ldm", config.training.seed, step)
        rows = torch.randint(len(subjects), (size,), generator=generator)
        chosen = latents[torch.randint(len(latents), (size,), generator=generator), rows]
        kept = has_report[rows] & (torch.rand(size, generator=generator) >= config.report_dropout)
        shown = kept.view(-1, *[1] * (text.ndim - 1))
        return {
            "latents": chosen,
            "noise": torch.randn(chosen.shape, generator=generator),
            "timesteps": torch.randint(TRAIN_TIMESTEPS, (size,), generator=generator),
            "text": torch.where(shown, text[rows], null),
            "labels": labels[rows],
            # Divided by the global share of reports, so that a mean over any process's rows averages right.
            "report_weight": kept / kept.float().mean().clamp(min=1e-6),
            "spacing_mm": spacing.expand(size, 3),
        }

    return batch_of
