"""Synthetic 3D medical images as data augmentation, and the benchmark that says whether they help."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; tests/test_public_names.py holds it to the table below
    from synthaug.augment.monai_transform import SyntheticAugmentArray as SyntheticAugmentArray
    from synthaug.augment.monai_transform import SyntheticAugmentd as SyntheticAugmentd
    from synthaug.augment.sampler import SyntheticSampler as SyntheticSampler
    from synthaug.augment.source import LiveSource as LiveSource
    from synthaug.augment.transform import SyntheticAugment as SyntheticAugment
    from synthaug.bench.studies.finished import Study as Study
    from synthaug.bench.studies.finished import load_config as load_config
    from synthaug.bench.studies.finished import run_study as run_study
    from synthaug.config import Config as Config
    from synthaug.config import PreprocessConfig as PreprocessConfig
    from synthaug.data.preprocess import preprocess as preprocess
    from synthaug.data.reading.manifest import load_manifest as load_manifest
    from synthaug.data.splits import Split as Split
    from synthaug.data.splits import load_split as load_split
    from synthaug.data.splits import save_split as save_split
    from synthaug.data.splits import split_subjects as split_subjects
    from synthaug.data.voxels.batched import BatchedAugmentation as BatchedAugmentation
    from synthaug.generate.pipeline import CCELLAPipeline as CCELLAPipeline
    from synthaug.generate.released import import_released as import_released
    from synthaug.ground.errors import InputError as InputError
    from synthaug.metrics.comparison import compare_images as compare_images
    from synthaug.pool.adoption import adopt_pool as adopt_pool
    from synthaug.pool.export import export_pool as export_pool
    from synthaug.pool.pool import SyntheticPool as SyntheticPool
    from synthaug.pool.prompts import TrainingPrompts as TrainingPrompts
    from synthaug.pool.prompts import WriterPrompts as WriterPrompts
    from synthaug.pool.prompts import reports_by_class as reports_by_class
    from synthaug.pool.report_file import read_report_file as read_report_file
    from synthaug.pool.review.audit import audit_pool as audit_pool
    from synthaug.study.records import read_summary as read_summary

_HOME = {
    "BatchedAugmentation": "synthaug.data.voxels.batched",
    "CCELLAPipeline": "synthaug.generate.pipeline",
    "Config": "synthaug.config",
    "InputError": "synthaug.ground.errors",
    "LiveSource": "synthaug.augment.source",
    "PreprocessConfig": "synthaug.config",
    "Split": "synthaug.data.splits",
    "Study": "synthaug.bench.studies.finished",
    "SyntheticAugment": "synthaug.augment.transform",
    "SyntheticAugmentArray": "synthaug.augment.monai_transform",
    "SyntheticAugmentd": "synthaug.augment.monai_transform",
    "SyntheticPool": "synthaug.pool.pool",
    "SyntheticSampler": "synthaug.augment.sampler",
    "TrainingPrompts": "synthaug.pool.prompts",
    "WriterPrompts": "synthaug.pool.prompts",
    "adopt_pool": "synthaug.pool.adoption",
    "audit_pool": "synthaug.pool.review.audit",
    "compare_images": "synthaug.metrics.comparison",
    "export_pool": "synthaug.pool.export",
    "import_released": "synthaug.generate.released",
    "load_config": "synthaug.bench.studies.finished",
    "load_manifest": "synthaug.data.reading.manifest",
    "load_split": "synthaug.data.splits",
    "preprocess": "synthaug.data.preprocess",
    "read_report_file": "synthaug.pool.report_file",
    "read_summary": "synthaug.study.records",
    "reports_by_class": "synthaug.pool.prompts",
    "run_study": "synthaug.bench.studies.finished",
    "save_split": "synthaug.data.splits",
    "split_subjects": "synthaug.data.splits",
}
__all__ = [
    "BatchedAugmentation",
    "CCELLAPipeline",
    "Config",
    "InputError",
    "LiveSource",
    "PreprocessConfig",
    "Split",
    "Study",
    "SyntheticAugment",
    "SyntheticAugmentArray",
    "SyntheticAugmentd",
    "SyntheticPool",
    "SyntheticSampler",
    "TrainingPrompts",
    "WriterPrompts",
    "adopt_pool",
    "audit_pool",
    "compare_images",
    "export_pool",
    "import_released",
    "load_config",
    "load_manifest",
    "load_split",
    "preprocess",
    "read_report_file",
    "read_summary",
    "reports_by_class",
    "run_study",
    "save_split",
    "split_subjects",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import synthaug`` and ``--help`` stay quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'synthaug' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Public names too that were not used yet."""
    return sorted({*globals(), *_HOME})
