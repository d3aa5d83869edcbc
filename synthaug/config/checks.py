"""Checks of settings."""

import math
from typing import Any, get_args

from synthaug.ground.errors import InputError


def require(holds: bool, message: str) -> None:
    """Raise InputError with the message unless the condition holds."""
    if not holds:
        raise InputError(message)


def require_ranges(settings: Any, section: str, **ranges: str) -> None:
    """InputError for the first field that is None without being optional, or lies outside its interval.

    Args:
        settings: A config dataclass.
        section: Its section of the config, for the message; "" = unknown.
        **ranges: Interval of each field in mathematical notation. Every element of a list must lie in it.

    Example:
        >>> from types import SimpleNamespace as Settings
        >>> require_ranges(Settings(steps=5, rate=0.1), "training", steps="[1, inf)", rate="(0, 1)")
        >>> require_ranges(Settings(steps=0), "training", steps="[1, inf)")
        Traceback (most recent call last):
        ...
        synthaug.ground.errors.InputError: training.steps=0 must lie in [1, inf).
    """
    place = f"{section}." if section else ""
    for name, kind in getattr(type(settings), "__annotations__", {}).items():
        may_be_none = type(None) in get_args(kind)
        require(getattr(settings, name) is not None or may_be_none, f"{place}{name} must not be empty.")
    for name, interval in ranges.items():
        value = getattr(settings, name)
        elements = value if isinstance(value, list | tuple) else [value]
        require(
            all(element is None or _lies_in(element, interval) for element in elements),
            f"{place}{name}={value} must lie in {interval}.",
        )


def _lies_in(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and math.isfinite(value)
