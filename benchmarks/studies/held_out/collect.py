"""The cells of the study become summary.json and results.csv; the goals are judged.

    python benchmarks/studies/held_out/collect.py runs/held-out-study --generator FINGERPRINT

Under each augmentation and size, the synthetic share of the mixed arm is the one with the lowest validation loss (mean
over repeats); mixed and synthetic arms are compared with real data under the same augmentation, and with real data
under the other one. Figures only.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.config import MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json, write_json
from synthaug.report.page import write_results
from synthaug.study.outlook.costs import total_costs
from synthaug.study.records import CellRecord, Summary
from synthaug.study.summary.aggregate import summarise

HERE = Path(__file__).parent
BOTH = CLASSICAL, LABELLED = "classical", "labelled"
Place = tuple[int, str]
"""People who train, and the augmentation."""


def read_records(folder: Path) -> list[CellRecord]:
    """The finished cells.

    Raises:
        InputError: There is none.
    """
    records = [CellRecord.from_json(read_json(path)) for path in sorted((folder / "cells").glob("*.json"))]
    if not records:
        raise InputError(f"{folder}: no finished cell there; run the study first.")
    # The pool's own name: where it lies says nothing about it.
    return [replace(record, generator=Path(record.generator).name) for record in records]


def place_of(settings: Mapping[str, Any]) -> Place:
    """Where a cell or an arm stands, by its settings.

    Example:
        >>> place_of({"split.train": 16, "classifier.augment": ["flip"]})
        (16, 'classical')
    """
    return settings["split.train"], LABELLED if settings["classifier.augment"] == LABELLED else CLASSICAL


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
    """AUROC of mixed (of the chosen share) and synthetic arms less real data under either augmentation."""
    rows = []
    for contrast in summary.in_metric("auroc"):
        arm, other = contrast.arm, contrast.baseline
        place, beside = place_of(arm.settings), place_of(other.settings)
        mixed = arm.regime == "mixed" and arm.fraction == chosen.get(place)
        if other.regime != "real" or not (mixed or arm.regime in ("synthetic", "real")):
            continue
        told = contrast.to_json()
        rows.append(
            {"people": place[0], "arm": arm.regime, "augment": place[1], "less_real": beside[1], "share": arm.fraction}
            | {key: told[key] for key in ("difference", "ci_low", "ci_high", "p", "p_holm")}
        )
    return sorted(rows, key=lambda row: (row["people"], row["augment"], row["arm"], row["less_real"]))


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was asked of the mixed arms before the study was run."""
    found = []
    for row in rows:
        if row["arm"] != "mixed" or row["augment"] != row["less_real"]:
            continue
        if row["augment"] == CLASSICAL:
            found.append({"goal": "gain over real + classical, interval above 0", **row, "holds": row["ci_low"] > 0})
        else:
            found.append({"goal": "no loss beside real + labelled: -0.03", **row, "holds": row["ci_low"] >= -0.03})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the cells, reckon, write, and print the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="output folder of the study")
    parser.add_argument("--generator", required=True, help="fingerprint of the generator behind the pool")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--resamples", type=int, help="of bootstrap and permutations; default: those of the bench")
    options = parser.parse_args(arguments)
    several = options.resamples
    records = read_records(options.run)
    summary = summarise(
        records, [], MetricsConfig(bootstrap=several, permutations=several) if several else MetricsConfig()
    )
    chosen = chosen_shares(records)
    rows = differences(summary, chosen)
    told = {
        "script": "benchmarks/studies/held_out/collect.py",
        "date": date.today().isoformat(),
        "generator": options.generator,
        "repeats": len({record.settings["split.file"] for record in records}),
        "test_people": len({row.patient_id for record in records for row in record.predictions}),
        "shares_chosen_on_validation": [
            {"people": people, "augment": augment, "share": share} for (people, augment), share in chosen.items()
        ],
        "differences": rows,
        "goals": goals(rows),
        "seconds": total_costs(options.run).seconds,
    }
    write_json(options.out / "summary.json", summary.to_json() | told)
    write_results(records, options.out / "results.csv")
    for row in rows:
        print(
            f"{row['people']} people, {row['arm']} {row['augment']} - real {row['less_real']}: "
            f"{row['difference']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        )
    for goal in told["goals"]:
        print(f"{goal['people']} people, {goal['goal']}: {'holds' if goal['holds'] else 'missed'}")


if __name__ == "__main__":
    main()
