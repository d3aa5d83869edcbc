"""Which sampler, at about 20 and at about 8 network evaluations a level? The test part does not choose.

    python benchmarks/studies/generator/samplers.py --config configs/hippocampus.yaml --generator FOLDER --json FILE

Every sampler draws the same prompts, those of the training and validation people, with the same seeds. It is judged by
its distance to their real volumes, beside 1,000 ancestral steps (the published procedure). The test part is not read.
"""

import argparse
import json
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from evaluate import Cohort, draw, read_cohort

from synthaug import CCELLAPipeline
from synthaug.bench.options.parsing import read_config
from synthaug.generate.diffusion import swap_scheduler
from synthaug.ground.files import write_json
from synthaug.metrics.extractors import build_extractor
from synthaug.metrics.frechet import frechet
from synthaug.study.stages.cohort import draw_split, load_subjects


class Sampler(NamedTuple):
    """A solver, its steps, and what the predicted noise is divided by."""

    scheduler: str
    steps: int
    epsilon_scale: float = 1.0


SCALES = (1.02, 1.04)
"""Of the predicted noise, beside 1."""


def of_budget(evaluations: int) -> tuple[Sampler, ...]:
    """Samplers that spend about so many evaluations; the best two solvers also with scaled noise."""
    plain = [Sampler(name, evaluations) for name in ("dpm_solver_sde", "dpm_solver", "ddpm", "ddim")]
    scaled = [each._replace(epsilon_scale=scale) for each in plain[:2] for scale in SCALES]
    return (*plain, Sampler("heun", evaluations // 2), *scaled)


BUDGETS = {evaluations: of_budget(evaluations) for evaluations in (20, 8)}
"""Network evaluations a level, and the samplers that spend about as many."""
PUBLISHED = Sampler("ddpm", 1000)
REPEATS = 20
"""Random halves of the drawn volumes and of the real ones, whose spread is told."""


def distances(real: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    """Distance of all, and the deviation of that of random halves."""
    rng, halves = np.random.default_rng(0), []
    for _ in range(REPEATS):
        own, other = (rng.permutation(len(rows))[: len(rows) // 2] for rows in (real, drawn))
        halves.append(frechet(real[own], drawn[other]))
    return {"fid": float(frechet(real, drawn)), "fid_of_halves": float(np.mean(halves)), "sd": float(np.std(halves))}


def measure(pipe: CCELLAPipeline, sampler: Sampler, people: Cohort, options: argparse.Namespace) -> dict[str, Any]:
    """Draw with one sampler and judge."""
    pipe.with_scheduler(sampler.scheduler, epsilon_scale=sampler.epsilon_scale)
    began, burnt = time.monotonic(), time.process_time()
    asked = {"num_inference_steps": sampler.steps, "guidance_scale": options.guidance}
    drawn, _ = draw(pipe, people, options.volumes, seed=options.seed, **asked)
    spent = {"wall": time.monotonic() - began, "processor": time.process_time() - burnt}
    trial = swap_scheduler(pipe.scheduler, sampler.scheduler)
    trial.set_timesteps(sampler.steps)
    figures: dict[str, Any] = {
        **sampler._asdict(),
        "evaluations": len(trial.timesteps),
        "seconds_a_volume": {name: value / options.volumes for name, value in spent.items()},
    }
    for name in options.extractors:
        spacing = pipe.config.spacing_mm if name == "taps" else None
        extractor = build_extractor(name, channels=len(pipe.config.images), spacing_mm=spacing)
        figures[name] = distances(extractor.features(people.volumes), extractor.features(list(drawn.volumes)))
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Every sampler in turn; what is done so far is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--generator", required=True, help="folder of the trained generator")
    parser.add_argument("--volumes", type=int, default=148)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--extractors", nargs="+", default=["seeded"])
    parser.add_argument("--published", action="store_true", help="1,000 ancestral steps too: about an hour")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options, options.set = parser.parse_known_args(arguments)  # further words are settings of the config
    config = read_config(["--config", options.config, *options.set])
    pipe, split = (
        CCELLAPipeline.from_pretrained(options.generator),
        draw_split(config.split, load_subjects(config.data)),
    )
    people = read_cohort(config, split, "train", "val")
    found: dict[str, Any] = {"date": date.today().isoformat(), "generator": pipe.fingerprint, "n": options.volumes}
    found["guidance"] = options.guidance
    groups = {str(evaluations): samplers for evaluations, samplers in BUDGETS.items()}
    for name, samplers in (groups | ({"published": (PUBLISHED,)} if options.published else {})).items():
        rows = found.setdefault("evaluations", {}).setdefault(name, [])
        for sampler in samplers:
            rows.append(measure(pipe, sampler, people, options))
            print(json.dumps(rows[-1]), flush=True)
            best = min(rows, key=lambda row: row[options.extractors[0]]["fid"])
            found.setdefault("chosen", {})[name] = {field: best[field] for field in Sampler._fields}
            if options.json:
                write_json(options.json, found)


if __name__ == "__main__":
    main()
