"""Run the cells of the phantom study: nine cohorts, seven arms; seed by seed, so that a run cut short has whole seeds.

    python benchmarks/studies/phantom/run.py --pool runs/phantom-pool --out runs/phantom [--seeds 0 1 2 3 4]

The arms are no grid (the loss is an axis of real data alone), so that they are listed here; the cells are the bench's
own and share its patients, which are made once. Finished cells never run twice. Any setting can follow: ``--split.train
40``.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from synthaug.bench.options.parsing import read_config
from synthaug.bench.studies.progress import Bars
from synthaug.config import Config, ExecutionConfig, Move
from synthaug.study.grid import Cell, cells_of
from synthaug.study.running.executors import run_cells
from synthaug.study.running.studies import Studies

HERE = Path(__file__).parent
MOVES: list[Move] = ["flip", "rotate", "translate"]
"""Classical augmentation, where it is on; a zoom would change what the class is, the size of the lesion."""
ARMS: list[tuple[str, str, str, bool | list[Move]]] = [
    ("real", "none", "cross_entropy", False),
    ("real", "oversampled", "cross_entropy", False),
    ("real", "weighted", "cross_entropy", False),
    ("real", "none", "focal", False),
    ("real", "oversampled", "cross_entropy", MOVES),
    ("mixed", "oversampled", "cross_entropy", False),
    ("synthetic", "oversampled", "cross_entropy", False),
]
"""Regime, balance, loss, augmentation. The last two fill class-balanced batches, to half or wholly."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True, help="folder of the synthetic volumes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options, more = parser.parse_known_args(arguments)
    config = read_config(["--config", str(HERE / "study.yaml"), "--pool.path", options.pool, *more])
    bars = Bars()
    studies = Studies(options.out, bars.stage)
    cells = [cell for seed in options.seeds for cell in cells_of_seed(config, seed, studies)]
    on_cell = bars.stage("classifiers", len(cells))
    outcomes = run_cells(cells, studies, ExecutionConfig(), on_outcome=lambda cell, outcome: on_cell())
    for cell in cells:
        if "error" in outcomes[cell.id]:
            sys.exit(f"{cell.regime} {cell.settings} seed {cell.seed}: {outcomes[cell.id]['error']}")


def cells_of_seed(config: Config, seed: int, studies: Studies) -> Iterator[Cell]:
    """The cells of all cohorts and arms; their records tell balance and loss among the settings."""
    for regime, balance, loss, augment in ARMS:
        study = replace(config.study, regimes=[regime], seeds=[seed])
        classifier = replace(config.classifier, balance=balance, loss=loss, augment=augment)
        told = {"classifier.balance": balance, "classifier.loss": loss}
        for cell in cells_of(replace(config, study=study, classifier=classifier), studies.identify):
            yield replace(cell, settings=cell.settings | told)


if __name__ == "__main__":
    main()
