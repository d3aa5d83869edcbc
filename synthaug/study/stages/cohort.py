"""Who a study is of: its subjects, dealt out by patient into training, validation and test, and preprocessed."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torchio as tio

from synthaug.config import DataConfig, PreprocessConfig, SplitConfig
from synthaug.data.duplicates import refuse_duplicate_images
from synthaug.data.mapped.rows import written_in
from synthaug.data.mapped.volumes import preprocess_mapped
from synthaug.data.phantom import make_subjects
from synthaug.data.reading.manifest import load_manifest, read_columns
from synthaug.data.reports.writers import write_measurement_report
from synthaug.data.sites import site_subjects
from synthaug.data.splits import (
    Split,
    fold_subjects,
    keep_training,
    load_split,
    save_split,
    split_subjects,
    split_table,
)
from synthaug.ground.errors import InputError
from synthaug.ground.files import usable_folder, without_new_folders
from synthaug.ground.people import public_id
from synthaug.ground.seeding import derive_seed
from synthaug.models.extractors.taps import centred_by, crop_centre
from synthaug.study.stages.checks import say_once

VOLUMES = "cache/volumes"
"""In a study's folder: preprocessed volumes, which its cohorts, cells and processes map."""


def load_subjects(config: DataConfig) -> list[tio.Subject]:
    """The subjects of a study: from its manifest, or phantoms. Reports are written where the manifest has none."""
    if config.root is None:
        if config.images != ["t2w"]:
            raise InputError(f"Phantoms have the image 't2w', not {config.images}; set data.root to use a manifest.")
        return make_subjects(
            config.phantom.n,
            config.phantom.positive_fraction,
            config.phantom.seed,
            shape=config.phantom.shape,
            spacing_mm=config.phantom.spacing_mm,
            difficulty=config.phantom.difficulty,
            style=config.style,
        )
    write_report = None
    if config.measurements:
        if config.report:
            raise InputError("Set data.report (a column of reports) or data.measurements (to write them), not both.")

        def write_report(row: Any) -> str:
            seed = derive_seed("report", row[config.subject])
            return write_measurement_report(row, config.measurements, seed=seed, style=config.style)

    subjects = load_manifest(
        Path(config.root) / config.manifest,
        config.images,
        label=config.label,
        classes=config.classes,
        report=config.report,
        subject=config.subject,
        patient=config.patient,
        unlabelled=config.unlabelled,
        unreported=config.unreported,
        affine=config.affine,
        measured={column: measurement.missing for column, measurement in config.measurements.items()},
        several=[column for column, measurement in config.measurements.items() if measurement.lists],
        write_report=write_report,
    )
    if config.public and not config.protected:
        for subject in subjects:
            subject["patient_id"] = public_id(config.public, subject["patient_id"])
    return subjects


def draw_split(settings: SplitConfig, subjects: list[tio.Subject], data: DataConfig | None = None) -> Split:
    """The split of a study: the saved one that it names, a fold, a site, or one drawn by patient.

    Args:
        settings: Which.
        subjects: Of the study.
        data: Where they come from, which names their sites.
    """
    if settings.file:
        whole = load_split(settings.file, subjects)
    elif settings.site:
        sites = _sites_of(settings.site, data)
        if settings.held_out is None:
            known = sorted({sites[subject["subject_id"]] for subject in subjects})
            raise InputError(
                f"split.site needs split.held_out, the site to test: {', '.join(known)}, or an axis of them."
            )
        whole = site_subjects(subjects, sites, held_out=settings.held_out, val=settings.val, seed=settings.seed)
    elif settings.folds:
        whole = fold_subjects(subjects, folds=settings.folds, fold=settings.fold, val=settings.val, seed=settings.seed)
    else:
        whole = split_subjects(subjects, test=settings.test, val=settings.val, seed=settings.seed)
    return keep_training(whole, settings.train, seed=settings.seed)


def prepare_split(drawn: Split, settings: PreprocessConfig, images: Sequence[str], *, out: Path) -> Split:
    """The split, preprocessed; no image stands on two sides of it.

    Args:
        drawn: Subjects as they came.
        settings: Of the preprocessing.
        images: Image names.
        out: The study's folder, where the volumes are kept.

    Raises:
        InputError: An image cannot be used, stands on two sides, or the folder cannot be written.
    """
    centre = crop_centre(settings)
    everyone, folder = drawn.subjects(), out / VOLUMES
    ready = preprocess_mapped(everyone, settings, images, folder=folder, centre=centre, centred_by=centred_by(settings))
    after = iter(ready)
    split = Split(*([*islice(after, len(part))] for _, part in drawn.parts()))
    refuse_duplicate_images(split, images)
    return split


def save_own_split(split: Split, out: Path, *, data_id: str) -> None:
    """Write who trains, chooses and tests to a study's folder, beside the split of another study that is there.

    Raises:
        InputError: Nothing can be written there.
    """
    path = usable_folder(out) / "split.csv"
    if path.is_file():
        if path.read_text(encoding="utf-8") == split_table(split):
            return
        path = out / f"split-{data_id}.csv"
        say_once(f"{out / 'split.csv'}: is another study's split and stays; that of this one is {path}.")
    save_split(split, path)


@contextlib.contextmanager
def unless_refused(out: Path) -> Iterator[None]:
    """Remove what this process preprocessed meanwhile, and folders made for it, where the input is refused after all.

    Args:
        out: The study's folder.

    Raises:
        InputError: The folder cannot be written to, or what the block raises.
    """
    folder = out / VOLUMES
    before = written_in(folder)
    with without_new_folders(folder):
        try:
            usable_folder(out)
            yield
        except InputError:
            for path in written_in(folder) - before:
                path.unlink(missing_ok=True)
            raise


def _sites_of(column: str, data: DataConfig | None) -> dict[str, str]:
    """Site of each subject."""
    if data is None or data.root is None:
        raise InputError(f"split.site={column}: phantoms have no sites; set data.root.")
    return read_columns(Path(data.root) / data.manifest, [column], subject=data.subject)[column]
