"""A study's pool: whose reports prompt it, and whom it must never have seen."""

from collections.abc import Callable, Sequence
from typing import Any

import torchio as tio

from synthaug.config import Config, GeneratorConfig, PoolConfig, PreprocessConfig
from synthaug.data.reading.manifest import class_counts
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.reports.picai import read_marksheet
from synthaug.data.splits import Split
from synthaug.generate.diffusion import swap_scheduler
from synthaug.generate.levels import levels_of
from synthaug.generate.nvgenerate.fields_of_view import tell_data
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.requests import require_divisible
from synthaug.generate.stored.record import preprocessing_of_record
from synthaug.generate.stored.told import Guidance, measured_sampling, require_guidance
from synthaug.generate.training.additions import require_levels
from synthaug.generate.training.networks import pretrained_generator
from synthaug.generate.trial import require_sampling, require_steps
from synthaug.ground.errors import InputError
from synthaug.ground.people import PUBLIC
from synthaug.models.variants import Conditioning
from synthaug.pool.consistency import require_preprocessing
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.prompts import Prompts, RelabelledPrompts, TrainingPrompts, WriterPrompts, reports_by_class
from synthaug.pool.report_file import read_report_file
from synthaug.study.stages.checks import refuse_unanswerable, say_once
from synthaug.study.stages.leaks import refuse_leaking_pool, refuse_leaks, refuse_training_leaks, say_untold

FILTER_REVISION = 1
"""Raised when a filter comes to choose other volumes."""
WORDS = {
    "training": "reports of training patients of the requested class",
    "relabelled": "reports of training patients, also as they read where the volume is mirrored or zoomed",
    "writer": "reports by the report writer, from findings of the requested class",
    "reports": "reports of a file",
    "adopted": "volumes of another system, taken over with their labels",
}
LABELS = {
    "requested": "the requested class is the label",
    "predicted": "the class that the generator predicted from the report is the label",
    "agreed": "the requested class is the label, and the generator predicted the same one",
}


def prompts_of(config: PoolConfig, split: Split, relabeller: Callable[[], Relabeller]) -> Prompts:
    """The prompts that a config asks for, of training patients only; written findings leave out who is held out.

    Args:
        config: Of the pool.
        split: Whose training part gives the reports.
        relabeller: Gives what rewrites its reports; called for ``prompts: relabelled`` alone.

    Raises:
        InputError: The file of reports or the marksheet cannot be read or lacks a class, or a report is of a held-out
            patient.
    """
    if config.reports:
        everyone = [subject["patient_id"] for subject in split.subjects()]
        found = read_report_file(config.reports, unusable=config.unusable, patients=everyone)
        refuse_leaks(found.patients or [], split, source=str(config.reports), did="holds the report of")
        return found
    if config.prompts == "relabelled":
        return RelabelledPrompts(split.train, relabeller())
    if config.prompts != "writer":
        return TrainingPrompts(split.train)
    if config.marksheet is None:
        return WriterPrompts(style=config.style)
    held_out = {subject["patient_id"] for subject in [*split.val, *split.test]}
    # The marksheet of a public data set has its patients' plain ids.
    public = next((patient.rpartition(":")[0] + ":" for patient in held_out if patient.startswith(f"{PUBLIC}:")), "")
    rows = [row._replace(patient_id=public + row.patient_id) for row in read_marksheet(config.marksheet)]
    return WriterPrompts([row for row in rows if row.patient_id not in held_out], style=config.style)


def identify_filter(config: PoolConfig, *, train: str, val: str) -> dict[str, Any]:
    """What names the choice of ``pool.filter`` among a pool's volumes; nothing where all are taken.

    Args:
        config: Of the pool.
        train: Names the training patients, whom volumes are measured by.
        val: Names those who choose a classifier's step.
    """
    if config.filter == "none":
        return {}
    chosen = {"by": config.filter, "keep": config.keep, "revision": FILTER_REVISION, "train": train, "val": val}
    return {"filter": chosen}


def open_given_pool(config: Config, split: Split) -> SyntheticPool:
    """Open the pool that a config names.

    Raises:
        InputError: No pool, another preprocessing, other images, or it saw a patient that is chosen or tested by.
    """
    pool = SyntheticPool.open(str(config.pool.path), preprocessing=config.preprocess)
    require_images(pool, config.data.images)
    refuse_leaking_pool(pool, split)
    say_untold(pool.header, config.data, source=str(pool.path))
    return pool


def open_ready_generator(config: Config, split: Split) -> CCELLAPipeline:
    """Open the generator that fills the pool as it is.

    Raises:
        InputError: There is none, or it draws other images, classes or voxels. Its sampler cannot be used as asked. It
            saw a patient that is chosen or tested by.
    """
    source, sampling = str(config.pool.generator), config.pool.sampling
    pipeline = CCELLAPipeline.from_pretrained(source)
    rename = "rename the column if it holds that sequence, or take another generator"
    found = {
        "images": (list(pipeline.config.images), list(config.data.images), rename),
        "classes": (pipeline.denoiser.config.classes, len(class_counts(split.train)), "take a generator of as many"),
    }
    for name, (its, asked, mend) in found.items():
        if its != asked:
            raise InputError(f"pool.generator={source}: draws {name} {its}, and the data has {asked}; {mend}.")
    header = {"preprocessing": pipeline.record.get("preprocessing"), **pipeline.config}
    require_preprocessing(header, config.preprocess, source=f"pool.generator={source}")
    require_guidance(pipeline.record, Guidance.of(sampling), levels=pipeline.autoencoder.levels, edm=pipeline.edm)
    variant, modalities = pipeline.denoiser.config.variant, bool(pipeline.denoiser.config.modalities)
    refuse_unanswerable(config.pool, variant, modalities=modalities)
    swapped = swap_scheduler(pipeline.scheduler, sampling.scheduler, epsilon_scale=sampling.epsilon_scale)
    require_steps(swapped, sampling.steps)
    if not config.pool.reports and config.pool.prompts in ("training", "relabelled"):
        refuse_classes_without_reports(pipeline.denoiser.conditioning, split, source=f"pool.generator={source}")
    refuse_training_leaks(pipeline.record, split, source=source)
    say_untold(pipeline.record, config.data, source=source)
    measured = measured_sampling(pipeline.record)
    if card := {name: its for name, its in measured.items() if its != getattr(sampling, name)}:
        say_once(
            f"pool.generator={source}: the figures of its card were measured with other settings than this pool is "
            f"drawn with; for those, set pool.sampling to {card}."
        )
    return pipeline


def open_pretrained(design: GeneratorConfig, config: Config, split: Split) -> CCELLAPipeline | None:
    """Open the generator that the training goes on from, if there is one.

    Raises:
        InputError: There is none of that name, it cannot be trained or draw as asked, or it has seen somebody who is
            chosen or tested by.
    """
    if not design.pretrained:
        return None
    sampling, process = config.pool.sampling, design.process
    begun = pretrained_generator(design, classes=len(class_counts(split.train)), images=config.data.images)
    require_levels(begun.autoencoder, design, count=len(levels_of(design, config.preprocess.shape)))
    require_divisible(begun.denoiser, [begun.autoencoder.latent_shape(0, config.preprocess.shape)])
    require_sampling(process, sampling.scheduler, sampling.steps, epsilon_scale=sampling.epsilon_scale)
    dropout = {"generator": {"report_dropout": design.report_dropout}}
    require_guidance(dropout, Guidance.of(sampling), levels=begun.autoencoder.levels, edm=begun.edm)
    refuse_unanswerable(config.pool, design.variant, modalities=bool(begun.denoiser.config.modalities))
    tell_data(begun.record, config.preprocess, [*split.train, *split.val, *split.test], config.data.images[0])
    refuse_training_leaks(begun.record, split, source=design.pretrained)
    say_untold(begun.record, config.data, source=design.pretrained)
    return begun


def require_images(pool: SyntheticPool, images: Sequence[str]) -> None:
    """InputError if the pool's subjects have other images, or in another order."""
    if pool.images != images:
        raise InputError(f"{pool.path}: the pool has images {pool.images}, and data.images is {images}.")


def preprocessing_of(pool: SyntheticPool) -> PreprocessConfig:
    """What real volumes go through to be as the pool's; of released generators shape and spacing alone are known, and
    the percentiles are the published ones."""
    known = {"percentiles": (0.0, 99.5)} | {name: pool.header[name] for name in ("shape", "spacing_mm")}
    return preprocessing_of_record(pool.header.get("preprocessing") or known)


def refuse_synthetic_subjects(subjects: Sequence[tio.Subject]) -> None:
    """InputError where an exported pool is given as a study's data: its volumes would be split and tested on."""
    for subject in subjects:
        if subject["synthetic"]:
            raise InputError(
                f"{subject['subject_id']}: is synthetic, and a study splits and tests real subjects only; "
                "take it out of the manifest and give its pool as pool.path."
            )


def describe_pool(pool: SyntheticPool) -> str:
    """One line on a pool's prompts and labels, for people."""
    header = pool.header
    policy = header["prompts"].get("policy", "prompts that nobody recorded")
    told = ", and the class vector is told" if header["override_class"] else ""
    summary = pool.summary()
    counts = f"requested {summary['requested']}, generated {summary['generated']}, kept {summary['kept']}"
    dropped = f", {pool.dropped} left out as copies of training patients" if pool.dropped else ""
    doubts = pool.doubts()
    other = f", {doubts['contradicts']} reports read as another class than requested" if doubts["contradicts"] else ""
    unlike = f", {doubts['unlike']} reports unlike those of the generator's training" if doubts["unlike"] else ""
    return f"{WORDS.get(policy, policy)}{told}; {LABELS[header['labels']]}; {counts}{dropped}{other}{unlike}"


def refuse_classes_without_reports(conditioning: Conditioning, split: Split, *, source: str) -> None:
    """InputError where a generator reads the class in the report and no training report speaks of it.

    Args:
        conditioning: Of the generator.
        split: Whose training part gives the reports.
        source: Names the generator.
    """
    if not conditioning.text:
        return
    if conditioning.class_input == "true" and any(subject["report"] for subject in split.train):
        return
    for label, reports in reports_by_class(split.train).items():
        if not any(reports):
            raise InputError(
                f"No training subject of class {label} has a report, and {source} goes by reports; set data.report or "
                "data.measurements, or train a generator with generator.variant=radmaisi."
            )
