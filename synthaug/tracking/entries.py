"""Settings and numbers as MLflow takes them."""

from collections.abc import Mapping
from typing import Any

from mlflow.entities import Param

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


def as_params(settings: Mapping[str, Any]) -> list[Param]:
    """Flat settings as parameters, long values cut.

    Example:
        >>> [(param.key, param.value) for param in as_params({"steps": 8})]
        [('steps', '8')]
    """
    return [Param(key, str(value)[:500]) for key, value in settings.items()]
