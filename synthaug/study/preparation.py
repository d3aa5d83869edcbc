"""What the cells need: subjects, split, autoencoder, generator, pool; each made once and found again by its hash."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torchio as tio

from synthaug.classify.training import loss_weights
from synthaug.config import ClassifierConfig, Config, GeneratorConfig
from synthaug.data.duplicates import refuse_duplicate_images
from synthaug.data.manifest import class_counts, stack_images
from synthaug.data.near_copies import Alike, tell_near_copies
from synthaug.data.preprocess import preprocess
from synthaug.data.relabel import Relabeller
from synthaug.data.splits import Split, save_split
from synthaug.generate.autoencoder_training import train_autoencoder
from synthaug.generate.continuing import with_own_design
from synthaug.generate.encode import TensorCache
from synthaug.generate.levels import LatentSpace, fit_cascade, total_steps
from synthaug.generate.networks import pretrained_generator
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.record import patients_known, subjects_hash
from synthaug.generate.training import train_ldm
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_folder, content_hash, usable_folder, write_json
from synthaug.ground.people import patient_hash
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.classifier import build_classifier
from synthaug.models.optimisation import PACE, processes
from synthaug.models.taps import crop_centre
from synthaug.models.variants import VARIANTS
from synthaug.pool.pool import SyntheticPool, reports_by_class
from synthaug.pool.verdicts import dropped_from
from synthaug.study.checks import check_study, ignored_settings, say_once
from synthaug.study.cohort import draw_split, load_subjects
from synthaug.study.events import Listener, Progress, Silent, Training, Watcher
from synthaug.study.pools import (
    open_given_pool,
    overrides_class,
    prompts_of,
    protocol_of,
    refuse_leaking_pool,
    refuse_leaks,
    refuse_synthetic_subjects,
)

WATCHED = 16
"""Validation patients whose reconstructions whoever watches a training is shown."""


@dataclass
class Study:
    """A study's stages, each made when first asked for and kept in the output folder under the hash of its causes."""

    config: Config
    out: Path
    progress: Progress
    subjects: list[tio.Subject]
    split: Split
    listener: Listener = field(default_factory=Silent)
    near_copies: list[Alike] = field(default_factory=list)
    """Pairs of patients with nearly one image or report."""
    _relabellers: dict[str, Relabeller] = field(default_factory=dict, repr=False)

    @classmethod
    def start(cls, config: Config, out: Path, progress: Progress, listener: Listener | None = None) -> "Study":
        """Read and check all input, and only then write to ``out``.

        Raises:
            InputError: Anything about the data, the split or the folder cannot be used.
        """
        study = cls.read(config, out, progress, listener, generates=True)
        study.write_split("split.csv")
        return study

    @classmethod
    def read(
        cls,
        config: Config,
        out: Path,
        progress: Progress,
        listener: Listener | None = None,
        *,
        generates: bool | None = None,
    ) -> "Study":
        """Read and check all input; nothing is written.

        Args:
            config: The study.
            out: Its folder.
            progress: Bars of the stages.
            generates: Whether synthetic volumes are made; None = as the regimes ask.

        Raises:
            InputError: Anything about the settings, the data or the split cannot be used.
        """
        check_study(config, generates=generates)
        for line in ignored_settings(config):
            say_once(line)
        subjects = load_subjects(config.data)
        refuse_synthetic_subjects(subjects)
        study = cls(config, out, progress, subjects, Split([], [], []), listener or Silent())
        study.refuse_classifier(config.classifier)
        drawn = draw_split(config.split, subjects)
        if not (config.study.synthetic if generates is None else generates):
            pass  # nobody asks for reports or a generator
        elif config.pool.path:
            open_given_pool(config, drawn)
        else:
            _refuse_classes_without_reports(study.design.variant, drawn.train)
        images, centre = config.data.images, crop_centre(config.preprocess)
        parts = (preprocess(part, config.preprocess, images, centre=centre) for _, part in drawn.parts())
        study.split = Split(*parts)
        refuse_duplicate_images(study.split, images)
        if config.data.root is not None:
            study.near_copies = tell_near_copies(study.split, images)
        return study

    def refuse_classifier(self, config: ClassifierConfig) -> None:
        """InputError if a classifier cannot take the volumes: not to be found out after a generator's training."""
        classes, channels = len(class_counts(self.subjects)), len(self.config.data.images)
        loss_weights(config, classes=classes, class_counts=class_counts(self.subjects))
        build_classifier(config, in_channels=channels, classes=classes, shape=self.config.preprocess.shape, seed=0)
        if config.augment == "labelled" and self.split.train:
            self.relabeller(config)

    def relabeller(self, config: ClassifierConfig) -> Relabeller:
        """Rewrites the class of what a classifier's labelled augmentation moves; fitted on the training subjects.

        Raises:
            InputError: The label rule cannot be used.
        """
        name = content_hash(asdict(config.geometry))
        if name not in self._relabellers:
            fitted = Relabeller.fit(self.split.train, self.config.data, config.geometry, texts=False)
            self._relabellers[name] = fitted
        return self._relabellers[name]

    def write_split(self, name: str) -> None:
        """Write who trains, chooses and tests to the output folder; InputError if nothing can be written there."""
        save_split(self.split, usable_folder(self.out) / name)

    @cached_property
    def part_ids(self) -> dict[str, str]:
        """Hash of each part of the split, preprocessed, by its name."""
        return {name: subjects_hash(part, self.config.data.images) for name, part in self.split.parts()}

    @property
    def train_id(self) -> str:
        """Hash of the preprocessed training subjects."""
        return self.part_ids["train"]

    @cached_property
    def data_id(self) -> str:
        """Hash of all parts of the split, preprocessed."""
        return content_hash([*self.part_ids.values()])

    @cached_property
    def design(self) -> GeneratorConfig:
        """Settings of the generator, with what a pretrained one brings."""
        return with_own_design(self.config.generator)

    @cached_property
    def autoencoder_id(self) -> str:
        """Hash of what the autoencoder depends on."""
        if self.begun:
            return content_hash([self.train_id, "pretrained", self.begun.fingerprint])
        if self.design.latents == "cascade":
            return content_hash([self.train_id, "cascade", [asdict(level) for level in self.design.levels]])
        return content_hash([self.train_id, _without_pace(asdict(self.config.autoencoder))])

    @cached_property
    def generator_id(self) -> str:
        """Hash of what the generator depends on."""
        generator = _without_pace(asdict(self.design))
        told = self.config.data.told()  # of moved volumes
        return content_hash([self.autoencoder_id, generator, self.config.preprocess.recorded(), told])

    @cached_property
    def pool_folder(self) -> Path:
        """Where the pool is made."""
        return self.out / f"pool-{content_hash([self.generator_id, self.config.pool.recorded()])}"

    @cached_property
    def pool_id(self) -> str:
        """Hash of what the pool depends on, and of the copies left out of it: without them it is another pool."""
        if self.config.pool.path:
            return content_hash(["given", self.pool.identity])
        made, dropped = self.pool_folder.name.removeprefix("pool-"), dropped_from(self.pool_folder)
        return content_hash([made, dropped]) if dropped else made

    @cached_property
    def protocol(self) -> str:
        """Whether the generator was trained on exactly the classifier's training patients; nothing is made for it."""
        if self.config.pool.path:
            header = self.pool.header
            return protocol_of(header["trained_on_patients"], self.split, known=patients_known(header))
        ours = {patient_hash(subject["patient_id"]) for subject in self.split.train}
        before = ours if self.begun is None else set(self.begun.record.get("patients", []))
        # A generator that began with patients that nobody recorded may have seen anybody.
        known = self.begun is None or patients_known(self.begun.record)
        return protocol_of(sorted(ours | before) if before else [], self.split, known=known)

    @cached_property
    def begun(self) -> CCELLAPipeline | None:
        """The generator that the training goes on from, if any."""
        if not self.config.generator.pretrained:
            return None
        config, counts = self.design, class_counts(self.split.train)
        begun = pretrained_generator(config, classes=len(counts), sequences=len(self.config.data.images))
        begun.autoencoder.latent_shape(0, self.config.preprocess.shape)
        refuse_leaks(begun.record.get("patients", []), self.split, source=str(config.pretrained))
        return begun

    @cached_property
    def autoencoder(self) -> LatentSpace:
        """What is denoised, fitted to the training patients only; that of the pretrained generator, where there is one.

        A cascade is fitted in a moment; the VAE is trained.
        """
        if self.begun:
            return self.begun.autoencoder
        if self.design.latents == "cascade":
            return fit_cascade(self._volumes(self.split.train), self.design)
        folder = self.out / f"autoencoder-{self.autoencoder_id}"
        if not folder.is_dir():
            train, val = (self._volumes(part) for part in (self.split.train, self.split.val))
            with self._watched("autoencoder", self.autoencoder_id) as (monitor, on_step):
                trained = train_autoencoder(
                    train,
                    self.config.autoencoder,
                    checkpoint=folder.with_suffix(".checkpoint"),
                    on_step=on_step,
                    validation=val[:WATCHED],
                    monitor=monitor.autoencoder if monitor else None,
                )
            _save_once(trained, folder)
        return ImageAutoencoder.from_pretrained(folder)

    @cached_property
    def generator(self) -> CCELLAPipeline:
        """The pipeline, trained on the training patients only."""
        folder = self.out / f"generator-{self.generator_id}"
        if not folder.is_dir():
            autoencoder = self.autoencoder  # before the run begins that watches the generator
            with self._watched("generator", self.generator_id) as (monitor, on_step):
                trained = train_ldm(
                    self.split.train,
                    autoencoder,
                    self.design,
                    preprocessing=self.config.preprocess,
                    images=self.config.data.images,
                    micro_batch=self.config.pool.sampling.micro_batch,
                    checkpoint=folder.with_suffix(".checkpoint"),
                    on_step=on_step,
                    cache=TensorCache(self.out / "cache"),
                    validation=self.split.val,
                    monitor=monitor.generator if monitor else None,
                    relabeller=self._relabeller(),
                    stats=folder.with_suffix(".stats.jsonl"),
                )
            _save_once(trained, folder)
        pipeline = CCELLAPipeline.from_pretrained(folder)
        refuse_leaks(pipeline.record.get("patients", []), self.split, source=str(folder))
        return pipeline

    @cached_property
    def pool(self) -> SyntheticPool:
        """The synthetic volumes: the given ones, or those made here; prompted by nobody who is chosen or tested by."""
        settings = self.config.pool
        if settings.path:
            return open_given_pool(self.config, self.split)
        folder = self.pool_folder
        if (folder / "complete.json").is_file():
            pool = SyntheticPool.open(folder, preprocessing=self.config.preprocess)
        else:
            labels = sorted(class_counts(self.split.train))
            pool = SyntheticPool.build(
                self.generator,
                folder,
                per_class=dict.fromkeys(labels, settings.per_class),
                reports=prompts_of(settings, self.split),
                seed=settings.seed,
                sampling=settings.sampling,
                override_class=overrides_class(settings, self.generator),
                labels=settings.labels,
                attempts=settings.attempts,
                threads=settings.threads,
                on_volume=self.progress("pool", settings.per_class * len(labels)),
            )
            write_json(folder / "complete.json", pool.summary())
        refuse_leaking_pool(pool, self.split)
        return pool

    def _volumes(self, subjects: Sequence[tio.Subject]) -> torch.Tensor:
        return torch.stack([stack_images(subject, self.config.data.images) for subject in subjects])

    def _relabeller(self) -> Relabeller | None:
        """What rewrites report and class of moved training volumes, where the generator is told of moves."""
        if self.design.latents != "cascade" and self.config.data.wordings == 1:
            return None
        return Relabeller.fit(self.split.train, self.config.data, self.design.geometry)

    @contextlib.contextmanager
    def _watched(self, stage: str, stage_id: str) -> Iterator[tuple[Watcher | None, Callable[..., None]]]:
        """Who watches the stage's training, if anybody does, and what to call after each step."""
        settings: Any = self.config.autoencoder if stage == "autoencoder" else self.design
        if not processes().is_main_process:
            yield None, lambda *_: None
            return
        shape = self.config.preprocess.shape
        steps = settings.training.steps if stage == "autoencoder" else total_steps(settings, shape)
        on_step = self.progress(stage, steps)
        monitor = self.listener.training_begins(
            Training(self.out, stage, stage_id, self.config, self.split.val, self.split.train)
        )
        if monitor is None:
            yield None, on_step
            return

        def step(number: int, values: dict[str, float]) -> None:
            on_step(number, values)
            monitor.on_step(number, values)

        yield monitor, step
        monitor.finish()


def _refuse_classes_without_reports(variant: str, train: Sequence[tio.Subject]) -> None:
    """A generator that reads the class in the report cannot learn one that no report speaks of, nor one without any."""
    conditioning = VARIANTS[variant]
    if not conditioning.text:
        return
    if conditioning.class_input == "true" and any(subject["report"] for subject in train):
        return
    for label, reports in reports_by_class(train).items():
        if not any(reports):
            raise InputError(
                f"No training subject of class {label} has a report; generator.variant={variant!r} "
                "learns from reports; set data.report or data.measurements, or generator.variant=radmaisi."
            )


def _save_once(trained: ImageAutoencoder | CCELLAPipeline, folder: Path) -> None:
    """Of several processes (``accelerate launch``) the main one writes; the others wait for it."""
    if processes().is_main_process:
        with atomic_folder(folder) as temporary:
            trained.save_pretrained(temporary)
    processes().wait_for_everyone()


def _without_pace(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that change no result."""
    return {**settings, "monitor_every": None, "training": {**settings["training"], **dict.fromkeys(PACE)}}
