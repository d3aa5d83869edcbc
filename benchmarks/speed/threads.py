"""Steps a second of a classifier's training with two threads or more, alone and beside other busy processes, one run.

    python benchmarks/speed/threads.py [--quick]

Ours is the environment that every command of synthaug sets before torch is loaded (``GOMP_SPINCOUNT``); the reference
is GNU OpenMP's default. Both train the same steps in processes of their own, in turn. Beside them runs nothing, then a
process a core that only counts. The last line printed is JSON. Linux with torch's own wheels, which bring that OpenMP.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from machine import machine

from synthaug.bench.commands import SPINS
from synthaug.config import ClassifierConfig
from synthaug.models.classifier import build_classifier

BUSY_TARGET, ALONE_TARGET = 1.3, 0.95
"""Ours over the reference: at least so many times as quick beside others, and no slower than this alone."""
SHAPE = (8, 1, 32, 32, 16)
"""A batch of the quickstart."""
QUICK_SHAPE = (2, 1, 16, 16, 8)
"""A batch whose steps are short even where idle threads that look for work hold the cores."""
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def train(seconds: float, shape: tuple[int, ...]) -> float:
    """Steps a second of the default classifier over so many seconds, the first two left out."""
    network = build_classifier(ClassifierConfig(), in_channels=shape[1], classes=2, shape=shape[2:], seed=0)
    optimiser, volumes = torch.optim.AdamW(network.parameters()), torch.rand(shape)

    def step() -> None:
        optimiser.zero_grad()
        network(volumes).square().mean().backward()
        optimiser.step()

    for _ in range(2):
        step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        step()
        steps += 1
    return steps / (time.perf_counter() - start)


class Trainer:
    """A process of its own whose idle threads look for work so often; None = the default. It is started once, as the
    imports take longer than the trainings."""

    def __init__(self, spins: str | None, *, threads: int, quick: bool) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        own = {"OMP_NUM_THREADS": str(threads)} | ({"GOMP_SPINCOUNT": spins} if spins else {})
        command = [sys.executable, __file__, "--serve", *(["--quick"] if quick else [])]
        self._process = subprocess.Popen(
            command, env=kept | own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", bufsize=1
        )

    def steps_a_second(self, seconds: float) -> float:
        """Of so many seconds of training."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{seconds}\n")
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """Close its input, at which it ends."""
        self._process.communicate()


def serve(shape: tuple[int, ...]) -> None:
    """Train for as many seconds as each line of the input says; print steps a second."""
    for line in sys.stdin:
        print(train(float(line), shape), flush=True)


def compare(others: int, trainers: Sequence[Trainer], *, seconds: float, rounds: int) -> dict[str, float]:
    """Median steps a second of ours and the reference, in turn, beside so many processes that only count."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(others)]
    try:
        pairs = [[trainer.steps_a_second(seconds) for trainer in trainers] for _ in range(rounds)]
    finally:
        for process in busy:
            process.kill()
    ours, reference = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"ours": ours, "reference": reference, "ratio": ours / reference}


def main(arguments: list[str] | None = None) -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="small batches for half a second, once, not six seconds three times"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(QUICK_SHAPE if options.quick else SHAPE)
        return
    cores = os.cpu_count() or 2
    threads = max(2, cores)
    how: dict[str, Any] = {"seconds": 0.5, "rounds": 1} if options.quick else {"seconds": 6.0, "rounds": 3}
    trainers = [Trainer(spins, threads=threads, quick=options.quick) for spins in (SPINS, None)]
    try:
        for trainer in trainers:
            trainer.steps_a_second(0.1)  # imported and warm
        alone, beside = compare(0, trainers, **how), compare(cores, trainers, **how)
    finally:
        for trainer in trainers:
            trainer.end()
    for name, found in (("alone", alone), (f"beside {cores} busy processes", beside)):
        print(f"{name}: {found['ours']:.2f} steps/s, default {found['reference']:.2f}, ratio {found['ratio']:.2f}")
    print(
        json.dumps(
            {
                "claim": f"steps a second of a classifier's training beside {cores} busy processes",
                **beside,
                "target": BUSY_TARGET,
                "holds": bool(beside["ratio"] >= BUSY_TARGET and alone["ratio"] >= ALONE_TARGET),
                "alone": alone | {"target": ALONE_TARGET},
                "threads": threads,
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
