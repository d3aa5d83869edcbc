"""Low-level statistics of a volume: spectrum, histogram, neighbourhoods, steps at patch borders.

Each says how a scanner's volume looks at the scale of voxels, whatever the anatomy. They share nothing with the
extractors in which FID is measured.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.ndimage import uniform_filter

LEAST_SIDE = 4
"""Fewest voxels along an axis."""
SHELLS = (0.0, 0.08, 0.16, 0.25, 0.34, 0.43, 0.9)
"""Edges of the radial frequency shells, cycles a voxel."""
PATCHES = (2, 4, 8)
"""Patch sizes whose borders are looked at."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TINY = 1e-12
"""Added before a logarithm: a part of a volume may be constant."""
Aspect = Literal["grey values", "spectrum", "local noise", "steps", "patch borders"]
"""What a statistic is about."""


def texture(volume: np.ndarray) -> np.ndarray:
    """Statistics (d,) of a volume; d depends on channels and shape alone.

    Args:
        volume: (C, X, Y, Z), every side at least ``LEAST_SIDE``.

    Example:
        >>> texture(np.random.default_rng(0).random((1, 16, 16, 8))).shape
        (68,)
    """
    channels = np.asarray(volume, dtype=np.float32)
    found = [value for channel in channels for _, part in _statistics(channel) for value in part]
    return np.array(found, dtype=np.float64)


def aspects(volume: np.ndarray) -> list[Aspect]:
    """What each statistic of :func:`texture` is about, for volumes of this shape.

    Example:
        >>> told = aspects(np.zeros((1, 16, 16, 8)))
        >>> len(told), told.count("spectrum")
        (68, 9)
    """
    channels = np.asarray(volume, dtype=np.float32)
    return [aspect for channel in channels for aspect, part in _statistics(channel) for _ in part]


def _statistics(image: np.ndarray) -> Iterator[tuple[Aspect, Iterator[float]]]:
    """All statistics of one channel (X, Y, Z), by what they are about."""
    yield "grey values", _histogram(image)
    yield "spectrum", _spectrum(image)
    yield "local noise", _neighbourhoods(image)
    for axis in range(image.ndim):
        step = np.diff(image, axis=axis)
        yield "steps", _steps(image, step, axis)
        yield "patch borders", _borders(step, axis)


def _histogram(image: np.ndarray) -> Iterator[float]:
    """Quantiles, the first four moments, the shares of nearly black and nearly white voxels."""
    yield from np.quantile(image, QUANTILES)
    mean, deviation = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    normal = (image - mean) / (deviation + TINY)
    yield mean
    yield np.log(deviation + TINY)
    yield float((normal**3).mean())
    yield np.log(float((normal**4).mean()) + TINY)
    yield float((image < 0.02).mean())
    yield float((image > 0.98).mean())


def _spectrum(image: np.ndarray) -> Iterator[float]:
    """Log shares of the power in each shell, and beyond half the highest frequency along each axis."""
    power = np.abs(np.fft.fftn(image - image.mean())) ** 2
    frequency = np.meshgrid(*(np.fft.fftfreq(side) for side in image.shape), indexing="ij", sparse=True)
    radius = np.sqrt(sum(axis**2 for axis in frequency))
    total = power.sum() + TINY
    shell = np.digitize(radius, SHELLS[1:-1]).ravel()
    for part in np.bincount(shell, weights=power.ravel(), minlength=len(SHELLS) - 1):
        yield np.log(part / total + TINY)
    for axis in frequency:
        yield np.log((power * (np.abs(axis) > 0.25)).sum() / total + TINY)


def _neighbourhoods(image: np.ndarray) -> Iterator[float]:
    """Variance within 3 x 3 x 3 voxels around each voxel: quantiles, and its share of the variance of the volume."""
    mean = uniform_filter(image, 3, mode="nearest")
    variance = np.maximum(uniform_filter(image**2, 3, mode="nearest") - mean**2, 0)
    yield from np.log(np.quantile(variance, (0.05, 0.25, 0.5, 0.75, 0.95)) + 1e-8)
    yield np.log(variance.mean() / (image.var() + TINY) + TINY)
    # What the mean of the six neighbours does not explain: noise, where the volume is sharp.
    inner = (slice(1, -1),) * image.ndim
    sides = [np.roll(image, by, axis)[inner] for axis in range(image.ndim) for by in (-1, 1)]
    residual = np.abs(image[inner] - np.mean(sides, axis=0))
    yield from np.log(np.quantile(residual, (0.25, 0.5, 0.9)) + 1e-6)


def _steps(image: np.ndarray, step: np.ndarray, axis: int) -> Iterator[float]:
    """Sizes of the steps to the next voxel along an axis, and how they compare with steps over two voxels."""
    size = np.abs(step)
    yield from np.log(np.quantile(size, (0.25, 0.5, 0.9, 0.99)) + 1e-6)
    far = np.abs(np.take(image, range(2, image.shape[axis]), axis) - np.take(image, range(image.shape[axis] - 2), axis))
    bend = np.abs(np.diff(step, axis=axis))
    mean = float(size.mean()) + TINY
    yield np.log(float(far.mean()) / mean + TINY)
    yield np.log(float(bend.mean()) / mean + TINY)
    yield np.log(float((size**2).mean()) / mean**2 + TINY)


def _borders(step: np.ndarray, axis: int) -> Iterator[float]:
    """Steps across the borders of a patch grid over those inside the patches, where two patches fit in.

    Once as they are, once less the mean of the steps before and after, which takes smooth anatomy away.
    """
    before, at, after = (np.take(step, range(first, step.shape[axis] - 2 + first), axis) for first in range(3))
    for first, sizes in ((1, np.abs(step)), (2, np.abs(at - (before + after) / 2))):
        profile = sizes.mean(axis=tuple(other for other in range(step.ndim) if other != axis)).astype(np.float64)
        place = np.arange(first, first + len(profile))
        for patch in PATCHES:
            across = place % patch == 0
            if step.shape[axis] + 1 >= 2 * patch and across.any() and not across.all():
                yield np.log((profile[across].mean() + TINY) / (profile[~across].mean() + TINY))
