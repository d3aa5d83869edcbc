"""The fields of view that NV-Generate was trained on: others give unusable images."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import nibabel
import numpy as np
import torchio as tio

from synthaug.config import PreprocessConfig

logger = logging.getLogger(__name__)

FieldOfView = tuple[float, float, float]
"""Extent along right, anterior and superior, mm."""
RECOMMENDED_MM: dict[str, dict[str, FieldOfView]] = {
    "t1": {"brain": (160, 256, 256), "breast": (174, 200, 200), "abdomen": (380, 309, 288)},
    "t2": {"prostate": (170, 170, 90), "brain": (240, 240, 162.5), "abdomen": (350, 350, 245.6)},
    "flair": {"brain": (199.9, 250, 250)},
}
"""Medians over the training data of rflow-mr by modality and region, as NVIDIA's documentation tells them."""
GRIDS: dict[str, tuple[tuple[int, int, int], FieldOfView]] = {
    "rflow-mr": ((256, 256, 128), (170 / 256, 170 / 256, 90 / 128)),
    "rflow-mr-brain": ((160, 256, 256), (1.0, 1.0, 1.0)),
}
"""Voxels and voxel size (mm) that a model draws unless others are asked for: the prostate, and the brain."""
TOLERANCE = 0.1
"""Relative difference of an extent that is said nothing of."""


def extent_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> FieldOfView:
    """Field of view of a grid.

    Example:
        >>> extent_mm((256, 256, 128), (0.5, 0.5, 1.0))
        (128.0, 128.0, 128.0)
    """
    x, y, z = (side * size for side, size in zip(shape, spacing_mm, strict=True))
    return x, y, z


def nearest_mm(modality: str, drawn: FieldOfView) -> FieldOfView | None:
    """The recommended field of view that is nearest to a drawn one; None where none is known for the modality."""
    known = RECOMMENDED_MM.get(modality, {}).values()
    return min(known, key=lambda field: _distance(field, drawn), default=None)


def tell_grid(drawn: FieldOfView, recommended: FieldOfView, *, grid: str) -> bool:
    """Warn where a grid has another field of view than recommended; returns whether it did.

    Args:
        drawn: Of the grid.
        recommended: Of the generator.
        grid: What the grid is called in the message.
    """
    if _distance(recommended, drawn) <= math.log1p(TOLERANCE):
        return False
    logger.warning(
        "%s has a field of view of %s mm, and NV-Generate was trained on %s mm. Other fields of view give unusable "
        "images: change its shape or spacing_mm.",
        grid,
        _words(drawn),
        _words(recommended),
    )
    return True


def tell_images(subjects: Sequence[tio.Subject], image: str, recommended: FieldOfView) -> dict[str, int]:
    """Warn where images leave the field of view; returns how many are smaller and how many are larger along an axis.

    Smaller ones are padded with zeros, which the training never saw; larger ones are cut.

    Args:
        subjects: Before preprocessing.
        image: Name of the first image.
        recommended: Of the generator.
    """
    extents = np.array([image_extent_mm(subject[image]) for subject in subjects]).reshape(-1, 3)
    found = {
        "smaller": int((extents < np.array(recommended) * (1 - TOLERANCE)).any(axis=1).sum()),
        "larger": int((extents > np.array(recommended) * (1 + TOLERANCE)).any(axis=1).sum()),
    }
    if any(found.values()):
        logger.warning(
            "NV-Generate was trained on a field of view of %s mm. Of %d images, %d are smaller, and are padded with "
            "zeros; %d are larger, and are cut.",
            _words(recommended),
            len(extents),
            found["smaller"],
            found["larger"],
        )
    return found


def tell_data(
    record: Mapping[str, Any], preprocessing: PreprocessConfig, subjects: Sequence[tio.Subject], image: str
) -> None:
    """Warn where a study's grid or images leave the field of view of the generator that it goes on from.

    Args:
        record: Of that generator; says nothing where it is not NV-Generate's.
        preprocessing: Of the study.
        subjects: Before preprocessing.
        image: Name of the first image.
    """
    field = (record.get("nv_generate") or {}).get("field_of_view_mm")
    if field:
        recommended = (float(field[0]), float(field[1]), float(field[2]))
        tell_grid(extent_mm(preprocessing.shape, preprocessing.spacing_mm), recommended, grid="preprocess")
        tell_images(subjects, image, recommended)


def image_extent_mm(image: tio.Image) -> FieldOfView:
    """Field of view of an image along right, anterior and superior; its voxels are not kept."""
    image = copy.copy(image)
    axes = nibabel.io_orientation(image.affine)[:, 0].astype(int)
    extents = [0.0, 0.0, 0.0]
    for side, size, axis in zip(image.spatial_shape, image.spacing, axes, strict=True):
        extents[axis] = float(side * size)
    return extents[0], extents[1], extents[2]


def _distance(one: FieldOfView, other: FieldOfView) -> float:
    """The largest ratio of two extents along an axis, as a logarithm."""
    return max(abs(math.log(a / b)) for a, b in zip(one, other, strict=True))


def _words(field: FieldOfView) -> str:
    return " x ".join(f"{side:.4g}" for side in field)
