"""Looks at a training while it runs: losses, pictures and FID of the validation patients, in MLflow at intervals."""

from collections.abc import Sequence

import torch
import torchio as tio
from matplotlib.figure import Figure

from synthaug.config import MetricsConfig
from synthaug.data.manifest import stack_images
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.seeding import derive_seed
from synthaug.metrics.features import seeded_extractor
from synthaug.metrics.frechet import frechet
from synthaug.models.variants import VARIANTS
from synthaug.pool.slices import draw_slice
from synthaug.tracking.trainings import TrainingRun

VOLUMES = 16
"""Validation patients that are looked at."""
COLUMNS = 8
"""Of those, how many are shown."""


class TrainingMonitor:
    """Watches one training and logs what it sees.

    Args:
        run: Where it is logged.
        subjects: Validation subjects, preprocessed; the first ``VOLUMES`` are looked at.
        images: Image names.
        metrics: Which extractor.
    """

    def __init__(
        self, run: TrainingRun, subjects: Sequence[tio.Subject], images: Sequence[str], metrics: MetricsConfig
    ) -> None:
        self.run = run
        self.subjects = list(subjects)[:VOLUMES]
        self.volumes = torch.stack([stack_images(subject, images) for subject in self.subjects])
        self.extractor = seeded_extractor(channels=len(images), seed=metrics.extractor_seed)
        self.real = self.extractor.features(self.volumes)
        self._sums: dict[str, float] = {}
        self._steps = 0

    def on_step(self, step: int, values: dict[str, float]) -> None:
        """Remember the training losses until the next look."""
        self._steps += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def finish(self) -> None:
        """Mark the run as finished."""
        self.run.finish()

    def autoencoder(self, step: int, values: dict[str, float], rebuilt: torch.Tensor) -> None:
        """Look at reconstructions of the validation volumes."""
        self._log(step, {**values, **self._fid(rebuilt)}, rebuilt, "reconstruction")

    def generator(self, step: int, values: dict[str, float], pipeline: CCELLAPipeline, levels: int) -> dict[str, float]:
        """Draw a volume from each validation report, with the same seeds at every look; returns what it measured.

        A cascade whose finer levels are not trained yet draws its coarse ones; their FID says nothing.
        """
        pipeline.set_progress_bar_config(disable=True)
        asked = [subject["label"] for subject in self.subjects]
        drawn = pipeline(
            [subject["report"] for subject in self.subjects],
            asked if VARIANTS[pipeline.denoiser.config.variant].class_input == "true" else None,
            seeds=[derive_seed("monitor", number) for number in range(len(self.subjects))],
            levels=levels,
        )
        found = {}
        if drawn.class_probabilities is not None:
            agreed = (drawn.class_probabilities.argmax(1) == torch.tensor(asked)).float().mean()
            found["val_class_agreement"] = agreed.item()
        if levels == pipeline.autoencoder.levels:
            found |= self._fid(drawn.volumes)
        self._log(step, {**values, **found}, drawn.volumes, "drawn from the same report")
        return found

    def _fid(self, volumes: torch.Tensor) -> dict[str, float]:
        if len(self.real) < 2:
            return {}
        return {"val_fid": frechet(self.real, self.extractor.features(volumes))}

    def _log(self, step: int, values: dict[str, float], volumes: torch.Tensor, name: str) -> None:
        shown = {f"training/{key}": total / self._steps for key, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        shown |= {f"validation/{key.removeprefix('val_')}": value for key, value in values.items()}
        self.run.log(step, shown, figure=_montage(self.volumes, volumes, name))


def _montage(real: torch.Tensor, other: torch.Tensor, name: str) -> Figure:
    """Middle axial slices, real above and the other below."""
    columns = min(COLUMNS, len(real))
    figure = Figure(figsize=(1.2 * columns, 2.9), layout="compressed")
    grid = figure.subplots(2, columns, squeeze=False)
    for row, volumes, title in ((0, real, "validation patients"), (1, other, name)):
        for axes, volume in zip(grid[row], volumes, strict=False):
            draw_slice(axes, volume[0])
        grid[row][0].set_title(title, fontsize=8, loc="left")
    return figure
