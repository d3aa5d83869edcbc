"""Settings of classifiers, statistics, what is compared and where it runs."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from synthaug.config.checks import require, require_ranges
from synthaug.config.geometry import GeometryConfig
from synthaug.config.optimisation import TrainingConfig

Move = Literal["flip", "rotate", "translate", "zoom"]
MOVES: tuple[Move, ...] = ("flip", "rotate", "translate", "zoom")
"""Classical augmentation, as published."""


@dataclass
class ClassifierConfig:
    """The downstream classifier. Equal optimiser steps in every regime, so that more data is not more training."""

    network: Literal["resnet10", "resnet18", "resnet50", "densenet121", "efficientnet-b0", "seresnet50"] = "resnet10"
    """A MONAI network."""
    channels: tuple[int, int, int, int] = (8, 16, 32, 64)
    """Channels of a ResNet's four levels."""
    pooling: int = 1
    """Voxels a side that are averaged before the network. 2 leaves an eighth of the voxels: training is faster, and the
    fine texture in which synthetic volumes differ most from real ones counts for less."""
    loss: Literal["cross_entropy", "focal", "logit_adjusted"] = "focal"
    """Focal has gamma 2 (published). logit_adjusted: cross-entropy of logits plus the log of each class's share of the
    training set (Menon et al. 2021), where ``balance`` is none."""
    balance: Literal["oversampled", "weighted", "none"] = "oversampled"
    """What is done about rare classes: every batch holds as many of each class, rarer ones repeated; or batches come
    as the training set is and the loss is weighted; or nothing."""
    class_weights: list[float] | None = None
    """Loss weight of each class where ``balance`` is weighted; none = scikit-learn's "balanced", 1 / frequency."""
    augment: bool | Literal["labelled"] | list[Move] = True
    """Classical augmentation: true = as published, flip left-right, rotate, translate, zoom; false = none; or a list of
    those to use, where zoom changes sizes but not the class. labelled: the moves of ``geometry``, after which the class
    follows from data.label_rule; subjects for which it is not known are not zoomed."""
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    """Moves where ``augment`` is labelled."""
    test_flips: bool = False
    """Average the logits of a volume and of its left-right mirror image when predicting."""
    evaluate_every: int = 20
    """Steps between validations; the step with the lowest validation loss, at its best temperature, is kept."""
    patience: int = 0
    """Validations without a lower loss after which the training stops early; 0 = all steps (equal in every regime)."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=120, batch_size=8, learning_rate=1e-3, warmup=10)
    )
    """Its optimisation. ``batch_size`` is rounded to the nearest multiple of the number of classes, in every arm."""

    @property
    def moves(self) -> list[Move]:
        """The classical augmentation that is used; none = []."""
        if isinstance(self.augment, list):
            return self.augment
        return list(MOVES) if self.augment is True else []

    def batch_size(self, classes: int) -> int:
        """Volumes a step: ``training.batch_size``, or the nearest number that the classes and its parts divide.

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
    """Weights of the seeded extractor."""
    bootstrap: int = 1000
    """Resamples behind an interval."""
    permutations: int | None = None
    """Random swaps of two classifiers' predictions behind a p-value; none = 1999, or more where there are so many
    comparisons that none could come out clear after Holm's correction."""
    confidence: float = 0.95
    """Coverage of the intervals."""
    subgroups: list[str] = field(default_factory=list)
    """Manifest columns (sex, site, ...) for whose values every metric is told by itself too."""
    copies: bool = True
    """Tell the share of synthetic volumes that are copies of training patients (nine held-out patients needed)."""
    realism: Literal["statistics", "network", "off"] = "statistics"
    """What tells synthetic volumes from held-out real ones, from 40 a side on: texture statistics (seconds), a network
    too (a minute or two), or nothing."""

    def __post_init__(self) -> None:
        require_ranges(self, "metrics", bootstrap="[1, 1e6]", permutations="[1, 1e7]", confidence="(0, 1)")
        require(
            len(set(self.subgroups)) == len(self.subgroups) and all(self.subgroups),
            f"metrics.subgroups={self.subgroups} must name each column once.",
        )


Regime = Literal["real", "synthetic", "mixed", "finetuned"]


@dataclass
class StudyConfig:
    """What is compared."""

    name: str = "quickstart"
    """Name of the MLflow experiment."""
    demonstration: bool = False
    """End with what a study of generated phantoms has shown and what not, and with the commands for own data."""
    regimes: list[Regime] = field(default_factory=lambda: ["real", "synthetic", "mixed"])
    """Which ways to train are compared: on real data, on synthetic data, on both at once, or on both one after the
    other (finetuned: pre-trained on the pool, then fine-tuned on the real training set)."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Classifier seeds; each regime runs once a seed. Repeats over splits or folds train from other first weights and
    batches each, the same for all arms of a repeat."""
    synthetic_fraction: list[float] = field(default_factory=lambda: [0.5])
    """Synthetic share of the mixed regime's training set, in (0, 1); several = as many mixed regimes."""
    pretrain_share: list[float] = field(default_factory=lambda: [0.5])
    """Share of the optimiser steps, in (0, 1), that the regime finetuned makes on synthetic data before those on real
    data; several = as many such regimes. All steps together are those of every regime, on one schedule."""
    pretrained_on: dict[str, str] = field(default_factory=dict)
    """Pools by name, each of which the regime finetuned is pre-trained on, beside no pre-training: {synthetic: POOL,
    real: ADOPTED}. With the axis split.train this is the fine-tuning curve of CCELLA++ (arXiv 2507.06384)."""
    axes: dict[str, list[Any]] = field(default_factory=dict)
    """Other settings to compare, in every combination: {"classifier.augment": [true, false], "split.train": [1, 0.5,
    16], "split.seed": [0, 1]}. Splits and folds are repeats, over which the statistics go as over seeds."""

    @property
    def all_axes(self) -> dict[str, list[Any]]:
        """The axes, with the pools that are pre-trained on."""
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
    """The report of a study."""

    mute: list[FindingCode] = field(default_factory=list)
    """Codes of findings that are known and need not stand above the verdict any more; the report says how many."""

    def __post_init__(self) -> None:
        require(len(set(self.mute)) == len(self.mute), f"report.mute={self.mute} holds a code twice.")


@dataclass
class TrackingConfig:
    """What MLflow is told."""

    privacy: Literal["pseudonymous", "full"] = "pseudonymous"
    """pseudonymous: of patients who are not public it gets no ids and no images; full: it gets all."""


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
        require_ranges(self, "", workers="[1, 1e5]", gpus_per_cell="[0, 1024]")
