"""Fields for what files of schema 1 told in a label alone. Nothing else takes a label apart."""

import re
from collections.abc import Iterable
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


def labels_of_old_contrast(label: str, arms: Iterable[str]) -> tuple[str, str]:
    """The two arms whose labels a contrast of schema 1 was named after."""
    known = list(arms)
    found = [(ours, theirs) for ours in known for theirs in known if f"{ours} - {theirs}" == label]
    return found[0] if found else (label.split(" - ")[0], label.split(" - ")[-1])
