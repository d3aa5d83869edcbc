"""Settings of a study, typed, each with its meaning below it.

A YAML file (``configs/``) or ``--section.key value`` on the command line sets them. An unknown key is an error.
"""

from dataclasses import dataclass, field

from synthaug.config.checks import require
from synthaug.config.data import DataConfig, PhantomConfig
from synthaug.config.generator import GeneratorConfig, Variant
from synthaug.config.geometry import GeometryConfig
from synthaug.config.measurements import LabelRule, MeasurementConfig
from synthaug.config.networks import (
    AdapterConfig,
    AutoencoderConfig,
    DenoiserConfig,
    LevelConfig,
    TextEncoderConfig,
)
from synthaug.config.optimisation import TrainingConfig
from synthaug.config.pool import LabelPolicy, PoolConfig, PromptPolicy, SamplingConfig
from synthaug.config.preprocess import PreprocessConfig
from synthaug.config.split import SplitConfig
from synthaug.config.study import (
    MOVES,
    ClassifierConfig,
    ExecutionConfig,
    MetricsConfig,
    Move,
    Regime,
    ReportConfig,
    StudyConfig,
    TrackingConfig,
)

__all__ = [
    "MOVES",
    "AdapterConfig",
    "AutoencoderConfig",
    "ClassifierConfig",
    "Config",
    "DataConfig",
    "DenoiserConfig",
    "ExecutionConfig",
    "GeneratorConfig",
    "GeometryConfig",
    "LabelPolicy",
    "LabelRule",
    "LevelConfig",
    "MeasurementConfig",
    "MetricsConfig",
    "Move",
    "PhantomConfig",
    "PoolConfig",
    "PreprocessConfig",
    "PromptPolicy",
    "Regime",
    "ReportConfig",
    "SamplingConfig",
    "SplitConfig",
    "StudyConfig",
    "TextEncoderConfig",
    "TrackingConfig",
    "TrainingConfig",
    "Variant",
]


@dataclass
class Config:
    """A whole study: data, generator, pool, classifiers, statistics."""

    data: DataConfig = field(default_factory=DataConfig)
    """Data settings: manifest, columns, reports."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Training, validation and test patients."""
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    """Preprocessing of real and synthetic images."""
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    """Image autoencoder, used with ``generator.latents: autoencoder``."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Diffusion model that draws the synthetic volumes."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    """Pool of synthetic volumes."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """Downstream classifier."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    """Statistics and image metrics."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """Arms, repeats and axes of the comparison."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """What is logged to MLflow."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """Report settings."""

    @property
    def private(self) -> bool:
        """Whether patient ids and images of this cohort are kept out of MLflow; a study may have others as axes."""
        return self.data.protected and self.tracking.privacy == "pseudonymous"

    def __post_init__(self) -> None:
        require(
            not self.study.pretrained_on or self.pool.path in (None, *self.study.pretrained_on.values()),
            f"pool.path={self.pool.path} and study.pretrained_on both name pools; leave pool.path out.",
        )
        if self.study.synthetic:
            self.require_divisible_shape()

    def require_divisible_shape(self) -> None:
        """InputError if a side of the volumes is not divisible by the downsampling of the networks."""
        if not self.generator.latent_design.trained or self.generator.pretrained:
            return
        factor = self.autoencoder.factor * self.generator.denoiser.factor
        require(
            all(side % factor == 0 for side in self.preprocess.shape),
            f"preprocess.shape={self.preprocess.shape}: each side must be a multiple of {factor} "
            f"(autoencoder {self.autoencoder.factor} x denoiser {self.generator.denoiser.factor}).",
        )
