"""What follows from a survey: the grid that volumes are brought to, with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.data.reading.survey import Look

MULTIPLE = 8
"""Sides are multiples of this, which every network here can halve."""
CLIPPED = 0.9
"""A subject counts as cropped whose field of view shares less than this of an axis with the grid's."""


@dataclass(frozen=True)
class GridPlan:
    """A grid for the one preprocessing."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    reason: str


def plan_grid(looks: Sequence[Look], *, voxels: int) -> GridPlan:
    """The median field of view at the median voxel size, made coarser until it fits.

    The finest axes are made coarser first, as nnU-Net does it for its low resolution.

    Args:
        looks: Of the first image of each subject.
        voxels: What the machine can train on, at least 512.

    Example:
        >>> look = Look((384, 384, 20), (0.5, 0.5, 3.0), "LPS", (0, 100, 400))
        >>> plan = plan_grid([look] * 3, voxels=2**17)
        >>> plan.shape, plan.spacing_mm
        ((72, 72, 24), (2.69, 2.69, 3.0))
    """
    native = np.median([look.spacing_mm for look in looks], axis=0)
    extent = np.median([look.extent_mm for look in looks], axis=0)
    spacing = native.copy()
    while _sides(extent, spacing).prod() > voxels:  # ends: MULTIPLE on each axis is always within
        spacing[spacing <= spacing.min() * 1.0001] *= 1.02
    sides = [int(side) for side in _sides(extent, spacing)]
    rounded = [round(float(size), 2) or float(size) for size in spacing]
    coarser = [
        f"{'xyz'[axis]} {native[axis]:.3g} to {rounded[axis]:.3g} mm"
        for axis in range(3)
        if rounded[axis] > 1.01 * native[axis]
    ]
    grid = np.multiply(sides, rounded)
    cropped = sum(any(size * CLIPPED > room for size, room in zip(look.extent_mm, grid, strict=True)) for look in looks)
    made = f"made coarser ({', '.join(coarser)}) to stay within {voxels} voxels" if coarser else "as scanned"
    parts = [
        f"median field of view {' x '.join(f'{each:.0f}' for each in extent)} mm",
        f"median voxel size {' x '.join(f'{each:.3g}' for each in native)} mm, {made}",
        f"sides rounded up to multiples of {MULTIPLE}",
        f"{cropped} of {len(looks)} images are larger on an axis and are cropped around their middle",
    ]
    return GridPlan((sides[0], sides[1], sides[2]), (rounded[0], rounded[1], rounded[2]), "; ".join(parts) + ".")


def _sides(extent: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Voxels that cover the extent, rounded up to multiples."""
    return np.maximum(np.ceil(extent / spacing / MULTIPLE - 1e-6), 1) * MULTIPLE
