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
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def train(seconds: float) -> float:
    """Steps a second of the default classifier over so many seconds, the first two left out."""
    network = build_classifier(ClassifierConfig(), in_channels=SHAPE[1], classes=2, shape=SHAPE[2:], seed=0)
    optimiser, volumes = torch.optim.AdamW(network.parameters()), torch.rand(SHAPE)

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


def in_process(spins: str | None, *, threads: int, seconds: float) -> float:
    """The same in a process of its own whose idle threads look for work so often; None = the default."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    own = {"OMP_NUM_THREADS": str(threads)} | ({"GOMP_SPINCOUNT": spins} if spins else {})
    command = [sys.executable, __file__, "--train", str(seconds)]
    return float(subprocess.run(command, env=kept | own, check=True, capture_output=True, text=True).stdout)


def compare(others: int, *, threads: int, seconds: float, rounds: int) -> dict[str, float]:
    """Median steps a second of both, in turn, beside so many processes that only count."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(others)]
    try:
        pairs = [
            [in_process(spins, threads=threads, seconds=seconds) for spins in (SPINS, None)] for _ in range(rounds)
        ]
    finally:
        for process in busy:
            process.kill()
    ours, reference = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"ours": ours, "reference": reference, "ratio": ours / reference}


def main(arguments: list[str] | None = None) -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one second, once, in place of six seconds, three times")
    parser.add_argument("--train", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.train:
        print(train(options.train))
        return
    cores = os.cpu_count() or 2
    how: dict[str, Any] = {
        "threads": max(2, cores),
        "seconds": 1.0 if options.quick else 6.0,
        "rounds": 1 if options.quick else 3,
    }
    alone, beside = compare(0, **how), compare(cores, **how)
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
                "threads": how["threads"],
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
