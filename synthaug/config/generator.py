"""Settings of the diffusion model."""

from dataclasses import dataclass, field
from typing import Literal

from synthaug.config.checks import require, require_ranges
from synthaug.config.geometry import GeometryConfig
from synthaug.config.latents import LATENT_DESIGNS, LatentDesign, Process, latent_design
from synthaug.config.networks import AdapterConfig, DenoiserConfig, LevelConfig, TextEncoderConfig
from synthaug.config.optimisation import TrainingConfig

Variant = Literal["maisi", "radmaisi", "ellamaisi", "decoupled", "ccella", "l1only", "first", "last", "shared"]


@dataclass
class GeneratorConfig:
    """Diffusion model that draws volumes from reports and classes."""

    variant: Variant = "ccella"
    """CCELLA or one of its published comparators."""
    latents: str = "cascade"
    """Latent space. ``cascade``: the volume itself, level by level from coarse to fine (ours). ``autoencoder``: latents
    of the image autoencoder (published). Any other as ``package.module.Class``."""
    levels: list[LevelConfig] = field(default_factory=list)
    """Levels of the cascade from coarse to fine. Empty: from the shape of the volumes."""
    pretrained: str | None = None
    """Folder, builtin name or hub id of a pretrained generator to fine-tune (ours). Its variant, latents, prediction,
    levels, sizes, autoencoder and text encoder are kept. A different ``variant``, ``latents`` or ``prediction`` is
    refused. Further images may stand beside all of its own, which keep their names; they start at 0. Of the other
    sections only ``text_encoder.trainable`` applies, and a frozen encoder stays frozen. To an imported NV-Generate,
    variant, adapter and text encoder are added as set here; they have no effect before they are trained."""
    unet: Literal["free", "lora", "frozen"] = "free"
    """Fine-tuning of the pretrained U-Net. ``free``: all weights. The others are for generators of one level, as those
    with an autoencoder are. ``lora``: low-rank adaptation of linear layers and convolutions (arXiv 2106.09685; needs
    ``synthaug[lora]``), merged at the end. ``frozen``: none. Parts added to NV-Generate, the adapter and a trainable
    text encoder are always trained."""
    lora_rank: int = 16
    """Rank of ``unet: lora``."""
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    """U-Net."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """Text adapter."""
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    """Text encoder."""
    class_loss_weight: float = 0.1
    """Weight of the focal class loss (published: 1e-4, over 400 epochs). Not used by variants without class heads."""
    prediction: Process | None = None
    """Training process. ``edm``: arXiv 2206.00364. Under the published noise schedule: noise (``epsilon``, published),
    velocity, or the velocity of a rectified flow. ``maisi_flow``: the rectified flow of MAISI-v2 (arXiv 2508.05772).
    None: edm for a cascade, epsilon for an autoencoder."""
    distance: Literal["l1", "mse"] | None = None
    """Loss between prediction and target. None: mse for edm, l1 otherwise (published). The squared error fits the mean,
    the L1 the median, which leaves out what is rare at a place, such as a lesion."""
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    """Augmentation on which the network is conditioned (ours); for a cascade."""
    guide_noise: float = 0.15
    """Noise augmentation of the coarser level as input of a finer one: largest level, in standard deviations."""
    report_dropout: float = 0.1
    """Share of training reports replaced by "", for classifier-free guidance (published: 0)."""
    monitor_every: int = 200
    """Steps between validations (loss, pictures, FID), logged to MLflow. The weights of the lowest validation loss are
    kept. 0: no validation, the last weights are kept."""
    calibration: int = 0
    """Volumes drawn from training reports after the training, to measure by how much less each level's latents vary
    than those of training volumes; sampling gives it back (ours; for edm). 0: none (published)."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=300,
            batch_size=16,
            learning_rate=1e-3,
            schedule="cosine",
            warmup=50,
            betas=(0.9, 0.99),
            weight_decay=0.0,
            ema=0.999,
            ema_warmup=True,
        )
    )
    """Optimisation."""

    def __post_init__(self) -> None:
        allowed = self.latent_design.processes
        others = [name for name, design in LATENT_DESIGNS.items() if self.prediction in design.processes]
        require(
            self.prediction is None or self.prediction in allowed,
            f"generator.prediction={self.prediction} needs generator.latents={' or '.join(others)}; {self.latents} is "
            f"trained by {' or '.join(allowed)}.",
        )
        require(
            self.unet == "free" or self.pretrained is not None,
            f"generator.unet={self.unet} needs generator.pretrained, whose U-Net stays as it is.",
        )
        require(
            not self.calibration or self.process == "edm",
            f"generator.calibration={self.calibration} is for an EDM denoiser; {self.process} takes 0.",
        )
        parts = self.training.accumulate
        for number, level in enumerate(self.levels):
            require(
                level.batch_size % parts == 0,
                f"generator.levels[{number}].batch_size={level.batch_size} must be a multiple of "
                f"generator.training.accumulate={parts}.",
            )
        require_ranges(
            self,
            "generator",
            class_loss_weight="[0, inf)",
            lora_rank="[1, 65536]",
            guide_noise="[0, 1e3]",
            report_dropout="[0, 1]",
            monitor_every="[0, 1e9]",
            calibration="[0, 1e6]",
        )

    @property
    def process(self) -> Process:
        """``prediction``, with None resolved."""
        return self.prediction or self.latent_design.processes[0]

    @property
    def latent_design(self) -> LatentDesign:
        """What is to be known of the latent space."""
        return latent_design(self.latents)
