"""Settings of the preprocessing."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from synthaug.config.checks import require, require_ranges


@dataclass
class PreprocessConfig:
    """Preprocessing of real and synthetic images: orientation, resampling, cropping, intensities."""

    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 4.0)
    """Voxel size after resampling, RAS axes."""
    shape: tuple[int, int, int] = (32, 32, 16)
    """Voxels along each axis after cropping and padding around ``centre``."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """Intensity percentiles that are mapped to 0 and 1; values beyond are clipped. They are taken inside the field of
    view. Published: [0, 99.5], which a single dark voxel can shift."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Intensity ranges of quantitative images, in place of percentiles: {"adc": [0, 3000]} is mapped to [0, 1]."""
    centre: Literal["volume", "prostate"] = "volume"
    """Centre of the crop: the middle of the first image, or the prostate as segmented by taps (T2, needs
    ``synthaug[taps]``)."""

    def recorded(self) -> dict[str, Any]:
        """Settings as checkpoints and pools record them; ``centre`` is left out where it has its default.

        Example:
            >>> sorted(PreprocessConfig().recorded())
            ['percentiles', 'ranges', 'shape', 'spacing_mm']
            >>> PreprocessConfig(centre="prostate").recorded()["centre"]
            'prostate'
        """
        settings = asdict(self)
        return settings if self.centre != "volume" else {k: v for k, v in settings.items() if k != "centre"}

    def __post_init__(self) -> None:
        require_ranges(self, "preprocess", spacing_mm="(0, 1000]", shape="[2, 4096]")
        require(
            0 <= self.percentiles[0] < self.percentiles[1] <= 100,
            f"preprocess.percentiles={self.percentiles} must rise within [0, 100].",
        )
        # 0 and 0.0 would hash differently.
        self.percentiles = (float(self.percentiles[0]), float(self.percentiles[1]))
        for name, (low, high) in self.ranges.items():
            require(
                low < high and abs(low) + abs(high) < float("inf"),
                f"preprocess.ranges.{name}=[{low}, {high}] must be two finite numbers that rise.",
            )
