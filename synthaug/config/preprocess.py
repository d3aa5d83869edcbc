"""Settings of the one preprocessing."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from synthaug.config.checks import require, require_ranges


@dataclass
class PreprocessConfig:
    """The one preprocessing, for real and synthetic images alike."""

    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 4.0)
    """Voxel size after resampling, RAS axes."""
    shape: tuple[int, int, int] = (32, 32, 16)
    """Voxels after cropping and padding around ``centre``."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """These intensity percentiles, of voxels inside the field of view, become 0 and 1; what lies outside is clipped.
    Published: [0, 99.5], which one dark voxel can move."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Images with a physical scale, by name: {"adc": [0, 3000]} becomes [0, 1] in place of percentiles."""
    centre: Literal["volume", "prostate"] = "volume"
    """What the crop is centred on: the middle of the first image, or the prostate that the taps network sees there
    (T2, needs ``synthaug[taps]``)."""

    def recorded(self) -> dict[str, Any]:
        """As checkpoints and pools keep it: a crop around the middle stands for itself, as before there was a choice.

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
        # Hashes tell 0 from 0.0.
        self.percentiles = (float(self.percentiles[0]), float(self.percentiles[1]))
        for name, (low, high) in self.ranges.items():
            require(
                low < high and abs(low) + abs(high) < float("inf"),
                f"preprocess.ranges.{name}=[{low}, {high}] must be two finite numbers that rise.",
            )
