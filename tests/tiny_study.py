"""A study that takes seconds, for the tests of what holds whatever befalls a bench."""

import contextlib
import csv
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from synthaug.bench.commands import run_command

STUDY = {
    "data": {"phantom": {"n": 24, "shape": [16, 16, 8], "spacing_mm": [5.0, 5.0, 8.0]}},
    "preprocess": {"shape": [16, 16, 8], "spacing_mm": [5.0, 5.0, 8.0]},
    "generator": {
        "levels": [
            {"pooling": 4, "denoiser": {"channels": [32], "attention": [True], "head_channels": 16}},
            {"pooling": 1, "patch": 2, "denoiser": {"channels": [32], "attention": [False], "head_channels": 16}},
        ],
        "adapter": {"width": 32, "queries": 4, "heads": 2, "sinusoids": 16, "class_width": 8},
        "text_encoder": {"width": 16, "layers": 1, "heads": 2, "max_tokens": 64},
        "monitor_every": 0,
        "training": {"steps": 2, "warmup": 0, "batch_size": 4, "checkpoint_minutes": 0, "precision": "float32"},
    },
    "pool": {"per_class": 4, "sampling": {"steps": 1, "micro_batch": 4}},
    "classifier": {
        "channels": [4, 4, 8, 8],
        "evaluate_every": 4,
        "training": {"steps": 8, "warmup": 0, "batch_size": 4, "checkpoint_minutes": 0},
    },
    "metrics": {"bootstrap": 10, "permutations": 10},
    "study": {"name": "tiny", "seeds": [0], "regimes": ["real", "mixed"]},
}
"""Checkpoints are written at every step, so that what is killed goes on from within."""
TOO_FAST = ["--study.axes", '{"classifier.training.learning_rate": [0.001, 1.0e+30]}']
"""Cells with the second rate fail: their loss stops being finite."""

PUBLISHED = {
    "data": {"phantom": {"n": 32, "shape": [16, 16, 8], "spacing_mm": [5.0, 5.0, 8.0]}},
    "preprocess": {"shape": [16, 16, 8], "spacing_mm": [5.0, 5.0, 8.0]},
    "autoencoder": {
        "channels": [8],
        "latent_channels": 4,
        "norm_groups": 4,
        "monitor_every": 2,
        "training": {"steps": 4, "warmup": 0, "batch_size": 4},
    },
    "generator": {
        "latents": "autoencoder",
        "denoiser": {"channels": [32], "attention": [True], "head_channels": 16},
        "adapter": {"width": 32, "queries": 4, "heads": 2, "sinusoids": 16, "class_width": 8},
        "text_encoder": {"width": 16, "layers": 1, "heads": 2, "max_tokens": 64},
        "monitor_every": 2,
        "training": {"steps": 4, "warmup": 0, "batch_size": 4, "precision": "float32"},
    },
    "pool": {"per_class": 6, "sampling": {"steps": 2, "micro_batch": 4}},
    "classifier": {
        "channels": [4, 4, 8, 8],
        "evaluate_every": 4,
        "training": {"steps": 8, "warmup": 0, "batch_size": 4},
    },
    "metrics": {"bootstrap": 40, "permutations": 40},
    "study": {"name": "tiny", "seeds": [0, 1]},
}
"""The published design at the same size: an autoencoder, and a generator over its latents."""


def bench(out: Path, *options: str) -> int:
    """Run the study in this process; returns the exit code."""
    config = out.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return run_command("bench", ["--config", str(config), "--out", str(out), *options])


def forked(command: Callable[..., int], *arguments: Any) -> multiprocessing.Process:
    """Run a command in a process of its own, quick to start because it need not import anything."""

    def run() -> None:
        torch.set_num_threads(1)
        code = command(*arguments)
        sys.stdout.flush()
        os._exit(code)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    return child


def kill_when(child: multiprocessing.Process, folder: Path, sign: str) -> None:
    """Kill a process without warning as soon as a file of this pattern is in the folder; it must not have ended."""
    deadline = time.monotonic() + 300
    while child.is_alive() and not any(folder.glob(sign)) and time.monotonic() < deadline:
        time.sleep(0.002)
    child.kill()
    child.join(timeout=60)
    assert child.exitcode == -signal.SIGKILL


def found(out: Path) -> dict:
    """All that a study found, but for seconds, dates and places."""
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in out.glob("cells/*.json")}
    for record in records.values():
        del record["seconds"]
    with (out / "results.csv").open() as stream:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]
    return {
        "summary": json.loads((out / "summary.json").read_text(encoding="utf-8")),
        "results": rows,
        "records": records,
    }


def without_cells(finished: Path, out: Path) -> Path:
    """A copy of a finished study whose cells are still to be run."""
    left_out = ("cells", "claims", "finished.json", "summary.json", "results.csv", "report.html")
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns(*left_out, "mlflow.db", "mlartifacts"))
    return out


def descendants(pid: int) -> dict[int, str]:
    """{process id: its title} of all that a process has started, and what those have."""
    found: dict[int, str] = {}
    with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                found[child.pid] = " ".join(child.cmdline())
    return found
