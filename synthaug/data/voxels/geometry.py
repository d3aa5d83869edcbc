"""Geometric augmentation that is told: drawn, applied, and handed on as numbers.

A network that is conditioned on the moves of a training volume does not learn moved volumes as real ones ("non-leaking
augmentation", Karras et al. 2020, 2022). Sampling is conditioned on :data:`NEUTRAL`. What the geometry does to report
and class is the business of :mod:`synthaug.data.relabel.relabeller`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from synthaug.config.geometry import ROTATION_LIMIT_DEG, SHIFT_LIMIT, ZOOM_LIMIT, GeometryConfig

CONDITIONS = ("shift_x", "shift_y", "shift_z", "mirrored", "zoom", "rotation", "interpolated")
"""What each number of :meth:`Geometry.conditions` says."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """One geometric move of a volume (X, Y, Z) in RAS axes, in this order: mirror, zoom and rotate, shift."""

    shift: tuple[int, int, int] = (0, 0, 0)
    """Whole voxels by which the content moves towards higher indices."""
    mirrored: bool = False
    """Whether left and right change places."""
    zoom: float = 1.0
    """Factor by which every length grows, about the volume's centre."""
    rotation_deg: float = 0.0
    """Counter-clockwise rotation in the (X, Y) plane, about the superior-inferior axis through the centre."""

    @property
    def interpolated(self) -> bool:
        """Whether new voxel values are computed: zoom and rotation smooth a volume, whole-voxel shifts do not."""
        return self.zoom != 1 or self.rotation_deg != 0

    @property
    def neutral(self) -> bool:
        """Whether the volume stays as it is."""
        return self == NEUTRAL

    def conditions(self) -> tuple[float, ...]:
        """The numbers a network is told, in the order of :data:`CONDITIONS`: within [-1, 1], all 0 if neutral.

        Their units do not depend on a config, so that a generator may be trained on under another one.

        Example:
            >>> Geometry(shift=(2, 0, -4), mirrored=True).conditions()
            (0.5, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0)
        """
        return (
            *(step / SHIFT_LIMIT for step in self.shift),
            float(self.mirrored),
            math.log(self.zoom) / math.log(ZOOM_LIMIT),
            self.rotation_deg / ROTATION_LIMIT_DEG,
            float(self.interpolated),
        )


NEUTRAL = Geometry()
"""Nothing is moved: what a generator is told when it samples."""


@dataclass(frozen=True)
class Allowed:
    """Moves whose effect on a subject's report and class is known; shifts and rotations change neither."""

    mirror: bool = True
    """Whether the volume may be mirrored."""
    zooms: tuple[float, ...] | None = None
    """Zoom factors that may be drawn; None = all of the config."""


def draw_geometry(
    config: GeometryConfig, generator: torch.Generator | None = None, allowed: Allowed | None = None
) -> Geometry:
    """Draw a geometry: each move with ``config.probability``, mirroring at most half the time, each amount evenly.

    As many random numbers are drawn whatever is allowed, so that subjects do not move each other's draws.

    Args:
        config: Moves and their ranges.
        generator: Source of randomness; None = torch's own, which the sampler seeds for every draw.
        allowed: Moves of this subject, as :meth:`synthaug.data.relabel.relabeller.Relabeller.allowed` says; None = all.

    Example:
        >>> draw_geometry(GeometryConfig(probability=0)).neutral
        True
    """
    allowed = allowed or Allowed()
    zooms = [zoom for zoom in config.zooms if allowed.zooms is None or zoom in allowed.zooms] or [1.0]
    draws = torch.rand(9, generator=generator, dtype=torch.float64).tolist()
    shifted, zoomed, rotated = (draws[place] < config.probability for place in (0, 2, 3))
    mirrored = draws[1] < min(config.probability, 0.5)  # beyond a half it would be less often as it is

    def pick(draw: float, values: Sequence[float]) -> float:
        return values[int(draw * len(values))]

    steps = range(-config.shift, config.shift + 1)
    return Geometry(
        shift=tuple(int(pick(draw, steps)) for draw in draws[4:7]) if shifted else (0, 0, 0),  # type: ignore[arg-type]
        mirrored=config.flip and allowed.mirror and mirrored,
        zoom=pick(draws[7], zooms) if zoomed else 1.0,
        rotation_deg=pick(draws[8], config.rotations_deg) if rotated else 0.0,
    )


def apply_geometry(volume: torch.Tensor, geometry: Geometry, *, spacing_mm: Triple = (1.0, 1.0, 1.0)) -> torch.Tensor:
    """Move a volume; all its channels alike.

    Beyond the border the nearest voxel is repeated. Zoom, rotation and shift are one cubic-spline interpolation,
    clipped to the range of each channel. Without zoom and rotation nothing is interpolated.

    Args:
        volume: (C, X, Y, Z), left-right axis first, floating point.
        geometry: What to do.
        spacing_mm: Voxel size, which a rotation needs where X and Y differ.

    Returns:
        A new tensor of the same shape, type and device; a neutral geometry gives the same values.

    Example:
        >>> volume = torch.arange(4.0).reshape(1, 4, 1, 1)
        >>> apply_geometry(volume, Geometry(shift=(1, 0, 0), mirrored=True)).flatten().tolist()
        [3.0, 3.0, 2.0, 1.0]
    """
    moved = volume.flip(1) if geometry.mirrored else volume.clone()
    if not geometry.interpolated:
        return _shifted(moved, geometry.shift)
    low, high = moved.amin(dim=(1, 2, 3), keepdim=True), moved.amax(dim=(1, 2, 3), keepdim=True)
    interpolate = _rotated if geometry.rotation_deg else _zoomed
    return interpolate(moved, geometry, spacing_mm).to(volume).clamp(low, high).contiguous()


def _shifted(volume: torch.Tensor, shift: Sequence[int]) -> torch.Tensor:
    for axis, step in enumerate(shift, start=1):
        if step:
            side = volume.shape[axis]
            places = (torch.arange(side, device=volume.device) - step).clamp(0, side - 1)
            volume = volume.index_select(axis, places)
    return volume


def _zoomed(volume: torch.Tensor, geometry: Geometry, spacing_mm: Triple) -> torch.Tensor:
    """Cubic splines are separable: a zoom is one small matrix along each axis."""
    x, y, z = (
        _spline_matrix(side, geometry.zoom, step).to(volume)
        for side, step in zip(volume.shape[1:], geometry.shift, strict=True)
    )
    return torch.einsum("cxyz,ax->cayz", volume, x).matmul(z.T).transpose(2, 3).matmul(y.T).transpose(2, 3)


@lru_cache(maxsize=1024)
def _spline_matrix(side: int, zoom: float, shift: int) -> torch.Tensor:
    """(side, side): the values of an axis to those of the zoomed and shifted axis, spline prefilter included."""
    centre = (side - 1) / 2
    impulses = (
        ndimage.affine_transform(row, [1 / zoom], offset=centre - (centre + shift) / zoom, order=3, mode="nearest")
        for row in np.eye(side)
    )
    return torch.from_numpy(np.stack([*impulses], axis=1))


def _rotated(volume: torch.Tensor, geometry: Geometry, spacing_mm: Triple) -> torch.Tensor:
    """Zoom and rotation at once, in millimetres."""
    angle, spacing = math.radians(geometry.rotation_deg), np.array(spacing_mm)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    # affine_transform maps output to input: the inverse rotation, the inverse zoom.
    matrix = turn.T * spacing / spacing[:, None] / geometry.zoom
    centre = (np.array(volume.shape[1:]) - 1) / 2
    offset = centre - matrix @ (centre + geometry.shift)
    channels = volume.detach().cpu().double().numpy()
    moved = [ndimage.affine_transform(each, matrix, offset=offset, order=3, mode="nearest") for each in channels]
    return torch.from_numpy(np.stack(moved))
