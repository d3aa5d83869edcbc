"""Run the phantom map: difficulties x imbalances x sizes of the training set x arms, cohort by cohort.

    python benchmarks/studies/imbalance/run.py --pool runs/map-pool --out runs/map [--seeds 0 1 2 3 4] \
        [--difficulties 0.2 0.5 0.8] [--positives 0.5 0.2 0.1 0.05] [--sizes 32 64 128 256]

The arms are no grid (a loss goes with a balance), so that they are listed here; the cells are the bench's own. Cohorts
of which a part has fewer than two patients of a class are left out, and named. Finished cells never run twice. Any
setting can follow: ``--classifier.training.steps 20``.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from synthaug.bench.options.parsing import read_config
from synthaug.bench.studies.progress import Bars
from synthaug.config import Config, ExecutionConfig
from synthaug.data.reading.manifest import class_counts
from synthaug.ground.errors import InputError
from synthaug.study.grid import Cell, cells_of
from synthaug.study.running.executors import run_cells
from synthaug.study.running.studies import Studies

HERE = Path(__file__).parent
ARMS: dict[str, tuple[str, str, str, bool | Literal["labelled"]]] = {
    "as it is": ("real", "none", "cross_entropy", False),
    "oversampled": ("real", "oversampled", "cross_entropy", False),
    "class weights": ("real", "weighted", "cross_entropy", False),
    "focal loss": ("real", "none", "focal", False),
    "logit adjustment": ("real", "none", "logit_adjusted", False),
    "labelled augmentation": ("real", "oversampled", "cross_entropy", "labelled"),
    "synthetic": ("mixed", "oversampled", "cross_entropy", False),
    "synthetic, labelled augmentation": ("mixed", "oversampled", "cross_entropy", "labelled"),
}
"""Name to regime, balance, loss, augmentation. The last two fill every class with synthetic volumes to balance."""
LEAST = 2
"""Patients of each class in every part of a cohort."""
ARM = "arm"
"""Setting of a cell that names its arm."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True, help="folder of the synthetic volumes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--difficulties", type=float, nargs="+", default=[0.2, 0.5, 0.8])
    parser.add_argument("--positives", type=float, nargs="+", default=[0.5, 0.2, 0.1, 0.05], help="share of positives")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256], help="training patients")
    options, more = parser.parse_known_args(arguments)
    config = read_config(["--config", str(HERE / "map.yaml"), "--pool.path", options.pool, *more])
    bars, found = Bars(), 0
    cohorts = list(cohorts_of(config, options))
    on_cell = bars.stage("classifiers", len(cohorts) * len(ARMS) * len(options.seeds))
    for cohort, settings in cohorts:
        studies = Studies(options.out, bars.stage)  # anew for each: the patients of all do not fit into memory
        if not is_whole(cohort, settings, studies):
            continue
        cells = [cell for seed in options.seeds for cell in cells_of_cohort(cohort, settings, seed, studies)]
        outcomes = run_cells(cells, studies, ExecutionConfig(), on_outcome=lambda cell, outcome: on_cell())
        for cell in cells:
            if "error" in outcomes[cell.id]:
                sys.exit(f"{cell.settings} seed {cell.seed}: {outcomes[cell.id]['error']}")
        found += len(cells)
    if not found:
        sys.exit(f"No cohort has {LEAST} patients of each class in every part; give larger --sizes or --positives.")


def cohorts_of(config: Config, options: argparse.Namespace) -> Iterator[tuple[Config, dict[str, Any]]]:
    """The config of each cohort and its settings."""
    for difficulty, positives, size in itertools.product(options.difficulties, options.positives, options.sizes):
        phantom = replace(config.data.phantom, difficulty=difficulty, positive_fraction=positives)
        data, split = replace(config.data, phantom=phantom), replace(config.split, train=size)
        told = {
            "data.phantom.difficulty": difficulty,
            "data.phantom.positive_fraction": positives,
            "split.train": size,
        }
        yield replace(config, data=data, split=split), told


def is_whole(config: Config, settings: dict[str, Any], studies: Studies) -> bool:
    """Whether every part of a cohort has enough patients of each class; where one has not, it is named."""
    try:
        parts = {name: class_counts(part) for name, part in studies.of(config).split.parts()}
    except InputError as error:
        print(f"left out: {settings}, {error}")
        return False
    few = [name for name, counts in parts.items() if len(counts) < 2 or min(counts.values()) < LEAST]
    if few:
        print(f"left out: {settings}, {few[0]} has {parts[few[0]]}")
    return not few


def cells_of_cohort(config: Config, settings: dict[str, Any], seed: int, studies: Studies) -> Iterator[Cell]:
    """The cells of all arms of a cohort; their records name the arm among the settings."""
    for name, (regime, balance, loss, augment) in ARMS.items():
        study = replace(config.study, regimes=[regime], seeds=[seed], synthetic_fraction=[0.5])
        classifier = replace(config.classifier, balance=balance, loss=loss, augment=augment)
        for cell in cells_of(replace(config, study=study, classifier=classifier), studies.identify):
            yield replace(cell, settings=settings | {ARM: name})


if __name__ == "__main__":
    main()
