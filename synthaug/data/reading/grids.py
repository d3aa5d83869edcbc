"""Where voxels lie in the world: one rule for every NIfTI header, and fields of view that meet.

The rule is the NIfTI standard's (https://nifti.nimh.nih.gov/nifti-1, methods 3, 2 and 1) and nibabel's. The sform
counts where its code is positive, else the qform where its code is, else the voxel size alone.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.ground.errors import InputError

AffineChoice = Literal["sform", "qform"]
"""Which matrix of a header counts where its two disagree."""
Grid = tuple[Sequence[int], NDArray[np.float64]]
"""Voxels (3,) and affine (4, 4) from voxel index to world mm."""

LEAST_TOLD, MOST_BORNE = 0.1, 1.0
"""Voxels that a header may contradict itself by without a remark (a rounded quaternion does), and at all."""
LEAST_SHARED = 0.5
"""Share of the smaller field of view that two images of one subject must have in common."""
MM = {1: 1000.0, 3: 0.001}
"""Millimetres of a header's unit of length; every other code counts as mm."""
SMALLEST_MM, LARGEST_MM = 1e-5, 1e5
"""Voxel sizes beyond these are no image's."""


def world_affine(
    header: Any, shape: Sequence[int], *, choice: AffineChoice | None, prefix: str
) -> tuple[NDArray[np.float64], list[str]]:
    """The affine of a NIfTI header by the one rule.

    Args:
        header: nibabel's NIfTI-1 or NIfTI-2 header.
        shape: Voxels (3,).
        choice: Which matrix counts where both are set and more than ``MOST_BORNE`` voxels apart; None = refuse.
        prefix: File or row, for errors.

    Returns:
        The affine (4, 4) in mm, and remarks on what was settled by the rule.

    Raises:
        InputError: The matrix that counts is not finite, singular or sheared, or the two matrices disagree.
    """
    matrices = {"sform": _sform(header), "qform": _qform(header)}
    found = {name: matrix for name, matrix in matrices.items() if matrix is not None}
    remarks = []
    if not found:
        remarks.append("has neither sform nor qform, so that left and right are a guess; voxel sizes alone count")
        affine, name = _by_spacing(header, shape), "pixdim"
    else:
        name = choice if choice in found else next(iter(found))
        affine = found[name]
    _refuse_unusable(affine, shape, name=name, prefix=prefix)
    other = next((matrix for key, matrix in found.items() if key != name), None)
    if other is not None and choice is None:
        apart = displacement(affine, other, shape)
        if not apart <= MOST_BORNE:
            raise InputError(
                f"{prefix}: its sform and qform lie {apart:.3g} voxels apart; mend the header, or say which is right: "
                "data.affine=sform or data.affine=qform."
            )
        if apart > LEAST_TOLD:
            remarks.append(f"has sform and qform up to {LEAST_TOLD} to {MOST_BORNE:g} voxel apart; the sform counts")
    if name == "sform" and not _sizes_agree(header, affine, shape):
        remarks.append("has voxel sizes (pixdim) other than its sform's; the sform counts")
    square = _without_shear(affine, shape)
    sheared = displacement(affine, square, shape)
    if sheared > MOST_BORNE:
        raise InputError(
            f"{prefix}: its {name} is sheared by {sheared:.3g} voxels, so that voxels are no boxes; resample it to a "
            "rectangular grid first."
        )
    if sheared > LEAST_TOLD:
        remarks.append(f"has a {name} sheared by {LEAST_TOLD} to {MOST_BORNE:g} voxel; it is taken as it is")
    scale = MM.get(int(header["xyzt_units"]) % 8, 1.0)
    return np.diag([scale, scale, scale, 1.0]) @ affine, remarks


def displacement(one: NDArray[np.float64], other: NDArray[np.float64], shape: Sequence[int]) -> float:
    """How far apart two affines put a corner of an image at most, in voxels of the first; NaN where undefined.

    Example:
        >>> shift = np.eye(4)
        >>> shift[0, 3] = 2
        >>> displacement(np.eye(4), shift, (8, 8, 8))
        2.0
    """
    corners = _points([(0, side - 1) for side in shape])
    with np.errstate(all="ignore"):
        moved = np.linalg.inv(one) @ (other @ corners)
        return float(np.linalg.norm((moved - corners)[:3], axis=0).max())


def shared_field(one: Grid, other: Grid) -> float:
    """Share of the smaller of two fields of view that lies inside the other, in [0, 1].

    Example:
        >>> half = np.eye(4)
        >>> half[0, 3] = 4
        >>> round(shared_field(((8, 8, 8), np.eye(4)), ((8, 8, 8), half)), 1)
        0.5
    """
    small, large = sorted((one, other), key=lambda grid: abs(np.linalg.det(grid[1][:3, :3])) * np.prod(grid[0]))
    places = (np.arange(16) + 0.5) / 16
    points = _points([places * side - 0.5 for side in small[0]])
    index = (np.linalg.inv(large[1]) @ small[1] @ points)[:3]
    inside = (index >= -0.5) & (index <= np.array(large[0])[:, None] - 0.5)
    return float(inside.all(axis=0).mean())


def refuse_apart(grids: Mapping[str, Grid], *, where: str) -> None:
    """InputError unless the images of one subject share most of the smaller field of view with the first."""
    (first, grid), *others = grids.items()
    for name, other in others:
        share = shared_field(grid, other)
        if share < LEAST_SHARED:
            raise InputError(
                f"{where}: images {first!r} and {name!r} share {share:.0%} of the smaller field of view, and "
                "do not show the same place. Mend their headers, or give images of one examination."
            )


def _sform(header: Any) -> NDArray[np.float64] | None:
    return np.asarray(header.get_sform(), dtype=np.float64) if header["sform_code"] > 0 else None


def _qform(header: Any) -> NDArray[np.float64] | None:
    """The matrix of quaternion, offset and voxel sizes; NaN where they make none."""
    if header["qform_code"] <= 0:
        return None
    named = header.copy()
    if named["pixdim"][0] == 0:
        named["pixdim"][0] = 1  # as the standard says
    sizes = np.asarray(named["pixdim"][1:4], dtype=np.float64)
    try:
        if (sizes > 0).all():
            return np.asarray(named.get_qform(), dtype=np.float64)
    except Exception:  # nibabel: a quaternion longer than 1, a handedness that is neither 1 nor -1, NaN
        pass
    return np.full((4, 4), np.nan)


def _by_spacing(header: Any, shape: Sequence[int]) -> NDArray[np.float64]:
    """Origin in the middle of the image and the first axis to the left, as nibabel takes an ANALYZE header."""
    sizes = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    sizes = np.where(sizes > 0, sizes, np.nan) * (-1, 1, 1)
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = -sizes * (np.array(shape) - 1) / 2
    return affine


def _sizes_agree(header: Any, affine: NDArray[np.float64], shape: Sequence[int]) -> bool:
    """Whether pixdim and the affine make the image as long, to a tenth of a voxel."""
    told, sizes = np.asarray(header["pixdim"][1:4], dtype=np.float64), np.linalg.norm(affine[:3, :3], axis=0)
    return bool((np.abs(told - sizes) * np.array(shape) <= LEAST_TOLD * sizes).all())


def _refuse_unusable(affine: NDArray[np.float64], shape: Sequence[int], *, name: str, prefix: str) -> None:
    if not np.isfinite(affine).all():
        raise InputError(
            f"{prefix}: its {name} is not finite, or made of voxel sizes that are not positive; mend the header."
        )
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not ((sizes > SMALLEST_MM) & (sizes < LARGEST_MM)).all() or np.abs(affine[:3, 3]).max() > LARGEST_MM * 10:
        raise InputError(f"{prefix}: its {name} has voxels of {sizes.round(6).tolist()} mm; mend the header.")
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3:
        raise InputError(f"{prefix}: its {name} is singular, so that voxels have no volume; mend the header.")


def _without_shear(affine: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """The nearest affine with right angles: same voxel sizes, same middle of the image."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / sizes)
    square = affine.copy()
    square[:3, :3] = left @ right * sizes
    middle = np.array([*(np.array(shape) - 1) / 2, 1.0])
    square[:3, 3] += (affine @ middle - square @ middle)[:3]
    return square


def _points(axes: Sequence[Any]) -> NDArray[np.float64]:
    """Every combination of the axes' coordinates as homogeneous columns (4, n)."""
    return np.array([[*point, 1.0] for point in itertools.product(*axes)]).T
