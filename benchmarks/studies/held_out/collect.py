"""The cells of the study become summary.json and results.csv; the goals are judged.

    python benchmarks/studies/held_out/collect.py runs/held-out-study --generator FINGERPRINT

Under each augmentation and size, the synthetic share of the mixed arm is the one with the lowest validation loss (mean
over repeats). Mixed, synthetic and pre-trained arms are compared with real data under the same augmentation, and under
the others. ``gain.svg`` shows the differences to real data with classical augmentation. Figures only.
``../same_cohort`` is collected by this script too.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from synthaug.config import MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, read_json, write_json
from synthaug.report.figures.styles import PAPER, WIDTH_IN
from synthaug.report.page import write_results
from synthaug.study.outlook.costs import total_costs
from synthaug.study.records import CellRecord, Estimate, Summary
from synthaug.study.summary.aggregate import summarise

HERE = Path(__file__).parent
KINDS = CLASSICAL, LABELLED, NO = "classical", "labelled", "none"
"""Augmentations."""
WORST = -0.03
"""Difference to real data with labelled augmentation that the interval may reach down to."""
LINES = {
    ("real", LABELLED): "labelled augmentation, no generator",
    ("synthetic", CLASSICAL): "synthetic alone",
    ("mixed", CLASSICAL): "mixed",
    ("mixed", LABELLED): "mixed, labelled augmentation",
}
"""What the figure shows, by arm and augmentation."""
COLOURS = ("0.45", "#56B4E9", "#0072B2", "#D55E00")
Place = tuple[int, str]
"""People who train, and the augmentation."""


def read_records(folders: Sequence[Path]) -> list[CellRecord]:
    """The finished cells.

    Raises:
        InputError: A folder has none.
    """
    records = []
    for folder in folders:
        found = [CellRecord.from_json(read_json(path)) for path in sorted((folder / "cells").glob("*.json"))]
        if not found:
            raise InputError(f"{folder}: no finished cell there; run the study first.")
        records += found
    # The pool's own name: where it lies says nothing about it.
    return [replace(record, generator=Path(record.generator).name) for record in records]


def place_of(settings: Mapping[str, Any]) -> Place:
    """Where a cell or an arm stands, by its settings.

    Example:
        >>> place_of({"split.train": 16, "classifier.augment": ["flip"]})
        (16, 'classical')
    """
    augment = settings["classifier.augment"]
    return settings["split.train"], LABELLED if augment == LABELLED else CLASSICAL if augment else NO


def repeats_by_people(records: Sequence[CellRecord]) -> dict[str, int]:
    """How many splits there are of each number of training people."""
    splits: dict[int, set[str]] = {}
    for record in records:
        splits.setdefault(record.settings["split.train"], set()).add(record.settings["split.file"])
    return {str(people): len(splits[people]) for people in sorted(splits)}


def chosen_shares(records: Sequence[CellRecord]) -> dict[Place, float]:
    """The synthetic share with the lowest validation loss, mean over repeats of the lowest of each."""
    losses: dict[Place, dict[float, list[float]]] = {}
    for record in records:
        if record.regime == "mixed" and record.synthetic_fraction is not None:
            lowest = min(point["val_loss"] for point in record.history)
            losses.setdefault(place_of(record.settings), {}).setdefault(record.synthetic_fraction, []).append(lowest)
    return {
        place: min(shares, key=lambda share: float(np.mean(shares[share]))) for place, shares in sorted(losses.items())
    }


def differences(summary: Summary, chosen: Mapping[Place, float]) -> list[dict[str, Any]]:
    """AUROC of each arm (mixed: of the chosen share) less real data under each augmentation.

    Two arms of real data are told as labelled or none less classical.
    """
    rows = []
    for contrast in summary.in_metric("auroc"):
        arm, other = contrast.arm, contrast.baseline
        place, beside = place_of(arm.settings), place_of(other.settings)
        if other.regime != "real" or (arm.regime == "mixed" and arm.fraction != chosen.get(place)):
            continue
        gain = contrast.difference
        if arm.regime == "real" and place[1] == CLASSICAL:
            place, beside, gain = beside, place, Estimate(-gain.value, -gain.high, -gain.low)
        told = {"difference": gain.value, "ci_low": gain.low, "ci_high": gain.high}
        rows.append(
            {"people": place[0], "arm": arm.regime, "augment": place[1], "less_real": beside[1], "share": arm.fraction}
            | told
            | {"p": contrast.p, "p_holm": contrast.p_holm}
        )
    return sorted(rows, key=lambda row: (row["people"], row["augment"], row["arm"], row["less_real"]))


def goals(rows: Sequence[Mapping[str, Any]], *, least: float = 0.0) -> list[dict[str, Any]]:
    """What was asked of the mixed arms before the study was run; ``least`` = gain in AUROC that was asked."""
    found = []
    for row in rows:
        if row["arm"] != "mixed" or row["augment"] != row["less_real"]:
            continue
        if row["augment"] == CLASSICAL:
            words = f"gain of {least:g} over real + classical" if least else "gain over real + classical"
            holds = row["difference"] >= least and row["ci_low"] > 0
            found.append({"goal": f"{words}, interval above 0", **row, "holds": holds})
        else:
            goal = f"no loss beside real + labelled: {WORST:g}"
            found.append({"goal": goal, **row, "holds": row["ci_low"] >= WORST})
    return found


@rc_context(PAPER)
def gain_plot(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Differences in AUROC to real data with classical augmentation, by people who train."""
    shown = {(row["arm"], row["augment"], row["people"]): row for row in rows if row["less_real"] == CLASSICAL}
    sizes = sorted({people for *_, people in shown})
    figure = Figure(figsize=(WIDTH_IN * 0.7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.6", linewidth=1, zorder=0)
    for place, ((arm, augment), words) in enumerate(LINES.items()):
        found = [(at, shown[arm, augment, size]) for at, size in enumerate(sizes) if (arm, augment, size) in shown]
        across = [at + 0.15 * (place - (len(LINES) - 1) / 2) for at, _ in found]
        colour = COLOURS[place]
        axes.vlines(across, [row["ci_low"] for _, row in found], [row["ci_high"] for _, row in found], color=colour)
        axes.plot(across, [row["difference"] for _, row in found], "o", color=colour, markersize=5, label=words)
    axes.set_xticks(range(len(sizes)), [f"{size} people" for size in sizes])
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.set_ylabel("AUROC − real, classical augmentation")
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the cells, reckon, write, and print the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of the study's parts")
    parser.add_argument("--generator", help="fingerprint of the generator behind the pool; default: one a training set")
    parser.add_argument("--least", type=float, default=0.0, help="gain in AUROC that was asked of mixed data")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--resamples", type=int, help="of bootstrap and permutations; default: those of the bench")
    options = parser.parse_args(arguments)
    several = options.resamples
    records = read_records(options.runs)
    summary = summarise(
        records, [], MetricsConfig(bootstrap=several, permutations=several) if several else MetricsConfig()
    )
    chosen = chosen_shares(records)
    rows = differences(summary, chosen)
    told = {
        "script": "benchmarks/studies/held_out/collect.py",
        "date": date.today().isoformat(),
        "generator": options.generator or "one a training set",
        "repeats": len({record.settings["split.file"] for record in records}),
        "repeats_by_people": repeats_by_people(records),
        "test_people": len({row.patient_id for record in records for row in record.predictions}),
        "shares_chosen_on_validation": [
            {"people": people, "augment": augment, "share": share} for (people, augment), share in chosen.items()
        ],
        "differences": rows,
        "goals": goals(rows, least=options.least),
        "seconds": dict(sum((Counter(total_costs(run).seconds) for run in options.runs), Counter())),
    }
    write_json(options.out / "summary.json", summary.to_json() | told)
    write_results(records, options.out / "results.csv")
    with atomic_path(options.out / "gain.svg") as temporary:
        gain_plot(rows).savefig(temporary, format="svg", metadata={"Date": None})
    for row in rows:
        print(
            f"{row['people']} people, {row['arm']} {row['augment']} - real {row['less_real']}: "
            f"{row['difference']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        )
    for goal in told["goals"]:
        print(f"{goal['people']} people, {goal['goal']}: {'holds' if goal['holds'] else 'missed'}")


if __name__ == "__main__":
    main()
