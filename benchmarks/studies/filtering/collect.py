"""Which filter, or which dose, the validation patients choose, and what it adds on the test patients: JSON and picture.

    python benchmarks/studies/filtering/collect.py runs/filters --by filter --out benchmarks/studies/filtering
    python benchmarks/studies/filtering/collect.py runs/dose --by dose --out benchmarks/studies/filtering

Every value of the filter (or dose) has its validation loss, the mean over repeats of the lowest of a training. The one
with the lowest is chosen; its difference to real data is the result, those of the others are shown beside it.
"""

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from synthaug.config import MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json, write_json
from synthaug.report.figures.styles import PAPER, REGIMES
from synthaug.study.records import Arm, CellRecord
from synthaug.study.summary.aggregate import summarise
from synthaug.study.summary.arms import arms_of

NAMES = {"filter": "pool kept by", "dose": "synthetic volumes a real one"}
"""What the axis of a picture says."""
Row = dict[str, Any]


def read_records(out: Path) -> list[CellRecord]:
    """The finished cells of a study's folder; InputError where there is none."""
    files = sorted((out / "cells").glob("*.json"))
    if not files:
        raise InputError(f"{out}: no finished cell there; run the study first.")
    return [CellRecord.from_json(read_json(file)) for file in files]


def value_of(arm: Arm, by: str) -> Any:
    """The filter of an arm, or its synthetic volumes for each real one."""
    if by == "filter":
        return arm.settings.get("pool.filter", "none")
    assert arm.fraction is not None
    return round(arm.fraction / (1 - arm.fraction), 2)


def rows_of(records: Sequence[CellRecord], by: str, settings: MetricsConfig | None = None) -> list[Row]:
    """A row a filter or dose, in order; one is chosen.

    Raises:
        InputError: The study has no mixed arms, or no real arm that they are compared with.
    """
    summary = summarise(records, [], settings or MetricsConfig())
    losses = {arm.label: _validation_loss(arm.records) for arm in arms_of(records)}
    rows: list[Row] = []
    for arm in summary.arms:
        if arm.regime != "mixed":
            continue
        contrast = next((row for row in summary.in_metric("auroc") if row.arm.label == arm.label), None)
        if contrast is None:
            raise InputError(f"{arm.label}: the study has no real arm to compare with; add real to study.regimes.")
        difference = contrast.difference
        rows.append(
            {
                by: value_of(arm, by),
                "auroc": arm.metrics["auroc"].value,
                "against": contrast.baseline.label,
                "difference": difference.value,
                "low": difference.low,
                "high": difference.high,
                "validation_loss": losses[arm.label],
                "repeats": arm.repeats,
                "n_train": arm.n_train,
            }
        )
    if not rows:
        raise InputError("The study has no mixed arm; add mixed to study.regimes.")
    rows.sort(key=lambda row: (str(row[by]) != "none", row[by]))
    best = min(rows, key=lambda row: row["validation_loss"])
    return [row | {"chosen": row is best} for row in rows]


def _validation_loss(records: Sequence[CellRecord]) -> float:
    return float(np.mean([min(point["val_loss"] for point in record.history) for record in records]))


@rc_context(PAPER)
def picture(rows: Sequence[Row], by: str) -> Figure:
    """What each value adds to real data, with intervals; the marker of the chosen one is filled."""
    figure = Figure(figsize=(4.5, 2.8), layout="constrained")
    axes, colour = figure.add_subplot(), REGIMES["mixed"].colour
    axes.axhline(0, color="0.6", linewidth=1, zorder=0)
    for place, row in enumerate(rows):
        axes.vlines(place, row["low"], row["high"], color=colour, linewidth=1.4)
        face = colour if row["chosen"] else "white"
        axes.plot(place, row["difference"], REGIMES["mixed"].marker, color=colour, markerfacecolor=face)
    axes.set_xticks(range(len(rows)), [f"{row[by]}" for row in rows])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_xlabel(NAMES[by])
    axes.set_ylabel("test AUROC − that of real data")
    axes.set_title("filled: chosen by the validation patients")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Write ``filter.json`` and ``filter.png``, or ``dose.json`` and ``dose.png``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of the study")
    parser.add_argument("--by", choices=[*NAMES], required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows = rows_of(read_records(options.study), options.by)
    write_json(options.out / f"{options.by}.json", {"date": date.today().isoformat(), "rows": rows})
    picture(rows, options.by).savefig(options.out / f"{options.by}.png", dpi=150)
    for row in rows:
        mark = "chosen " if row["chosen"] else ""
        print(
            f"{mark}{row[options.by]}: {row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}) over "
            f"{row['against']}, validation loss {row['validation_loss']:.3f}"
        )


if __name__ == "__main__":
    main()
