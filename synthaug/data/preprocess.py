"""The one preprocessing: what real images go through before any network, and what synthetic ones are born as."""

from collections.abc import Iterable, Sequence

import torchio as tio

from synthaug.config import PreprocessConfig
from synthaug.errors import InputError


def build_preprocessing(config: PreprocessConfig, images: Sequence[str]) -> tio.Compose:
    """RAS orientation, the first image's spacing, all images on its grid, intensities to [0, 1], central crop or pad.

    Intensities are scaled before padding, so that padding does not move the percentiles.

    Args:
        config: Spacing, shape and intensity windows.
        images: Image names; the others are resampled onto the grid of the first.

    Returns:
        A torchio transform from a subject to one whose images are (1, *config.shape) in [0, 1].

    Example:
        >>> import torch
        >>> transform = build_preprocessing(PreprocessConfig(spacing_mm=(1, 1, 1), shape=(8, 8, 8)), ["t2w"])
        >>> transform(tio.Subject(t2w=tio.ScalarImage(tensor=torch.rand(1, 6, 9, 8))))["t2w"].shape
        (1, 8, 8, 8)
    """
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
    steps.append(tio.CropOrPad(config.shape))
    return tio.Compose(steps)


def preprocess(subjects: Iterable[tio.Subject], config: PreprocessConfig, images: Sequence[str]) -> list[tio.Subject]:
    """Apply the one preprocessing and keep the result in memory, without the torchio history.

    Raises:
        InputError: An image becomes constant, as when all its content lies outside the crop.
    """
    transform = build_preprocessing(config, images)
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
