"""Steps a second of a classifier's training, end to end, against a plain loop over torchio's loader, one run.

    python benchmarks/speed/classifier.py [--compile] [--quick]
    python benchmarks/speed/classifier.py --auroc 20

Ours is ``train_classifier`` as a study calls it: batches augmented as one tensor, weights laid out channels last and
float32 (``training.precision: auto`` on a CPU); bfloat16 stands beside it. The reference is what one would write:
torchio's loader with the same moves, MONAI's network as it comes, float32. Both hold the same volumes in memory. The
reference runs in a process of its own, since ours keeps the memory that its process frees. Steps are timed in turns by
the processor seconds of their process, which other work on the machine changes least; seconds on the clock stand
beside them.

``--auroc SEEDS`` trains on batches that are augmented in both ways and tests on 1,000 other phantoms: the difference in
AUROC with its interval over patients and seeds. ``--compile`` adds what torch.compile gains after its warm-up. The last
line printed is JSON.
"""

import argparse
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torchio as tio
from batched import make_subjects
from machine import machine
from monai.networks.nets import ResNet
from torch import nn

import synthaug as sa
from synthaug.classify.augmentation import classical_augmentation, classical_batches
from synthaug.classify.prediction import predict_logits
from synthaug.classify.training import train_classifier
from synthaug.config import MOVES, ClassifierConfig, PreprocessConfig, TrainingConfig
from synthaug.data.phantom import make_subjects as make_phantoms
from synthaug.data.reading.manifest import stack_images
from synthaug.metrics.classification import auroc
from synthaug.statistics.intervals import paired_difference

TARGET = 2.0
"""Times as many steps a second as the plain loop."""
AUROC_TARGET = 0.02
"""The interval of the difference in AUROC lies within plus and minus this."""
CASES = [((32, 32, 32), 32), ((64, 64, 16), 8)]
"""Voxels and volumes a step."""
Seconds = tuple[float, float]
"""Of the processor and on the clock."""


def now() -> Seconds:
    """Of this process."""
    return time.process_time(), time.perf_counter()


def ours(subjects: list[tio.Subject], shape: tuple[int, int, int], batch: int, precision: str, steps: int) -> Seconds:
    """Median seconds of a step of ``train_classifier``; the first is left out."""
    config = PreprocessConfig(shape=shape, spacing_mm=(1.0, 1.0, 1.0))
    training = TrainingConfig(steps=steps + 1, batch_size=batch, precision=precision)  # type: ignore[arg-type]
    ends: list[Seconds] = []
    train_classifier(
        sa.SyntheticSampler(subjects, None, batch_size=batch).loader(
            batch_transform=classical_batches(config, ["t1"], MOVES)
        ),
        subjects[:2],
        ClassifierConfig(training=training, evaluate_every=steps + 1),
        images=["t1"],
        shape=shape,
        seed=0,
        on_step=lambda step, values: ends.append(now()),
    )
    return median_step(ends)


def plain(
    subjects: list[tio.Subject], shape: tuple[int, int, int], batch: int, steps: int, *, compiled: bool = False
) -> Seconds:
    """The same of a loop that knows nothing of this package; ``compiled`` by torch, which its first step pays for."""
    config = PreprocessConfig(shape=shape, spacing_mm=(1.0, 1.0, 1.0))
    channels = list(ClassifierConfig().channels)
    network: Any = ResNet("basic", [1, 1, 1, 1], channels, n_input_channels=1, num_classes=2, conv1_t_size=3)
    network = torch.compile(network) if compiled else network
    optimiser = torch.optim.AdamW(network.parameters())
    data = tio.SubjectsDataset(subjects, transform=classical_augmentation(config))
    ends = []
    for rows in itertools.islice(endless(tio.SubjectsLoader(data, batch_size=batch, shuffle=True)), steps + 1):
        loss = nn.functional.cross_entropy(network(stack_images(rows, ["t1"])), rows["label"])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        ends.append(now())
    return median_step(ends)


def endless(loader: tio.SubjectsLoader) -> Iterator[Any]:
    """Its batches, epoch after epoch."""
    while True:
        yield from loader


def median_step(ends: Sequence[Seconds]) -> Seconds:
    """Seconds between the ends of steps."""
    spent = np.diff(np.array(ends), axis=0)
    return float(np.median(spent[:, 0])), float(np.median(spent[:, 1]))


def process_of_its_own() -> ProcessPoolExecutor:
    """Nothing that this process has set holds there, but the number of threads."""
    return ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
    )


def measure(
    shape: tuple[int, int, int], batch: int, other: Executor, *, steps: int, turns: int, compiled: bool, half: bool
) -> dict[str, Any]:
    """Steps a second of all sides, in turns; ``half`` adds bf16. The reference runs in the ``other`` process."""
    subjects = make_subjects(2 * batch, shape)
    sides: dict[str, Callable[[], Seconds]] = {
        "reference": lambda: other.submit(plain, subjects, shape, batch, steps).result(),
        "float32": lambda: ours(subjects, shape, batch, "float32", steps),
    }
    if half:
        sides["bf16"] = lambda: ours(subjects, shape, batch, "bf16", steps)
    if compiled:
        sides["reference compiled"] = lambda: other.submit(plain, subjects, shape, batch, steps, compiled=True).result()
    found: dict[str, list[Seconds]] = {name: [] for name in sides}
    for turn in range(turns):
        for name in sorted(sides, reverse=bool(turn % 2)):
            found[name].append(sides[name]())
    cpu, clock = ({name: statistics.median(each[of] for each in rows) for name, rows in found.items()} for of in (0, 1))
    return {
        "shape": list(shape),
        "batch_size": batch,
        "ours": 1 / cpu["float32"],
        "reference": 1 / cpu["reference"],
        "ratio": cpu["reference"] / cpu["float32"],
        "ratio_in_bf16": cpu["reference"] / cpu["bf16"] if half else None,
        "ratio_on_the_clock": clock["reference"] / clock["float32"],
        "cpu_seconds_a_step": cpu,
        "clock_seconds_a_step": clock,
    }


def compare_auroc(seeds: int, n_test: int, n_train: int, steps: int) -> dict[str, Any]:
    """AUROC with batches augmented as one tensor minus that with torchio's transforms, on phantoms."""
    config = PreprocessConfig()
    sizes = {"train": n_train, "val": 40, "test": n_test}
    parts = {
        name: sa.preprocess(make_phantoms(n, 0.5, seed=place, difficulty=0.3), config, ["t2w"])
        for place, (name, n) in enumerate(sizes.items())
    }
    labels = np.array([subject["label"] for subject in parts["test"]])
    scores: dict[str, list[np.ndarray]] = {"ours": [], "torchio": []}
    augmented: dict[str, dict[str, Any]] = {
        "ours": {"batch_transform": classical_batches(config, ["t2w"], MOVES)},
        "torchio": {"transform": classical_augmentation(config)},
    }
    usual = ClassifierConfig()
    training = replace(usual.training, steps=steps, warmup=min(usual.training.warmup, steps - 1))
    for seed, side in itertools.product(range(seeds), scores):
        trained = train_classifier(
            sa.SyntheticSampler(parts["train"], None, batch_size=training.batch_size, seed=seed).loader(
                **augmented[side]
            ),
            parts["val"],
            replace(usual, training=training),
            images=["t2w"],
            shape=config.shape,
            seed=seed,
        )
        logits = predict_logits(trained.network, parts["test"], ["t2w"])
        scores[side].append(logits.double().softmax(1).numpy())
    interval = paired_difference(
        auroc,
        patient_ids=[subject["patient_id"] for subject in parts["test"]],
        labels=labels,
        arrays=scores["ours"],
        baseline=scores["torchio"],
    )
    return {
        "seeds": seeds,
        "test_phantoms": n_test,
        "train_phantoms": n_train,
        "steps": steps,
        "auroc": {name: float(np.mean([auroc(labels, each) for each in rows])) for name, rows in scores.items()},
        "difference": {"value": interval.value, "low": interval.low, "high": interval.high},
        "target": AUROC_TARGET,
        "holds": bool(max(abs(interval.low), abs(interval.high)) <= AUROC_TARGET),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auroc", type=int, default=0, help="seeds trained in both ways, in place of the timing")
    parser.add_argument("--test-phantoms", type=int, default=1000)
    parser.add_argument("--train-phantoms", type=int, default=256)
    parser.add_argument("--train-steps", type=int, default=600, help="of each training for the AUROC")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="note that other processes shared the machine")
    parser.add_argument("--compile", action="store_true", help="the plain loop compiled by torch too: minutes")
    parser.add_argument("--quick", action="store_true", help="one small shape, one turn")
    options = parser.parse_args(arguments)
    about = {"machine": machine(), "busy": options.busy, "quick": options.quick}
    if options.auroc:
        size = (40, 16, 3) if options.quick else (options.test_phantoms, options.train_phantoms, options.train_steps)
        claim = "AUROC of classifiers on batches augmented as one tensor, minus that with torchio's transforms"
        print(json.dumps({"claim": claim, **compare_auroc(options.auroc, *size), **about}))
        return
    cases = [((16, 16, 8), 4)] if options.quick else CASES
    turns, steps = (1, 2) if options.quick else (options.turns, options.steps)
    # At the small shape, whose last maps are single voxels, bf16 gave NaN in one of three runs on a CPU.
    how = {"steps": steps, "turns": turns, "compiled": options.compile, "half": not options.quick}
    with process_of_its_own() as other:
        measured = [measure(*case, other, **how) for case in cases]
    worst = min(measured, key=lambda case: case["ratio"])
    result = {
        "claim": "steps a processor second of a classifier's training, end to end, against torchio's loader and "
        "MONAI's network as it comes; the worse of the cases",
        **{name: worst[name] for name in ("ours", "reference", "ratio", "ratio_in_bf16")},
        "target": TARGET,
        "holds": bool(worst["ratio"] >= TARGET),
        **about,
        "cases": measured,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
