"""Preprocessing whose result lies in mapped files, found again by what its voxels follow from."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio

from synthaug.config import PreprocessConfig
from synthaug.data.mapped.image import MappedImage
from synthaug.data.mapped.rows import Row, RowFiles
from synthaug.data.preprocess import Centre, build_preprocessing, preprocess_one
from synthaug.data.reading.images import content_of
from synthaug.data.reading.remarks import Remarks
from synthaug.data.voxels.intensities import name_of
from synthaug.ground.errors import InputError
from synthaug.ground.files import canonical, content_hash

REVISION = 1
"""Raised when the same images and settings come to give other voxels."""
LIBRARIES = ("numpy", "SimpleITK", "torchio")
"""Libraries that decide on voxels: with another version of one of them all volumes are made again."""


def preprocess_mapped(
    subjects: Sequence[tio.Subject],
    config: PreprocessConfig,
    images: Sequence[str],
    *,
    folder: Path,
    centre: Centre | None = None,
    centred_by: str = "",
) -> list[tio.Subject]:
    """As :func:`synthaug.data.preprocess.preprocess`, with the result in mapped files in place of memory.

    The voxels are the same. A volume that is there, whichever study made it, is not made again. What is missing is made
    one volume at a time and written to one file. Remarks are said as if all were made.

    Args:
        subjects: Subjects with ``images``, of one channel each, and no other image.
        config: Spacing, shape and intensity windows.
        images: Image names; the others are resampled onto the grid of the first.
        folder: Of the files; it may be shared and removed.
        centre: As in :func:`synthaug.data.preprocess.build_preprocessing`.
        centred_by: Names what ``centre`` does, such as the hash of its network.

    Raises:
        InputError: As of :func:`synthaug.data.preprocess.preprocess`, or the folder cannot be written.
    """
    remarks = Remarks()
    # First, as settings that cannot be are refused whether or not anything is to be made.
    transform = build_preprocessing(config, images, centre=centre, remarks=remarks)
    causes = [REVISION, {name: version(name) for name in LIBRARIES}, canonical(config.recorded()), centred_by]
    files, keys = RowFiles(folder), [_key(each, images, causes) for each in subjects]
    rows = files.find(keys)
    missing = {key: subject for key, subject in zip(keys, subjects, strict=True) if key not in rows}
    if missing:

        def make() -> Iterator[tuple[torch.Tensor, Mapping[str, Any]]]:
            for key, subject in missing.items():
                read = copy.deepcopy(subject)
                read.load()
                if _key(read, images, causes) != key:
                    raise InputError(f"{name_of(subject)}: an image was changed while it was read; run the same again.")
                yield _row(preprocess_one(read, transform, config, images), images, remarks)

        files.write([*missing], (len(images), *config.shape), make())
        rows |= files.find(missing)
        if not rows.keys() >= missing.keys():
            raise InputError(f"{folder}: what was written there cannot be read back; choose another output folder.")
    settings = config.recorded()
    done = [_subject(each, rows[key], settings, images, remarks) for key, each in zip(keys, subjects, strict=True)]
    remarks.say(logging.getLogger(__name__))
    return done


def _key(subject: tio.Subject, images: Sequence[str], causes: Sequence[Any]) -> str:
    """Hash of all that the preprocessed voxels of a subject follow from: its images, and what all subjects share."""
    return content_hash([*causes, [[name, content_of(subject[name])] for name in images]])


def _row(result: tio.Subject, images: Sequence[str], remarks: Remarks) -> tuple[torch.Tensor, dict[str, Any]]:
    """Voxels (C, X, Y, Z) of a preprocessed subject, with affines and what was remarked, which is forgotten."""
    facts = {"affines": [result[name].affine.tolist() for name in images], "remarks": [*remarks.found]}
    remarks.found.clear()
    return torch.cat([result[name].data for name in images]), facts


def _subject(
    subject: tio.Subject, row: Row, settings: dict[str, Any], images: Sequence[str], remarks: Remarks
) -> tio.Subject:
    """A subject with mapped images in place of its own."""
    for remark in row.facts["remarks"]:
        remarks.add(name_of(subject), remark)
    mapped = {
        name: MappedImage(row, channel, affine=np.array(row.facts["affines"][channel]), source=subject[name])
        for channel, name in enumerate(images)
    }
    result = tio.Subject({**subject, **mapped})
    result.preprocessing = settings
    return result
