"""The cells of the study's parts become summary.json, results.csv, two figures and the table of the README.

    python benchmarks/studies/hippocampus/collect.py --runs runs/hippocampus-other-cohort runs/hippocampus-treatments \\
        --generator runs/hippocampus-generator

Arms of all parts are compared with each other on the same people, splits and seeds, as one study. Writes beside this
script: figures only.
"""

import argparse
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from gains import gain_plot
from goals import BASELINE, judge_goals
from matplotlib.figure import Figure

from synthaug.config import MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, read_json, write_json
from synthaug.report.figures.plots import learning_plot
from synthaug.report.page import write_results
from synthaug.study.outlook.costs import total_costs
from synthaug.study.records import CellRecord, ImageComparison, Summary, read_summary
from synthaug.study.summary.aggregate import summarise

HERE = Path(__file__).parent
TREATMENTS = {"False": "real oversampled", "['flip', 'rotate', 'translate']": BASELINE, "True": "real published"}
"""Names of arms of real data in class-balanced batches, by classical augmentation: none; what was chosen on
development; and zoomed too, as published."""
ORDER = ("real", "synthetic", "mixed", "finetuned")
AXES = ("split.train", "split.file")
"""That all parts have."""


def read_records(folders: Sequence[Path]) -> list[CellRecord]:
    """The finished cells of all folders, each once, ordered by size, regime and share.

    Raises:
        InputError: A folder has no finished cell.
    """
    found: dict[str, CellRecord] = {}
    for folder in folders:
        files = sorted((folder / "cells").glob("*.json"))
        if not files:
            raise InputError(f"{folder}: no finished cell there; run the study's part first.")
        for record in map(CellRecord.from_json, map(read_json, files)):
            name = TREATMENTS[str(record.treatment["augment"])] if record.regime == "real" else ""
            found[record.id] = replace(record, name=name, settings={key: record.settings[key] for key in AXES})
    return sorted(found.values(), key=_place)


def _place(record: CellRecord) -> tuple[Any, ...]:
    regime, augment = ORDER.index(record.regime), str(record.treatment["augment"])
    return (
        record.settings["split.train"],
        regime,
        augment,
        record.synthetic_fraction or 0,
        record.settings["split.file"],
    )


def validation_losses(records: Sequence[CellRecord]) -> dict[int, dict[float, float]]:
    """By size and synthetic share of the mixed arms: the mean over repeats of the lowest validation loss."""
    losses: dict[int, dict[float, list[float]]] = {}
    for record in records:
        if record.regime == "mixed" and record.synthetic_fraction is not None:
            lowest = min(point["val_loss"] for point in record.history)
            shares = losses.setdefault(record.settings["split.train"], {})
            shares.setdefault(record.synthetic_fraction, []).append(lowest)
    return {
        size: {share: float(np.mean(values)) for share, values in shares.items()} for size, shares in losses.items()
    }


def collect(folders: Sequence[Path], config: MetricsConfig) -> tuple[Summary, dict[str, Any], list[CellRecord]]:
    """The summary of all parts, what became of the goals, and the records behind it."""
    records = read_records(folders)
    summary = summarise(records, [], config)
    losses = validation_losses(records)
    chosen = {size: min(shares, key=lambda share: shares[share]) for size, shares in losses.items()}
    costs = {folder.name: total_costs(folder).seconds for folder in folders}
    told = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, one thread",
        "baseline": BASELINE,
        "mixed_validation_losses": losses,
        "mixed_share_chosen_on_validation": chosen,
        "goals": judge_goals(summary.contrasts, chosen),
        "seconds": costs,
    }
    return summary, told, records


def of_generator(folder: Path) -> dict[str, Any]:
    """What the development of the generator says: image metrics, arms."""
    developed = read_summary(folder)
    images = [
        {key: value for key, value in row.to_json().items() if key != "nearest"} for row in developed.image_metrics
    ]
    return {"image_metrics": images, "development": [arm.to_json() for arm in developed.arms]}


def of_reference(folder: Path) -> dict[str, Any]:
    """The arm that the other cohort's real crops train."""
    (arm,) = read_summary(folder).arms
    return {"reference": arm.to_json()}


def pools_by_size(folders: Sequence[Path]) -> dict[int, dict[str, Any]]:
    """Of parts that made pools of their own, by people who trained: FID (mean, range over pools), share of copies."""
    found: dict[int, dict[str, list[ImageComparison]]] = {}
    for row in (row for folder in folders for row in read_summary(folder).image_metrics):
        if row.metric in ("fid", "copies") and "split.train" in row.axes:
            found.setdefault(row.axes["split.train"], {}).setdefault(row.metric, []).append(row)
    told = {}
    for size, rows in sorted(found.items()):
        values = {metric: [row.estimate.value for row in each] for metric, each in rows.items()}
        told[size] = {
            "pools": len(values["fid"]),
            "fid": float(np.mean(values["fid"])),
            "fid_range": [min(values["fid"]), max(values["fid"])],
            "floor": float(np.mean([row.more["floor"] for row in rows["fid"]])),
            "copies": float(np.mean(values["copies"])) if "copies" in values else None,
        }
    return told


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the cells, reckon, and write the four files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="output folders of the study's parts")
    parser.add_argument("--generator", type=Path, help="output folder of generator.yaml")
    parser.add_argument("--reference", type=Path, help="output folder of reference.yaml")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--resamples", type=int, help="of bootstrap and permutations; default: those of the bench")
    options = parser.parse_args(arguments)
    several = options.resamples
    config = MetricsConfig(bootstrap=several, permutations=several) if several else MetricsConfig()
    summary, told, records = collect(options.runs, config)
    for folder, tell in ((options.generator, of_generator), (options.reference, of_reference)):
        if folder:
            told |= tell(folder)
            told["seconds"][folder.name] = total_costs(folder).seconds
    pools = pools_by_size([folder for folder in options.runs if (folder / "summary.json").is_file()])
    if pools:
        told["pools"] = pools
    write_json(options.out / "summary.json", summary.to_json() | told)
    write_results(records, options.out / "results.csv")
    _save(learning_plot(summary), options.out / "auroc.svg")
    _save(gain_plot(summary.contrasts), options.out / "gain.svg")
    for goal in told["goals"]:
        print(goal)


if __name__ == "__main__":
    main()
