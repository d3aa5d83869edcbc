"""Time and memory of a study on this machine: a few steps of each of its trainings, on noise and its own reports."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
import torchio as tio

from synthaug.augment.loading import BatchTransform
from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.augmentation import LabelledAugmentation, classical_batches
from synthaug.classify.training import train_classifier
from synthaug.config import Config, DataConfig, LabelRule, TrainingConfig
from synthaug.data.reading.manifest import class_counts, make_subject, read_manifest, stack_images
from synthaug.data.reading.tables import Table
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.reports.measured_columns import write_row
from synthaug.generate.levels import fit_space, levels_of
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.familiarity import Doubts
from synthaug.generate.stored.told import arguments_of
from synthaug.generate.training.autoencoder import train_autoencoder
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.ground.seeding import torch_generator
from synthaug.models.latent_space import LatentSpace
from synthaug.models.training.optimisation import OnStep
from synthaug.models.training.training_log import peak_memory_mb
from synthaug.study.grid import DATA, Cell
from synthaug.study.stages.cohort import load_subjects

TIMED_STEPS = 2
"""Steps that are timed, after one that is not."""
TRAINING_COPIES = 3
"""Of the volumes in memory while a generator trains: subjects, one stack of them, and their latents or levels."""
CLASSES = 2
"""The images are not read, so that the number of classes is taken to be this."""
NOISE = 4 * CLASSES
"""Subjects of noise, four of each class."""


def describe_time(cells: Sequence[Cell]) -> str:
    """Estimated time of a whole study on this machine and peak memory of each stage, in one line.

    Fine-tuned generators, and generators with a pretrained text encoder, are not counted.
    """
    peaks = _Peaks()
    seconds = {"autoencoder": 0.0, "generator": 0.0, "pool": 0.0, "classifiers": 0.0}
    stages: dict[str, Config] = {}
    classifiers: dict[str, list[Config]] = {}
    generators: dict[str, dict[str, float]] = {}
    uncounted = 0
    for cell in cells:
        settings = asdict(cell.config)
        known = content_hash([settings["classifier"], settings["preprocess"], settings["data"]["images"]])
        classifiers.setdefault(known, []).append(cell.config)
        if cell.synthetic_fraction is not None and not cell.config.pool.path:
            made = content_hash([settings[name] for name in (*DATA, "autoencoder", "generator", "pool")])
            stages[made] = cell.config
    for config in stages.values():
        if config.pool.generator:
            ready = CCELLAPipeline.from_pretrained(config.pool.generator)
            seconds["pool"] += _pool_seconds(config, ready, _texts(config))
            peaks.note("pool", config)
            continue
        if config.generator.pretrained or config.generator.text_encoder.path:
            uncounted += 1
            continue
        # Generators of other people, with the same settings, take as long.
        settings = asdict(config)
        alike = [settings[name] for name in ("preprocess", "autoencoder", "generator", "pool")]
        known = content_hash([*alike, config.data.images])
        if known not in generators:
            generators[known] = _stage_seconds(config, peaks)
        for name, value in generators[known].items():
            seconds[name] += value
    for configs in classifiers.values():  # after the generators, as in the study: a process keeps its highest
        seconds["classifiers"] += _classifier_seconds(configs[0]) * len(configs)
        peaks.note("classifiers", configs[0])
    parts = ", ".join(f"{name} {_words(value)} and {peaks.told(name)}" for name, value in seconds.items() if value)
    missing = f"; {uncounted} generators are not counted" if uncounted else ""
    return f"{len(cells)} cells; about {_words(sum(seconds.values()))} on this machine as it is now ({parts}){missing}"


def _classifier_seconds(config: Config) -> float:
    """Seconds of one cell's training."""
    settings = config.classifier
    subjects = _noise(config)
    sampler = SyntheticSampler(subjects, None, batch_size=settings.batch_size(len(class_counts(subjects))))
    images = config.data.images
    augmentation: BatchTransform | None = None
    if settings.moves:
        augmentation = classical_batches(config.preprocess, images, settings.moves)
    elif settings.augment == "labelled":  # noise, of which nothing is measured, takes as long
        unmeasured = replace(config.data, measurements={}, label_rule=LabelRule())
        relabeller = Relabeller.fit([], unmeasured, settings.geometry, rows={}, texts=False)
        augmentation = LabelledAugmentation(relabeller, images, config.preprocess.spacing_mm)
    short = replace(settings, training=_short(settings.training), evaluate_every=settings.training.steps, patience=0)

    def train(on_step: OnStep) -> Any:
        return train_classifier(
            sampler.loader(batch_transform=augmentation),
            subjects,
            short,
            images=config.data.images,
            shape=config.preprocess.shape,
            seed=0,
            class_counts=class_counts(subjects),
            on_step=on_step,
        )

    return _timed(train, settings.training.steps)[0]


def _stage_seconds(config: Config, peaks: "_Peaks") -> dict[str, float]:
    """Seconds of an autoencoder, a generator and a pool."""
    texts = _texts(config)
    subjects = _noise(config, texts)
    volumes = torch.stack([stack_images(subject, config.data.images) for subject in subjects])
    autoencoder, generator = config.autoencoder, config.generator
    first = replace(autoencoder, monitor_every=0, training=_short(autoencoder.training))
    levels = levels_of(generator, config.preprocess.shape)
    trained = generator.latent_design.trained
    short = [] if trained else [replace(level, steps=1 + TIMED_STEPS) for level in levels]
    second = replace(generator, monitor_every=0, levels=short, training=_short(generator.training))
    built: LatentSpace
    seconds: dict[str, float] = {}
    if not trained:
        built = fit_space(volumes, generator)
    else:
        seconds["autoencoder"], built = _timed(
            lambda on_step: train_autoencoder(volumes, first, on_step=on_step), autoencoder.training.steps
        )
        peaks.note("autoencoder", config, copies=TRAINING_COPIES)
    ticks: list[float] = []
    pipeline = train_ldm(
        subjects,
        built,
        second,
        preprocessing=config.preprocess,
        images=config.data.images,
        micro_batch=config.pool.sampling.micro_batch,
        on_step=lambda step, values: ticks.append(time.monotonic()),
    )
    timed = 1 + TIMED_STEPS
    seconds["generator"] = sum(
        _a_step(ticks[number * timed : (number + 1) * timed]) * level.steps for number, level in enumerate(levels)
    )
    peaks.note("generator", config, copies=TRAINING_COPIES)
    seconds["pool"] = _pool_seconds(config, pipeline, texts)
    peaks.note("pool", config)
    return seconds


class _Peaks:
    """The largest memory of this process by the end of each stage, with the study's volumes, which are not read."""

    def __init__(self) -> None:
        self.mb: dict[str, float] = {}

    def note(self, stage: str, config: Config, *, copies: int = 1) -> None:
        """After a stage that keeps so many copies of the volumes."""
        held = copies * _volumes(config) * len(config.data.images) * prod(config.preprocess.shape) * 4 / 2**20
        self.mb[stage] = max(self.mb.get(stage, 0.0), peak_memory_mb() + held)

    def told(self, stage: str) -> str:
        """In GiB."""
        return f"{self.mb[stage] / 1024:.1f} GiB"


def _volumes(config: Config) -> int:
    """Subjects of a study: rows of its manifest, where it is there."""
    data = config.data
    if data.root is None:
        return data.phantom.n
    path = Path(data.root) / data.manifest
    return len(read_manifest(path).rows) if path.is_file() else 0


def _pool_seconds(config: Config, pipeline: CCELLAPipeline, texts: Sequence[str]) -> float:
    sampling, batch = config.pool.sampling, config.pool.sampling.micro_batch
    pipeline.set_progress_bar_config(disable=True)
    pipeline.doubts = Doubts(told=("class", "unlike"))  # of a few reports nothing is concluded
    classes = None if pipeline.denoiser.conditioning.class_input == "none" else [0] * batch
    started = time.monotonic()
    pipeline(
        [texts[index % len(texts)] for index in range(batch)],
        classes,
        seeds=list(range(batch)),
        **arguments_of(replace(sampling, steps=TIMED_STEPS)),
    )
    batches = -(-CLASSES * config.pool.per_class // batch)
    return (time.monotonic() - started) * batches * sampling.steps / TIMED_STEPS


def _timed(train: Callable[[OnStep], Any], steps: int) -> tuple[float, Any]:
    """Seconds of a whole training of so many steps, from a few of them; and what it made."""
    ticks: list[float] = []
    made = train(lambda step, values: ticks.append(time.monotonic()))
    return _a_step(ticks) * steps, made


def _a_step(ticks: Sequence[float]) -> float:
    """Seconds between one step's end and the next's; 0 where there were fewer than two.

    Example:
        >>> _a_step([1.0, 3.0, 5.0]), _a_step([])
        (2.0, 0)
    """
    return (ticks[-1] - ticks[0]) / (len(ticks) - 1) if len(ticks) > 1 else 0


def _short(training: TrainingConfig) -> TrainingConfig:
    return replace(training, steps=1 + TIMED_STEPS, warmup=0)


def _noise(config: Config, texts: Sequence[str] = ("",)) -> list[tio.Subject]:
    """Four subjects of each class; classifiers read no reports."""
    shape, names = config.preprocess.shape, config.data.images
    subjects = []
    for index in range(NOISE):
        generator = torch_generator("time estimate", index)
        images = {name: tio.ScalarImage(tensor=torch.rand(1, *shape, generator=generator)) for name in names}
        name = f"noise{index}"
        text = texts[index % len(texts)]
        subjects.append(make_subject(images, label=index % CLASSES, subject_id=name, patient_id=name, report=text))
    return subjects


def _texts(config: Config) -> list[str]:
    """Reports of the study from the shortest to the longest, since long ones take most of the time.

    A text encoder's time and memory grow with the square of their length. What the byte-level one does not read is cut.
    """
    data = config.data
    if data.root is None:
        few = replace(data, phantom=replace(data.phantom, n=NOISE))
        known = [subject["report"] for subject in load_subjects(few)]
    elif data.report or data.measurements:
        table = read_manifest(Path(data.root) / data.manifest)
        known = [
            row[data.report] if data.report else _written(table, number, data) for number, row in table.rows.items()
        ]
    else:
        known = [""]
    most = config.generator.text_encoder.longest - 1  # and the token that ends a report
    known = sorted((text.encode()[-most:].decode(errors="ignore") for text in known), key=len)
    return [known[round(index * (len(known) - 1) / (NOISE - 1))] for index in range(NOISE)]


def _written(table: Table, number: int, data: DataConfig) -> str:
    """The report that the study writes of a row; none where it refuses or leaves out the row."""
    try:
        return write_row(table, number, data.measurements, data.style)
    except InputError:
        return ""


def _words(seconds: float) -> str:
    """A duration in the unit that suits it.

    Example:
        >>> _words(50), _words(400), _words(9000)
        ('50 s', '7 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
