"""Settings of the latent diffusion model."""

from dataclasses import dataclass, field
from typing import Literal

from synthaug.config.checks import require, require_ranges
from synthaug.config.geometry import GeometryConfig
from synthaug.config.networks import AdapterConfig, DenoiserConfig, LevelConfig, TextEncoderConfig
from synthaug.config.optimisation import TrainingConfig

Variant = Literal["maisi", "radmaisi", "ellamaisi", "decoupled", "ccella", "l1only", "first", "last", "shared"]


@dataclass
class GeneratorConfig:
    """The latent diffusion model."""

    variant: Variant = "ccella"
    """CCELLA or one of its published comparators."""
    latents: Literal["cascade", "autoencoder"] = "cascade"
    """What is denoised: the volume level by level, coarse to fine (ours); or the latents of the image autoencoder
    (published)."""
    levels: list[LevelConfig] = field(default_factory=list)
    """Levels of the cascade, coarse to fine; empty = they follow from the volume's shape."""
    pretrained: str | None = None
    """Folder, builtin name or hub id of a generator that the training goes on from (ours). Variant, latents,
    prediction, levels, sizes, autoencoder and text encoder are its own. ``variant``, ``latents`` and ``prediction`` are
    refused where they are set otherwise; ``autoencoder``, ``denoiser``, ``adapter`` and ``text_encoder`` say nothing,
    but for ``text_encoder.trainable``. NV-Generate as it was imported has neither variant, adapter nor text encoder:
    these are added as they are set here, and change nothing before they are trained."""
    unet: Literal["free", "lora", "frozen"] = "free"
    """With ``pretrained``, how its U-Net is trained: free = all weights; lora = low-rank additions to its linear layers
    and convolutions (arXiv 2106.09685; needs ``synthaug[lora]``), which are merged at the end; frozen = none. What is
    added to NV-Generate's, the adapter and a trainable text encoder are trained in any case."""
    lora_rank: int = 16
    """Rank of the additions of ``unet: lora``."""
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    """The U-Net."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """The text adapter."""
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    """The text encoder."""
    class_loss_weight: float = 0.1
    """Weight of the focal class loss (published: 1e-4, over 400 epochs); variants without heads ignore it."""
    prediction: Literal["edm", "epsilon", "v_prediction", "flow_prediction", "maisi_flow"] | None = None
    """Training process: EDM (arXiv 2206.00364), or what the U-Net predicts under the published noise schedule: noise
    (published), velocity, or the velocity of a rectified flow; maisi_flow = the rectified flow of MAISI-v2 (arXiv
    2508.05772). None = edm for a cascade, epsilon for an autoencoder."""
    distance: Literal["l1", "mse"] | None = None
    """Distance between prediction and target; none = mse for edm, l1 otherwise (published). The squared error draws
    what is rare at a place, such as a lesion, as often as it is there; the L1 draws it too seldom."""
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    """Augmentation that the network is told of (ours); for a cascade."""
    guide_noise: float = 0.15
    """Largest noise on what a finer level is shown of the coarser ones, in units of their deviation."""
    report_dropout: float = 0.1
    """Share of training reports replaced by "", so that guidance can be used (published: 0)."""
    monitor_every: int = 200
    """Steps between looks at the validation patients (loss, pictures, FID), logged to MLflow; the weights with the
    lowest validation loss are kept. 0 = no looks, the last weights are kept."""
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
    """Its optimisation."""

    def __post_init__(self) -> None:
        require(
            self.latents == "autoencoder" or self.prediction in (None, "edm"),
            f"generator.prediction={self.prediction} needs generator.latents=autoencoder; a cascade is trained by edm.",
        )
        require(
            self.unet == "free" or self.pretrained is not None,
            f"generator.unet={self.unet} needs generator.pretrained, whose U-Net stays as it is.",
        )
        require_ranges(
            self,
            "generator",
            class_loss_weight="[0, inf)",
            lora_rank="[1, 65536]",
            guide_noise="[0, 1e3]",
            report_dropout="[0, 1]",
            monitor_every="[0, 1e9]",
        )

    @property
    def process(self) -> Literal["edm", "epsilon", "v_prediction", "flow_prediction", "maisi_flow"]:
        """``prediction``, or what it stands for where it is none."""
        return self.prediction or ("edm" if self.latents == "cascade" else "epsilon")
