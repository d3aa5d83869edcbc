"""Settings and numbers as MLflow takes them."""

import re
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Param

from synthaug.ground.files import content_hash

LONGEST_KEY = 250
"""Characters that MLflow takes in a name."""
PARENT = "mlflow.parentRunId"
"""MLflow's own tag of a run below another."""
SOURCE = {"mlflow.source.name": "synthaug.bench", "mlflow.source.type": "LOCAL"}


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys.

    Example:
        >>> flatten({"a": {"b": 1}, "c": [2]})
        {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_key(name: str) -> str:
    """A name as MLflow takes it for a parameter, metric or tag: letters, digits and ``_-. :/``, at most 250 of them.

    Example:
        >>> [as_key(name) for name in ("PSA (ng/ml)", "bands.<30 ml", "adc[b=800]", "../x")]
        ['PSA _ng/ml_', 'bands._30 ml', 'adc_b_800_', '_/x']
    """
    plain = re.sub(r"[^\w .:/-]", "_", name)
    parts = [part if part.strip(".") else "_" for part in plain.split("/")]
    key = "/".join(parts)
    return key if len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 17]} {content_hash(name)}"


def as_params(settings: Mapping[str, Any]) -> list[Param]:
    """Flat settings as parameters, long values cut; of names that become one, later ones are numbered.

    Example:
        >>> [(param.key, param.value) for param in as_params({"steps": 8, "<30": 1, "(30": 2})]
        [('steps', '8'), ('_30', '1'), ('_30 2', '2')]
    """
    named: dict[str, str] = {}
    for name, value in settings.items():
        key, number = as_key(name), 2
        while key in named:
            key, number = f"{as_key(name)[: LONGEST_KEY - 4]} {number}", number + 1
        named[key] = str(value)[:500]
    return [Param(key, value) for key, value in named.items()]
