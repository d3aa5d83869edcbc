"""Every setting of a study, typed, each with its meaning underneath.

A YAML file in ``configs/`` or ``--section.key value`` on the command line fills these; an unknown key is an error.
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
    """Where the subjects come from."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Train, validation and test patients."""
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    """The one preprocessing."""
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    """The image autoencoder, where ``generator.latents`` is autoencoder."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The generator."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    """The synthetic volumes."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """The downstream classifier."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    """Statistics."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """What is compared."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """What MLflow is told."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """What the report leaves out."""

    @property
    def private(self) -> bool:
        """Whether MLflow is told neither ids nor images."""
        return self.data.protected and self.tracking.privacy == "pseudonymous"

    def __post_init__(self) -> None:
        require(
            not self.study.pretrained_on or self.pool.path in (None, *self.study.pretrained_on.values()),
            f"pool.path={self.pool.path} and study.pretrained_on both name pools; leave pool.path out.",
        )
        if self.study.synthetic:
            self.require_divisible_shape()

    def require_divisible_shape(self) -> None:
        """InputError if the generator's networks cannot halve the sides of the volumes."""
        if self.generator.latents == "cascade" or self.generator.pretrained:
            return
        factor = self.autoencoder.factor * self.generator.denoiser.factor
        require(
            all(side % factor == 0 for side in self.preprocess.shape),
            f"preprocess.shape={self.preprocess.shape}: each side must be a multiple of {factor} "
            f"(autoencoder {self.autoencoder.factor} x denoiser {self.generator.denoiser.factor}).",
        )
