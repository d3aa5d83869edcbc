"""What SyntheticSampler and a pool cost in the training loop: an epoch against torchio's plain loader, and at scale.

    python benchmarks/speed/augmentation.py [--quick]

Both loaders read the same number of NIfTI volumes of one size and format and apply the same transforms, in turns; ours
reads a pool. Beside it: the first batch of a large pool, memory over many reads, and the plan of 10 million subjects.
The last line printed is JSON.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from machine import machine

import synthaug as sa
from synthaug.config import SamplingConfig
from synthaug.data.reading.manifest import make_subject
from synthaug.ground.files import content_hash
from synthaug.pool.pool import MANIFEST

BATCH_SIZE = 8
EPOCH_TARGET = 1.05
"""Longest epoch in units of torchio's."""
OPENING_TARGET_SECONDS = 1.0
MEMORY_TARGET_MB = 50.0
PLAN_TARGET_MS = 5.0
PLANNED_SUBJECTS, PLANNED_EPOCHS = 10_000_000, 100


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the volumes, measure, and print the figures."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:
        small = make_pool(Path(folder) / "small", options.volumes, shape_of=options.pipeline)
        large = make_pool(Path(folder) / "large", options.pool, shape_of=options.pipeline, template=small)
        epoch = measure_epoch(small, Path(folder) / "real", options)
        opening = measure_opening(large.path)
        memory = measure_memory(large, reads=options.reads)
        plan = measure_plan(large, subjects=options.subjects, epochs=options.epochs)
    result = {
        "claim": f"seconds of an epoch of {options.volumes} volumes through SyntheticSampler on a pool, against "
        "torchio's SubjectsLoader over real volumes",
        **epoch,
        "machine": machine(),
        "quick": options.quick,
        "opening": opening,
        "memory": memory,
        "plan": plan,
    }
    print(json.dumps(result, ensure_ascii=False))


def make_pool(
    folder: Path, volumes: int, *, shape_of: str, template: sa.SyntheticPool | None = None
) -> sa.SyntheticPool:
    """A pool of two classes: one volume is generated (or taken from ``template``), the others are its copies."""
    if template is None:
        pipe = sa.CCELLAPipeline.from_pretrained(shape_of)
        sampling = SamplingConfig(steps=1, micro_batch=1)
        pool = sa.SyntheticPool.build(pipe, folder, per_class={0: 1}, reports={0: ["PI-RADS 2."]}, sampling=sampling)
    else:
        shutil.copytree(template.path, folder, ignore=lambda *_: ["volumes", MANIFEST])
        (folder / "volumes").mkdir()
        pool = template
    entry = pool.entries(0)[0]
    (image,) = entry["files"]
    original = (pool.path / entry["files"][image]).resolve()
    lines = []
    for number in range(volumes):
        recipe = {**entry["recipe"], "seed": number, "requested_class": number % 2}
        name = content_hash(recipe)
        file = f"volumes/{name}_{image}.nii"
        if template is None:
            shutil.copyfile(original, folder / file)
        else:
            os.link(original, folder / file)  # thousands of volumes without the gigabytes
        place = {"id": name, "label": number % 2, "index": number // 2, "recipe": recipe, "files": {image: file}}
        lines.append(json.dumps({**entry, **place}, sort_keys=True) + "\n")
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")
    return sa.SyntheticPool.open(folder)


def measure_epoch(pool: sa.SyntheticPool, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Median wall seconds of an epoch of both loaders, taken in turns, with and without transforms."""
    real = real_subjects(pool, folder)
    names = list(pool.images)
    augmentation = tio.Compose([tio.RandomFlip(axes=(0, 1)), tio.RandomAffine(), tio.RandomNoise()])
    figures = {}
    for name, transform in (("with_transforms", augmentation), ("reading_alone", None)):
        sampler = sa.SyntheticSampler(real, pool, batch_size=BATCH_SIZE, mode="synthetic")
        plain = tio.SubjectsDataset(real, transform=transform)
        loaders = {
            "ours": sampler.loader(transform=transform, num_workers=options.workers),
            "reference": tio.SubjectsLoader(plain, batch_size=BATCH_SIZE, shuffle=True, num_workers=options.workers),
        }
        figures[name] = in_turns({key: _epoch(loader, names) for key, loader in loaders.items()}, options.repeats)
    both = figures["with_transforms"]
    return {
        **{key: both[key] for key in ("ours", "reference", "ratio", "ratio_of_cpu_time")},
        "target": EPOCH_TARGET,
        "holds": both["ratio"] <= EPOCH_TARGET,
        "volume_shape": list(real[0].spatial_shape),
        "reading_alone": figures["reading_alone"],
    }


def real_subjects(pool: sa.SyntheticPool, folder: Path) -> list[tio.Subject]:
    """As many real subjects as the pool has volumes, in files of their own; half of each class."""
    folder.mkdir()
    subjects = []
    for number, synthetic in enumerate(pool.subjects()):
        images = {}
        for name in pool.images:
            path = folder / f"{number}_{name}.nii"
            shutil.copyfile(synthetic[name].path, path)
            images[name] = tio.ScalarImage(path)
        subjects.append(make_subject(images, label=number % 2, subject_id=str(number), patient_id=str(number)))
    return subjects


def in_turns(epochs: dict[str, Callable[[], None]], repeats: int) -> dict[str, Any]:
    """Both sides again and again, so that a machine that slows down meanwhile favours nobody; the medians."""
    wall: dict[str, list[float]] = {name: [] for name in epochs}
    cpu: dict[str, list[float]] = {name: [] for name in epochs}
    for repeat in range(repeats + 1):
        # The first turn warms up; the order alternates.
        for name in sorted(epochs, reverse=bool(repeat % 2)):
            started = time.perf_counter(), time.process_time()
            epochs[name]()
            if repeat:
                wall[name].append(time.perf_counter() - started[0])
                cpu[name].append(time.process_time() - started[1])
    ours, reference = (float(np.median(wall[name])) for name in ("ours", "reference"))
    return {
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "ratio_of_cpu_time": float(np.median(cpu["ours"]) / np.median(cpu["reference"])),
        "repeats": repeats,
    }


def measure_opening(folder: Path) -> dict[str, Any]:
    """Seconds from a folder to the first batch, and how many volumes it holds."""
    real = [{"label": number % 2} for number in range(200)]  # never read in this mode
    started = time.perf_counter(), time.process_time()
    sampler = sa.SyntheticSampler(real, str(folder), batch_size=BATCH_SIZE, mode="synthetic")
    next(iter(sampler.loader()))
    seconds, cpu_seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    claim = f"seconds to the first batch of a pool of {sum(sampler.source.counts.values())} volumes"
    return _part(claim, seconds, OPENING_TARGET_SECONDS) | {"cpu_seconds": cpu_seconds}


def measure_memory(pool: sa.SyntheticPool, *, reads: int) -> dict[str, Any]:
    """Growth of this process's resident memory over many reads, after a few that settle it."""
    real = [{"label": 0}, {"label": 1}] * (reads // 2)
    batches = iter(sa.SyntheticSampler(real, pool, batch_size=BATCH_SIZE, mode="synthetic").loader())
    for _ in islice(batches, 20):
        pass
    settled = resident_mb()
    for _ in batches:
        pass
    growth = resident_mb() - settled
    return _part(f"MB of resident memory gained over {reads} reads", growth, MEMORY_TARGET_MB)


def measure_plan(pool: sa.SyntheticPool, *, subjects: int, epochs: int) -> dict[str, Any]:
    """Milliseconds a batch of opening every epoch of a huge training set and planning its first and middle batches."""
    labels = [{"label": 0}] * (subjects * 9 // 10) + [{"label": 1}] * (subjects // 10)
    sampler = sa.SyntheticSampler(labels, pool, batch_size=BATCH_SIZE)
    planned, longest, before = 0, 0.0, resident_mb()
    started = time.perf_counter()
    for epoch in range(epochs):
        opened = time.perf_counter()
        sampler.set_epoch(epoch)
        planned += len(list(islice(sampler, 1)))
        longest = max(longest, time.perf_counter() - opened)
        sampler.set_epoch(epoch)
        planned += len(list(islice(sampler, 500)))
        sampler.load_state_dict(sampler.state_dict(consumed=len(sampler) // 2))
        planned += len(list(islice(sampler, 500)))
    milliseconds = 1000 * (time.perf_counter() - started) / planned
    claim = f"ms a batch to plan {subjects} subjects x {epochs} epochs"
    return _part(claim, milliseconds, PLAN_TARGET_MS) | {
        "batches_an_epoch": len(sampler),
        "batches_planned": planned,
        "longest_first_batch_ms": 1000 * longest,
        "resident_mb_gained": resident_mb() - before,
    }


def resident_mb() -> float:
    """This process's memory that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _epoch(loader: Iterable[dict[str, Any]], images: Sequence[str]) -> Callable[[], None]:
    def passed() -> None:
        for batch in loader:
            assert all(torch.is_tensor(batch[name][tio.DATA]) for name in images)

    return passed


def _part(claim: str, value: float, target: float) -> dict[str, Any]:
    return {"claim": claim, "ours": value, "target": target, "holds": bool(value <= target)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="builtin/ccella-tiny", help="whose volumes are read; folder or builtin")
    parser.add_argument("--volumes", type=int, default=64, help="volumes of an epoch")
    parser.add_argument("--repeats", type=int, default=9, help="epochs of each side")
    parser.add_argument("--workers", type=int, default=0, help="worker processes of both loaders")
    parser.add_argument("--pool", type=int, default=10_000, help="volumes of the large pool")
    parser.add_argument("--reads", type=int, default=10_000, help="reads of the large pool")
    parser.add_argument("--subjects", type=int, default=PLANNED_SUBJECTS, help="subjects of the plan")
    parser.add_argument("--epochs", type=int, default=PLANNED_EPOCHS, help="epochs of the plan")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, reads and epochs: within a minute")
    options = parser.parse_args(arguments)
    if options.quick:
        options.volumes, options.repeats = min(options.volumes, 32), 3
        options.reads, options.epochs = min(options.reads, 1000), 10
    return options


if __name__ == "__main__":
    main()
