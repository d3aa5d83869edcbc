"""Judge a generator by people whom it never saw: distances, what the volumes say of their prompts, realism, copies.

    python benchmarks/studies/generator/evaluate.py --config configs/hippocampus.yaml --generator FOLDER \
        --size volume_mm3 --side side --volumes 448 --json benchmarks/studies/generator/hippocampus.json

The test part of the config's split is read here and nowhere else. Every volume is prompted with the report of one of
its people. What a volume says is read by linear regressions that are fitted on real volumes of the other held-out
people (cross-fitted by person), so that neither the generator's memory nor the reader's can help.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchio as tio
from scipy import stats
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.model_selection import GroupKFold

from synthaug import CCELLAPipeline
from synthaug.bench.options.parsing import read_config
from synthaug.config import Config, SamplingConfig
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.data.splits import Split
from synthaug.generate.stored.told import arguments_of
from synthaug.ground.files import write_json
from synthaug.ground.seeding import derive_seed, numpy_generator
from synthaug.metrics.copies.memorisation import CopyDetector
from synthaug.metrics.extractors import build_extractor
from synthaug.metrics.features import Extractor
from synthaug.metrics.frechet import frechet
from synthaug.models.extractors.taps import crop_centre
from synthaug.pool.recipe import with_sampling
from synthaug.study.stages.cohort import draw_split, load_subjects

DRAWS = 200
"""Random parts of the people over which distances are averaged; their spread is the interval."""
PART = 0.8
"""Share of the people in each."""
ALPHAS = np.logspace(0, 5, 11)
SHIFT = 2
"""Voxels, each way, over which the nearest training volume is looked for."""


class Cohort:
    """Volumes of one part of the split with what is known of them."""

    def __init__(self, subjects: Sequence[tio.Subject], images: Sequence[str]) -> None:
        self.volumes = [stack_images(subject, images).float() for subject in subjects]
        self.people = np.array([subject["patient_id"] for subject in subjects])
        self.names = [subject["subject_id"] for subject in subjects]
        self.reports = [subject["report"] for subject in subjects]
        self.labels = np.array([subject["label"] for subject in subjects])


def read_cohort(config: Config, split: Split, *parts: str) -> Cohort:
    """The people of some parts of the split together, preprocessed; no other part's images are read."""
    images, centre = config.data.images, crop_centre(config.preprocess)
    people = [subject for part in parts for subject in getattr(split, part)]
    return Cohort(preprocess(people, config.preprocess, images, centre=centre), images)


def draw(pipe: CCELLAPipeline, prompts: Cohort, count: int, *, seed: int, **sampling: Any) -> tuple[Any, np.ndarray]:
    """So many volumes, each prompted by one subject in turn, and the row of each one's subject."""
    rows = np.arange(count) % len(prompts.reports)
    takes_class = pipe.denoiser.conditioning.class_input == "true"
    pipe.set_progress_bar_config(disable=False)
    drawn = pipe(
        [prompts.reports[row] for row in rows],
        [int(prompts.labels[row]) for row in rows] if takes_class else None,
        seeds=[derive_seed("generator study", seed, number) for number in range(count)],
        **sampling,
    )
    return drawn, rows


def draw_as(pipe: CCELLAPipeline, prompts: Cohort, count: int, sampling: SamplingConfig, *, seed: int) -> Any:
    """As :func:`draw`, by the sampling of a config, as a pool is drawn."""
    return draw(with_sampling(pipe, sampling), prompts, count, seed=seed, **arguments_of(sampling))


def distance_ratio(
    held_out: np.ndarray, synthetic: np.ndarray, training: np.ndarray, people: dict[str, np.ndarray], *, seed: int
) -> dict[str, Any]:
    """Distance of synthetic volumes to held-out people over that of training volumes, at equal n, over random parts."""
    rng = numpy_generator("generator study parts", seed)
    pairs = []
    for _ in range(DRAWS):
        real = _part(people["held_out"], rng)
        n = min(len(real), int(PART * len(training)))
        known = rng.permutation(_part(people["training"], rng))[:n]
        own = rng.permutation(len(synthetic))[: len(known)]
        real = rng.permutation(real)[: len(known)]
        pairs.append((frechet(held_out[real], synthetic[own]), frechet(held_out[real], training[known])))
    values = np.array(pairs)
    ratios = values[:, 0] / values[:, 1]
    low, high = np.quantile(ratios, (0.025, 0.975))
    means = values.mean(0)
    return {
        "synthetic": means[0],
        "training": means[1],
        "ratio": means[0] / means[1],
        "low": low,
        "high": high,
        "n": len(known),
    }


def _part(people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of a random part of the people."""
    names = rng.permutation(np.unique(people))
    return np.flatnonzero(np.isin(people, names[: max(2, round(PART * len(names)))]))


def pooled(volumes: Sequence[torch.Tensor]) -> np.ndarray:
    """What a linear reader sees: volumes averaged over 2 x 2 x 2 voxels (N, voxels)."""
    return np.stack([torch.nn.functional.avg_pool3d(volume[None], 2).flatten().numpy() for volume in volumes])


def cross_read(
    model: Callable[[], Any],
    held_out: np.ndarray,
    values: np.ndarray,
    people: np.ndarray,
    synthetic: np.ndarray,
    rows: np.ndarray,
    *,
    folds: int = 5,
) -> tuple[np.ndarray, np.ndarray]:
    """What a reader fitted on other held-out people reads from each real volume and from each synthetic one.

    A synthetic volume is read by the fold that has not seen the person who prompted it. Rows without a value (NaN) are
    neither fitted on nor read.
    """
    told = np.isfinite(values)
    real, drawn = np.full(len(values), np.nan), np.full(len(rows), np.nan)
    splits = GroupKFold(min(folds, len(np.unique(people[told])))).split(held_out[told], groups=people[told])
    known = np.flatnonzero(told)
    for fit, read in splits:
        reader = model().fit(held_out[known[fit]], values[known[fit]])
        real[known[read]] = reader.predict(held_out[known[read]])
        own = np.isin(rows, known[read])
        if own.any():
            drawn[own] = reader.predict(synthetic[own])
    return real, drawn


def correlations(asked: np.ndarray, read: np.ndarray, people: np.ndarray, *, seed: int) -> dict[str, float]:
    """Pearson's and Spearman's correlation, with intervals over people; NaN in either is left out."""
    kept = np.isfinite(asked) & np.isfinite(read)
    asked, read, people = asked[kept], read[kept], people[kept]
    rng = numpy_generator("generator study people", seed)
    names = np.unique(people)
    rows_of = {name: np.flatnonzero(people == name) for name in names}
    resampled = []
    for _ in range(1000):
        rows = np.concatenate([rows_of[name] for name in rng.choice(names, len(names))])
        resampled.append(_both(asked[rows], read[rows]))
    (low, rank_low), (high, rank_high) = np.nanquantile(resampled, (0.025, 0.975), axis=0)
    pearson, spearman = _both(asked, read)
    return {
        "pearson": pearson,
        "low": float(low),
        "high": float(high),
        "spearman": spearman,
        "spearman_low": float(rank_low),
        "spearman_high": float(rank_high),
        "n": int(kept.sum()),
    }


def _both(asked: np.ndarray, read: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's correlation; NaN where either is constant, as where one person is drawn throughout."""
    if not (np.ptp(asked) and np.ptp(read)):
        return float("nan"), float("nan")
    return float(np.corrcoef(asked, read)[0, 1]), float(stats.spearmanr(asked, read).statistic)


def nearness(volumes: Sequence[torch.Tensor], training: Sequence[torch.Tensor]) -> np.ndarray:
    """Mean squared difference to the nearest training volume, over whole-voxel shifts of up to ``SHIFT`` (N,)."""
    known = torch.stack([volume.half().float() for volume in training]).flatten(1)
    squares, nearest = known.square().sum(1), []
    for volume in volumes:
        padded = torch.nn.functional.pad(volume[None], (SHIFT,) * 6, mode="replicate")[0]
        x, y, z = volume.shape[1:]
        span = range(2 * SHIFT + 1)
        moved = torch.stack(
            [padded[:, i : i + x, j : j + y, k : k + z].flatten() for i in span for j in span for k in span]
        )
        distances = moved.square().sum(1)[:, None] + squares[None] - 2 * moved @ known.T
        nearest.append(float(distances.min()) / moved.shape[1])
    return np.array(nearest)


def copies(known: Cohort, held_out: Cohort, synthetic: Sequence[torch.Tensor], extractor: Extractor) -> dict[str, Any]:
    """The gate's share beside its false alarms, and how near the nearest 5 % come."""
    audit = CopyDetector(known.volumes, held_out.volumes, extractor).audit(synthetic)
    share, low, high = audit.share()
    own, others = nearness(synthetic, known.volumes), nearness(held_out.volumes, known.volumes)
    return {
        "share": share,
        "low": low,
        "high": high,
        "expected_false_alarms": audit.expected_false_alarms,
        "nearest_5_percent": {
            "synthetic": float(np.quantile(own, 0.05)),
            "held_out": float(np.quantile(others, 0.05)),
        },
    }


def column(config: Config, names: Sequence[str], name: str) -> np.ndarray:
    """A manifest column of some subjects, as it stands."""
    table = pd.read_csv(Path(str(config.data.root)) / config.data.manifest, dtype={"subject_id": str})
    return table.set_index("subject_id").loc[list(names), name].to_numpy()


def judge(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    split = draw_split(config.split, load_subjects(config.data))
    known, held_out = read_cohort(config, split, "train", "val"), read_cohort(config, split, "test")
    pipe = CCELLAPipeline.from_pretrained(options.generator)
    sampling = config.pool.sampling
    started, burnt = time.monotonic(), time.process_time()
    drawn, rows = draw_as(pipe, held_out, options.volumes, sampling, seed=options.seed)
    volumes = list(drawn.volumes)
    figures: dict[str, Any] = {
        "date": date.today().isoformat(),
        "generator": pipe.fingerprint,
        "seed": options.seed,
        "sampling": {name: value for name, value in asdict(sampling).items() if value is not None},
        "seconds_a_volume": {
            "wall": (time.monotonic() - started) / len(volumes),
            "processor": (time.process_time() - burnt) / len(volumes),
        },
        "n": {"held_out": len(held_out.volumes), "training": len(known.volumes), "synthetic": len(volumes)},
    }
    people = {"held_out": held_out.people, "training": known.people}
    for name in options.extractors:
        extractor = build_extractor(name, channels=len(config.data.images), spacing_mm=config.preprocess.spacing_mm)
        features = [extractor.features(part) for part in (held_out.volumes, volumes, known.volumes)]
        figures[f"fid_{name}"] = distance_ratio(*features, people, seed=options.seed)
    figures |= readings(config, options, held_out, volumes, rows)
    figures["copies"] = copies(known, held_out, volumes, build_extractor("seeded", channels=len(config.data.images)))
    figures["realism"] = realism(held_out, volumes, rows, known)
    if options.keep:
        keep(options.keep, volumes, rows)
    if options.pictures:
        save_picture(options.pictures, known.volumes, held_out.volumes, volumes)
    return figures


def keep(path: Path, volumes: Sequence[torch.Tensor], rows: np.ndarray) -> None:
    """Store the volumes drawn, with the row of the held-out subject who prompted each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, volumes=torch.stack(list(volumes)).numpy(), rows=rows)


def readings(
    config: Config, options: argparse.Namespace, held_out: Cohort, volumes: Sequence[torch.Tensor], rows: np.ndarray
) -> dict[str, Any]:
    """What readers of held-out people see in real and in synthetic volumes."""
    seen, drawn, figures = pooled(held_out.volumes), pooled(volumes), {}
    if options.size:
        sizes = column(config, held_out.names, options.size).astype(float)
        real, own = cross_read(lambda: RidgeCV(ALPHAS), seen, sizes, held_out.people, drawn, rows)
        figures["size"] = {
            "real": correlations(sizes, real, held_out.people, seed=options.seed),
            "synthetic": correlations(sizes[rows], own, held_out.people[rows], seed=options.seed),
        }
        figures["size"]["ratio"] = figures["size"]["synthetic"]["pearson"] / figures["size"]["real"]["pearson"]
    for name in ("side", "label"):
        asked = getattr(options, name)
        if asked:
            classes = pd.factorize(column(config, held_out.names, asked), sort=True)[0].astype(float)
            real, own = cross_read(lambda: RidgeClassifierCV(ALPHAS), seen, classes, held_out.people, drawn, rows)
            figures[name] = {"real": float((real == classes).mean()), "synthetic": float((own == classes[rows]).mean())}
    return figures


def realism(held_out: Cohort, volumes: Sequence[torch.Tensor], rows: np.ndarray, known: Cohort) -> dict[str, Any]:
    """The judge of :mod:`synthaug.metrics.realism.judgement`, by prompting person."""
    from synthaug.metrics.realism.judgement import judge_realism

    report = judge_realism(
        held_out.volumes,
        volumes,
        real_groups=held_out.people.tolist(),
        synthetic_groups=held_out.people[rows].tolist(),
        training=known.volumes,
        training_groups=known.people.tolist(),
    )
    return report.to_dict()


def save_picture(path: Path, *rows: Sequence[torch.Tensor]) -> None:
    """Middle slices: training, held out, synthetic (two rows); to be looked at, never committed."""
    from matplotlib.figure import Figure

    training, held_out, synthetic = rows
    figure = Figure(figsize=(16, 8), layout="compressed")
    for axes, volumes in zip(figure.subplots(4, 10), (training, held_out, synthetic, synthetic[10:]), strict=True):
        for axis, volume in zip(axes, volumes, strict=False):
            axis.imshow(volume[0, :, :, volume.shape[3] // 2].T, cmap="gray", vmin=0, vmax=1, origin="lower")
            axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Further words are settings of the config: --split.fold 1",
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--generator", type=Path, required=True, help="folder of the trained generator")
    parser.add_argument("--volumes", type=int, default=448)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", help="manifest column of a size that the reports tell")
    parser.add_argument("--side", help="manifest column of a side that the reports tell")
    parser.add_argument("--label", help="manifest column of a class that the reports tell")
    parser.add_argument("--extractors", nargs="+", default=["seeded", "taps"])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--keep", type=Path, help="file .npz for the volumes drawn, outside the repository")
    parser.add_argument("--pictures", type=Path, help="picture to write, outside the repository")
    options, options.set = parser.parse_known_args(arguments)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, judge, print, write."""
    options = parse(arguments)
    config = read_config(["--config", options.config, *options.set])
    figures = judge(config, options)
    print(json.dumps(figures, indent=1))
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
