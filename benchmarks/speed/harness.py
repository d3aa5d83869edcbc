"""What the bench costs over the bare training loops: records, statistics, image metrics, report and MLflow.

    python benchmarks/speed/harness.py [--quick]

Ours is ``python -m synthaug.bench``, the quickstart: autoencoder, diffusion model, pool and classifiers; with
``--ready-pool`` (and ``--quick``) the classifiers alone, on a pool that is there already. The reference calls the same
trainings, drawings and predictions one after the other and keeps no more than each test AUROC, which must be equal on
both sides. Then studies of one step a cell, where the trainings weigh little, tell what the bench costs once and what
it costs a cell. Seconds are processor time of this process and its children, unless they are called wall seconds. The
last line printed is JSON.
"""

import argparse
import contextlib
import cProfile
import csv
import io
import json
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from machine import machine
from sklearn.metrics import roc_auc_score

import synthaug as sa
from synthaug.bench.commands import run_command
from synthaug.classify.augmentation import classical_batches
from synthaug.classify.prediction import predict_logits
from synthaug.classify.training import train_classifier
from synthaug.config import (
    Config,
    DataConfig,
    PoolConfig,
    SamplingConfig,
    StudyConfig,
)
from synthaug.data.phantom import make_subjects
from synthaug.data.reading.manifest import stack_images
from synthaug.generate.training.autoencoder import train_autoencoder
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.errors import InputError

TARGET = 1.03
"""Longest study in units of its bare training loops."""
FRACTIONS = {"real": None, "synthetic": 1.0, "mixed": 0.5}
"""Synthetic share of each regime's training set."""
PATIENTS_SEED = 7
"""No generator that is at hand was trained on phantoms of this seed."""
IMAGES = ["t2w"]
Scores = dict[tuple[str, int], float]
"""(regime, seed) to test AUROC."""


@dataclass(frozen=True)
class Cost:
    """What a side took."""

    cpu: float
    wall: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the pool, run both sides in turns, and print the figures."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = quickstart(options)
        ready = with_pool(config, build_pool(root / "pool", options))
        config = ready if options.ready_pool else config
        short = replace(ready, classifier=_of_one_step(ready))
        one_seed = replace(short, study=replace(short.study, seeds=[0]))
        run_loops(one_seed)  # what both sides need is imported and warm
        first = None if options.quick else timed(lambda: run_bench(one_seed, root / "first"))[0]
        sides = in_turns(config, root / "full", options.repeats)
        parts = measure_parts(one_seed, short, root / "short", options.repeats)
        again = parts.pop("study_of_one_seed")
        parts["imports_once"] = max(first.cpu - again, 0.0) if first else None
        where = profile(short, root / "profile") if options.profile else None
    cells = len(config.study.seeds) * len(FRACTIONS)
    result = {
        "claim": f"CPU seconds of {'' if options.ready_pool else 'a generator, its pool and '}{cells} classifiers of "
        f"{config.classifier.training.steps} steps on {options.subjects} phantoms through the bench, against the bare "
        "training loops",
        **sides,
        "machine": machine(),
        "quick": options.quick,
        "harness_seconds": parts,
        "expected_share": expected_shares(parts, sides["reference"] / cells),
        "where_the_time_of_a_study_of_one_step_a_cell_goes": where,
    }
    print(json.dumps(result))


def build_pool(folder: Path, options: argparse.Namespace) -> sa.SyntheticPool:
    """Volumes of two denoising steps: what they show does not matter here."""
    pipe = sa.CCELLAPipeline.from_pretrained(options.pipeline)
    return sa.SyntheticPool.build(
        pipe,
        folder,
        per_class={0: options.per_class, 1: options.per_class},
        reports=sa.WriterPrompts(),
        sampling=SamplingConfig(steps=2),
    )


def quickstart(options: argparse.Namespace) -> Config:
    """What the bench does without a config, on patients of this script's own."""
    usual = Config()
    steps = options.steps or usual.classifier.training.steps
    training = replace(usual.classifier.training, steps=steps, warmup=min(usual.classifier.training.warmup, steps - 1))
    resamples = {"bootstrap": 50, "permutations": 50} if options.quick else {}
    return replace(
        usual,
        data=DataConfig(phantom=replace(usual.data.phantom, n=options.subjects, seed=PATIENTS_SEED)),
        pool=replace(usual.pool, per_class=options.per_class),
        classifier=replace(usual.classifier, training=training),
        metrics=replace(usual.metrics, **resamples),
        study=StudyConfig(name="harness", regimes=list(FRACTIONS), seeds=list(range(options.seeds))),
    )


def with_pool(config: Config, pool: sa.SyntheticPool) -> Config:
    """The study, but that its pool is there already."""
    born = {key: tuple(pool.header[key]) for key in ("shape", "spacing_mm")}
    return replace(
        config,
        data=DataConfig(phantom=replace(config.data.phantom, **born)),
        preprocess=sa.PreprocessConfig(**born),
        pool=PoolConfig(path=str(pool.path)),
    )


def run_bench(config: Config, out: Path) -> Scores:
    """Our side: the command itself, in a folder of its own."""
    out.mkdir(parents=True)
    settings = out / "harness.yaml"
    settings.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(config)))), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
        code = run_command("bench", ["--config", str(settings), "--out", str(out / "study")])
    if code:
        raise RuntimeError(f"the bench ended with exit code {code}: {told.getvalue()[-1000:]}")
    with (out / "study" / "results.csv").open(encoding="utf-8") as stream:
        return {(row["regime"], int(row["seed"])): float(row["auroc"]) for row in csv.DictReader(stream)}


def run_loops(config: Config) -> Scores:
    """The reference: what one would write who wants the classifiers and nothing else."""
    phantom = config.data.phantom
    options = {"shape": phantom.shape, "spacing_mm": phantom.spacing_mm, "difficulty": phantom.difficulty}
    subjects = make_subjects(phantom.n, phantom.positive_fraction, phantom.seed, **options)
    drawn = sa.split_subjects(subjects, test=config.split.test, val=config.split.val, seed=config.split.seed)
    train, val, test = (sa.preprocess(part, config.preprocess, IMAGES) for _, part in drawn.parts())
    with tempfile.TemporaryDirectory() as folder:
        pool = sa.SyntheticPool.open(config.pool.path) if config.pool.path else draw_pool(config, train, Path(folder))
        return run_classifiers(config, pool, train=train, val=val, test=test)


def draw_pool(config: Config, train: list, folder: Path) -> sa.SyntheticPool:
    """The reference's generator, trained and drawn from."""
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in train])
    pipe = train_ldm(
        train,
        train_autoencoder(volumes, config.autoencoder),
        config.generator,
        preprocessing=config.preprocess,
        images=IMAGES,
        micro_batch=config.pool.sampling.micro_batch,
    )
    return sa.SyntheticPool.build(
        pipe,
        folder / "pool",
        per_class=dict.fromkeys((0, 1), config.pool.per_class),
        reports=sa.TrainingPrompts(train),
        seed=config.pool.seed,
        sampling=config.pool.sampling,
    )


def run_classifiers(config: Config, pool: sa.SyntheticPool, *, train: list, val: list, test: list) -> Scores:
    """The reference's cells."""
    labels = [subject["label"] for subject in test]
    scores = {}
    for seed in config.study.seeds:
        for regime, fraction in FRACTIONS.items():
            sampler = sa.SyntheticSampler(
                train,
                None if fraction is None else pool,
                batch_size=config.classifier.training.batch_size,
                synthetic_fraction=fraction,
                seed=seed,
            )
            trained = train_classifier(
                sampler.loader(batch_transform=classical_batches(config.preprocess, IMAGES, config.classifier.moves)),
                val,
                config.classifier,
                images=IMAGES,
                shape=config.preprocess.shape,
                seed=seed,
            )
            logits = predict_logits(trained.network, test, IMAGES)
            scores[regime, seed] = float(roc_auc_score(labels, logits.double().softmax(1)[:, 1]))
    return scores


def in_turns(config: Config, folder: Path, repeats: int) -> dict[str, Any]:
    """Both sides again and again, so that a machine that slows down meanwhile favours nobody; the medians."""
    costs: dict[str, list[Cost]] = {"ours": [], "reference": []}
    for repeat in range(repeats):
        out = folder / str(repeat)
        sides: dict[str, Callable[[], Scores]] = {
            "ours": lambda out=out: run_bench(config, out),
            "reference": lambda: run_loops(config),
        }
        found = {}
        for name in sorted(sides, reverse=bool(repeat % 2)):
            cost, found[name] = timed(sides[name])
            costs[name].append(cost)
        require_same_work(found["ours"], found["reference"])
    ours, reference = (median(cost.cpu for cost in costs[name]) for name in ("ours", "reference"))
    walls = [median(cost.wall for cost in costs[name]) for name in ("ours", "reference")]
    ratio = ours / reference
    return {
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "target": TARGET,
        "holds": bool(ratio <= TARGET),
        "wall_seconds": {"ours": walls[0], "reference": walls[1], "ratio": walls[0] / walls[1]},
        "each_round": {name: [cost.cpu for cost in of_side] for name, of_side in costs.items()},
    }


def require_same_work(ours: Scores, reference: Scores) -> None:
    """InputError unless both sides trained classifiers of the same test AUROC."""
    differing = [cell for cell in reference if abs(ours.get(cell, -1.0) - reference[cell]) > 1e-6]
    if differing or len(ours) != len(reference):
        raise InputError(f"The sides did not do the same work: {differing or set(ours) ^ set(reference)}.")


def measure_parts(one_seed: Config, short: Config, folder: Path, repeats: int) -> dict[str, Any]:
    """What the bench costs once and for each cell, from studies of one step a cell and of two numbers of cells."""
    found: dict[str, list[float]] = {"study_of_one_seed": [], "few": [], "many": []}
    for repeat in range(repeats):
        for name, config in (("few", one_seed), ("many", short)):
            out = folder / f"{name}-{repeat}"
            ours, _ = timed(lambda config=config, out=out: run_bench(config, out))
            bare, _ = timed(lambda config=config: run_loops(config))
            found[name].append(ours.cpu - bare.cpu)
            if name == "few":
                found["study_of_one_seed"].append(ours.cpu)
    few, many = len(FRACTIONS), len(FRACTIONS) * len(short.study.seeds)
    a_cell = (median(found["many"]) - median(found["few"])) / (many - few)
    return {
        "once": median(found["few"]) - few * a_cell,
        "a_cell": a_cell,
        "study_of_one_seed": median(found["study_of_one_seed"]),
    }


def expected_shares(parts: dict[str, Any], bare_seconds: float) -> list[dict[str, float]]:
    """The bench's cost as a share of the bare loops' time, by the number of cells and the length of one."""
    rows = []
    for seconds in (bare_seconds, 60.0, 600.0):
        for cells in (9, 45):
            cost = parts["once"] + (parts["imports_once"] or 0.0) + cells * parts["a_cell"]
            rows.append({"cells": cells, "seconds_a_cell": seconds, "share": cost / (cells * seconds)})
    return rows


def profile(config: Config, folder: Path, *, shown: int = 24) -> dict[str, float]:
    """Seconds within the bench's own functions and those that they call, the longest first; a profiler slows them."""
    watch = cProfile.Profile(time.process_time)
    watch.runcall(run_bench, config, folder)
    found = {}
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(watch).stats.items():
        place = Path(file)
        if place.parent.name == "bench" and not name.startswith("<"):
            found[f"{place.stem}.{name}"] = round(cumulative, 3)
    return dict(sorted(found.items(), key=lambda item: -item[1])[:shown])


def timed(side: Callable[[], Scores]) -> tuple[Cost, Scores]:
    """What a side took and found."""
    started = time.perf_counter(), _cpu_seconds()
    found = side()
    return Cost(cpu=_cpu_seconds() - started[1], wall=time.perf_counter() - started[0]), found


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _of_one_step(config: Config) -> Any:
    training = replace(config.classifier.training, steps=1, warmup=0)
    return replace(config.classifier, training=training)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Config()
    parser.add_argument("--pipeline", default="builtin/ccella-tiny", help="whose pool it is; folder or builtin")
    parser.add_argument("--subjects", type=int, default=usual.data.phantom.n, help="phantom patients")
    parser.add_argument("--per-class", type=int, default=usual.pool.per_class, help="volumes of each class of the pool")
    parser.add_argument("--seeds", type=int, default=len(usual.study.seeds), help="seeds: three cells each; 2 or more")
    parser.add_argument("--steps", type=int, default=0, help="steps of a classifier; 0 = as in the quickstart")
    parser.add_argument("--ready-pool", action="store_true", help="classifiers only, the hardest case for the bench")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--profile", action="store_true", help="tell where the time of the bench itself goes")
    parser.add_argument(
        "--quick", action="store_true", help="one run of small sides, imports not told: within a minute"
    )
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error("--seeds must be 2 or more: what a cell costs is told from two sizes of study")
    if options.quick:
        options.subjects, options.per_class = min(options.subjects, 40), min(options.per_class, 6)
        options.seeds, options.repeats, options.steps, options.ready_pool = 2, 1, options.steps or 10, True
    return options


if __name__ == "__main__":
    main()
