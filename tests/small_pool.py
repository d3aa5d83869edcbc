"""A pool of a few small volumes, for the tests of the room ``augment``."""

import hashlib
import json
from pathlib import Path

import nibabel
import torch
import torchio as tio

from synthaug.config import SamplingConfig
from synthaug.pool.pool import SyntheticPool, reports_by_class

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


def plant(pool: SyntheticPool, entry: dict, volume: torch.Tensor) -> None:
    """Put a volume (1, X, Y, Z) in the place of a pool's own, as if it had been generated so."""
    path = pool.path / entry["files"]["t2w"]
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(volume[0].numpy(), image.affine, image.header), path)
    manifest = pool.path / "manifest.jsonl"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    lines = [line | {"sha256": {"t2w": sha256}} if line["id"] == entry["id"] else line for line in lines]
    manifest.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines), encoding="utf-8")


def imbalanced(subjects: list[tio.Subject]) -> list[tio.Subject]:
    """Four subjects of class 0 and two of class 1."""
    by_class = [[subject for subject in subjects if subject["label"] == label] for label in (0, 1)]
    return by_class[0][:4] + by_class[1][:2]
