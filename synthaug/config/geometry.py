"""Settings of geometric augmentation with known effects on class and report."""

from dataclasses import dataclass

from synthaug.config.checks import require

SHIFT_LIMIT = 4
"""Largest shift in voxels. Networks are conditioned on shifts in this unit."""
ZOOM_LIMIT = 1.25
"""Largest zoom factor, and the inverse of the smallest. Networks are conditioned on zooms in units of its logarithm."""
ROTATION_LIMIT_DEG = 15.0
"""Largest rotation. Networks are conditioned on rotations in this unit."""


@dataclass
class GeometryConfig:
    """Random shifts, mirroring, zooms and rotations whose effect on report and class is known."""

    shift: int = 2
    """Largest shift along each axis in whole voxels, 0 to 4. Nothing is interpolated. 0: none."""
    flip: bool = True
    """Left-right mirroring."""
    zooms: tuple[float, ...] = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
    """Zoom factors to draw from, within [0.8, 1.25], including 1. The grid bounds the reports. (1.0,): none."""
    rotations_deg: tuple[float, ...] = (0.0,)
    """Rotations about the superior-inferior axis to draw from, within [-15, 15] degrees, including 0."""
    probability: float = 0.5
    """Probability of each of the four moves, drawn independently, in [0, 1]. Mirroring: at most one half."""

    def __post_init__(self) -> None:
        require(0 <= self.shift <= SHIFT_LIMIT, f"geometry.shift={self.shift} must lie in 0..{SHIFT_LIMIT} voxels.")
        for name, values, neutral, low, high in (
            ("zooms", self.zooms, 1.0, 1 / ZOOM_LIMIT, ZOOM_LIMIT),
            ("rotations_deg", self.rotations_deg, 0.0, -ROTATION_LIMIT_DEG, ROTATION_LIMIT_DEG),
        ):
            require(
                neutral in values and len(set(values)) == len(values) and all(low <= value <= high for value in values),
                f"geometry.{name}={values} must hold {neutral:g} and no value twice, all within [{low:g}, {high:g}].",
            )
        require(0 <= self.probability <= 1, f"geometry.probability={self.probability} must lie in [0, 1].")
