"""What a pool is to hold, and which class a volume is listed under."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthaug.config import LabelPolicy, SamplingConfig
from synthaug.ground.errors import InputError
from synthaug.models.precision import Precision
from synthaug.models.variants import VARIANTS
from synthaug.pool.prompts import Prompts, require_classes

Place = tuple[int, int]
"""Requested class and index."""


@dataclass(frozen=True)
class Order:
    """What a pool is to hold; see :meth:`SyntheticPool.build`. Plain values, so that it can be sent to a cluster."""

    per_class: Mapping[int, int]
    prompts: Prompts
    seed: int = 0
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    override_class: bool = False
    labels: LabelPolicy = "requested"
    attempts: int = 4
    threads: int | None = None
    precision: Precision | None = None
    """None = that of the folder; of a new one, what pays on this machine for a generator that was trained in bf16."""

    def __post_init__(self) -> None:
        whole = {_whole(label, "per_class"): _whole(count, "per_class") for label, count in self.per_class.items()}
        short = [label for label, count in whole.items() if min(label, count) < 0]
        if short:
            raise InputError(
                f"per_class={dict(self.per_class)}: class {short[0]} cannot have {whole[short[0]]} volumes; classes "
                "and numbers begin at 0."
            )
        object.__setattr__(self, "per_class", whole)
        for name in ("seed", "attempts", "threads"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else _whole(value, name))
        if self.attempts < 1:
            raise InputError(f"attempts={self.attempts} must be at least 1.")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads={self.threads} must be at least 1.")
        require_classes(self.prompts, sorted(self.per_class))

    def places(self, shard: tuple[int, int] | None = None) -> list[Place]:
        """Every place of the pool, or those of part k of n.

        Raises:
            InputError: Not 0 <= k < n.
        """
        every = [(label, index) for label, count in sorted(self.per_class.items()) for index in range(count)]
        part, parts = shard or (0, 1)
        if not 0 <= part < parts:
            raise InputError(f"shard={shard} must be (k, n) with 0 <= k < n.")
        return every[part::parts]


def _whole(value: Any, name: str) -> int:
    """Python's own integer, which JSON writes, of any library's; InputError for all else."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise InputError(f"{name} holds {value!r}, which is no whole number.") from error


def require_class_heads(variant: str, labels: LabelPolicy) -> None:
    """InputError where volumes are to be listed by the class that a generator predicts, and its variant does not."""
    if labels != "requested" and VARIANTS[variant].heads == "none":
        raise InputError(
            f"Variant {variant!r} predicts no class, so labels={labels!r} has no meaning; use labels='requested'."
        )


def final_label(requested: int, probabilities: list[float] | None, policy: LabelPolicy) -> int | None:
    """The class that a volume is listed under; None = turned down.

    Example:
        >>> [final_label(1, [0.9, 0.1], policy) for policy in ("requested", "predicted", "agreed")]
        [1, 0, None]
    """
    if policy == "requested":
        return requested
    assert probabilities is not None  # pools of other generators were refused
    predicted = int(np.argmax(probabilities))
    return predicted if policy == "predicted" or predicted == requested else None
