"""Training of the autoencoder and of the generator over its latents or a cascade (arXiv 2506.10230), resumable."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchio as tio
from accelerate.utils import broadcast, broadcast_object_list
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from synthaug.config import AutoencoderConfig, GeneratorConfig, LevelConfig, PreprocessConfig, SamplingConfig
from synthaug.data.geometry import CONDITIONS, NEUTRAL
from synthaug.data.manifest import class_counts
from synthaug.data.relabel import Relabeller
from synthaug.generate.choice import BestWeights
from synthaug.generate.diffusion import prediction_of, training_scheduler
from synthaug.generate.encode import NO_CACHE, TensorCache, encode_volumes, jitter
from synthaug.generate.examples import Examples, longest_report
from synthaug.generate.levels import LatentSpace, denoiser_levels, levels_of, training_of
from synthaug.generate.objectives import AutoencoderObjective, DiffusionObjective
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.record import training_record
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.ground.seeding import derive_seed, torch_generator
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.cascade import Cascade
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.optimisation import Batch, OnStep, optimise, processes
from synthaug.models.precision import Precision, resolve_precision
from synthaug.models.pretrained import load_strictly
from synthaug.models.text_encoder import build_text_encoder
from synthaug.models.training_log import TrainingLog
from synthaug.models.variants import VARIANTS

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


def train_ldm(
    subjects: Sequence[tio.Subject],
    space: LatentSpace,
    config: GeneratorConfig,
    *,
    preprocessing: PreprocessConfig,
    images: Sequence[str],
    micro_batch: int = 8,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    cache: TensorCache = NO_CACHE,
    validation: Sequence[tio.Subject] = (),
    monitor: GeneratorMonitor | None = None,
    relabeller: Relabeller | None = None,
    stats: Path | None = None,
) -> CCELLAPipeline:
    """Train a generator on preprocessed training subjects and return a pipeline that samples it.

    The levels of a cascade are trained one after another, coarse to fine, by the same loop; the coarsest trains the
    text encoder and the adapter too.

    Args:
        subjects: Training subjects, preprocessed; their patients are recorded in the pipeline, hashed.
        space: A fitted cascade or a trained autoencoder; that of ``config.pretrained`` where the training goes on
            from it.
        config: Variant, sizes, loop.
        preprocessing: What the subjects went through; the pipeline generates at its shape and spacing.
        images: Image names, in channel order.
        micro_batch: Batch size at which the pipeline's network will run.
        checkpoint: File that a killed training resumes from; others stand beside it.
        on_step: Progress; steps are counted over all levels.
        cache: Keeps latents and the states of a frozen text encoder from one training to the next.
        validation: Subjects, preprocessed alike, to look at every ``config.monitor_every`` steps and choose weights by.
        monitor: Told the losses on them, and given the pipeline to draw with; what it returns is logged and weighed.
        relabeller: Rewrites report and class of moved volumes; None = only moves that change neither are drawn.
        stats: File that a line is appended to every few steps.

    Raises:
        InputError: The volumes, levels and settings do not fit each other.
    """
    begun = None
    classes = len(class_counts(subjects))
    if config.pretrained:
        begun = pretrained_generator(config, classes=classes, sequences=len(images))
    levels = levels_of(config, preprocessing.shape)
    _require_fit(subjects, space, config, count=len(levels), shape=preprocessing.shape)
    pipeline = _new_pipeline(space, config, begun, classes=classes, preprocessing=preprocessing, images=images)
    pipeline.register_to_config(micro_batch=micro_batch)
    pipeline.to(processes().device)  # looks and finer levels use networks that the loop does not move
    pipeline.record = training_record(subjects, config, preprocessing, images=images, begun=begun)
    precision = _shared_precision(config, checkpoint)
    pipeline.register_to_config(precision=precision)
    if isinstance(pipeline.text_encoder, T5EncoderModel) and not config.text_encoder.path and not begun:
        texts = [text for each in subjects for text in (relabeller.reports(each) if relabeller else [each["report"]])]
        fit_length(pipeline.tokenizer, texts, at_most=config.text_encoder.max_tokens)
    trained_text = config.text_encoder.trainable and pipeline.denoiser.conditioning.text
    examples = Examples(subjects, pipeline, trained_text, config.geometry, relabeller, cache)
    watched = Examples(validation, pipeline, trained_text, cache=cache) if validation else None
    run = _Run(config, pipeline, precision, checkpoint, on_step, stats)
    for level, settings in enumerate(levels):
        run.train(level, settings, examples, watched, monitor)
    run.forget()
    pipeline.text_encoder.eval()
    return pipeline.to(pipeline.denoiser.device)


def _require_fit(
    subjects: Sequence[tio.Subject], space: LatentSpace, config: GeneratorConfig, *, count: int, shape: Sequence[int]
) -> None:
    """InputError before any training if variant, latent space and volumes do not fit each other."""
    if isinstance(space, Cascade) != (config.latents == "cascade"):
        raise InputError(f"generator.latents={config.latents}: the latent space given is a {type(space).__name__}.")
    if space.levels != count:
        raise InputError(
            f"generator.levels: {count} levels asked for, {space.levels} are there; give as many, or leave it empty."
        )
    space.latent_shape(0, shape)
    if VARIANTS[config.variant].text and not any(subject["report"] for subject in subjects):
        raise InputError(
            f"No training subject has a report, which generator.variant={config.variant!r} reads; set data.report or "
            "data.measurements, or generator.variant=radmaisi."
        )


def _shared_precision(config: GeneratorConfig, checkpoint: Path | None) -> Precision:
    """The arithmetic of this training: what the main process found, in every process."""
    record = checkpoint and checkpoint.with_suffix(".precision")
    here = processes()
    found = [resolve_precision(config.training.precision, record) if here.is_main_process else None]
    return (broadcast_object_list(found) if here.num_processes > 1 else found)[0]  # type: ignore[return-value]


@dataclass
class _Run:
    """One training of a generator, level by level."""

    config: GeneratorConfig
    pipeline: CCELLAPipeline
    precision: Precision
    checkpoint: Path | None
    on_step: OnStep | None
    stats: Path | None
    done: int = 0
    """Steps of the levels before."""

    def train(
        self,
        level: int,
        settings: LevelConfig,
        examples: Examples,
        watched: Examples | None,
        monitor: GeneratorMonitor | None,
    ) -> None:
        """Train one level, or take it from the file that a killed training left."""
        objective = self._objective(level, trained_text=examples.trained_text)
        finished = self.checkpoint and self.checkpoint.with_suffix(f".level{level}")
        if finished and finished.is_file():
            load_strictly(objective.eval(), load_file(finished), source=str(finished))
        else:
            self._optimise(objective, settings, examples, watched, monitor)
            if finished and processes().is_main_process:
                state = objective.state_dict()
                with atomic_path(finished) as temporary:
                    save_file({name: value.clone() for name, value in state.items()}, temporary)  # tied weights too
            processes().wait_for_everyone()
        self.pipeline.denoiser.requires_grad_(False)
        self.done += settings.steps

    def _optimise(
        self,
        objective: DiffusionObjective,
        settings: LevelConfig,
        examples: Examples,
        watched: Examples | None,
        monitor: GeneratorMonitor | None,
    ) -> None:
        """Minimise the loss of a level and keep the weights of the best look."""
        config, level = self.config, objective.level
        training = training_of(config, settings, precision=self.precision)
        log = TrainingLog(self.stats, stage=f"level {level}") if self.stats else None
        best = BestWeights(objective)

        def batch_of(step: int) -> Batch:
            generator = torch_generator("generator", training.seed, level, step)
            dropout, noise = config.report_dropout, config.guide_noise
            return examples.draw(level, settings, generator, report_dropout=dropout, guide_noise=noise)

        def look(step: int) -> None:
            assert watched is not None
            with torch.autocast(self.pipeline.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                values = validation_losses(objective, watched)
            found = (monitor(self.done + step, values, self.pipeline, level + 1) if monitor else None) or {}
            values = {**values, **found}
            best.offer(step, values)
            if log:
                log.write(step, values)

        optimise(
            objective,
            batch_of,
            training,
            checkpoint=self.checkpoint,
            on_step=self._counted(),
            every=config.monitor_every,
            on_interval=look if watched else None,
            companion=best,
            stats=log,
        )
        best.restore()
        from_main(objective)

    def forget(self) -> None:
        """Remove what a killed training would have gone on from."""
        if self.checkpoint and processes().is_main_process:
            for path in self.checkpoint.parent.glob(f"{self.checkpoint.stem}.*"):
                if path.suffix.startswith((".level", ".precision")):
                    path.unlink(missing_ok=True)

    def _objective(self, level: int, *, trained_text: bool) -> DiffusionObjective:
        """The loss of a level, with what it trains, and nothing else, set to be trained."""
        denoiser, text_encoder = self.pipeline.denoiser, self.pipeline.text_encoder
        first = level == 0
        denoiser.requires_grad_(first)
        for number, unet in enumerate(denoiser.unets):
            unet.requires_grad_(number == level)
        text_encoder.requires_grad_(first and trained_text).eval()
        return DiffusionObjective(
            denoiser,
            text_encoder if first and trained_text else None,
            training_scheduler(self.config.process),
            self.config.class_loss_weight,
            distance=self.config.distance or ("mse" if self.config.process == "edm" else "l1"),
            level=level,
        )

    def _counted(self) -> OnStep | None:
        before, on_step = self.done, self.on_step
        return on_step and (lambda step, values: on_step(before + step, values))


@torch.no_grad()
def validation_losses(objective: DiffusionObjective, watched: Examples) -> dict[str, float]:
    """The joint loss and its parts on every subject at fixed noise levels: the same draws at every look.

    The loss at low noise rises while that at high noise falls when a network learns its patients by heart, so each
    noise level is told too.
    """
    device = next(objective.parameters()).device
    total: dict[str, float] = {}
    times = VALIDATION_SIGMAS if watched.pipeline.edm else VALIDATION_TIMESTEPS
    count = len(watched.subjects)
    for time in times:
        generator = torch_generator("validation", objective.level, time)
        for rows in torch.arange(count).split(16):
            batch = watched.batch(
                objective.level,
                rows.tolist(),
                [NEUTRAL] * len(rows),
                times=torch.full((len(rows),), time),
                generator=generator,
                dropped=[False] * len(rows),
            )
            loss, values = objective(**{name: value.to(device) for name, value in batch.items()})
            share = len(rows) / count
            for name, value in {"loss": loss, **values}.items():
                total[f"val_{name}"] = total.get(f"val_{name}", 0.0) + share / len(times) * float(value)
            total[f"val_loss_at_{time:g}"] = total.get(f"val_loss_at_{time:g}", 0.0) + share * float(loss)
    return total


def fit_length(tokenizer: PreTrainedTokenizerBase, reports: Sequence[str], *, at_most: int) -> None:
    """Set the length that reports are padded to: what the longest needs; what is cut is told once."""
    lengths = {report: len(tokenizer(report).input_ids) for report in dict.fromkeys(reports)}
    tokenizer.model_max_length = min(at_most, longest_report([*lengths], lengths.__getitem__))
    cut = sum(length > at_most for length in lengths.values())
    if cut:
        logger.warning(
            "%d of %d reports are longer than generator.text_encoder.max_tokens=%d; their beginnings are cut off.",
            cut,
            len(lengths),
            at_most,
        )


def from_main(module: torch.nn.Module) -> None:
    """Give every process the main one's trainable weights, which chose by the validation patients."""
    if processes().num_processes > 1:
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.data.copy_(broadcast(parameter.data))


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
