"""Settings of classifiers, statistics, arms, report, tracking and execution."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from synthaug.config.checks import require, require_ranges
from synthaug.config.geometry import GeometryConfig
from synthaug.config.optimisation import TrainingConfig

Move = Literal["flip", "rotate", "translate", "zoom"]
MOVES: tuple[Move, ...] = ("flip", "rotate", "translate", "zoom")
"""Published classical augmentation."""


@dataclass
class ClassifierConfig:
    """Downstream classifier. Every regime makes the same number of optimiser steps."""

    network: Literal["resnet10", "resnet18", "resnet50", "densenet121", "efficientnet-b0", "seresnet50"] = "resnet10"
    """MONAI network."""
    channels: tuple[int, int, int, int] = (8, 16, 32, 64)
    """Channels of the four levels of a ResNet."""
    pooling: int = 1
    """Average-pooling factor before the network, per axis. 2 leaves an eighth of the voxels: training is faster. Fine
    texture counts less, in which synthetic and real volumes differ most."""
    loss: Literal["cross_entropy", "focal", "logit_adjusted"] = "focal"
    """Loss. ``focal``: gamma 2 (published). ``logit_adjusted``: cross-entropy of logits plus log class prior (Menon et
    al. 2021); needs ``balance: none``."""
    balance: Literal["oversampled", "weighted", "none"] = "oversampled"
    """Class-imbalance strategy. ``oversampled``: every batch holds equally many of each class; rare ones are drawn
    again. ``weighted``: class weights in the loss. ``none``: no correction."""
    class_weights: list[float] | None = None
    """Class weights with ``balance: weighted``. None: inverse frequency, as scikit-learn's "balanced"."""
    augment: bool | Literal["labelled"] | list[Move] = True
    """Classical augmentation. True: left-right flip, rotation, translation, zoom (published). False: none. A list: only
    those moves; the class stays. ``labelled``: the moves of ``geometry``, with the class from ``data.label_rule``."""
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    """Moves of ``augment: labelled``."""
    test_flips: bool = False
    """Test-time augmentation: average the logits of a volume and its left-right mirror image."""
    evaluate_every: int = 20
    """Steps between validations. The step with the lowest validation loss after temperature scaling is kept."""
    patience: int = 0
    """Early stopping: validations without a lower loss before the training stops. 0: no early stopping."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=120, batch_size=8, learning_rate=1e-3, warmup=10)
    )
    """Optimisation. ``batch_size`` is rounded to the nearest multiple of the number of classes."""

    @property
    def moves(self) -> list[Move]:
        """Moves of the classical augmentation; [] = none."""
        if isinstance(self.augment, list):
            return self.augment
        return list(MOVES) if self.augment is True else []

    def batch_size(self, classes: int) -> int:
        """Volumes per step: ``training.batch_size``, rounded to a multiple of the classes and of ``accumulate``.

        Example:
            >>> [ClassifierConfig().batch_size(classes) for classes in (2, 3, 5, 10)]
            [8, 9, 10, 10]
        """
        asked, share = self.training.batch_size, math.lcm(classes, self.training.accumulate)
        return max(math.floor(asked / share + 0.5), 1) * share if asked % classes else asked

    def __post_init__(self) -> None:
        require(
            not isinstance(self.augment, list) or len(set(self.augment)) == len(self.augment) > 0,
            f"classifier.augment={self.augment} must be true, false, labelled, or a list that names each move once.",
        )
        require(
            self.training.seed == TrainingConfig.seed,
            f"classifier.training.seed={self.training.seed} has no effect; leave it out and set study.seeds.",
        )
        require_ranges(
            self,
            "classifier",
            channels="[1, 4096]",
            pooling="[1, 64]",
            evaluate_every="[1, 1e9]",
            patience="[0, 1e9]",
        )
        require(
            self.loss != "logit_adjusted" or self.balance == "none",
            f"classifier.loss=logit_adjusted corrects for rare classes by itself; set classifier.balance=none, not "
            f"{self.balance}.",
        )
        weights = self.class_weights
        require(
            weights is None or (self.balance == "weighted" and 0 < min(weights, default=0) <= max(weights) < math.inf),
            f"classifier.class_weights={weights} must be positive and stand beside classifier.balance=weighted.",
        )


@dataclass
class MetricsConfig:
    """Statistics and image metrics."""

    extractor_seed: int = 0
    """Seed of the weights of the random extractor."""
    bootstrap: int = 1000
    """Bootstrap resamples per interval."""
    permutations: int | None = None
    """Permutations per p-value (swaps of two classifiers' predictions). None: 1999, or as many as Holm's correction
    needs."""
    confidence: float = 0.95
    """Coverage of the intervals."""
    subgroups: list[str] = field(default_factory=list)
    """Manifest columns (sex, site, ...): test metrics by subgroup, one per value."""
    copies: bool = True
    """Measure the share of synthetic volumes that are copies of training patients. Needs nine held-out patients."""
    realism: Literal["statistics", "network", "off"] = "statistics"
    """Real against synthetic volumes, from 40 of each on. ``statistics``: texture statistics. ``network``: a
    3D network too. ``off``: none."""

    def __post_init__(self) -> None:
        require_ranges(self, "metrics", bootstrap="[1, 1e6]", permutations="[1, 1e7]", confidence="(0, 1)")
        require(
            len(set(self.subgroups)) == len(self.subgroups) and all(self.subgroups),
            f"metrics.subgroups={self.subgroups} must name each column once.",
        )


Regime = Literal["real", "synthetic", "mixed", "finetuned"]


@dataclass
class StudyConfig:
    """Arms, repeats and axes of the comparison."""

    name: str = "quickstart"
    """Name of the MLflow experiment."""
    demonstration: bool = False
    """End with what a study of phantoms shows and does not show, and with the commands for own data."""
    regimes: list[Regime] = field(default_factory=lambda: ["real", "synthetic", "mixed"])
    """Training regimes to compare: real data; synthetic data; both mixed; or ``finetuned``, pre-trained on the pool and
    fine-tuned on the real training set."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Seeds of the classifiers; each arm is trained once per seed. Splits and folds get their own initial weights and
    batches, the same for all arms of a repeat."""
    synthetic_fraction: list[float] = field(default_factory=lambda: [0.5])
    """Synthetic share of the mixed training set, in (0, 1). One arm per value."""
    pretrain_share: list[float] = field(default_factory=lambda: [0.5])
    """Share of the optimiser steps that ``finetuned`` spends on synthetic data first, in (0, 1). One arm per value. The
    total number of steps and the schedule are those of every regime."""
    pretrained_on: dict[str, str] = field(default_factory=dict)
    """Pools for the pre-training of ``finetuned``, by name: {synthetic: POOL, real: ADOPTED}. With the axis split.train
    this is the fine-tuning curve of CCELLA++ (arXiv 2507.06384)."""
    axes: dict[str, list[Any]] = field(default_factory=dict)
    """Full factorial of other settings: {"classifier.augment": [true, false], "split.train": [1, 0.5, 16],
    "split.seed": [0, 1]}. Splits and folds count as repeats, as seeds do."""

    @property
    def all_axes(self) -> dict[str, list[Any]]:
        """The axes, including the pools of ``pretrained_on``."""
        return {**self.axes, "pool.path": [*self.pretrained_on.values()]} if self.pretrained_on else self.axes

    @property
    def synthetic(self) -> bool:
        """Whether a regime uses synthetic data."""
        return any(regime != "real" for regime in self.regimes)

    def __post_init__(self) -> None:
        require(bool(self.regimes) and bool(self.seeds), "study.regimes and study.seeds must not be empty.")
        require(bool(self.name.strip()), "study.name must not be empty: it names the MLflow experiment.")
        require(
            all(0 < fraction < 1 for fraction in self.synthetic_fraction),
            f"study.synthetic_fraction={self.synthetic_fraction} must lie between 0 and 1.",
        )
        require(
            bool(self.synthetic_fraction) or "mixed" not in self.regimes,
            "study.synthetic_fraction must not be empty where study.regimes has 'mixed'.",
        )
        require(
            all(0 < share < 1 for share in self.pretrain_share)
            and (bool(self.pretrain_share) or "finetuned" not in self.regimes),
            f"study.pretrain_share={self.pretrain_share} must hold shares between 0 and 1, at least one where "
            "study.regimes has 'finetuned'.",
        )
        for name in ("regimes", "seeds", "synthetic_fraction", "pretrain_share"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"study.{name}={values} holds a value twice.")
        pools = [*self.pretrained_on.values()]
        require(
            not pools or ({*self.regimes} == {"real", "finetuned"} and "pool.path" not in self.axes),
            f"study.pretrained_on={self.pretrained_on} needs study.regimes=[real, finetuned], and no axis pool.path.",
        )
        require(
            len({*pools}) == len(pools) and all(map(str.strip, [*self.pretrained_on, *pools])),
            f"study.pretrained_on={self.pretrained_on} must name each pool once.",
        )
        for key, values in self.axes.items():
            require(
                bool(values) and all(values.count(value) == 1 for value in values),
                f"study.axes.{key}={values} must hold at least one value, and none twice.",
            )
            require(
                "." in key and key.split(".")[0] not in ("study", "metrics", "report"),
                f"study.axes: {key!r} is no axis; name a setting of data, split, generator, pool, classifier, ...",
            )


FindingCode = Literal[
    "cells-failed",
    "near-copies",
    "copies",
    "copies-unknown",
    "unknown-provenance",
    "told-apart",
    "far-from-real",
    "class-not-shown",
    "reports-cut",
    "reports-contradict",
    "reports-unlike",
    "field-of-view",
    "few-test-patients",
    "few-repeats",
    "p-limit",
]


@dataclass
class ReportConfig:
    """Report of a study."""

    mute: list[FindingCode] = field(default_factory=list)
    """Codes of known findings to hide; the report states how many are hidden."""

    def __post_init__(self) -> None:
        require(len(set(self.mute)) == len(self.mute), f"report.mute={self.mute} holds a code twice.")


@dataclass
class TrackingConfig:
    """What is logged to MLflow."""

    privacy: Literal["pseudonymous", "full"] = "pseudonymous"
    """``pseudonymous``: no ids and no images of patients outside public data sets. ``full``: everything."""


@dataclass
class ExecutionConfig:
    """Where the cells of a study run. Results do not depend on it."""

    executor: Literal["local", "ray"] = "local"
    """``local``: one after another in this process. ``ray``: tasks on the cluster of RAY_ADDRESS, or on a local one,
    each with the threads of this process (OMP_NUM_THREADS)."""
    workers: int = 2
    """Cells in parallel on Ray."""
    gpus_per_cell: float | None = None
    """GPUs per cell on Ray. None: 0.25, or 0 on a cluster without GPUs."""

    def __post_init__(self) -> None:
        require_ranges(self, "", workers="[1, 1e5]", gpus_per_cell="[0, 1024]")
