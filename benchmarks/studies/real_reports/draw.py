"""Draw volumes from reports that a generator has not seen, and from some that it has; what is missing is trained first.

    python benchmarks/studies/real_reports/draw.py --out runs/real-reports [--encoders minilm --folds 0]

For each text encoder and fold one file ``draws-ENCODER-FOLD.npz``: the left-out reports with four seeds each, the
training reports with two, and the class probabilities that the network reads from each report. The seeds are the same
for all reports, so that volumes of one seed differ in nothing but the report. The files stay out of the repository.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchio as tio

from synthaug.bench.options.parsing import read_config
from synthaug.bench.studies.progress import Bars
from synthaug.config import Config, SamplingConfig
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.told import arguments_of
from synthaug.ground.files import atomic_path, write_json
from synthaug.pool.recipe import with_sampling
from synthaug.study.stages.making import make_autoencoder, make_generator
from synthaug.study.stages.preparation import Study

HERE = Path(__file__).parent
ENCODERS = ("bytes", "minilm")
"""Text encoders: a YAML file beside this script each."""
FOLDS = (0, 1, 2)
SEEDS = {"test": 4, "train": 2}
"""Volumes that are drawn from each report of a part."""


@dataclass(frozen=True)
class Draws:
    """What one generator drew from the reports of one part."""

    subjects: list[str]
    """Whose report, one a row."""
    volumes: np.ndarray
    """(n, seeds, X, Y, Z) in [0, 1]."""
    probabilities: np.ndarray
    """(n, K): the classes that the network reads from the report."""


def config_of(encoder: str, fold: int, *, changes: Sequence[str] = ()) -> Config:
    """The study's settings for an encoder and a fold, with more ``--section.key value`` words where given."""
    files = [word for name in ("base", encoder) for word in ("--config", str(HERE / f"{name}.yaml"))]
    return read_config([*files, "--split.fold", str(fold), *changes])


def draw_from(
    pipeline: CCELLAPipeline, subjects: Sequence[tio.Subject], *, seeds: int, sampling: SamplingConfig
) -> Draws:
    """Volumes of each subject's report, with seeds 0, 1, ...

    Raises:
        ValueError: The variant reads no class from reports.
    """
    reports = [subject["report"] for subject in subjects for _ in range(seeds)]
    drawn = pipeline(
        reports,
        seeds=list(range(seeds)) * len(subjects),
        **arguments_of(sampling),
    )
    if drawn.class_probabilities is None:
        raise ValueError(f"variant {pipeline.denoiser.config.variant!r} reads no class from reports.")
    return Draws(
        [subject["subject_id"] for subject in subjects],
        drawn.volumes[:, 0].unflatten(0, (len(subjects), seeds)).numpy(),
        drawn.class_probabilities[::seeds].numpy(),
    )


def draws_file(out: Path, encoder: str, fold: int) -> Path:
    """Where the draws of a generator are kept."""
    return out / f"draws-{encoder}-{fold}.npz"


def save_draws(path: Path, parts: dict[str, Draws]) -> None:
    """Keep draws by part; volumes in half precision."""
    arrays = {
        f"{part}_{name}": np.asarray(value, dtype=np.float16 if name == "volumes" else None)
        for part, draws in parts.items()
        for name, value in vars(draws).items()
    }
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_draws(path: Path) -> dict[str, Draws]:
    """Draws by part, as :func:`save_draws` kept them."""
    kept = np.load(path)
    parts = dict.fromkeys(name.partition("_")[0] for name in kept.files)
    return {
        part: Draws(
            kept[f"{part}_subjects"].tolist(),
            kept[f"{part}_volumes"].astype(np.float32),
            kept[f"{part}_probabilities"].astype(np.float64),
        )
        for part in parts
    }


def draw_all(encoder: str, fold: int, out: Path, *, changes: Sequence[str] = ()) -> None:
    """The draws of one generator, unless they are there."""
    path = draws_file(out, encoder, fold)
    if path.is_file():
        return
    config = config_of(encoder, fold, changes=changes)
    bars = Bars()
    study = Study.read(config, out, bars.stage)
    sampling = config.pool.sampling
    make_autoencoder(study)  # the encoders share it, so its time is neither's
    begun = time.process_time()
    pipeline = with_sampling(make_generator(study), sampling)
    pipeline.set_progress_bar_config(disable=False)
    if "generator" in bars.seconds:  # else it was there before
        seconds = {"training_processor_seconds": time.process_time() - begun}
        write_json(out / f"seconds-{encoder}-{fold}.json", seconds)
    parts = {"test": study.split.test, "train": study.split.train}
    save_draws(
        path,
        {name: draw_from(pipeline, subjects, seeds=SEEDS[name], sampling=sampling) for name, subjects in parts.items()},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Go through encoders and folds; a second run goes on where the first was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real-reports"))
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--folds", nargs="+", type=int, choices=FOLDS, default=FOLDS)
    options, changes = parser.parse_known_args(arguments)
    torch.set_num_threads(1)  # bits depend on it
    options.out.mkdir(parents=True, exist_ok=True)
    for fold in options.folds:
        for encoder in options.encoders:
            draw_all(encoder, fold, options.out, changes=changes)


if __name__ == "__main__":
    main()
