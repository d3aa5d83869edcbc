"""Fields for what files of earlier versions told in words alone. Nothing else takes words apart."""

import ast
import re
from collections.abc import Container
from typing import Any

from synthaug.study.records.fields import Settings, setting_words


def fields_of_old_arm(row: Settings) -> dict[str, Any]:
    """The fields of an arm from a row of schema 1, which had a label and the settings in it."""
    end = "".join(f" {setting_words(*each)}" for each in row["settings"].items())
    head = row["regime"].removesuffix(end)
    regime, _, share = head.partition(" ")
    if re.fullmatch(r"[\d.e-]+", share):
        return {"regime": regime, "fraction": float(share), "tells_fraction": True}
    return {"regime": regime, "name": head if share else ""}


def labels_of_old_contrast(label: str, arms: Container[str]) -> tuple[str, str]:
    """The two arms whose labels a contrast of schema 1 was named after."""
    parts = label.split(" - ")
    pairs = [(" - ".join(parts[:place]), " - ".join(parts[place:])) for place in range(1, len(parts))]
    return next((pair for pair in pairs if pair[0] in arms and pair[1] in arms), pairs[0])


def axes_of_old_source(source: str) -> dict[str, Any]:
    """The axis values that tell a pool, from the words of a row that had no settings.

    Example:
        >>> axes_of_old_source("split.train 16 split.file a.csv")
        {'split.train': 16, 'split.file': 'a.csv'}
    """
    _, *parts = re.split(r"(?:^| )((?:autoencoder|data|generator|pool|preprocess|split)\.\w[\w.]*) ", source)
    return {key: _value_of(words) for key, words in zip(parts[::2], parts[1::2], strict=True)}


def _value_of(words: str) -> Any:
    """What Python wrote as these words: a literal, or text."""
    try:
        return ast.literal_eval(words)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return words
