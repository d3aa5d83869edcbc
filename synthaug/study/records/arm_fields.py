"""How a classifier was trained, as its cell's record and its arm both tell it: a new field of an arm is added here."""

from dataclasses import dataclass, field
from typing import Any

from synthaug.config import Config
from synthaug.study.records.fields import Settings

TREATMENTS = ("classifier.augment", "classifier.balance", "classifier.class_weights")
"""Axes that are ways of getting more out of real data: synthetic data is compared with each of them."""


@dataclass(frozen=True, kw_only=True)
class ArmFields:
    """What a record and an arm have in common. Files without a field were written before it: they get its default."""

    treatment: Settings = field(default_factory=dict)
    """How the real data is used: augment, balance, class_weights."""
    generator: str = ""
    """Variant, or path of a given pool or generator; "" = none or not recorded."""
    labels: str = ""
    """Where the labels of synthetic volumes come from; "" = none or not recorded."""
    classifier: str = ""
    """Network; "" = not recorded."""


def arm_fields_of(config: Config, *, drawn: bool) -> dict[str, Any]:
    """The values of :class:`ArmFields`.

    Args:
        config: Of the cell.
        drawn: Whether the cell uses synthetic volumes.
    """
    classifier, pool = config.classifier, config.pool
    generator = pool.path or pool.generator or config.generator.pretrained or config.generator.variant
    return {
        "treatment": {key.split(".")[-1]: getattr(classifier, key.split(".")[-1]) for key in TREATMENTS},
        "generator": str(generator) if drawn else "",
        "labels": str(pool.labels) if drawn else "",
        "classifier": classifier.network,
    }
