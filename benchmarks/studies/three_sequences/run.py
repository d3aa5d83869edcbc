"""Three sequences from 11 patients: is a generator that began with 75 patients' T2 better than one from nothing?

    python benchmarks/studies/three_sequences/run.py --begin FOLDER --out runs/three-sequences-study \
        --json benchmarks/studies/three_sequences/summary.json [--pictures runs/three-sequences.png]

FOLDER holds the generator that t2.yaml trained. Three folds, every patient held out once and no weights chosen by
anybody. Both arms are trained alike. Judged are the denoising error on held-out patients (paired), whether the drawn
sequences show one anatomy, and how near the volumes come to training patients.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from sklearn.metrics import mutual_info_score

sys.path.insert(0, str(Path(__file__).parent.parent / "generator"))
from evaluate import Cohort, draw, nearness

from synthaug import CCELLAPipeline
from synthaug.bench.options.parsing import read_config
from synthaug.bench.studies.progress import Bars
from synthaug.config import Config
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import class_counts, stack_images
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.splits import fold_subjects
from synthaug.generate.levels import fit_space, total_steps
from synthaug.generate.training.continuing import with_own_design
from synthaug.generate.training.ldm import train_ldm
from synthaug.generate.training.networks import pretrained_generator, pretrained_space
from synthaug.generate.training.subject_losses import subject_losses
from synthaug.ground.files import write_json
from synthaug.ground.seeding import numpy_generator
from synthaug.study.stages.cohort import load_subjects

FOLDS = 3
"""As many as there are patients of class 1."""
BINS = np.linspace(0, 1, 17)[1:-1]
"""Edges between grey values for mutual information."""


def shared(one: np.ndarray, other: np.ndarray) -> float:
    """Mutual information of two sequences' grey values in 16 steps, nats.

    Example:
        >>> ramp = np.linspace(0, 1, 1600)
        >>> round(shared(ramp, 1 - ramp), 2), round(shared(ramp, np.zeros(1600)), 2)
        (2.77, 0.0)
    """
    return float(mutual_info_score(np.digitize(one.ravel(), BINS), np.digitize(other.ravel(), BINS)))


def agreement(volumes: Sequence[torch.Tensor], first: int, second: int) -> dict[str, float]:
    """Mutual information of two sequences of a volume, and of sequences of two different volumes."""
    arrays = [volume.numpy() for volume in volumes]
    others = arrays[1:] + arrays[:1]
    own = [shared(each[first], each[second]) for each in arrays]
    mixed = [shared(each[first], other[second]) for each, other in zip(arrays, others, strict=True)]
    return {"same_volume": float(np.mean(own)), "two_volumes": float(np.mean(mixed))}


def trained(config: Config, subjects: Sequence[tio.Subject], folder: Path) -> CCELLAPipeline:
    """The generator of an arm in one fold; one that is there is not trained again."""
    if folder.is_dir():
        return CCELLAPipeline.from_pretrained(folder)
    images, design = config.data.images, with_own_design(config.generator)
    volumes = torch.stack([stack_images(subject, images) for subject in subjects])
    if design.pretrained:
        begun = pretrained_generator(design, classes=len(class_counts(subjects)), images=images)
        space = pretrained_space(design, begun, images, lambda: volumes)
    else:
        space = fit_space(volumes, design)
    bar = Bars().stage("generator", total_steps(design, config.preprocess.shape))
    pipeline = train_ldm(
        subjects,
        space,
        design,
        preprocessing=config.preprocess,
        images=images,
        checkpoint=folder.with_suffix(".checkpoint"),
        on_step=bar,
        relabeller=Relabeller.fit(subjects, config.data, design.geometry),
        stats=folder.with_suffix(".stats.jsonl"),
    )
    pipeline.save_pretrained(folder)
    return pipeline


def measure(config: Config, subjects: dict[str, list], folder: Path, options: argparse.Namespace):
    """Figures of one arm in one fold, and what it drew for the held-out patients' reports."""
    known, held_out = (Cohort(subjects[part], config.data.images) for part in ("train", "test"))
    pipe = trained(config, subjects["train"], folder)
    volumes = list(draw(pipe, held_out, options.volumes, seed=0, num_inference_steps=20)[0].volumes)
    figures = {
        "losses": subject_losses(pipe, subjects["test"], draws=options.draws).tolist(),
        "nearest": {
            "drawn": nearness(volumes, known.volumes).tolist(),
            "held_out": nearness(held_out.volumes, known.volumes).tolist(),
        },
    }
    return figures, volumes


def paired(new: np.ndarray, old: np.ndarray) -> dict[str, float]:
    """Mean of new / old - 1 over patients, with a bootstrap interval."""
    values, rng = new / old - 1, numpy_generator("three sequences")
    means = values[rng.integers(len(values), size=(10_000, len(values)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}


def summarise(arms: dict[str, list[dict[str, Any]]], real: list, drawn: dict[str, list]) -> dict[str, Any]:
    """Figures over all folds."""
    losses = {arm: np.concatenate([fold["losses"] for fold in folds]) for arm, folds in arms.items()}
    pairs = {"t2w_adc": (0, 1), "t2w_hbv": (0, 2), "adc_hbv": (1, 2)}
    sets = {"real": real, **drawn}
    nearest = {
        arm: {
            name: float(np.median(np.concatenate([fold["nearest"][name] for fold in folds])))
            for name in ("drawn", "held_out")
        }
        for arm, folds in arms.items()
    }
    return {
        "date": date.today().isoformat(),
        "held_out": len(losses["alone"]),
        "losses": {arm: values.mean(0).tolist() for arm, values in losses.items()},
        "pretrained_over_alone": [
            paired(losses["pretrained"][:, level], losses["alone"][:, level])
            for level in range(losses["alone"].shape[1])
        ],
        "agreement": {
            name: {pair: agreement(volumes, *places) for pair, places in pairs.items()}
            for name, volumes in sets.items()
        },
        "nearest_training_patient": nearest,
    }


def save_picture(path: Path, sets: dict[str, list]) -> None:
    """Middle slices of eight volumes of each set, a row a sequence; to be looked at, never committed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 1.5 * 3 * len(sets)), layout="compressed")
    grid = figure.subplots(3 * len(sets), 8, squeeze=False)
    for block, volumes in enumerate(sets.values()):
        for column, volume in enumerate(volumes[:8]):
            for row, image in enumerate(volume):
                axis = grid[3 * block + row][column]
                axis.imshow(image[:, :, image.shape[2] // 2].T, cmap="gray", vmin=0, vmax=1, origin="lower")
    for axis in grid.flat:
        axis.axis("off")
    figure.savefig(path, dpi=70)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--begin", type=Path, required=True, help="folder of the generator of T2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", default=str(Path(__file__).with_name("study.yaml")))
    parser.add_argument("--volumes", type=int, default=12, help="drawn in each fold and arm")
    parser.add_argument("--draws", type=int, default=4, help="noise volumes at each noise level")
    parser.add_argument("--arms", nargs="+", default=["alone", "pretrained"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path, help="picture to write, outside the repository")
    options = parser.parse_args(arguments)
    arms: dict[str, list] = {arm: [] for arm in options.arms}
    drawn: dict[str, list] = {arm: [] for arm in options.arms}
    real: list = []
    config = read_config(["--config", options.config])
    patients = load_subjects(config.data)
    for number in range(FOLDS):
        fold = fold_subjects(patients, folds=FOLDS, fold=number, val=0.1, seed=0)
        parts = {"train": [*fold.train, *fold.val], "test": fold.test}
        subjects = {part: preprocess(rows, config.preprocess, config.data.images) for part, rows in parts.items()}
        for arm in options.arms:
            own = replace(config.generator, pretrained=str(options.begin) if arm == "pretrained" else None)
            folder = options.out / f"{arm}-{number}"
            figures, volumes = measure(replace(config, generator=own), subjects, folder, options)
            arms[arm].append(figures)
            drawn[arm] += volumes
        real += Cohort(subjects["test"], config.data.images).volumes
    if options.pictures:
        save_picture(options.pictures, {"real": real, **drawn})
    if {"alone", "pretrained"} <= arms.keys():
        summary = summarise(arms, real, drawn)
        print(summary)
        if options.json:
            write_json(options.json, summary)


if __name__ == "__main__":
    main()
