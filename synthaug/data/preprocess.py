"""The one preprocessing: what real images go through before any network, and what synthetic ones are born as."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torchio as tio

from synthaug.config import PreprocessConfig
from synthaug.ground.errors import InputError

Centre = Callable[[tio.ScalarImage], Sequence[float]]
"""The first image, RAS and resampled, to the world point (3,) in mm that shall lie in the middle of the crop."""


def build_preprocessing(
    config: PreprocessConfig, images: Sequence[str], *, centre: Centre | None = None
) -> tio.Compose:
    """RAS orientation, the first image's spacing, all images on its grid, intensities to [0, 1], crop or pad.

    Intensities are scaled before padding, so that padding does not move the percentiles.

    Args:
        config: Spacing, shape and intensity windows.
        images: Image names; the others are resampled onto the grid of the first.
        centre: What the crop is centred on: :func:`synthaug.models.taps.gland_centre_mm` where ``config.centre`` is
            "prostate"; None = the middle of the first image.

    Returns:
        A torchio transform from a subject to one whose images are (1, *config.shape) in [0, 1].

    Raises:
        InputError: ``config.centre`` is "prostate", and no ``centre`` finds it.

    Example:
        >>> import torch
        >>> transform = build_preprocessing(PreprocessConfig(spacing_mm=(1, 1, 1), shape=(8, 8, 8)), ["t2w"])
        >>> transform(tio.Subject(t2w=tio.ScalarImage(tensor=torch.rand(1, 6, 9, 8))))["t2w"].shape
        (1, 8, 8, 8)
    """
    if config.centre == "prostate" and centre is None:
        # This room stands below the networks, so that whoever calls has to hand one down.
        raise InputError(
            "preprocess.centre=prostate needs what finds the prostate; give centre=synthaug.models.taps."
            "crop_centre(config)."
        )
    first, *others = images
    steps: list[tio.Transform] = [tio.ToCanonical(), tio.Resample(config.spacing_mm, include=[first])]
    if others:
        steps.append(tio.Resample(first, include=others))
    percentile_images = [name for name in images if name not in config.ranges]
    if percentile_images:
        steps.append(tio.RescaleIntensity((0, 1), percentiles=config.percentiles, include=percentile_images))
    for name, window in config.ranges.items():
        steps.append(tio.Clamp(*window, include=[name]))
        steps.append(tio.RescaleIntensity((0, 1), in_min_max=tuple(window), include=[name]))
    if centre is not None:
        steps.append(partial(_shift_to_centre, name=first, centre=centre))
    steps.append(tio.CropOrPad(config.shape))
    return tio.Compose(steps)


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
        subjects: As :func:`~synthaug.data.manifest.load_manifest` gives them.
        config: Spacing, shape and intensity windows.
        images: Image names; the others are resampled onto the grid of the first.
        centre: As :func:`build_preprocessing` takes it; :func:`synthaug.models.taps.crop_centre` gives what
            ``config`` asks for.

    Raises:
        InputError: An image becomes constant, as when all its content lies outside the crop, or no ``centre`` finds
            the prostate that ``config`` asks for.
    """
    transform = build_preprocessing(config, images, centre=centre)
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
        done.append(result)
    return done
