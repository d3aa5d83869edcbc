"""AdamW against Muon: validation losses of each level after equal steps, and what the optimisers themselves cost.

    python benchmarks/studies/generator/optimisers.py --config configs/hippocampus.yaml --out runs/optimisers \
        --scale 0.125 --json benchmarks/studies/generator/optimisers.json

Both trainings have the config's seed, steps and rate, and the validation people of its split. Held-out people are not
read. A finished training is not made again.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from minutes import scaled
from torch import nn

from synthaug.bench.options.parsing import read_config
from synthaug.bench.studies.progress import Bars
from synthaug.config import Config, TrainingConfig
from synthaug.ground.files import write_json
from synthaug.models.training.loop import make_optimizer
from synthaug.study.stages.making import make_generator
from synthaug.study.stages.preparation import Study

OPTIMISERS = ("adamw", "muon")
TIMED = 5
"""Steps whose time is taken."""


def last_looks(stats: Path) -> dict[str, dict[str, float]]:
    """The last validation of each level, from a training's log: losses over all and at each noise level.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "stats.jsonl"
        >>> looks = [{"stage": "level 0", "step": step, "val_loss": 1 / step} for step in (1, 2)]
        >>> _ = path.write_text("".join(json.dumps(look) + "\\n" for look in looks))
        >>> last_looks(path)
        {'level 0': {'step': 2, 'val_loss': 0.5}}
    """
    found: dict[str, dict[str, float]] = {}
    for line in stats.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "val_loss" in entry:
            kept = {name: value for name, value in entry.items() if name == "step" or name.startswith("val_loss")}
            found[entry["stage"]] = kept
    return found


def train(config: Config, optimizer: str, out: Path) -> dict[str, Any]:
    """One training: its validations, and the processor seconds of a step of the optimiser over all weights."""
    training = replace(config.generator.training, optimizer=optimizer)
    study = Study.start(replace(config, generator=replace(config.generator, training=training)), out, Bars().stage)
    pipe = make_generator(study)
    seconds = seconds_a_step(pipe.denoiser, training)
    return {"optimiser_seconds": seconds, "validation": last_looks(study.generator_folder.with_suffix(".stats.jsonl"))}


def seconds_a_step(network: nn.Module, training: TrainingConfig) -> float:
    """Median processor seconds of an optimiser's step, without the passes through the network."""
    optimizer, found = make_optimizer(network.requires_grad_(), training), []
    for _ in range(TIMED + 1):
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        started = time.process_time()
        optimizer.step()
        found.append(time.process_time() - started)
    return statistics.median(found[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with each, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Further words are settings of the config: --split.fold 1",
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=0.125, help="of the config's steps")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options, words = parser.parse_known_args(arguments)
    config = scaled(read_config(["--config", options.config, *words]), options.scale)
    found = {name: train(config, name, options.out) for name in OPTIMISERS}
    figures = {
        "date": date.today().isoformat(),
        "seed": config.generator.training.seed,
        "scale": options.scale,
        **found,
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
