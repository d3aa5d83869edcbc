"""A grid of 500 cells in the report and in MLflow: how long a reader waits, and how much is shown.

    python benchmarks/scale/grid.py --out runs/grid [--seeds 10] [--pictures FOLDER] [--unseen]

Nothing is trained: predictions are drawn at random, for the cells of a study of five training sets, five sizes, two
augmentations and ten seeds. All else is the product's own: statistics, findings, the page, the MLflow runs with a
classifier each. Then MLflow's interface is driven in headless Chromium (pages.py): the page that a study prints, all
its runs, its row opened, a filter, the charts, the study's run, its report. Seconds are seconds on the clock, with
what else the machine did. The last line printed is JSON.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pages import look

from synthaug.classify.weights import SavedClassifier, save_classifier
from synthaug.config import ClassifierConfig, Config, PreprocessConfig, StudyConfig, TrainingConfig
from synthaug.ground.files import write_json
from synthaug.metrics.classification import classification_metrics
from synthaug.models.classifier import build_classifier
from synthaug.report.material import Material
from synthaug.report.page import write_report, write_results
from synthaug.study.folder.results import placed
from synthaug.study.grid import Cell, describe_cells
from synthaug.study.outlook.costs import Costs
from synthaug.study.records import CellRecord, Prediction, Summary
from synthaug.study.running.cell import cell_path
from synthaug.study.summary.aggregate import summarise
from synthaug.study.summary.findings import findings_of
from synthaug.tracking import Tracker, flatten

PATIENTS, POINTS = 120, 10
"""Test patients, and looks at the validation patients in a training."""
MOST_MB, MOST_METRICS, MOST_SECONDS = 8.0, 40, 30.0
"""Of the report, of the study's run, and of a page until it shows what it is opened for."""
SIZES = [16, 32, 64, 128, 256]
Timed = dict[str, float]


def config_of(seeds: int) -> Config:
    """Five training sets, five sizes, two augmentations."""
    axes: dict[str, list[Any]] = {"split.train": [*SIZES], "classifier.augment": [True, False]}
    study = StudyConfig(
        name=f"grid of {50 * seeds}", seeds=[*range(seeds)], synthetic_fraction=[0.25, 0.5, 0.75], axes=axes
    )
    training = TrainingConfig(steps=300)
    classifier = ClassifierConfig(channels=(4, 4, 8, 8), evaluate_every=300 // POINTS, training=training)
    return Config(classifier=classifier, study=study)


def record_of(cell: Cell) -> CellRecord:
    """A cell as if it had been trained: better with more patients and, where there are few, with synthetic volumes."""
    draw = np.random.default_rng([cell.seed, *cell.id.encode()])
    n, share = cell.settings["split.train"], cell.synthetic_fraction or 0.0
    strength = 0.3 + 0.15 * np.log2(n / 16) + (0.4 * share if n < 100 else 0.0)
    labels = np.arange(PATIENTS) % 2
    shown = draw.normal(size=PATIENTS) + strength * (2 * labels - 1)
    positive = 1 / (1 + np.exp(-shown))
    scores = np.stack([1 - positive, positive], axis=1)
    rows = [
        Prediction(f"s{number}", f"p{number}", int(label), (float(a), float(b)))
        for number, (label, (a, b)) in enumerate(zip(labels, scores, strict=True))
    ]
    steps = [int(step) for step in np.linspace(30, 300, POINTS)]
    history = [{"step": step, "train_loss": 0.7 * 0.9**place, "val_loss": 0.7} for place, step in enumerate(steps)]
    return CellRecord(
        **cell.describe(),
        protocol="same cohort",
        n_train=n,
        n_train_real=0 if cell.regime == "synthetic" else n,
        n_train_synthetic=round(n * share),
        steps=300,
        steps_made=300,
        chosen_step=300,
        history=tuple(history),
        metrics=classification_metrics(labels, scores),
        predictions=tuple(rows),
        seconds=1.0,
    )


def made_classifier(folder: Path, config: Config) -> Path:
    """Weights that stand for those of every cell."""
    shape = (16, 16, 8)
    network = build_classifier(config.classifier, in_channels=1, classes=2, shape=shape, seed=0)
    path = folder / "classifier.safetensors"
    preprocess = PreprocessConfig(shape=shape)
    save_classifier(path, SavedClassifier(network, config.classifier, preprocess, ["t2w"], classes=2))
    return path


@contextlib.contextmanager
def timed(spent: Timed, name: str) -> Iterator[None]:
    """Seconds on the clock."""
    started = time.perf_counter()
    yield
    spent[name] = round(time.perf_counter() - started, 2)
    print(f"{name}: {spent[name]} s", flush=True)


def write_study(out: Path, config: Config, spent: Timed) -> tuple[Summary, list[CellRecord]]:
    """Cells, statistics and the page, as a finished study leaves them."""
    cells = describe_cells(config)
    with placed(out, asdict(config)), timed(spent, "records"):
        records = [record_of(cell) for cell in cells]
        for cell, record in zip(cells, records, strict=True):
            write_json(cell_path(out, cell), record.to_json())
        write_results(records, out / "results.csv")
    with timed(spent, "statistics"):
        summary = summarise(records, [], config.metrics)
        summary = replace(summary, findings=findings_of(summary, records, config))
        write_json(out / "summary.json", summary.to_json())
    with timed(spent, "report"):
        costs = Costs({"classifiers": 500.0}, wall_seconds=600.0, joules={}, measured_seconds={})
        write_report(
            out / "report.html",
            config=config,
            summary=summary,
            records=records,
            material=Material(date="2026-01-01"),
            costs=costs,
        )
    return summary, records


def track(out: Path, config: Config, summary: Summary, records: Sequence[CellRecord], spent: Timed) -> Tracker:
    """All of it in MLflow, as a study sends it."""
    weights = made_classifier(out, config)
    tracker = Tracker(out, experiment=config.study.name, study_id="grid", params=flatten(asdict(config)))
    with timed(spent, "mlflow cells"):
        for record in records:
            tracker.log_cell(record, config, weights=weights)
    with timed(spent, "mlflow study"):
        files = [out / name for name in ("report.html", "results.csv", "summary.json", "config.yaml")]
        if not tracker.log_study(summary, artifacts=files):
            raise SystemExit("MLflow has not got everything.")
    return tracker


def counts_of(tracker: Tracker) -> dict[str, int]:
    """How much MLflow shows."""
    runs = {kind: tracker.connection.runs(kind=kind) for kind in ("study", "cell")}
    most = {f"metrics_a_{kind}": max(len(run.data.metrics) for run in found) for kind, found in runs.items()}
    return {"runs": sum(map(len, runs.values())), **most}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--seeds", type=int, default=10, help="50 cells each")
    parser.add_argument("--pictures", type=Path, help="where pictures of the pages go")
    parser.add_argument("--unseen", action="store_true", help="open nothing in a browser")
    asked = parser.parse_args(arguments)
    if asked.pictures:
        asked.pictures.mkdir(parents=True, exist_ok=True)
    config, spent = config_of(asked.seeds), {}
    summary, records = write_study(asked.out, config, spent)
    tracker = track(asked.out, config, summary, records, spent)
    counts = counts_of(tracker)
    pages = {} if asked.unseen else look(asked.out, config.study.name, pictures=asked.pictures)
    megabytes = (asked.out / "report.html").stat().st_size / 1e6
    holds = {
        "report_mb": megabytes <= MOST_MB,
        "metrics_a_study": counts["metrics_a_study"] <= MOST_METRICS,
        **{name: page["seconds"] <= MOST_SECONDS for name, page in pages.items()},
    }
    print(
        json.dumps(
            {
                "claim": "a grid of 500 cells stays usable in the report and in MLflow",
                "cells": len(records),
                "arms": len(summary.arms),
                "differences": len(summary.in_metric("auroc")),
                "report_mb": round(megabytes, 2),
                **counts,
                "seconds": spent,
                "pages": pages,
                "holds": holds,
            }
        )
    )


if __name__ == "__main__":
    main()
