"""YAML in which no key stands twice: the later one would win without a word."""

from collections.abc import Callable
from typing import Any

import yaml


def refusing_repeated_keys(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """A YAML loader as ``load`` that raises ``yaml.YAMLError`` where a mapping has a key twice.

    Example:
        >>> refusing_repeated_keys(yaml.safe_load)("{seed: 1, seed: 2}")
        Traceback (most recent call last):
        ...
        yaml.error.YAMLError: key 'seed' stands twice (lines 1 and 1); take one out
    """

    def strict(text: str) -> Any:
        loaded = load(text)
        if isinstance(loaded, dict | list):
            _refuse_repeats(yaml.compose(text, Loader=yaml.SafeLoader))
        return loaded

    return strict


def _refuse_repeats(node: Any) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeats(item)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                raise yaml.YAMLError(
                    f"key {key.value!r} stands twice (lines {lines[key.value]} and {line}); take one out"
                )
            if isinstance(key, yaml.ScalarNode):
                lines[key.value] = line
            _refuse_repeats(value)
