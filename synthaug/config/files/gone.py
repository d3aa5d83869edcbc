"""Settings that are gone: files of earlier versions name them, with the value that says what is done anyhow."""

from collections.abc import Callable, Mapping
from typing import Any

OF_A_LEVEL = {"amplitudes": False}
"""Of ``generator.levels``."""


def known_level(level: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a level without those that are gone; one that asked for something stays, to be refused.

    Example:
        >>> known_level({"pooling": 4, "amplitudes": False}), known_level({"amplitudes": True})
        ({'pooling': 4}, {'amplitudes': True})
    """
    return {name: value for name, value in level.items() if name not in OF_A_LEVEL or value != OF_A_LEVEL[name]}


def without_gone(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """A loader of settings as ``load`` that leaves out those that are gone.

    Example:
        >>> import yaml
        >>> without_gone(yaml.safe_load)("generator: {levels: [{pooling: 1, amplitudes: false}]}")
        {'generator': {'levels': [{'pooling': 1}]}}
    """

    def known(text: str) -> Any:
        settings = load(text)
        generator = settings.get("generator") if isinstance(settings, dict) else None
        if isinstance(generator, dict) and isinstance(levels := generator.get("levels"), list):
            generator["levels"] = [known_level(level) if isinstance(level, dict) else level for level in levels]
        return settings

    return known
