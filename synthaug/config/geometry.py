"""Settings of the geometric augmentation that labels and reports follow."""

from dataclasses import dataclass

from synthaug.config.checks import require

SHIFT_LIMIT = 4
"""Largest whole-voxel shift that a config may ask for; the unit in which networks are told shifts."""
ZOOM_LIMIT = 1.25
"""Largest zoom, and one over the smallest; its logarithm is the unit in which networks are told zooms."""
ROTATION_LIMIT_DEG = 15.0
"""Largest rotation; the unit in which networks are told rotations."""


@dataclass
class GeometryConfig:
    """Random geometry whose effect on report and class is known: shifts, mirroring, zoom, rotation."""

    shift: int = 2
    """Largest shift along each axis, in whole voxels (nothing is interpolated), 0 to 4; 0 = none."""
    flip: bool = True
    """Left-right mirroring."""
    zooms: tuple[float, ...] = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
    """Zoom factors that are drawn, within [0.8, 1.25], 1 among them. A grid, so that only so many reports can occur;
    (1.0,) = none."""
    rotations_deg: tuple[float, ...] = (0.0,)
    """Rotations about the superior-inferior axis that are drawn, within [-15, 15] degrees, 0 among them."""
    probability: float = 0.5
    """Chance of each of the four moves, drawn one by one, in [0, 1]; of mirroring at most one half."""

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
