"""Arms of a study and the paired differences between them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from synthaug.statistics.detectable import is_small, seen_difference
from synthaug.study.records.arm_fields import ArmFields
from synthaug.study.records.fields import STAGES, Estimate, Settings, known, require_kinds, setting_words
from synthaug.study.records.upgrades import fields_of_old_arm, labels_of_old_contrast

LEAST_REPEATS = 3
"""Fewer trainings of an arm give no verdict: what differs from one to the next is not known."""


@dataclass(frozen=True)
class Arm(ArmFields):
    """What is compared: one way to train, repeated over seeds and splits."""

    regime: str
    """real, synthetic, mixed or finetuned."""
    fraction: float | None = None
    """Share that is synthetic; None = none."""
    tells_fraction: bool = False
    """Whether the label has the share: the study has arms of this regime with other shares."""
    settings: Settings = field(default_factory=dict)
    """Values of the study's axes that touch the arm, but for those that repeat it."""
    name: str = ""
    """Words in place of regime and share, where whoever reads the study has better ones."""
    number: int = 1
    """Tells arms apart whose labels would else be the same, in the order of the study."""
    protocol: str = ""
    """Whom the generator has seen."""
    n_train: int = 0
    """Real patients that the regimes of this size have."""
    n_train_real: int = 0
    """Real volumes of the training set."""
    n_train_synthetic: int = 0
    """Synthetic volumes of the training set."""
    n_test: int = 0
    """Test patients of all repeats."""
    seeds: tuple[int, ...] = ()
    repeats: int = 0
    """Trainings: seeds times splits."""
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    """By name of the metric."""

    @property
    def label(self) -> str:
        """The one name of the arm. It is made from the fields and never read back."""
        return " ".join([self._head(), *(setting_words(*each) for each in self.settings.items())])

    def series(self, *, without: Sequence[str] = ()) -> str:
        """The label without what a panel tells, and without the settings named: what a legend says."""
        kept = [setting_words(*each) for each in self.settings.items() if _of_stage(each[0]) and each[0] not in without]
        return " ".join([self._head(), *kept])

    def panel(self, *, without: Sequence[str] = ()) -> str:
        """The settings that arms of real data have too: these arms stand side by side."""
        shared = [key for key in self.settings if not _of_stage(key) and key not in without]
        return ", ".join(setting_words(key, self.settings[key]) for key in shared)

    def _head(self) -> str:
        share = f" {self.fraction:g}" if self.tells_fraction and self.fraction is not None else ""
        head = self.name or self.regime + share
        return head if self.number == 1 else f"{head} no. {self.number}"

    def to_json(self) -> dict[str, Any]:
        """A row of ``regimes``."""
        told = asdict(self) | {"seeds": list(self.seeds)}
        if self.number == 1:
            del told["number"]
        plain = ("settings", "seeds", "repeats", "n_train", "n_train_real", "n_train_synthetic", "protocol", "n_test")
        return {
            "regime": self.label,
            **{name: told.pop(name) for name in plain},
            **{name: estimate.to_json() for name, estimate in self.metrics.items()},
            "arm": {name: value for name, value in told.items() if name != "metrics"},
        }

    @classmethod
    def from_json(cls, row: Settings) -> Self:
        """A row of ``regimes``, of any version."""
        told = {**row, **(row["arm"] if "arm" in row else fields_of_old_arm(row))}
        metrics = {
            name: Estimate.from_json(value)
            for name, value in row.items()
            if isinstance(value, Mapping) and "ci_low" in value
        }
        made = {**known(cls, told), "seeds": tuple(row.get("seeds", ())), "metrics": metrics}
        require_kinds(cls, made)
        return cls(**made)


@dataclass(frozen=True)
class Contrast:
    """A paired difference between two arms in one metric."""

    arm: Arm
    baseline: Arm
    metric: str
    difference: Estimate
    p: float
    """Of the permutation test."""
    p_holm: float
    """Corrected over the contrasts of the same metric."""
    n_train: int = 0
    n_test: int = 0
    seeds: tuple[int, ...] = ()
    """That both arms have."""
    repeats: int = 0
    protocol: str = ""

    @property
    def label(self) -> str:
        """Both arms; never read back."""
        return f"{self.arm.label} - {self.baseline.label}"

    @property
    def abstains(self) -> bool:
        """It is known to rest on fewer repeats (seeds, splits, folds) than a verdict needs."""
        return 0 < self.repeats < LEAST_REPEATS

    def is_clear(self, alpha: float) -> bool:
        """Repeats are enough, the interval leaves out 0, the corrected p is small: what a verdict calls clear."""
        return not self.abstains and self.difference.leaves_out_zero and is_small(self.p_holm, alpha=alpha)

    def seen(self, confidence: float) -> float:
        """The difference that the comparison would likely have shown, had it been there; by the interval's width."""
        return seen_difference(self.difference.low, self.difference.high, confidence=confidence)

    def to_json(self) -> dict[str, Any]:
        """A row of ``contrasts``."""
        return {
            "contrast": self.label,
            "arm": self.arm.label,
            "baseline": self.baseline.label,
            "n_train": self.n_train,
            "metric": self.metric,
            **self.difference.to_json("difference"),
            "p": self.p,
            "p_holm": self.p_holm,
            "seeds": list(self.seeds),
            "repeats": self.repeats,
            "n_test": self.n_test,
            "protocol": self.protocol,
        }

    @classmethod
    def from_json(cls, row: Settings, arms: Mapping[str, Arm]) -> Self:
        """A row of ``contrasts``, of any version.

        Args:
            row: The row.
            arms: Of its study, by label.
        """
        names = (row["arm"], row["baseline"]) if "arm" in row else labels_of_old_contrast(row["contrast"], arms)
        ours, theirs = (arms.get(name) or Arm("", name=str(name)) for name in names)
        told = {**known(cls, row), "seeds": tuple(row.get("seeds", ()))}
        require_kinds(cls, told)
        return cls(**{**told, "arm": ours, "baseline": theirs, "difference": Estimate.from_json(row, "difference")})


def _of_stage(key: str) -> bool:
    return key.split(".")[0] in STAGES
