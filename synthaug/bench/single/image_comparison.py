"""``synthaug metrics --real A --synthetic B``: two folders of volumes compared, without a study around them."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torchio as tio

from synthaug.config import PreprocessConfig
from synthaug.data.preprocess import build_preprocessing
from synthaug.data.reading.images import is_image, read_image
from synthaug.data.reading.manifest import load_manifest
from synthaug.ground.errors import InputError
from synthaug.ground.files import usable_folder, without_new_folders, write_json, write_text
from synthaug.metrics.comparison import ImageReport, compare_images
from synthaug.metrics.extractors import build_extractor
from synthaug.models.extractors.taps import crop_centre
from synthaug.pool.pool import HEADER, SyntheticPool

MANIFEST = "manifest.csv"


def compare_folders(
    real: str,
    synthetic: str,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    images: list[str] | None = None,
    training: str | None = None,
    extractor: Literal["seeded", "medicalnet", "radimagenet", "taps"] = "seeded",
    weights: str | None = None,
    centre: Literal["volume", "prostate"] = "volume",
    out: str | None = None,
    seed: int = 0,
    resamples: int = 500,
    confidence: float = 0.95,
    false_alarms: float = 0.01,
    realism: Literal["statistics", "network", "off"] = "statistics",
) -> ImageReport:
    """Compare real with synthetic volumes after the same preprocessing.

    A folder holds a ``manifest.csv`` (see ``load_manifest``; then also by class), a pool, or NIfTI files of one
    sequence.

    Args:
        real: Folder of real volumes that the generator was not trained on, one per patient.
        synthetic: Folder of synthetic volumes, or a pool.
        shape: Voxels after cropping and padding.
        spacing_mm: Voxel size after resampling.
        images: Image columns in channel order; default: t2w.
        training: Folder of the generator's training volumes, to find copies.
        extractor: Feature network: seeded has random weights, taps is for T2 of the prostate.
        weights: File of published weights of medicalnet (or its hub id) or radimagenet.
        centre: Centre of the crop: the middle, or the prostate as segmented by taps.
        out: Folder for metrics.json and metrics.html.
        seed: Seed of halves, floors, pairs and random weights.
        resamples: Half-samples per interval.
        confidence: Coverage of the intervals, in (0, 1).
        false_alarms: Share of unseen real patients that may be called copies.
        realism: Classifier of real against synthetic volumes, from 40 of each on: texture statistics, a 3D network too,
            or none.
    """
    names = images or ["t2w"]
    with without_new_folders(Path(out or ".")):
        if out is not None:
            usable_folder(Path(out))
        config = PreprocessConfig(shape=shape, spacing_mm=spacing_mm, centre=centre)
        chosen = build_extractor(extractor, channels=len(names), spacing_mm=spacing_mm, weights=weights, seed=seed)
        read = partial(_lazily, images=names, transform=build_preprocessing(config, names, centre=crop_centre(config)))
        report = compare_images(
            read(real),
            read(synthetic),
            chosen,
            images=names,
            seed=seed,
            resamples=resamples,
            confidence=confidence,
            training=None if training is None else read(training),
            false_alarms=false_alarms,
            realism=realism,
        )
        if out is not None:
            write_json(Path(out) / "metrics.json", report.to_dict())
            write_text(Path(out) / "metrics.html", f"<!doctype html><meta charset='utf-8'>{report.to_html()}")
    return report


def _lazily(folder: str, *, images: Sequence[str], transform: tio.Compose) -> tio.SubjectsDataset:
    """The subjects of a folder, read and preprocessed when they are asked for."""
    return tio.SubjectsDataset(_subjects(Path(folder), images), transform=transform)


def _subjects(folder: Path, images: Sequence[str]) -> list[tio.Subject]:
    if os.path.isfile(folder / HEADER):
        pool = SyntheticPool.open(folder)
        if missing := [name for name in images if name not in pool.images]:
            raise InputError(f"{folder}: the pool has images {', '.join(pool.images)}, not {missing[0]}; see --images.")
        return list(pool.subjects())
    if os.path.isfile(folder / MANIFEST):  # unlike Path.is_file, False for a name that cannot be
        return load_manifest(folder / MANIFEST, images)
    walked = os.walk(folder) if os.path.isdir(folder) else ()
    files = sorted(Path(place, name) for place, _, names in walked for name in names if is_image(Path(name)))
    if not files:
        raise InputError(f"{folder}: neither {MANIFEST}, nor a pool, nor NIfTI files.")
    if len(images) != 1:
        raise InputError(f"{folder}: bare NIfTI files are of one sequence, not of {', '.join(images)}; add {MANIFEST}.")
    return [tio.Subject({images[0]: read_image(path), "subject_id": path.name}) for path in files]
