"""What follows from a survey: the grid that volumes are brought to, with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.data.reading.survey import Look

MULTIPLE = 8
"""Sides are multiples of this, which every network here can halve."""
CLIPPED = 0.9
"""A subject counts as cropped whose field of view shares less than this of an axis with the grid's."""
COARSEST = 3.0
"""Voxels are proposed up to so many times as large as scanned; what spans a few voxels is lost beyond that."""

HELD = 0.9
"""Share of the images whose foreground the grid holds, where there are voxels enough."""


@dataclass(frozen=True)
class GridPlan:
    """A grid for the one preprocessing."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    reason: str
    whole: "GridPlan | None" = None
    """Where this one leaves out some of the foreground: a coarser one that leaves out none."""


def propose_grid(looks: Sequence[Look], *, voxels: int) -> GridPlan:
    """The foreground of the images at voxels up to ``COARSEST`` times as large as scanned, cropped until it fits.

    Args:
        looks: Of the first image of each subject.
        voxels: What the machine can train on, at least 512.

    Example:
        >>> look = Look((384, 384, 20), (0.5, 0.5, 3.0), "LPS", (0, 100, 400))
        >>> plan = propose_grid([look] * 3, voxels=2**16)
        >>> plan.shape, plan.spacing_mm, plan.whole.spacing_mm
        ((48, 56, 24), (1.5, 1.5, 3.0), (3.77, 3.77, 3.8))
    """
    whole = plan_grid(looks, voxels=voxels)
    native = np.median([look.spacing_mm for look in looks], axis=0)
    field = np.median([look.extent_mm for look in looks], axis=0)
    extent = np.minimum(field, np.quantile([look.foreground_mm or look.extent_mm for look in looks], HELD, axis=0))
    spacing, limit = native.copy(), COARSEST * native
    while _sides(extent, spacing).prod() > voxels:
        finest = spacing <= spacing.min() * 1.0001
        if (spacing[finest] >= limit[finest]).any():
            break  # what is scanned in thick slices is not made thicker for it
        spacing[finest] = np.minimum(spacing[finest] * 1.02, limit[finest])
    sides = _sides(extent, spacing)
    while sides.prod() > voxels:
        sides[np.argmax(sides * spacing * (sides > MULTIPLE))] -= MULTIPLE
    rounded = np.array([round(float(size), 2) or float(size) for size in spacing])
    left_out = (sides * rounded < CLIPPED * extent).any()
    reason = _reason(looks, native, extent, rounded, sides, voxels=voxels, left_out=bool(left_out))
    shape, size = tuple(map(int, sides)), tuple(map(float, rounded))
    return GridPlan(shape, size, reason, whole if left_out else None)  # type: ignore[arg-type]  # three of each


def _reason(
    looks: Sequence[Look],
    native: np.ndarray,
    extent: np.ndarray,
    spacing: np.ndarray,
    sides: np.ndarray,
    *,
    voxels: int,
    left_out: bool,
) -> str:
    """Why a grid is proposed."""
    seen = np.median([look.extent_mm for look in looks], axis=0)
    parts = [f"median field of view {_by(seen, '.0f')} mm"]
    if (extent < 0.95 * seen).any():
        parts.append(f"all that is brighter than background lies in {_by(extent, '.0f')} mm around the middle")
    parts.append(f"median voxel size {_by(native)} mm, {_change(native, spacing, voxels)}")
    parts.append(f"sides are multiples of {MULTIPLE}")
    if left_out:
        parts.append(
            f"voxels are made at most {COARSEST:g} times as large as scanned, so that small structures stay visible"
        )
        parts.append(
            f"the volume is cropped to {_by(sides * spacing, '.0f')} mm around its middle: make sure that "
            "what you ask about lies there (a prostate is found by preprocess.centre=prostate)"
        )
    return "; ".join(parts) + "."


def _change(native: np.ndarray, spacing: np.ndarray, voxels: int) -> str:
    coarser = [
        f"{'xyz'[axis]} {native[axis]:.3g} to {spacing[axis]:.3g} mm"
        for axis in range(3)
        if spacing[axis] > 1.01 * native[axis]
    ]
    return f"made coarser ({', '.join(coarser)}) to stay within {voxels} voxels" if coarser else "as scanned"


def _by(values: np.ndarray, form: str = ".3g") -> str:
    return " x ".join(format(float(each), form) for each in values)


def plan_grid(looks: Sequence[Look], *, voxels: int) -> GridPlan:
    """The whole median field of view at the median voxel size, made coarser until it fits.

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
    grid = np.multiply(sides, rounded)
    cropped = sum(any(size * CLIPPED > room for size, room in zip(look.extent_mm, grid, strict=True)) for look in looks)
    parts = [
        f"median field of view {_by(extent, '.0f')} mm",
        f"median voxel size {_by(native)} mm, {_change(native, np.array(rounded), voxels)}",
        f"sides rounded up to multiples of {MULTIPLE}",
        f"{cropped} of {len(looks)} images are larger on an axis and are cropped around their middle",
    ]
    return GridPlan((sides[0], sides[1], sides[2]), (rounded[0], rounded[1], rounded[2]), "; ".join(parts) + ".")


def _sides(extent: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Voxels that cover the extent, rounded up to multiples."""
    return np.maximum(np.ceil(extent / spacing / MULTIPLE - 1e-6), 1) * MULTIPLE
