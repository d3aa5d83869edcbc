"""The one preprocessing: what real images go through before any network, and what synthetic ones are born as."""

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
"""The first image, RAS and resampled, to the world point (3,) in mm that shall lie in the middle of the crop."""
FIELDS = "fields_of_view"
"""Key of a subject, between two steps, under which its images' fields of view stand."""
MOST_VOXELS = 2**30
"""Voxels of a resampled image (4 GiB); a header that asks for more lies."""


def build_preprocessing(
    config: PreprocessConfig,
    images: Sequence[str],
    *,
    centre: Centre | None = None,
    remarks: Remarks | None = None,
) -> tio.Compose:
    """RAS orientation, the first image's spacing, all images on its grid, intensities to [0, 1], crop or pad.

    Intensities are scaled before padding and inside each image's field of view, so that neither padding nor what
    resampling fills in moves the percentiles; both become 0.

    Args:
        config: Spacing, shape and intensity windows.
        images: Image names; the others are resampled onto the grid of the first.
        centre: What the crop is centred on; None = the middle of the first image. For ``centre: prostate``,
            :func:`synthaug.models.extractors.taps.gland_centre_mm`.
        remarks: Collects images whose voxels fill little of [0, 1]; None = they are not looked for.

    Returns:
        A torchio transform from a subject to one whose images are (1, *config.shape) in [0, 1].

    Raises:
        InputError: ``config.centre`` is "prostate", and no ``centre`` finds it; or ``config.ranges`` names no image.

    Example:
        >>> import torch
        >>> transform = build_preprocessing(PreprocessConfig(spacing_mm=(1, 1, 1), shape=(8, 8, 8)), ["t2w"])
        >>> transform(tio.Subject(t2w=tio.ScalarImage(tensor=torch.rand(1, 6, 9, 8))))["t2w"].shape
        (1, 8, 8, 8)
    """
    if config.centre == "prostate" and centre is None:
        # This room stands below the networks, so that whoever calls has to hand one down.
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
    """RAS, the first image at ``spacing_mm`` and the others on its grid; their fields of view are kept beside them."""
    subject = tio.ToCanonical()(subject)
    first, *others = images
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
    subject[FIELDS] = fields
    return subject


def _refuse_unfit(image: tio.ScalarImage, spacing_mm: Sequence[float], *, where: str) -> None:
    """InputError if an image has less than two voxels a side at ``spacing_mm``, or too many to hold."""
    sides = np.floor(np.multiply(image.spatial_shape, image.spacing) / spacing_mm)
    if sides.min() < 2 or sides.prod() > MOST_VOXELS:
        raise InputError(
            f"{where} of {image.spatial_shape} voxels of {np.round(image.spacing, 4).tolist()} mm would have "
            f"{[int(side) for side in sides]} voxels at preprocess.spacing_mm={tuple(spacing_mm)}; mend one of them."
        )


def _shift_to_centre(subject: tio.Subject, *, name: str, centre: Centre) -> tio.Subject:
    """Pad one side of each axis until the wanted point lies in the middle; no voxel moves in the world."""
    image = subject[name]
    voxel = np.linalg.inv(image.affine) @ [*centre(image), 1.0]
    # A voxel more on one side moves the middle by half a voxel.
    excess = np.rint(2 * voxel[:3] - (np.array(image.spatial_shape) - 1)).astype(int)
    return tio.Pad([int(side) for by in excess for side in (max(-by, 0), max(by, 0))])(subject)


def preprocess(
    subjects: Iterable[tio.Subject], config: PreprocessConfig, images: Sequence[str], *, centre: Centre | None = None
) -> list[tio.Subject]:
    """Apply the one preprocessing and keep the result in memory, without the torchio history.

    Args:
        subjects: As :func:`~synthaug.data.reading.manifest.load_manifest` gives them.
        config: Spacing, shape and intensity windows.
        images: Image names; the others are resampled onto the grid of the first.
        centre: As :func:`build_preprocessing` takes it; :func:`synthaug.models.extractors.taps.crop_centre` gives what
            ``config`` asks for.

    Raises:
        InputError: The images of a subject do not show the same place, one becomes constant, as when all its content
            lies outside the crop, or no ``centre`` finds the prostate that ``config`` asks for.
    """
    remarks = Remarks()
    transform = build_preprocessing(config, images, centre=centre, remarks=remarks)
    done = []
    for subject in subjects:
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
        done.append(result)
    remarks.say(logging.getLogger(__name__))
    return done
