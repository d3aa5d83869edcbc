"""Is it worth it to tell a classifier what a zoom does to its class? Real data of 32 people, no generator.

    C=benchmarks/studies/hippocampus
    python $C/prepare.py --data DATA/hippocampus
    python $C/labelled.py --config $C/base.yaml --config $C/labelled.yaml [--out runs/hippocampus-labelled]

Arms, each trained by the bench's own loop on the same people, batches and first weights, and tested on the same 40:

- classical: flip, rotation and translation, as the study's baseline;
- published: zoom beside them, with the class left as it was;
- shifts and flips: those moves of ``augment: labelled`` that change no class;
- labelled: zoom beside them, with the class rewritten by the rule; each move in half of the draws (the default);
- labelled always: every volume is shifted and zoomed, as in the trial that suggested it.

Finished cells are not run again; the figures go to ``labelled.json`` in this folder.
"""

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from synthaug.bench.options.parsing import read_config
from synthaug.config import ClassifierConfig, Config, GeometryConfig, MetricsConfig
from synthaug.ground.files import write_json
from synthaug.study.grid import cells_of
from synthaug.study.records import CellRecord
from synthaug.study.running.cell import run_cell
from synthaug.study.running.studies import Studies
from synthaug.study.summary.aggregate import summarise

HERE = Path(__file__).parent
ARM = "classifier.augment"
"""The axis under whose name the arms are told apart."""


def arms_of(classifier: ClassifierConfig) -> dict[str, ClassifierConfig]:
    """The arms, by name.

    Example:
        >>> [arm.augment for arm in arms_of(ClassifierConfig(augment=["flip"])).values()]
        [['flip'], True, 'labelled', 'labelled', 'labelled']
    """
    labelled = replace(classifier, augment="labelled")
    return {
        "classical": classifier,
        "published": replace(classifier, augment=True),
        "shifts and flips": replace(labelled, geometry=replace(labelled.geometry, zooms=(1.0,))),
        "labelled": labelled,
        "labelled always": replace(labelled, geometry=replace(labelled.geometry, probability=1.0)),
    }


def run(config: Config, out: Path, *, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The records of all cells: every arm of a repeat before the next, so that what is finished compares all arms."""
    studies = Studies(out, lambda *_: lambda *_: None)
    records = []
    splits = config.study.axes["split.file"]
    for seed, split in itertools.product(config.study.seeds, splits):
        for name in arms:
            classifier = arms_of(config.classifier)[name]
            study = replace(config.study, seeds=[seed])
            found = cells_of(replace(config, classifier=classifier, study=study), studies.identify)
            cell = next(cell for cell in found if cell.settings["split.file"] == split)
            record = run_cell(cell, studies.of(cell.config))
            print(f"{name}, {split}, seed {seed}: AUROC {record.metrics['auroc']:.3f}", flush=True)
            records.append(replace(record, settings={ARM: name, **record.settings}))
    return records


def figures_of(records: Sequence[CellRecord], metrics: MetricsConfig, geometry: GeometryConfig) -> dict[str, Any]:
    """AUROC of each arm and cell, and paired differences with intervals over people, splits and seeds."""
    summary = summarise(records, [], metrics)
    cells: dict[str, dict[str, float]] = {}
    for record in records:
        repeat = f"{Path(record.settings['split.file']).stem} seed {record.seed}"
        cells.setdefault(record.settings[ARM], {})[repeat] = round(record.metrics["auroc"], 4)
    kept = ("contrast", "difference", "ci_low", "ci_high", "p", "p_holm")
    return {
        "script": "benchmarks/studies/hippocampus/labelled.py",
        "date": date.today().isoformat(),
        "training_people": records[0].n_train,
        "test_people": len({row.patient_id for row in records[0].predictions}),
        "zooms": list(geometry.zooms),
        "arms": {arm.settings[ARM]: arm.metrics["auroc"].to_json() for arm in summary.arms},
        "contrasts": [{key: row.to_json()[key] for key in kept} for row in summary.in_metric("auroc")],
        "cells": cells,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/hippocampus-labelled"))
    names = [*arms_of(ClassifierConfig())]
    parser.add_argument("--arms", nargs="+", choices=names, default=names)
    parser.add_argument("--json", type=Path, default=HERE / "labelled.json")
    options, others = parser.parse_known_args(arguments)
    config = read_config([*(word for path in options.config for word in ("--config", path)), *others])
    options.out.mkdir(parents=True, exist_ok=True)
    records = run(config, options.out, arms=options.arms)
    write_json(options.json, figures_of(records, MetricsConfig(), config.classifier.geometry))


if __name__ == "__main__":
    main()
