"""The cells of the study's parts become summary.json, results.csv, two figures and the table of the README.

    python benchmarks/studies/hippocampus/collect.py --runs runs/hippocampus-other-cohort runs/hippocampus-treatments \\
        --generator runs/hippocampus-generator

Arms of all parts are compared with each other on the same people, splits and seeds, as one study. Writes beside this
script: figures only.
"""

import argparse
import platform
from collections.abc import Mapping, Sequence
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
from synthaug.report.page import write_results
from synthaug.report.plots import learning_plot
from synthaug.study.aggregate import summarise
from synthaug.study.arms import Record
from synthaug.study.costs import total_costs

HERE = Path(__file__).parent
AUGMENT = "classifier.augment"
TREATMENTS = {"False": "real oversampled", "['flip', 'rotate', 'translate']": BASELINE, "True": "real published"}
"""Arms of real data in class-balanced batches, by ``classifier.augment``: as it is; with what was chosen on
development; and zoomed too, as published."""
ORDER = ("real", "synthetic", "mixed", "finetuned")


def read_records(folders: Sequence[Path]) -> list[Record]:
    """The finished cells of all folders, each once, ordered by size, regime and share.

    Raises:
        InputError: A folder has no finished cell.
    """
    found: dict[str, Record] = {}
    for folder in folders:
        files = sorted((folder / "cells").glob("*.json"))
        if not files:
            raise InputError(f"{folder}: no finished cell there; run the study's part first.")
        for record in map(read_json, files):
            # An axis of one part only; every record tells its value.
            found[record["id"]] = {**record, "settings": {**record["settings"], AUGMENT: record["augment"]}}
    return sorted(found.values(), key=_place)


def _place(record: Record) -> tuple[Any, ...]:
    settings = record["settings"]
    fraction = record["synthetic_fraction"] or 0
    regime = ORDER.index(record["regime"])
    return settings["split.train"], regime, str(settings[AUGMENT]), fraction, settings["split.file"]


def rename(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary with short names of its arms: "mixed 0.5 train 16", "real oversampled train 16"."""
    names = {}
    for row in summary["regimes"]:
        settings = row["settings"]
        short = row["regime"].partition(" train ")[0]
        if row["regime"].split(" ")[0] == "real":
            short = TREATMENTS[str(settings[AUGMENT])]
        names[row["regime"]] = f"{short} train {settings['split.train']}"
    regimes = [
        {**row, "regime": names[row["regime"]], "settings": {"split.train": row["settings"]["split.train"]}}
        for row in summary["regimes"]
    ]
    contrasts = [
        {**row, "contrast": " - ".join(names[arm] for arm in row["contrast"].split(" - "))}
        for row in summary["contrasts"]
    ]
    verdict = summary["verdict"]
    for label in sorted(names, key=len, reverse=True):  # so that no label is replaced within a longer one
        verdict = verdict.replace(label, names[label])
    return {**summary, "regimes": regimes, "contrasts": contrasts, "verdict": verdict}


def validation_losses(records: Sequence[Record]) -> dict[int, dict[float, float]]:
    """By size and synthetic share of the mixed arms: the mean over repeats of the lowest validation loss."""
    losses: dict[int, dict[float, list[float]]] = {}
    for record in records:
        if record["regime"] == "mixed":
            lowest = min(point["val_loss"] for point in record["history"])
            shares = losses.setdefault(record["settings"]["split.train"], {})
            shares.setdefault(record["synthetic_fraction"], []).append(lowest)
    return {
        size: {share: float(np.mean(values)) for share, values in shares.items()} for size, shares in losses.items()
    }


def collect(folders: Sequence[Path], config: MetricsConfig) -> tuple[dict[str, Any], list[Record]]:
    """The summary of all parts, with what became of the goals, and the records behind it."""
    records = read_records(folders)
    summary = rename(summarise(records, [], config))
    losses = validation_losses(records)
    chosen = {size: min(shares, key=lambda share: shares[share]) for size, shares in losses.items()}
    costs = {folder.name: total_costs(folder).seconds for folder in folders}
    summary |= {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, one thread",
        "baseline": BASELINE,
        "mixed_validation_losses": losses,
        "mixed_share_chosen_on_validation": chosen,
        "goals": judge_goals(summary["contrasts"], chosen),
        "seconds": costs,
    }
    return summary, records


def add_generator(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The summary with what the development of the generator says: image metrics, arms, seconds."""
    developed = read_json(folder / "summary.json")
    summary["seconds"][folder.name] = total_costs(folder).seconds
    images = [{key: value for key, value in row.items() if key != "nearest"} for row in developed["image_metrics"]]
    return {**summary, "image_metrics": images, "development": developed["regimes"]}


def add_reference(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The summary with the arm that the other cohort's real crops train."""
    (arm,) = read_json(folder / "summary.json")["regimes"]
    summary["seconds"][folder.name] = total_costs(folder).seconds
    return {**summary, "reference": arm}


def pools_by_size(folders: Sequence[Path]) -> dict[int, dict[str, Any]]:
    """Of parts that made pools of their own, by people who trained: FID (mean, range over pools), share of copies."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for folder in folders:
        for row in read_json(folder / "summary.json")["image_metrics"]:
            if row["metric"] in ("fid", "copies") and "split.train" in row.get("source", ""):
                size = int(row["source"].split("split.train ")[1].split()[0])
                found.setdefault(size, {}).setdefault(row["metric"], []).append(row)
    return {
        size: {
            "pools": len(rows["fid"]),
            "fid": float(np.mean([row["value"] for row in rows["fid"]])),
            "fid_range": [min(row["value"] for row in rows["fid"]), max(row["value"] for row in rows["fid"])],
            "floor": float(np.mean([row["floor"] for row in rows["fid"]])),
            "copies": float(np.mean([row["value"] for row in rows["copies"]])) if "copies" in rows else None,
        }
        for size, rows in sorted(found.items())
    }


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
    summary, records = collect(options.runs, config)
    if options.generator:
        summary = add_generator(summary, options.generator)
    if options.reference:
        summary = add_reference(summary, options.reference)
    pools = pools_by_size([folder for folder in options.runs if (folder / "summary.json").is_file()])
    if pools:
        summary["pools"] = pools
    write_json(options.out / "summary.json", summary)
    write_results(records, options.out / "results.csv")
    _save(learning_plot(summary), options.out / "auroc.svg")
    _save(gain_plot(summary["contrasts"]), options.out / "gain.svg")
    for goal in summary["goals"]:
        print(goal)


if __name__ == "__main__":
    main()
