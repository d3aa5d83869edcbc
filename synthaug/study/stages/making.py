"""Autoencoder, generator and pool of a study. Each is made once, by one bench, and found again by its id."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torchio as tio

from synthaug.data.reading.manifest import class_counts, stack_images
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.generate.encode import TensorCache
from synthaug.generate.levels import fit_space, total_steps
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training.autoencoder import train_autoencoder
from synthaug.generate.training.ldm import train_ldm
from synthaug.generate.training.networks import pretrained_space
from synthaug.generate.training.resumption import forget
from synthaug.ground.files import atomic_folder, write_json
from synthaug.metrics.volumes import VolumeSet
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.latent_space import LatentSpace
from synthaug.models.training.processes import processes
from synthaug.pool.pool import SyntheticPool
from synthaug.study.events import Training, Watcher
from synthaug.study.folder.claims import claimed
from synthaug.study.folder.earlier import IDENTITY, tell_other_revision
from synthaug.study.identity import Identity
from synthaug.study.stages.checks import overrides_class, say_once
from synthaug.study.stages.filtering import filtered
from synthaug.study.stages.leaks import refuse_leaking_pool, refuse_training_leaks
from synthaug.study.stages.preparation import Study

WATCHED = 16
"""Validation patients whose reconstructions whoever watches a training is shown."""
COMPLETE = "complete.json"
"""In a pool's folder: all of it is there."""


def make_autoencoder(study: Study) -> LatentSpace:
    """Latent space, fitted to the training patients only, or that of the pretrained generator.

    A missing autoencoder is trained by one process, while others wait.

    Raises:
        InputError: It cannot be trained.
    """
    if study.begun or not study.design.latent_design.trained:
        return _autoencoder(study)
    with _alone(study, study.autoencoder_folder):
        return _autoencoder(study)


def make_generator(study: Study) -> CCELLAPipeline:
    """Generator, trained on the training patients only by one process while others wait, or the ready one.

    Raises:
        InputError: It cannot be trained, or was trained on a validation or test patient.
    """
    if study.ready:
        return study.ready
    folder = study.generator_folder
    with _alone(study, folder):
        if not folder.is_dir():
            _train_generator(study)
    forget(folder.with_suffix(".checkpoint"))  # of a bench that was killed when it had saved the generator
    pipeline = CCELLAPipeline.from_pretrained(folder)
    refuse_training_leaks(pipeline.record, study.split, source=str(folder))
    return pipeline


def has_pool(study: Study) -> bool:
    """Whether the pool of the study is complete, so that no generator is needed."""
    return study.given is not None or (study.pool_folder / COMPLETE).is_file()


def make_pool(study: Study) -> SyntheticPool:
    """Synthetic volumes: a given pool, or one made here from reports of training patients.

    Benches that share the folder fill a pool together. A complete pool needs no generator.

    Raises:
        InputError: Generator or pool cannot be made, or come from a validation or test patient.
    """
    if study.given:
        return filtered(study, study.given)
    folder = study.pool_folder
    if has_pool(study):
        pool = SyntheticPool.open(folder, preprocessing=study.config.preprocess)
    else:
        tell_other_revision(folder, study.pool_identity)
        pool = _build_pool(study, make_generator(study))
    refuse_leaking_pool(pool, study.split)
    return filtered(study, pool)


def _build_pool(study: Study, generator: CCELLAPipeline) -> SyntheticPool:
    settings, folder = study.config.pool, study.pool_folder
    labels = sorted(class_counts(study.split.train))
    pool = SyntheticPool.build(
        generator,
        folder,
        per_class=dict.fromkeys(labels, settings.per_class),
        reports=study.prompts,
        seed=settings.seed,
        sampling=settings.sampling,
        override_class=overrides_class(settings, generator.denoiser.conditioning),
        labels=settings.labels,
        attempts=settings.attempts,
        threads=settings.threads,
        on_volume=study.progress("pool", settings.per_class * len(labels)),
    )
    write_json(folder / IDENTITY, study.pool_identity)
    write_json(folder / COMPLETE, pool.summary())
    return pool


@contextlib.contextmanager
def _alone(study: Study, folder: Path) -> Iterator[None]:
    """Nobody else trains this while it is missing."""
    if folder.is_dir():
        yield
        return
    # One claim for both, as generators that go on from one autoencoder must not train it twice.
    both = study.autoencoder_folder, study.generator_folder
    with claimed(study.out, *both, what="training a generator"):
        yield


def _autoencoder(study: Study) -> LatentSpace:
    if study.begun:
        return pretrained_space(
            study.design, study.begun, study.config.data.images, lambda: _volumes(study, study.split.train)
        )
    if not study.design.latent_design.trained:
        return fit_space(_volumes(study, study.split.train), study.design)
    folder = study.autoencoder_folder
    if not folder.is_dir():
        tell_other_revision(folder, study.autoencoder_identity)
        train = VolumeSet.of(study.split.train, study.config.data.images)
        with _watched(study, "autoencoder", study.autoencoder_id) as (monitor, on_step):
            train_autoencoder(
                train,
                study.config.autoencoder,
                checkpoint=folder.with_suffix(".checkpoint"),
                on_step=on_step,
                validation=_volumes(study, study.split.val[:WATCHED]),
                monitor=monitor.autoencoder if monitor else None,
                store=lambda trained: _save_once(trained, folder, study.autoencoder_identity),
            )
    forget(folder.with_suffix(".checkpoint"))
    return ImageAutoencoder.from_pretrained(folder)


def _train_generator(study: Study) -> None:
    config, folder = study.config, study.generator_folder
    tell_other_revision(folder, study.generator_identity)
    autoencoder = _autoencoder(study)  # before the run begins that watches the generator
    if study.design.calibration:
        say_once(f"generator.calibration: the training ends with {study.design.calibration} drawn volumes a level.")
    with _watched(study, "generator", study.generator_id) as (monitor, on_step):
        train_ldm(
            study.split.train,
            autoencoder,
            study.design,
            preprocessing=config.preprocess,
            images=config.data.images,
            micro_batch=config.pool.sampling.micro_batch,
            checkpoint=folder.with_suffix(".checkpoint"),
            on_step=on_step,
            cache=TensorCache(study.out / "cache"),
            validation=study.split.val,
            monitor=monitor.generator if monitor else None,
            relabeller=_relabeller(study),
            stats=folder.with_suffix(".stats.jsonl"),
            store=lambda trained: _save_once(trained, folder, study.generator_identity),
        )


def _volumes(study: Study, subjects: Sequence[tio.Subject]) -> torch.Tensor:
    return torch.stack([stack_images(subject, study.config.data.images) for subject in subjects])


def _relabeller(study: Study) -> Relabeller | None:
    """What rewrites report and class of moved training volumes, where the generator is told of moves."""
    config = study.config
    if study.design.latent_design.trained and config.data.wordings == 1:
        return None
    return study.relabeller(study.design.geometry)


@contextlib.contextmanager
def _watched(study: Study, stage: str, stage_id: str) -> Iterator[tuple[Watcher | None, Callable[..., None]]]:
    """Who watches the stage's training, if anybody does, and what to call after each step."""
    config = study.config
    if not processes().is_main_process:
        yield None, lambda *_: None
        return
    steps = config.autoencoder.training.steps
    if stage == "generator":
        steps = total_steps(study.design, config.preprocess.shape)
    on_step = study.progress(stage, steps)
    training = Training(study.out, stage, stage_id, config, study.split.val, study.split.train)
    monitor = study.listener.training_begins(training)
    if monitor is None:
        yield None, on_step
        return

    def step(number: int, values: dict[str, float]) -> None:
        on_step(number, values)
        monitor.on_step(number, values)

    yield monitor, step
    monitor.finish()


def _save_once(trained: ImageAutoencoder | CCELLAPipeline, folder: Path, identity: Identity) -> None:
    """Of several processes (``accelerate launch``) the main one writes; the others wait for it."""
    if processes().is_main_process:
        with atomic_folder(folder) as temporary:
            trained.save_pretrained(temporary)
            write_json(temporary / IDENTITY, identity)
    processes().wait_for_everyone()
