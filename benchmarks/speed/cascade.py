"""Seconds a training sample of the cascade: bfloat16 against float32, one run; share of the U-Net, peak memory.

    python benchmarks/speed/cascade.py [--shape 32 40 24] [--quick]

Both sides are ``train_ldm`` itself on generated prostates, level by level, with everything that a step needs: moves,
levels, reports, losses, optimiser, averaged weights. Sides take turns. The last line printed is JSON.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from machine import machine

from synthaug.config import DataConfig, GeneratorConfig, PhantomConfig, PreprocessConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.generate.levels import fit_space, levels_of
from synthaug.generate.training.ldm import train_ldm
from synthaug.models.parts.unet import ConditionedUNet
from synthaug.models.training.training_log import peak_memory_mb

TARGET, U_NET_GOAL = 1.6, 0.85
"""Times quicker than float32; share of a step that should be the U-Net's."""
BATCHES = (32, 8, 8)
"""Volumes a step of each level."""
SPACING_MM = (2.5, 2.5, 4.0)


class UNetClock:
    """Seconds within the U-Nets' forward passes, and from their ends to the optimiser: what backward takes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._forward = ConditionedUNet.forward

    def __enter__(self) -> "UNetClock":
        clock = self

        def timed(network: ConditionedUNet, *args: Any, **kwargs: Any) -> torch.Tensor:
            started = time.perf_counter()
            answer = clock._forward(network, *args, **kwargs)
            clock.seconds += time.perf_counter() - started
            if answer.requires_grad:
                clock._time_backward(answer)
            return answer

        ConditionedUNet.forward = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        ConditionedUNet.forward = self._forward  # type: ignore[method-assign]

    def _time_backward(self, answer: torch.Tensor) -> None:
        """The pass back begins at the answer's gradient and ends when the graph is through."""

        def begun(gradient: torch.Tensor) -> None:
            started = time.perf_counter()
            engine = torch.autograd.Variable._execution_engine
            engine.queue_callback(lambda: self._add(time.perf_counter() - started))

        answer.register_hook(begun)

    def _add(self, seconds: float) -> None:
        self.seconds += seconds


def measure(subjects: Sequence, config: GeneratorConfig, preprocessing: PreprocessConfig) -> dict[str, Any]:
    """Median seconds a sample of each level after the first two steps, and the U-Net's share of all steps."""
    volumes = torch.stack([stack_images(subject, ["t2w"]) for subject in subjects])
    data = DataConfig(phantom=PhantomConfig(n=len(subjects), shape=preprocessing.shape, spacing_mm=SPACING_MM))
    ticks: list[float] = []
    shares: list[float] = []
    with UNetClock() as clock:

        def on_step(step: int, values: dict[str, float]) -> None:
            ticks.append(time.perf_counter())
            shares.append(clock.seconds)

        train_ldm(
            subjects,
            fit_space(volumes, config),
            config,
            preprocessing=preprocessing,
            images=["t2w"],
            relabeller=Relabeller.fit(subjects, data, config.geometry),
            on_step=on_step,
        )
    levels, at, found = levels_of(config, preprocessing.shape), 0, []
    for level in levels:
        steps, spent = np.diff(ticks[at + 1 : at + level.steps]), np.diff(shares[at + 1 : at + level.steps])
        found.append({"seconds": float(np.median(steps)) / level.batch_size, "u_net": float(spent.sum() / steps.sum())})
        at += level.steps
    return {"levels": found, "seconds": sum(each["seconds"] for each in found), "peak_mb": peak_memory_mb()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both sides in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[32, 40, 24])
    parser.add_argument("--steps", type=int, default=12, help="steps of each level, the first two not timed")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one turn of few steps: within a minute")
    options = parser.parse_args(arguments)
    if options.quick:
        options.steps, options.turns = 5, 1
    shape = tuple(options.shape)
    preprocessing = PreprocessConfig(spacing_mm=SPACING_MM, shape=shape)
    subjects = preprocess(make_subjects(16, seed=7004, shape=shape, spacing_mm=SPACING_MM), preprocessing, ["t2w"])
    config = GeneratorConfig(monitor_every=0)
    levels = levels_of(config, shape)
    levels = [
        replace(level, steps=options.steps, batch_size=size) for level, size in zip(levels, BATCHES, strict=False)
    ]
    sides: dict[str, list[dict[str, Any]]] = {"bf16": [], "float32": []}
    for _ in range(options.turns):
        for precision, runs in sides.items():
            training = replace(config.training, precision=precision, warmup=2)
            runs.append(measure(subjects, replace(config, levels=levels, training=training), preprocessing))
    ours, reference = (min(runs, key=lambda run: run["seconds"]) for runs in sides.values())
    share = min(level["u_net"] for level in ours["levels"])
    result = {
        "claim": "seconds a training sample of all levels of the cascade, bfloat16 against float32",
        "ours": ours["seconds"],
        "reference": reference["seconds"],
        "ratio": reference["seconds"] / ours["seconds"],
        "target": TARGET,
        "holds": bool(reference["seconds"] / ours["seconds"] >= TARGET),
        "machine": machine(),
        "quick": options.quick,
        "shape": options.shape,
        "least_u_net_share": share,
        "u_net_goal": U_NET_GOAL,
        "sides": {"bf16": ours, "float32": reference},
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
