"""Synthetic 3D medical images as data augmentation, and the benchmark that says whether they help."""

import importlib
from typing import Any

_HOME = {
    "BatchedAugmentation": "synthaug.data.batched",
    "CCELLAPipeline": "synthaug.generate.pipeline",
    "InputError": "synthaug.ground.errors",
    "LiveSource": "synthaug.augment.source",
    "PreprocessConfig": "synthaug.config",
    "Split": "synthaug.data.splits",
    "SyntheticAugment": "synthaug.augment.transform",
    "SyntheticAugmentd": "synthaug.augment.monai_transform",
    "SyntheticPool": "synthaug.pool.pool",
    "SyntheticSampler": "synthaug.augment.sampler",
    "TrainingPrompts": "synthaug.pool.prompts",
    "WriterPrompts": "synthaug.pool.prompts",
    "audit_pool": "synthaug.pool.audit",
    "compare_images": "synthaug.metrics.comparison",
    "export_pool": "synthaug.pool.export",
    "import_released": "synthaug.generate.released",
    "load_manifest": "synthaug.data.manifest",
    "load_split": "synthaug.data.splits",
    "preprocess": "synthaug.data.preprocess",
    "read_summary": "synthaug.study.records",
    "reports_by_class": "synthaug.pool.prompts",
    "save_split": "synthaug.data.splits",
    "split_subjects": "synthaug.data.splits",
}
__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import synthaug`` and ``--help`` stay quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'synthaug' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
