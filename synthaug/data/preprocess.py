"""Preprocessing of real images; synthetic volumes are drawn in its result."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
import torchio as tio

from synthaug.config import PreprocessConfig
from synthaug.data.reading.grids import refuse_apart
from synthaug.data.reading.remarks import Remarks
from synthaug.data.voxels.intensities import ScaleIntensity, name_of
from synthaug.ground.errors import InputError

Centre = Callable[[tio.ScalarImage], Sequence[float]]
"""First image (RAS, resampled) -> centre of the crop in world coordinates (3,) in mm."""
FIELDS = "fields_of_view"
"""Key of a subject that holds the fields of view of its images between two steps."""
MOST_VOXELS = 2**30
"""Largest image after resampling, in voxels (4 GiB); a header that asks for more is wrong."""


def build_preprocessing(
    config: PreprocessConfig,
    images: Sequence[str],
    *,
    centre: Centre | None = None,
    remarks: Remarks | None = None,
) -> tio.Compose:
    """RAS orientation, the first image's spacing, all images on its grid, intensities to [0, 1], crop or pad.

    Percentiles are taken inside the field of view of each image and before padding. Padding and voxels outside the
    field of view become 0.

    Args:
        config: Spacing, shape and intensity windows.
        images: Image names; the others are resampled onto the grid of the first. So are images of the subject that are
            not named, label maps by the nearest neighbour; their intensities stay.
        centre: Finds the centre of the crop; None = the middle of the first image. For ``centre: prostate``,
            :func:`synthaug.models.extractors.taps.gland_centre_mm`.
        remarks: Collects images whose voxels fill little of [0, 1]; None = no check.

    Returns:
        A torchio transform from a subject to one whose images are (1, *config.shape) in [0, 1].

    Raises:
        InputError: ``images`` is no list of names; ``config.centre`` is "prostate" without ``centre``; or
            ``config.ranges`` names an unknown image. When called: the subject lacks an image.

    Example:
        >>> import torch
        >>> transform = build_preprocessing(PreprocessConfig(spacing_mm=(1, 1, 1), shape=(8, 8, 8)), ["t2w"])
        >>> transform(tio.Subject(t2w=tio.ScalarImage(tensor=torch.rand(1, 6, 9, 8))))["t2w"].shape
        (1, 8, 8, 8)
    """
    if isinstance(images, str) or not images:
        raise InputError(f"images={images!r} must be a list of image names, such as ['t2w'].")
    if config.centre == "prostate" and centre is None:
        # Networks are imported by rooms above this one, so the caller passes them.
        raise InputError(
            "preprocess.centre=prostate needs what finds the prostate; give centre=synthaug.models.extractors.taps."
            "crop_centre(config)."
        )
    unknown = [name for name in config.ranges if name not in images]
    if unknown:
        raise InputError(f"preprocess.ranges: {unknown[0]!r} is no image; the images are {', '.join(images)}.")
    steps: list[Callable[[tio.Subject], tio.Subject]] = [
        partial(_onto_one_grid, spacing_mm=config.spacing_mm, images=images),
        ScaleIntensity(images, config.percentiles, config.ranges, FIELDS, remarks),
    ]
    if centre is not None:
        steps.append(partial(_shift_to_centre, name=images[0], centre=centre))
    steps.append(tio.CropOrPad(config.shape))
    return tio.Compose(steps)


def _onto_one_grid(subject: tio.Subject, *, spacing_mm: Sequence[float], images: Sequence[str]) -> tio.Subject:
    """RAS; the first image at ``spacing_mm``, the others on its grid; their fields of view under ``FIELDS``."""
    subject = tio.ToCanonical()(subject)
    first, *others = images
    absent = [name for name in images if name not in subject.get_images_names()]
    if absent:
        raise InputError(f"{name_of(subject)}: has no image {absent[0]!r}; it has {subject.get_images_names()}.")
    grids = {name: (subject[name].spatial_shape, subject[name].affine) for name in images}
    refuse_apart(grids, where=name_of(subject))
    _refuse_unfit(subject[first], spacing_mm, where=f"{name_of(subject)}: image {first!r}")
    subject = tio.Resample(spacing_mm, include=[first])(subject)
    fields = {}
    for name in others:
        before = subject[name]
        whole = tio.ScalarImage(tensor=torch.ones(before.shape), affine=before.affine)
        fields[name] = tio.Resample(subject[first], image_interpolation="nearest")(whole).data > 0.5
        subject = tio.Resample(first, include=[name])(subject)
    for name in [name for name in subject.get_images_names() if name not in images]:
        if not _on_one_grid(subject[name], subject[first]):
            subject = tio.Resample(first, include=[name])(subject)
    subject[FIELDS] = fields
    return subject


def _on_one_grid(image: tio.Image, other: tio.Image) -> bool:
    return image.spatial_shape == other.spatial_shape and np.allclose(image.affine, other.affine)


def _refuse_unfit(image: tio.ScalarImage, spacing_mm: Sequence[float], *, where: str) -> None:
    """InputError if a side of an image at ``spacing_mm`` has less than two voxels, or the image has too many."""
    sides = np.floor(np.multiply(image.spatial_shape, image.spacing) / spacing_mm)
    if sides.min() < 2 or sides.prod() > MOST_VOXELS:
        raise InputError(
            f"{where} of {image.spatial_shape} voxels of {np.round(image.spacing, 4).tolist()} mm would have "
            f"{[int(side) for side in sides]} voxels at preprocess.spacing_mm={tuple(spacing_mm)}; mend one of them."
        )


def _shift_to_centre(subject: tio.Subject, *, name: str, centre: Centre) -> tio.Subject:
    """Pad one side of each axis until the wanted point is the middle; world coordinates stay."""
    image = subject[name]
    voxel = np.linalg.inv(image.affine) @ [*centre(image), 1.0]
    # A voxel more on one side moves the middle by half a voxel.
    excess = np.rint(2 * voxel[:3] - (np.array(image.spatial_shape) - 1)).astype(int)
    return tio.Pad([int(side) for by in excess for side in (max(-by, 0), max(by, 0))])(subject)


def preprocess(
    subjects: Iterable[tio.Subject], config: PreprocessConfig, images: Sequence[str], *, centre: Centre | None = None
) -> list[tio.Subject]:
    """Preprocess subjects and keep the result in memory, without the torchio history.

    Args:
        subjects: As :func:`~synthaug.data.reading.manifest.load_manifest` gives them.
        config: Spacing, shape and intensity windows.
        images: Image names; the others are resampled onto the grid of the first.
        centre: As in :func:`build_preprocessing`; from :func:`synthaug.models.extractors.taps.crop_centre`.

    Raises:
        InputError: The images of a subject do not overlap, an image becomes constant (as where all content lies
            outside the crop), or ``config.centre`` is "prostate" without ``centre``.
    """
    remarks = Remarks()
    transform = build_preprocessing(config, images, centre=centre, remarks=remarks)
    done = [preprocess_one(subject, transform, config, images) for subject in subjects]
    remarks.say(logging.getLogger(__name__))
    return done


def preprocess_one(
    subject: tio.Subject,
    transform: Callable[[tio.Subject], tio.Subject],
    config: PreprocessConfig,
    images: Sequence[str],
) -> tio.Subject:
    """A subject after ``transform``, that of :func:`build_preprocessing`; InputError if an image becomes constant."""
    result = transform(subject)
    for name in images:
        values = result[name].data
        if values.min() == values.max():
            raise InputError(
                f"{subject['subject_id']}: image {name!r} is constant after preprocessing to "
                f"{config.shape} voxels of {config.spacing_mm} mm; check preprocess.shape and spacing."
            )
    result.applied_transforms = []
    result.preprocessing = config.recorded()  # for whoever puts synthetic subjects beside these
    return result
