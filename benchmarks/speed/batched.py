"""What augmentation of whole batches saves: an epoch through SyntheticSampler against torchio's own loader.

    python benchmarks/speed/batched.py [--quick]

Both sides hold the same volumes in memory and draw the same kinds of moves with the same distributions, torchio's one
subject at a time. Two sets of moves: the published classical ones, and flip, affine, bias field, noise, blur and gamma.
Epochs are taken in turns; the last line printed is JSON.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch
import torchio as tio
from augmentation import in_turns
from machine import machine

import synthaug as sa
from synthaug.classify.augmentation import classical_augmentation, classical_batches
from synthaug.config import MOVES, PreprocessConfig
from synthaug.data.reading.manifest import make_subject
from synthaug.data.voxels.batched import BatchedAugmentation
from synthaug.ground.seeding import torch_generator

TARGET = 0.4
"""Longest epoch in units of torchio's."""
INTENSITIES = {"bias": 0.5, "blur_mm": 2.0, "noise": 0.25, "log_gamma": 0.3}


def make_subjects(number: int, shape: tuple[int, int, int]) -> list[tio.Subject]:
    """Noise in memory, half of each class."""
    volumes = torch.rand(number, 1, *shape, generator=torch_generator("volumes"))
    return [
        make_subject({"t1": tio.ScalarImage(tensor=volume)}, label=k % 2, subject_id=str(k), patient_id=str(k))
        for k, volume in enumerate(volumes)
    ]


def pairs(shape: tuple[int, int, int]) -> dict[str, tuple[BatchedAugmentation, tio.Transform]]:
    """Ours and torchio's, by what they do."""
    config = PreprocessConfig(shape=shape, spacing_mm=(1.0, 1.0, 1.0))
    ours, theirs = classical_batches(config, ["t1"], MOVES), classical_augmentation(config)
    intensities = [
        tio.RandomBiasField(coefficients=0.5, p=0.5),
        tio.RandomBlur(std=(0, 2), p=0.5),
        tio.RandomNoise(std=(0, 0.25), p=0.5),
        tio.RandomGamma(log_gamma=(-0.3, 0.3), p=0.5),
    ]
    return {
        "classical": (ours, theirs),
        "everything": (
            BatchedAugmentation(["t1"], config.spacing_mm, **INTENSITIES),
            tio.Compose([theirs, *intensities]),
        ),
    }


def measure(shape: tuple[int, int, int], *, volumes: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """Median seconds of an epoch, both sides, for each set of moves."""
    subjects = make_subjects(volumes, shape)
    figures = {}
    for name, (ours, theirs) in pairs(shape).items():
        loaders = {
            "ours": sa.SyntheticSampler(subjects, None, batch_size=batch_size).loader(batch_transform=ours),
            "reference": tio.SubjectsLoader(
                tio.SubjectsDataset(subjects, transform=theirs), batch_size=batch_size, shuffle=True
            ),
        }
        # Bound by name, so that each epoch passes its own loader.
        epochs = {side: (lambda loader=loader: [None for _ in loader]) for side, loader in loaders.items()}
        figures[name] = in_turns(epochs, repeats) | {"target": TARGET}
        figures[name]["holds"] = figures[name]["ratio"] <= TARGET
    return {"shape": list(shape), "batch_size": batch_size, "volumes": volumes, **figures}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one small shape, two repeats")
    options = parser.parse_args(arguments)
    cases: list[tuple[tuple[int, int, int], int, int]] = [((32, 32, 32), 64, 32), ((64, 64, 16), 32, 8)]
    if options.quick:
        cases, options.repeats = [((16, 16, 8), 8, 4)], 2
    measured = [
        measure(shape, volumes=volumes, batch_size=batch_size, repeats=options.repeats)
        for shape, volumes, batch_size in cases
    ]
    worst = max((case[name] for case in measured for name in ("classical", "everything")), key=lambda row: row["ratio"])
    result = {
        "claim": "seconds of an augmented epoch through SyntheticSampler.loader(batch_transform=...), against "
        "torchio's SubjectsLoader with the same transforms; the worst of the cases",
        **worst,
        "machine": machine(),
        "quick": options.quick,
        "cases": measured,
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
