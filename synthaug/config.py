"""Every setting of a study, typed, each with its meaning underneath.

A YAML file in ``configs/`` or ``--section.key value`` on the command line fills these; an unknown key is an error.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from synthaug.errors import InputError


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)


@dataclass
class PhantomConfig:
    """Generated prostates, for trying the product without data."""

    n: int = 96
    """Number of phantom patients."""
    positive_fraction: float = 0.5
    """Share with a PI-RADS >= 3 lesion, in (0, 1)."""
    shape: tuple[int, int, int] = (32, 32, 16)
    """Voxels."""
    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 4.0)
    """Voxel size."""
    difficulty: float = 0.5
    """0: lesions stand out; 1: lesions are faint and small among benign mimics."""
    seed: int = 0
    """Another seed, other patients."""


@dataclass
class MeasurementConfig:
    """One manifest column that the report writer puts into words."""

    name: str
    """What is measured, as a report would say it: "hippocampal volume"."""
    unit: str = ""
    """Unit written behind the number."""
    bands: dict[str, float] = field(default_factory=dict)
    """Upper bound of each word, rising: {"small": 2800, "average": 3400}; larger values get ``above``."""
    above: str = "large"
    """Word for values beyond the last band."""


@dataclass
class DataConfig:
    """Where the subjects come from."""

    root: str | None = None
    """Folder that holds the manifest; none = phantom prostates."""
    manifest: str = "manifest.csv"
    """CSV with one row a subject; image columns are paths inside ``root``."""
    images: list[str] = field(default_factory=lambda: ["t2w"])
    """Image columns, in channel order."""
    label: str = "label"
    """Column with the class, an integer from 0."""
    report: str | None = None
    """Column with the report text; none = written from ``measurements``, or empty."""
    measurements: dict[str, MeasurementConfig] = field(default_factory=dict)
    """Columns that the report writer puts into words, when there is no report column."""
    subject: str = "subject_id"
    """Column that names the subject."""
    patient: str = "patient_id"
    """Column that names the patient; without it each subject is a patient."""
    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    """Used when ``root`` is none."""


@dataclass
class SplitConfig:
    """Train, validation and test patients."""

    test: float = 0.3
    """Share of patients kept for the test."""
    val: float = 0.15
    """Share of patients that choose the epoch."""
    train: float = 1.0
    """Training patients that are used: a share in (0, 1], or, above 1, a number; smaller sets lie inside larger ones
    of the same seed, and the generator is trained on these patients too."""
    seed: int = 0
    """Another seed, another split."""
    folds: int = 0
    """Above 0: cross-validation by patient with so many folds, in place of ``test``; the axis {"split.fold": [0, 1,
    2]} of three folds tests every patient once."""
    fold: int = 0
    """The fold that is tested, from 0."""
    file: str | None = None
    """A saved split to use instead of drawing one."""

    def __post_init__(self) -> None:
        tested, name = (1 / self.folds, f"1/split.folds={self.folds}") if self.folds else (self.test, "split.test")
        _require(
            tested > 0 and self.val > 0 and tested + self.val < 1,
            f"{name}{'' if self.folds else f'={self.test}'} and split.val={self.val} must be positive and leave "
            "patients to train on.",
        )
        _require(
            self.folds == 0 or (self.folds >= 2 and self.file is None),
            f"split.folds={self.folds} must be at least 2 (or 0, none), and stands in place of split.file.",
        )
        _require(
            0 <= self.fold < max(self.folds, 1),
            f"split.fold={self.fold} must lie in 0..{max(self.folds, 1) - 1}; split.folds={self.folds} says how many "
            "folds there are.",
        )
        _require(
            0 < self.train <= 1 or self.train == int(self.train) > 1,
            f"split.train={self.train} must be a share in (0, 1] or a whole number of patients above 1.",
        )


@dataclass
class PreprocessConfig:
    """The one preprocessing, for real and synthetic images alike."""

    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 4.0)
    """Voxel size after resampling, RAS axes."""
    shape: tuple[int, int, int] = (32, 32, 16)
    """Voxels after cropping and padding around ``centre``."""
    percentiles: tuple[float, float] = (0.0, 99.5)
    """These intensity percentiles become 0 and 1; what lies outside is clipped."""
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
        _require(min(self.spacing_mm) > 0, f"preprocess.spacing_mm={self.spacing_mm} must be positive.")
        _require(min(self.shape) > 1, f"preprocess.shape={self.shape} must be at least 2 voxels a side.")
        _require(
            0 <= self.percentiles[0] < self.percentiles[1] <= 100,
            f"preprocess.percentiles={self.percentiles} must rise within [0, 100].",
        )


@dataclass
class TrainingConfig:
    """An optimisation loop."""

    steps: int = 500
    """Optimiser steps."""
    batch_size: int = 8
    """Volumes a step, over all processes."""
    accumulate: int = 1
    """Parts in which each process computes its share of the batch, to bound memory; the step is the same."""
    learning_rate: float = 1e-4
    """Peak learning rate of AdamW."""
    schedule: Literal["polynomial", "one_cycle"] = "polynomial"
    """How the rate falls: polynomially with power 2 (published), or as one cycle of cosines (Smith & Topin 2019)."""
    warmup: int = 0
    """Steps in which the rate rises: linearly before the polynomial decay; the cycle's rise, 0 = 30 % of the steps."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema: float = 0.0
    """Decay of the averaged weights that are kept; 0 = keep the last weights (published)."""
    checkpoint_minutes: float = 2.0
    """A killed training loses at most this much."""
    seed: int = 0
    """Names every random draw of the loop."""

    def __post_init__(self) -> None:
        _require(self.steps >= 1, f"steps={self.steps} must be at least 1.")
        _require(0 <= self.warmup < self.steps, f"warmup={self.warmup} must be below steps={self.steps}.")
        _require(
            self.batch_size >= 1 and self.accumulate >= 1 and self.batch_size % self.accumulate == 0,
            f"batch_size={self.batch_size} must be a positive multiple of accumulate={self.accumulate}.",
        )
        _require(0 <= self.ema < 1, f"ema={self.ema} must lie in [0, 1).")
        _require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} must not be negative.")


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
        _require(
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
        _require(
            len(self.channels) == len(self.attention),
            f"denoiser.channels has {len(self.channels)} levels and denoiser.attention {len(self.attention)}.",
        )
        for channels, attends in zip(self.channels, self.attention, strict=True):
            divisors = [self.norm_groups, *([self.head_channels] if attends else [])]
            _require(
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
        _require(
            self.width % self.heads == 0,
            f"adapter.width={self.width} must be a multiple of adapter.heads={self.heads}.",
        )


@dataclass
class TextEncoderConfig:
    """The text encoder: a small byte-level T5 built here, or any transformers encoder by path or hub id."""

    path: str | None = None
    """Local folder or hub id of a transformers encoder (published: Flan-T5-XXL); none = the byte-level T5."""
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
        default_factory=lambda: TrainingConfig(steps=300, batch_size=16, learning_rate=1e-3, warmup=20, ema=0.99)
    )
    """Its optimisation."""

    def __post_init__(self) -> None:
        _require(
            not self.reading_steps or self.layout_loss_weight > 0,
            f"generator.reading_steps={self.reading_steps} needs generator.layout_loss_weight above 0.",
        )


@dataclass
class SamplingConfig:
    """How volumes are drawn."""

    steps: int = 20
    """Denoising steps."""
    scheduler: Literal["ddpm", "ddim", "dpm_solver", "unipc", "flow_euler"] = "dpm_solver"
    """A diffusers scheduler (published: ddpm with 1,000 steps); flow_euler samples rectified flows only, ddpm and
    ddim the others only."""
    guidance: float = 1.0
    """Classifier-free guidance; 1 = none (published). Needs ``generator.report_dropout`` > 0."""
    micro_batch: int = 8
    """The U-Net always runs at this batch size, padded, so that a volume's bytes do not depend on its neighbours."""


PromptPolicy = Literal["training", "writer", "override"]
LabelPolicy = Literal["requested", "predicted", "agreed"]


@dataclass
class PoolConfig:
    """The synthetic volumes of a study."""

    path: str | None = None
    """Folder of a pool that was built before, with this preprocessing and from training patients only; the rest of
    this section then says nothing. None = built here."""
    per_class: int = 40
    """Volumes of each class."""
    seed: int = 0
    """Names the prompts and the noise."""
    prompts: PromptPolicy = "training"
    """Where reports come from: training: the training subjects' of the class; writer: the report writer, from
    structured findings; override: as training, and the requested class takes the place of the one read from the
    report."""
    marksheet: str | None = None
    """CSV with PI-CAI's columns, whose findings the writer words; patients to validate and test by are left out.
    None = findings are drawn."""
    labels: LabelPolicy = "requested"
    """Class that a volume counts as: requested; predicted by the generator from the report; agreed: both are the same,
    other volumes are turned down and made anew from another report."""
    attempts: int = 4
    """Volumes made at most for one that is agreed."""
    threads: int | None = None
    """Threads to compute with, on which the bytes of volumes depend; None = those of the pool, or of the machine."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How they are drawn."""

    def __post_init__(self) -> None:
        _require(self.per_class >= 1, f"pool.per_class={self.per_class} must be at least 1.")
        _require(self.attempts >= 1, f"pool.attempts={self.attempts} must be at least 1.")
        _require(
            self.marksheet is None or self.prompts == "writer",
            f"pool.marksheet is worded by the report writer; set pool.prompts to writer, not {self.prompts}.",
        )


@dataclass
class ClassifierConfig:
    """The downstream classifier. Equal optimiser steps in every regime, so that more data is not more training."""

    network: Literal["resnet10", "resnet18", "resnet50", "densenet121", "efficientnet-b0", "seresnet50"] = "resnet10"
    """A MONAI network."""
    channels: tuple[int, int, int, int] = (8, 16, 32, 64)
    """Channels of a ResNet's four levels."""
    loss: Literal["cross_entropy", "focal"] = "focal"
    """Focal has gamma 2 (published)."""
    balance: Literal["oversampled", "weighted", "none"] = "oversampled"
    """What is done about rare classes: every batch holds as many of each class, rarer ones repeated; or batches come
    as the training set is and the loss is weighted; or nothing."""
    class_weights: list[float] | None = None
    """Loss weight of each class where ``balance`` is weighted; none = scikit-learn's "balanced", 1 / frequency."""
    augment: bool = True
    """Classical augmentation, as published: flip left-right, rotate, translate, zoom."""
    test_flips: bool = False
    """Average the logits of a volume and of its left-right mirror image when predicting."""
    evaluate_every: int = 20
    """Steps between validations; the step with the lowest validation loss is kept."""
    patience: int = 0
    """Validations without a lower loss after which the training stops early; 0 = all steps (equal in every regime)."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=120, batch_size=8, learning_rate=1e-3, warmup=10)
    )
    """Its optimisation."""

    def __post_init__(self) -> None:
        _require(self.evaluate_every >= 1, f"classifier.evaluate_every={self.evaluate_every} must be at least 1.")
        _require(self.patience >= 0, f"classifier.patience={self.patience} must not be negative.")
        weights = self.class_weights
        _require(
            weights is None or (self.balance == "weighted" and min(weights, default=0) > 0),
            f"classifier.class_weights={weights} must be positive and stand beside classifier.balance=weighted.",
        )


@dataclass
class MetricsConfig:
    """Statistics and image metrics."""

    extractor_seed: int = 0
    """Weights of the seeded extractor."""
    bootstrap: int = 1000
    """Resamples behind an interval."""
    permutations: int = 1999
    """Random swaps of two classifiers' predictions behind a p-value."""
    confidence: float = 0.95
    """Coverage of the intervals."""
    subgroups: list[str] = field(default_factory=list)
    """Manifest columns (sex, site, ...) for whose values every metric is told by itself too."""
    copies: bool = True
    """Tell the share of synthetic volumes that are copies of training patients (nine held-out patients needed)."""

    def __post_init__(self) -> None:
        _require(self.bootstrap >= 1, f"metrics.bootstrap={self.bootstrap} must be at least 1.")
        _require(self.permutations >= 1, f"metrics.permutations={self.permutations} must be at least 1.")
        _require(0 < self.confidence < 1, f"metrics.confidence={self.confidence} must lie in (0, 1).")


Regime = Literal["real", "synthetic", "mixed", "finetuned"]


@dataclass
class StudyConfig:
    """What is compared."""

    name: str = "quickstart"
    """Name of the MLflow experiment."""
    regimes: list[Regime] = field(default_factory=lambda: ["real", "synthetic", "mixed"])
    """Which ways to train are compared: on real data, on synthetic data, on both at once, or on both one after the
    other (finetuned: pre-trained on the pool, then fine-tuned on the real training set)."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Classifier seeds; each regime runs once a seed."""
    synthetic_fraction: list[float] = field(default_factory=lambda: [0.5])
    """Synthetic share of the mixed regime's training set, in (0, 1); several = as many mixed regimes."""
    pretrain_share: list[float] = field(default_factory=lambda: [0.5])
    """Share of the optimiser steps, in (0, 1), that the regime finetuned makes on synthetic data before those on real
    data; several = as many such regimes. All steps together are those of every regime, on one schedule."""
    axes: dict[str, list[Any]] = field(default_factory=dict)
    """Other settings to compare, in every combination: {"classifier.augment": [true, false], "split.train": [1, 0.5,
    16], "split.seed": [0, 1]}. Splits and folds are repeats, over which the statistics go as over seeds."""

    def __post_init__(self) -> None:
        _require(bool(self.regimes) and bool(self.seeds), "study.regimes and study.seeds must not be empty.")
        _require(
            all(0 < fraction < 1 for fraction in self.synthetic_fraction),
            f"study.synthetic_fraction={self.synthetic_fraction} must lie between 0 and 1.",
        )
        _require(
            bool(self.synthetic_fraction) or "mixed" not in self.regimes,
            "study.synthetic_fraction must not be empty where study.regimes has 'mixed'.",
        )
        _require(
            all(0 < share < 1 for share in self.pretrain_share)
            and (bool(self.pretrain_share) or "finetuned" not in self.regimes),
            f"study.pretrain_share={self.pretrain_share} must hold shares between 0 and 1, at least one where "
            "study.regimes has 'finetuned'.",
        )
        for name in ("regimes", "seeds", "synthetic_fraction", "pretrain_share"):
            values = getattr(self, name)
            _require(len(set(values)) == len(values), f"study.{name}={values} holds a value twice.")
        for key, values in self.axes.items():
            _require(
                bool(values) and all(values.count(value) == 1 for value in values),
                f"study.axes.{key}={values} must hold at least one value, and none twice.",
            )
            _require(
                "." in key and key.split(".")[0] not in ("study", "metrics"),
                f"study.axes: {key!r} is no axis; name a setting of data, split, generator, pool, classifier, ...",
            )


@dataclass
class ExecutionConfig:
    """Where the cells of a study run; no result depends on it."""

    executor: Literal["local", "ray"] = "local"
    """local: one after another in this process; ray: as tasks on the cluster of RAY_ADDRESS, or on a local one, each
    with the threads that this process has (OMP_NUM_THREADS)."""
    workers: int = 2
    """Cells at a time on Ray."""
    gpus_per_cell: float | None = None
    """Share of a GPU for each cell on Ray; none = a quarter. Nothing where the cluster has no GPU."""

    def __post_init__(self) -> None:
        _require(self.workers >= 1, f"workers={self.workers} must be at least 1.")
        _require(
            self.gpus_per_cell is None or self.gpus_per_cell >= 0,
            f"gpus_per_cell={self.gpus_per_cell} must not be negative.",
        )


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
    """The image autoencoder."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The latent diffusion model."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    """The synthetic volumes."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """The downstream classifier."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    """Statistics."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """What is compared."""

    def __post_init__(self) -> None:
        factor = self.autoencoder.factor * self.generator.denoiser.factor
        _require(
            all(side % factor == 0 for side in self.preprocess.shape),
            f"preprocess.shape={self.preprocess.shape}: each side must be a multiple of {factor} "
            f"(autoencoder {self.autoencoder.factor} x denoiser {self.generator.denoiser.factor}).",
        )
