"""Training of the generator over the levels of a cascade or an autoencoder's latents (arXiv 2506.10230), resumable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchio as tio
from accelerate.utils import broadcast, broadcast_object_list
from transformers import T5EncoderModel

from synthaug.config import GeneratorConfig, LevelConfig, PreprocessConfig
from synthaug.data.reading.manifest import class_counts
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.generate.encode import NO_CACHE, TensorCache
from synthaug.generate.levels import levels_of, training_of
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.familiarity import READ, Familiarity
from synthaug.generate.stored.record import training_record
from synthaug.generate.training.additions import (
    add_low_rank,
    merge_low_rank,
    require_levels,
    require_lora,
    train_additions_only,
)
from synthaug.generate.training.calibration import measure_level_gains
from synthaug.generate.training.choice import BestWeights
from synthaug.generate.training.continuing import with_own_design
from synthaug.generate.training.examples import Examples, fit_length, some_reports
from synthaug.generate.training.networks import new_pipeline, noise_process, pretrained_generator
from synthaug.generate.training.objectives import DiffusionObjective
from synthaug.generate.training.resumption import Resumption, forget, settings_hash
from synthaug.generate.training.validation import require_usable, validation_losses
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator
from synthaug.models.latent_space import LatentSpace
from synthaug.models.precision import Precision, resolve_precision
from synthaug.models.training.loop import Batch
from synthaug.models.training.optimisation import OnStep, optimise
from synthaug.models.training.processes import processes
from synthaug.models.training.training_log import TrainingLog
from synthaug.models.variants import VARIANTS

GeneratorMonitor = Callable[[int, dict[str, float], CCELLAPipeline, int], dict[str, float] | None]
"""(step, validation values, the pipeline as it would be if the training ended now, how many of its levels are trained)
to further values, such as ``val_fid``."""


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
    store: Callable[[CCELLAPipeline], None] | None = None,
) -> CCELLAPipeline:
    """Train a generator on preprocessed training subjects and return a pipeline that samples it.

    The levels of a cascade are trained one after another, from coarse to fine. The coarsest also trains text encoder
    and adapter.

    Args:
        subjects: Training subjects, preprocessed; their patients are recorded in the pipeline, hashed.
        space: A fitted cascade or a trained autoencoder; ``pretrained_space`` where the training goes on from
            ``config.pretrained``.
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
        store: Saves the pipeline. Until then the files stay that a killed training resumes from.

    Raises:
        InputError: The volumes, levels and settings do not fit each other, or a training was begun with other ones.
    """
    begun = None
    classes = len(class_counts(subjects))
    if config.pretrained:
        config = with_own_design(config)
        begun = pretrained_generator(config, classes=classes, images=images)
    levels = levels_of(config, preprocessing.shape)
    _require_fit(subjects, space, config, images, count=len(levels), shape=preprocessing.shape)
    pipeline = new_pipeline(space, config, begun, classes=classes, preprocessing=preprocessing, images=images)
    pipeline.register_to_config(micro_batch=micro_batch)
    pipeline.to(processes().device)  # looks and finer levels use networks that the loop does not move
    pipeline.record = training_record(subjects, config, preprocessing, images=images, begun=begun)
    precision = _shared_precision(config, checkpoint)
    pipeline.register_to_config(precision=precision)
    new_text = not begun or pipeline.text_encoder is not begun.text_encoder
    if isinstance(pipeline.text_encoder, T5EncoderModel) and not config.text_encoder.path and new_text:
        texts = [text for each in subjects for text in (relabeller.longest(each) if relabeller else [each["report"]])]
        fit_length(pipeline.tokenizer, texts, at_most=config.text_encoder.longest)
    trained_text = config.text_encoder.trainable and pipeline.denoiser.conditioning.text
    examples = Examples(subjects, pipeline, trained_text, config.geometry, relabeller, cache)
    if not begun:
        examples.fit(torch_generator("linear", config.training.seed))
    watched = Examples(validation, pipeline, trained_text, cache=cache) if validation else None
    require_usable(watched)
    resumption = Resumption(checkpoint, settings_hash(pipeline.record))
    run = _Run(config, pipeline, precision, resumption, on_step, stats)
    if config.unet == "lora":
        add_low_rank(pipeline.denoiser.unet, rank=config.lora_rank, seed=config.training.seed)
    for level, settings in enumerate(levels):
        run.train(level, settings, examples, watched, monitor)
    if config.unet == "lora":
        merge_low_rank(pipeline.denoiser.unet)
    pipeline.text_encoder.eval()
    _measure(pipeline, subjects, relabeller, volumes=config.calibration)
    pipeline.to(pipeline.denoiser.device)
    if store:
        store(pipeline)
    forget(checkpoint)
    return pipeline


def _measure(
    pipeline: CCELLAPipeline, subjects: Sequence[tio.Subject], relabeller: Relabeller | None, *, volumes: int
) -> None:
    """What drawing needs to know of the training: the gains of the levels, and what its reports look like."""
    if volumes:
        reports, labels = [str(each["report"]) for each in subjects], [int(each["label"]) for each in subjects]
        pipeline.register_to_config(level_gains=measure_level_gains(pipeline, reports, labels, volumes=volumes))
    if pipeline.denoiser.conditioning.text:
        texts = some_reports(subjects, relabeller, at_most=READ)
        pipeline.familiarity = Familiarity.fit(pipeline.text_encoder, pipeline.tokenizer, texts)


def _require_fit(
    subjects: Sequence[tio.Subject],
    space: LatentSpace,
    config: GeneratorConfig,
    images: Sequence[str],
    *,
    count: int,
    shape: Sequence[int],
) -> None:
    """InputError before any training if variant, latent space and volumes do not fit each other."""
    if space.sequences != len(images):
        raise InputError(
            f"The latent space is of {space.sequences} sequence{'s' * (space.sequences != 1)}, and images={[*images]}; "
            "make it of volumes of these images, or by pretrained_space."
        )
    if space.facts != config.latent_design:
        raise InputError(f"generator.latents={config.latents}: the latent space given is a {type(space).__name__}.")
    require_levels(space, config, count=count)
    space.latent_shape(0, shape)
    if config.unet == "lora":
        require_lora()
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
    resumption: Resumption
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
        if not self.resumption.take_up(level, objective.eval()):
            self._optimise(objective, settings, examples, watched, monitor)
            self.resumption.keep(level, objective)
            processes().wait_for_everyone()
        for network in (self.pipeline.denoiser, self.pipeline.text_encoder):
            network.requires_grad_(False)  # as in a pipeline that was loaded
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
            checkpoint=self.resumption.checkpoint,
            part=self.resumption.part(level),
            on_step=self._counted(),
            every=config.monitor_every,
            on_interval=look if watched else None,
            companion=best,
            stats=log,
        )
        best.restore()
        from_main(objective)

    def _objective(self, level: int, *, trained_text: bool) -> DiffusionObjective:
        """The loss of a level, with what it trains, and nothing else, set to be trained."""
        denoiser, text_encoder = self.pipeline.denoiser, self.pipeline.text_encoder
        first = level == 0
        denoiser.requires_grad_(first)
        for number, unet in enumerate(denoiser.unets):
            unet.requires_grad_(number == level)
        if self.config.unet != "free":
            train_additions_only(denoiser.unet)
        text_encoder.requires_grad_(first and trained_text).eval()
        if first and trained_text:
            text_encoder.float()  # in half precision most steps of an optimiser round to nothing
        return DiffusionObjective(
            denoiser,
            text_encoder if first and trained_text else None,
            noise_process(self.config),
            self.config.class_loss_weight,
            distance=self.config.distance or ("mse" if self.config.process == "edm" else "l1"),
            level=level,
        )

    def _counted(self) -> OnStep | None:
        before, on_step = self.done, self.on_step
        return on_step and (lambda step, values: on_step(before + step, values))


def from_main(module: torch.nn.Module) -> None:
    """Give every process the main one's trainable weights, which chose by the validation patients."""
    if processes().num_processes > 1:
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.data.copy_(broadcast(parameter.data))
