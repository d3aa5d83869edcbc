"""Settings that are gone: files of before that leave them off still open."""

from collections.abc import Callable
from typing import Any

GONE = {"amplitudes": False}
"""Settings, of a level, with the value at which they were off."""


def without_gone(settings: Any) -> Any:
    """Settings of any kind without those that are gone and were off; one that was on stays, to be refused by name.

    Example:
        >>> without_gone([{"patch": 2, "amplitudes": False}, {"amplitudes": True}])
        [{'patch': 2}, {'amplitudes': True}]
    """
    if isinstance(settings, dict):
        return {
            name: without_gone(value) for name, value in settings.items() if not (name in GONE and value is GONE[name])
        }
    return [without_gone(each) for each in settings] if isinstance(settings, list) else settings


def leaving_out_gone(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """A YAML loader as ``load`` that leaves out what is gone and was off."""
    return lambda text: without_gone(load(text))
