"""Judge the generators of all folds together: every patient is held out once.

    for fold in 0 1 2 3 4: python benchmarks/studies/generator/evaluate.py --config configs/prostate-t2.yaml \\
        --split.fold FOLD ... --keep runs/folds/FOLD.npz
    python benchmarks/studies/generator/pool_folds.py --config configs/prostate-t2.yaml --size gland_ml \\
        --kept runs/folds/[01234].npz --json benchmarks/studies/generator/prostate-t2.json

What a fold alone has too few patients for:

- The gland that a report asks for against the gland that is drawn. The prostate network of lavlab-taps outlines it. It
  saw neither the generator nor its patients. On crops its logits are too low. The logit above which a voxel is gland is
  fitted on other patients' real volumes, so that their glands have the right mean. Beside it the same of the patients'
  real volumes, and what the network's own logit, 0, shows.
- Realism: 40 volumes a side are the least that it is judged by.
- Distances at a larger n. Volumes prompted by one random half of the patients are compared with the real ones of the
  other half, and so are the real halves. No generator saw who prompted its volumes, but it saw most of the other half:
  copies would come near. ``evaluate.py`` judges copies, and distances to patients whom no generator saw.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluate import DRAWS, Cohort, column, correlations, read_cohort
from sklearn.model_selection import GroupKFold

from synthaug.bench.options.parsing import read_config
from synthaug.config import Config
from synthaug.ground.files import write_json
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.extractors import build_extractor
from synthaug.metrics.frechet import frechet
from synthaug.metrics.realism.judgement import judge_realism
from synthaug.models.extractors.taps import measure_glands_ml
from synthaug.study.stages.cohort import draw_split, load_subjects

LOGITS = tuple(step / 2 for step in range(-16, 3))
"""Above which a voxel may be called gland: from 0.0003 to 0.7 as a probability."""


class Everyone:
    """The held-out patients of all folds, and the volumes that they prompted."""

    def __init__(self, cohorts: Sequence[Cohort], kept: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.real = [volume for cohort in cohorts for volume in cohort.volumes]
        self.names = [name for cohort in cohorts for name in cohort.names]
        self.people = np.concatenate([cohort.people for cohort in cohorts])
        self.synthetic = [torch.from_numpy(volume) for volumes, _ in kept for volume in volumes]
        first = np.cumsum([0, *(len(cohort.names) for cohort in cohorts)])
        self.rows = np.concatenate([rows + start for (_, rows), start in zip(kept, first, strict=False)])
        """Row of the patient who prompted each synthetic volume."""


def read_everyone(files: Sequence[Sequence[str]], kept: Sequence[Path]) -> Everyone:
    """All folds; ``files`` are the words that name each fold's config."""
    cohorts = []
    for words in files:
        own = read_config(words)
        cohorts.append(read_cohort(own, draw_split(own.split, load_subjects(own.data)), "test"))
    return Everyone(cohorts, [(stored["volumes"], stored["rows"]) for stored in map(np.load, kept)])


def halves(everyone: Everyone, real: np.ndarray, synthetic: np.ndarray, *, seed: int) -> dict[str, Any]:
    """Distance of synthetic to real volumes over that of real to real ones, over random halves of the patients."""
    rng, names = numpy_generator("pooled folds", seed), np.unique(everyone.people)
    pairs = []
    for _ in range(DRAWS):
        own = np.isin(everyone.people, rng.permutation(names)[: len(names) // 2])
        prompted = rng.permutation(np.flatnonzero(own[everyone.rows]))[: own.sum()]
        pairs.append((frechet(real[~own], synthetic[prompted]), frechet(real[~own], real[own])))
    drawn, floor = np.array(pairs).T
    low, high = np.quantile(drawn / floor, (0.025, 0.975))
    means = {"synthetic": drawn.mean(), "real": floor.mean(), "ratio": drawn.mean() / floor.mean()}
    return {**means, "low": low, "high": high, "n": len(names) // 2}


def glands(config: Config, everyone: Everyone, name: str, *, seed: int) -> dict[str, Any]:
    """Gland asked for against gland outlined, in the patients' volumes and in those that they prompted."""
    asked = column(config, everyone.names, name).astype(float)
    told = np.isfinite(asked)
    sides = {"real": (everyone.real, np.arange(len(asked))), "synthetic": (everyone.synthetic, everyone.rows)}
    outlined, at = {}, {}
    for side, (volumes, rows) in sides.items():
        kept = np.flatnonzero(told[rows])
        at[side] = rows[kept]
        outlined[side] = measure_glands_ml(
            [volumes[place] for place in kept], config.preprocess.spacing_mm, above=LOGITS
        )
    chosen = fit_logits(outlined["real"], asked[told], everyone.people[told])
    found: dict[str, Any] = {}
    for side, sizes in outlined.items():
        people, found[side] = everyone.people[at[side]], {}
        fitted = np.array([chosen[person] for person in people])
        for reading, columns in (("fitted_logit", fitted), ("logit_0", np.full(len(people), LOGITS.index(0.0)))):
            read = np.take_along_axis(sizes, columns[:, None], axis=1)[:, 0]
            told_of = correlations(asked[at[side]], read, people, seed=seed)
            found[side][reading] = told_of | {"mean_ml": float(read.mean())}
    logits = [LOGITS[place] for place in chosen.values()]
    return found | {"asked_mean_ml": float(asked[told].mean()), "fitted_logits": [min(logits), max(logits)]}


def fit_logits(outlined: np.ndarray, measured: np.ndarray, people: np.ndarray) -> dict[str, int]:
    """For each person the place of the logit at which other people's real glands have the right mean.

    Args:
        outlined: (n, logits) in ml.
        measured: (n,) in ml.
        people: (n,); people are left out together, a fifth at a time.
    """
    chosen: dict[str, int] = {}
    for fit, read in GroupKFold(min(5, len(np.unique(people)))).split(outlined, groups=people):
        place = int(np.abs(outlined[fit].mean(0) - measured[fit].mean()).argmin())
        chosen |= dict.fromkeys(people[read].tolist(), place)
    return chosen


def judge(config: Config, everyone: Everyone, size: str, *, seed: int) -> dict[str, Any]:
    """Every figure of all folds together."""
    figures: dict[str, Any] = {
        "date": date.today().isoformat(),
        "seed": seed,
        "n": {"patients": len(np.unique(everyone.people)), "synthetic": len(everyone.synthetic)},
    }
    for name in ("seeded", "taps"):
        extractor = build_extractor(name, channels=len(config.data.images), spacing_mm=config.preprocess.spacing_mm)
        features = (extractor.features(part) for part in (everyone.real, everyone.synthetic))
        figures[f"fid_{name}"] = halves(everyone, *features, seed=seed)
    figures["gland"] = glands(config, everyone, size, seed=seed)
    prompted = everyone.people[everyone.rows].tolist()
    report = judge_realism(
        everyone.real, everyone.synthetic, real_groups=everyone.people.tolist(), synthetic_groups=prompted, seed=seed
    )
    return figures | {"realism": report.to_dict()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read what the folds drew, judge it, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--kept", type=Path, nargs="+", required=True, help="volumes of fold 0, 1, ..., by evaluate.py")
    parser.add_argument("--size", default="gland_ml", help="manifest column of the gland's volume in ml")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(arguments)
    config = read_config(["--config", options.config])
    words = [["--config", options.config, "--split.fold", str(fold)] for fold in range(len(options.kept))]
    figures = judge(config, read_everyone(words, options.kept), options.size, seed=options.seed)
    print(json.dumps(figures, indent=1))
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
