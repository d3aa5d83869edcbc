"""A pool of a few small volumes, for the tests of the room ``augment``."""

import hashlib
from pathlib import Path

import torchio as tio

from synthaug.augment.pool import SyntheticPool, reports_by_class
from synthaug.config import SamplingConfig

SAMPLING = SamplingConfig(steps=2, micro_batch=4)
PER_CLASS = {0: 3, 1: 5}


def build_pool(pipe, subjects, path, **changes) -> SyntheticPool:
    """Three volumes of class 0 and five of class 1; ``changes`` replace arguments of the build."""
    arguments = {"per_class": PER_CLASS, "reports": reports_by_class(subjects), "seed": 7, "sampling": SAMPLING}
    return SyntheticPool.build(pipe, path, **(arguments | changes))


def tree(folder: Path) -> dict[str, str]:
    """{path: hash of its bytes} of everything in a folder: two equal folders are equal trees."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def imbalanced(subjects: list[tio.Subject]) -> list[tio.Subject]:
    """Four subjects of class 0 and two of class 1."""
    by_class = [[subject for subject in subjects if subject["label"] == label] for label in (0, 1)]
    return by_class[0][:4] + by_class[1][:2]
