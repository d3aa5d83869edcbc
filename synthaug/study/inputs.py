"""The sets of volumes behind a cell, each by name, content hash, source and classes: what tracking tells of them."""

from pathlib import Path
from typing import Any

from synthaug.config import DataConfig
from synthaug.data.manifest import class_counts
from synthaug.study.preparation import Study

CONTEXTS = {"train": "training", "val": "validation", "test": "test"}
"""What a part of the split is for, in MLflow's words."""


def describe_inputs(study: Study, *, real: bool, synthetic: bool) -> list[dict[str, Any]]:
    """A row for each set: context (training, validation, test), name, digest, source, classes.

    Args:
        study: The data and the pool.
        real: Whether the classifier trained on the real training set.
        synthetic: Whether it trained on the pool.

    Returns:
        The digest is the content hash that the study knows the set by; the source is a path (that of a pool made here
        is relative to the study's folder), None for phantoms; classes count the volumes by label.
    """
    config = study.config
    rows = [
        {
            "context": CONTEXTS[part],
            "name": f"{_name_of(config.data)} {part}",
            "digest": study.part_ids[part],
            "source": None if config.data.root is None else str(Path(config.data.root, config.data.manifest).resolve()),
            "classes": _by_label(class_counts(group)),
        }
        for part, group in study.split.parts()
        if real or part != "train"
    ]
    if synthetic:
        given = config.pool.path
        rows.insert(
            int(real),
            {
                "context": "training",
                "name": "synthetic pool",
                "digest": study.pool_id,
                "source": str(Path(given).resolve()) if given else study.pool.path.name,
                "classes": _by_label(study.pool.counts),
            },
        )
    return rows


def _name_of(data: DataConfig) -> str:
    return "phantoms" if data.root is None else Path(data.root).resolve().name


def _by_label(counts: dict[int, int]) -> dict[str, int]:
    return {str(label): count for label, count in counts.items()}
