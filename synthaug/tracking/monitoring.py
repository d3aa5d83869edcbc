"""Looks at a training while it runs: losses, pictures and FID of the validation patients, in MLflow at intervals."""

from collections.abc import Sequence

import torch
import torchio as tio
from matplotlib.figure import Figure

from synthaug.config import MetricsConfig
from synthaug.data.reading.manifest import stack_images
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.seeding import derive_seed
from synthaug.metrics.copies.memorisation import CopyDetector
from synthaug.metrics.features import seeded_extractor
from synthaug.metrics.frechet import frechet
from synthaug.metrics.realism.judgement import ENOUGH, judge_realism
from synthaug.models.variants import VARIANTS
from synthaug.pool.review.audit import LEAST_HELD_OUT
from synthaug.pool.review.slices import draw_slice
from synthaug.tracking.trainings import TrainingRun

VOLUMES = 16
"""Validation patients that are looked at; where there are as many as realism is judged from, so many."""
COLUMNS = 8
"""Of those, how many are shown."""


class TrainingMonitor:
    """Watches one training and logs what it sees.

    Args:
        run: Where it is logged.
        subjects: Validation subjects, preprocessed; the first ones are looked at.
        images: Image names.
        metrics: Which extractor; whether copies are looked for and realism is judged.
        training: Training subjects, among whom copies are looked for.
    """

    def __init__(
        self,
        run: TrainingRun,
        subjects: Sequence[tio.Subject],
        images: Sequence[str],
        metrics: MetricsConfig,
        training: Sequence[tio.Subject] = (),
    ) -> None:
        self.run, self.images, self.training, self.metrics = run, images, training, metrics
        self.judges_realism = metrics.realism != "off" and len(subjects) >= ENOUGH
        self.subjects = list(subjects)[: ENOUGH if self.judges_realism else VOLUMES]
        self.volumes = torch.stack([stack_images(subject, images) for subject in self.subjects])
        self.extractor = seeded_extractor(channels=len(images), seed=metrics.extractor_seed)
        self.real = self.extractor.features(self.volumes)
        self._detector: CopyDetector | None = None
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
            found |= self.measure(drawn.volumes)
        self._log(step, {**values, **found}, drawn.volumes, "drawn from the same report")
        return found

    def _fid(self, volumes: torch.Tensor) -> dict[str, float]:
        if len(self.real) < 2:
            return {}
        return {"val_fid": frechet(self.real, self.extractor.features(volumes))}

    def measure(self, volumes: torch.Tensor) -> dict[str, float]:
        """FID, copies and realism of what the validation reports prompted; what too few cannot tell is left out."""
        return self._fid(volumes) | self._copies(volumes) | self._realism(volumes)

    def _copies(self, volumes: torch.Tensor) -> dict[str, float]:
        """By how much the share called copies, at the low end of its interval, lies above the false alarms."""
        detector = self._make_detector() if self.metrics.copies else None
        if detector is None:
            return {}
        audit = detector.audit(list(volumes))
        _, low, _ = audit.share()
        return {"val_copies_excess": max(0.0, low - audit.false_alarms)}

    def _make_detector(self) -> CopyDetector | None:
        """Made at the first look that needs it; None where it could tell nothing."""
        if len(self.subjects) < LEAST_HELD_OUT or len(self.training) < 2:
            return None
        if self._detector is None:
            known = (stack_images(subject, self.images) for subject in self.training)
            self._detector = CopyDetector(known, self.volumes, self.extractor)
        return self._detector

    def _realism(self, volumes: torch.Tensor) -> dict[str, float]:
        """AUROC of real against drawn by texture statistics, where there are enough validation patients."""
        if not self.judges_realism:
            return {}
        people = [str(subject["patient_id"]) for subject in self.subjects]
        judged = judge_realism(
            list(self.volumes), list(volumes), real_groups=people, synthetic_groups=people, cnn=False
        ).statistics
        return {"val_realism_auroc": judged.value} if judged else {}

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
