"""What one card does, within eight minutes: training and sampling, half precision, memory, equal bits, two processes.

    python benchmarks/gpu/run.py [--minutes 8] [--out benchmarks/gpu/CARD.json]

For each shape a cascade is trained for a few steps of each level, in float32 and in the card's half precision by turns,
and draws volumes. The half-precision training runs twice, and the weights of both are compared bit by bit. A classifier
step is timed with and without ``torch.compile``. ``torchrun`` with two processes on the card trains one level (they
share it, so this shows that it works, not how it scales). A part that would begin after the time is over is listed as
"not run". The last line printed is JSON, with the card's name. ``--quick`` tries the script itself on tiny volumes,
with or without a card.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthaug import CCELLAPipeline
from synthaug.config import ClassifierConfig, GeneratorConfig, PreprocessConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.generate.levels import fit_space, levels_of
from synthaug.generate.training.ldm import train_ldm
from synthaug.models.classifier import build_classifier

SHAPES = ((64, 64, 16), (128, 128, 32))
SPACING_MM = (1.5, 1.5, 3.0)
STEPS, QUICK_STEPS = 12, 3
"""Of each level; the first two are not timed."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def generator_settings(shape: tuple[int, int, int], precision: str, *, steps: int, batch: int) -> GeneratorConfig:
    """A cascade of the default networks with few steps a level."""
    config = GeneratorConfig(monitor_every=0)
    levels = [replace(level, steps=steps, batch_size=batch) for level in levels_of(config, shape)]
    return replace(config, levels=levels, training=replace(config.training, precision=precision))


def train(shape: tuple[int, int, int], precision: str, *, steps: int, batch: int) -> tuple[CCELLAPipeline, dict]:
    """A pipeline, and the seconds of each level's steps with the peak memory of the card."""
    preprocessing = PreprocessConfig(shape=shape, spacing_mm=SPACING_MM)
    subjects = preprocess(make_subjects(16, seed=0, shape=shape, spacing_mm=SPACING_MM), preprocessing, ["t2w"])
    config = generator_settings(shape, precision, steps=steps, batch=batch)
    volumes, ticks = torch.stack([stack_images(subject, ["t2w"]) for subject in subjects]), []

    def on_step(step: int, values: dict[str, float]) -> None:
        _wait()
        ticks.append(time.perf_counter())

    _forget_peak()
    pipe = train_ldm(
        subjects, fit_space(volumes, config), config, preprocessing=preprocessing, images=["t2w"], on_step=on_step
    )
    found = []
    for number in range(len(ticks) // steps):
        timed = ticks[number * steps + min(1, steps - 2) : (number + 1) * steps]
        found.append({"steps_a_second": (len(timed) - 1) / (timed[-1] - timed[0]), "batch": batch})
    return pipe, {"levels": found, "peak_gb": _peak_gb()}


def draw(pipe: CCELLAPipeline, *, volumes: int, steps: int) -> dict[str, float]:
    """Volumes a second."""
    pipe.to(DEVICE)
    pipe.set_progress_bar_config(disable=True)
    asked: dict[str, Any] = {"num_inference_steps": steps}
    pipe([""], seeds=[0], **asked)  # kernels are chosen
    _forget_peak()
    started = time.perf_counter()
    pipe([""] * volumes, seeds=list(range(volumes)), **asked)
    _wait()
    return {"volumes_a_second": volumes / (time.perf_counter() - started), "steps": steps, "peak_gb": _peak_gb()}


def classify(shape: tuple[int, int, int], *, batch: int, steps: int) -> dict[str, float]:
    """Classifier steps a second, as they are and compiled; compiling itself is not counted."""
    found = {}
    for name in ("eager", "compiled"):
        network: nn.Module = build_classifier(ClassifierConfig(), in_channels=1, classes=2, shape=shape, seed=0)
        network = network.to(DEVICE)
        step = torch.compile(network) if name == "compiled" else network
        optimiser = torch.optim.AdamW(network.parameters(), fused=DEVICE == "cuda")
        volumes, labels = torch.rand(batch, 1, *shape, device=DEVICE), torch.arange(batch, device=DEVICE) % 2
        for number in range(steps + 2):
            if number == 2:
                _wait()
                started = time.perf_counter()
            with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=DEVICE == "cuda"):
                loss = nn.functional.cross_entropy(step(volumes).float(), labels)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        _wait()
        found[f"{name}_steps_a_second"] = steps / (time.perf_counter() - started)
    return found


def two_processes(quick: bool) -> dict[str, Any]:
    """Two ranks on this card train together."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    started = time.perf_counter()
    done = subprocess.run([*command, "--rank", *(["--quick"] if quick else [])], capture_output=True, encoding="utf-8")
    return {"worked": done.returncode == 0, "seconds": time.perf_counter() - started, "end": done.stderr[-300:]}


def bits_of(pipe: CCELLAPipeline) -> str:
    """A hash of every weight of the denoiser."""
    digest = hashlib.sha256()
    for name, value in sorted(pipe.denoiser.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _forget_peak() -> None:
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak_gb() -> float | None:
    return torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else None


def parts_of(shape: tuple[int, int, int], *, quick: bool) -> dict[str, Callable[[], Any]]:
    """What is measured on volumes of a shape, the most wanted first."""
    steps, batch = (QUICK_STEPS, 2) if quick else (STEPS, 8)
    drawn = {"volumes": 2, "steps": 2} if quick else {"volumes": 16, "steps": 20}
    made: dict[str, tuple[CCELLAPipeline, dict]] = {}

    def training(precision: str, name: str) -> dict:
        made[name] = train(shape, precision, steps=steps, batch=batch)
        return made[name][1]

    def again() -> bool:
        first = bits_of(made["half"][0])
        training("auto", "again")
        return first == bits_of(made["again"][0])

    return {
        "training in half precision": lambda: training("auto", "half"),
        "equal bits of two trainings": again,
        "sampling": lambda: draw(made["again"][0], **drawn),
        "training in float32": lambda: training("float32", "float32"),
        "classifier": lambda: classify(shape, batch=batch, steps=steps),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    shapes = ((16, 16, 8),) if asked.quick else SHAPES
    if asked.rank:
        train(shapes[0], "auto", steps=QUICK_STEPS, batch=2)
        return
    if DEVICE == "cpu" and not asked.quick:
        parser.error("there is no card; --quick tries the script without one")
    end, found = time.perf_counter() + 60 * asked.minutes, {}
    for shape in shapes:
        for name, part in parts_of(shape, quick=asked.quick).items():
            if time.perf_counter() > end:
                found[f"{shape} {name}"] = "not run"
                continue
            started = time.perf_counter()
            found[f"{shape} {name}"] = {"found": part(), "seconds": time.perf_counter() - started}
            print(f"{shape} {name}: {found[f'{shape} {name}']}", file=sys.stderr, flush=True)
    found["two processes"] = "not run" if time.perf_counter() > end else two_processes(asked.quick)
    card = torch.cuda.get_device_name() if DEVICE == "cuda" else "no card"
    told = json.dumps({"card": card, "torch": torch.__version__, "found": found})
    if asked.out:
        asked.out.write_text(told + "\n", encoding="utf-8")
    print(told)


if __name__ == "__main__":
    main()
