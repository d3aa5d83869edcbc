"""Two published checkpoints, and the pipeline that is asked of them; the importers of all models read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthaug.config.checks import require, require_ranges
from synthaug.generate.diffusion import Prediction, training_scheduler
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.files import file_hash
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.released import released_autoencoder


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Files and settings, as of :func:`synthaug.generate.released.import_released`; None = the model's own."""

    unet: str
    autoencoder: str
    images: Sequence[str] | None
    shape: Sequence[int] | None
    spacing_mm: Sequence[float] | None
    micro_batch: int
    splits: int
    tile: int
    head_channels: int
    norm_groups: int

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "",
            micro_batch="[1, 1e6]",
            splits="[1, 1e6]",
            tile="[0, 1e6]",
            head_channels="[1, 65536]",
            norm_groups="[1, 65536]",
            shape="[1, 1e6]",
            spacing_mm="(0, 1e6]",
        )
        for name in ("shape", "spacing_mm"):
            value = getattr(self, name)
            require(value is None or len(value) == 3, f"{name}={value}: give three numbers, one along each axis.")

    def open_autoencoder(self, *, scale_factor: float) -> ImageAutoencoder:
        """The autoencoder, which divides by ``scale_factor`` what it decodes.

        Raises:
            InputError: The file cannot be read, or its weights do not fit.
        """
        return released_autoencoder(
            self.autoencoder,
            scale_factor=scale_factor,
            norm_groups=self.norm_groups,
            splits=self.splits,
            tile=self.tile,
        )

    def pipeline(
        self,
        networks: tuple[ImageAutoencoder, CCELLADenoiser],
        text: tuple[Any, Any],
        *,
        prediction: Prediction,
        facts: Mapping[str, Any],
        images: Sequence[str],
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        **record: Any,
    ) -> CCELLAPipeline:
        """The pipeline, which remembers where it comes from.

        Args:
            networks: Autoencoder and denoiser.
            text: Text encoder and tokenizer.
            prediction: Training process.
            facts: What the denoiser's file says beside its weights.
            images: Names of the sequences.
            shape: Voxels of a volume.
            spacing_mm: Voxel size.
            **record: What else is remembered.
        """
        pipeline = CCELLAPipeline(
            *networks,
            *text,
            scheduler=training_scheduler(prediction, num_train_timesteps=facts["num_train_timesteps"]),
            images=list(images),
            spacing_mm=list(spacing_mm),
            shape=list(shape),
            micro_batch=self.micro_batch,
        )
        files = {"unet": file_hash(Path(self.unet)), "autoencoder": file_hash(Path(self.autoencoder))}
        unknown = {"patients": [], "cohort": "published; the training patients are not known"}
        pipeline.record = {"source": {**files, **facts}, **record, **unknown}
        return pipeline
