"""Figures of the phantom study from the cells that run.py made: ``summary.json``, ``results.csv``, ``grid.csv``.

    python benchmarks/studies/phantom/collect.py runs/phantom

Prints the table of the README: for every difficulty and imbalance the AUROC of each arm, and what arms with synthetic
volumes add to the treatment of real data that has the lowest validation loss there.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from synthaug.config import MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json, write_json
from synthaug.report.figures.styles import PAPER, WIDTH_IN, styles_of
from synthaug.report.page import write_results
from synthaug.statistics.resampling import correct_holm
from synthaug.study.records import CellRecord, Contrast, Summary
from synthaug.study.summary.aggregate import summarise
from synthaug.study.summary.arms import arms_of

HERE = Path(__file__).parent
DIFFICULTY, FRACTION = "data.phantom.difficulty", "data.phantom.positive_fraction"
BALANCE, LOSS = "classifier.balance", "classifier.loss"
TREATMENTS = ("none", "oversampled", "weighted", "focal", "classical")
"""Of real data; focal: the focal loss on the set as it is, the others cross-entropy; classical: oversampled, and
augmented by flips, turns and shifts."""
FILLED = ("mixed", "synthetic")
KEPT = ("auroc", "average_precision")
"""Metrics whose contrasts are kept."""
ALPHA = 0.05
Row = dict[str, Any]
Place = tuple[float, float]
"""Difficulty and share of positives."""


def main(out: Path) -> None:
    """Read the cells, reckon, draw, print."""
    records = read_records(out)
    summary = summarise(records, [], MetricsConfig())
    rows = list(grid(summary, validation_losses(records)))
    contrasts = [row for row in summary.contrasts if row.metric in KEPT and row.arm.regime in FILLED]
    seconds = sum(record.seconds for record in records)
    told = {"date": date.today().isoformat(), "grid": rows, "seconds": seconds}
    write_json(HERE / "summary.json", replace(summary, contrasts=tuple(contrasts)).to_json() | told)
    write_results(records, HERE / "results.csv")
    with (HERE / "grid.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)
    gains(rows).savefig(HERE / "gains.png", dpi=150)
    print("\n".join([*table(rows), "", *tell_all(rows, contrasts)]))


def read_records(out: Path) -> list[CellRecord]:
    """The finished cells of whole seeds, balance and loss told as one treatment.

    A seed of a run that was cut short has fewer cells than the first and is left out.

    Raises:
        InputError: There is none.
    """
    files = sorted((out / "cells").glob("*.json"))
    if not files:
        raise InputError(f"{out}: no finished cell there; run run.py first.")
    records = []
    for record in map(CellRecord.from_json, map(read_json, files)):
        settings = dict(record.settings)
        loss = settings.pop(LOSS)
        treatment = "focal" if loss == "focal" else "classical" if record.treatment["augment"] else settings[BALANCE]
        records.append(replace(record, settings={**settings, BALANCE: treatment}))
    counts = Counter(record.seed for record in records)
    return sorted((record for record in records if counts[record.seed] == max(counts.values())), key=_order)


def _order(record: CellRecord) -> tuple[Any, ...]:
    settings = record.settings
    regime = ("real", *FILLED).index(record.regime)
    return settings[DIFFICULTY], -settings[FRACTION], regime, TREATMENTS.index(settings[BALANCE]), record.seed


def validation_losses(records: Sequence[CellRecord]) -> dict[str, float]:
    """Of each arm by its label: the lowest validation loss of a training, the mean over seeds."""

    def lowest(record: CellRecord) -> float:
        return min(point["val_loss"] for point in record.history)

    return {arm.label: float(np.mean([lowest(record) for record in arm.records])) for arm in arms_of(records)}


def grid(summary: Summary, losses: dict[str, float]) -> Iterator[Row]:
    """A row an arm: its AUROC and, of arms with synthetic data, the difference to the real treatment of the lowest
    validation loss, with a p corrected over all of these differences."""
    rows = []
    for arm in summary.arms:
        settings, auroc = arm.settings, arm.metrics["auroc"]
        rows.append(
            {
                "difficulty": settings[DIFFICULTY],
                "positive_fraction": settings[FRACTION],
                "arm": f"real, {settings[BALANCE]}" if arm.regime == "real" else arm.regime,
                "label": arm.label,
                "seeds": arm.repeats,
                "auroc": auroc.value,
                "ci_low": auroc.low,
                "ci_high": auroc.high,
                "validation_loss": losses[arm.label],
            }
        )
    contrasts = {(row.arm.label, row.baseline.label): row for row in summary.in_metric("auroc")}
    asked = []
    for row in rows:
        if row["arm"] not in FILLED:
            continue
        rivals = [other for other in rows if other["arm"] not in FILLED and _place(other) == _place(row)]
        chosen = min(rivals, key=lambda other: other["validation_loss"])
        gain = contrasts[row["label"], chosen["label"]]
        row |= {
            "against": chosen["arm"],
            "difference": gain.difference.value,
            "difference_low": gain.difference.low,
            "difference_high": gain.difference.high,
            "p": gain.p,
        }
        asked.append(row)
    for row, corrected in zip(asked, correct_holm([row["p"] for row in asked]), strict=True):
        row["p_holm"] = float(corrected)
        row["verdict"] = verdict_of(row)
    yield from rows


def verdict_of(row: Row) -> str:
    """What a difference says, no bolder than its interval and its corrected p.

    Example:
        >>> verdict_of({"difference_low": 0.01, "difference_high": 0.2, "p_holm": 0.03})
        'pays'
        >>> verdict_of({"difference_low": -0.3, "difference_high": -0.1, "p_holm": 0.2})
        'not clear'
    """
    if row["p_holm"] > ALPHA or row["difference_low"] * row["difference_high"] <= 0:
        return "not clear"
    return "pays" if row["difference_low"] > 0 else "harms"


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown: a line a difficulty and imbalance."""
    head = ["difficulty", "positives", *(f"real, {name}" for name in TREATMENTS)]
    head += [part for name in FILLED for part in (name, f"{name} − real")]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for place in dict.fromkeys(map(_place, rows)):
        here = {row["arm"]: row for row in rows if _place(row) == place}
        against = here["mixed"]["against"]
        cells = [f"{place[0]}", f"{place[1]:.0%}"]
        for name in TREATMENTS:
            value = f"{here[f'real, {name}']['auroc']:.3f}"
            cells.append(f"**{value}**" if f"real, {name}" == against else value)
        for name in FILLED:
            row = here[name]
            gain = f"{row['difference']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"
            cells += [f"{row['auroc']:.3f}", f"{gain}: {row['verdict']}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def tell_all(rows: Sequence[Row], contrasts: Sequence[Contrast]) -> list[str]:
    """A sentence an arm: how many of its differences are clear, of those to the chosen treatment and of all."""
    lines = []
    for name in FILLED:
        chosen = [row["verdict"] for row in rows if row["arm"] == name]
        every = [row for row in contrasts if row.arm.regime == name and row.metric == "auroc"]
        above = sum(row.difference.value > 0 for row in every)
        lines.append(
            f"{name}: pays in {chosen.count('pays')} and harms in {chosen.count('harms')} of {len(chosen)} cells; the "
            f"AUROC is higher in {above} of all {len(every)} comparisons with a treatment of real data."
        )
    return lines


@rc_context(PAPER)
def gains(rows: Sequence[Row]) -> Figure:
    """What synthetic volumes add to real data, over the share of positives; a panel a difficulty."""
    shown = [row for row in rows if row["arm"] in FILLED]
    difficulties = sorted({row["difficulty"] for row in shown})
    fractions = sorted({row["positive_fraction"] for row in shown}, reverse=True)
    styles = styles_of({name: name for name in FILLED})
    figure = Figure(figsize=(WIDTH_IN, 2.8), layout="constrained")
    panels = figure.subplots(1, len(difficulties), sharey=True, squeeze=False)[0]
    for panel, difficulty in zip(panels, difficulties, strict=True):
        panel.axhline(0, color="0.6", linewidth=1, zorder=0)
        for shift, name in zip((-0.06, 0.06), FILLED, strict=True):
            line = [row for row in shown if (row["arm"], row["difficulty"]) == (name, difficulty)]
            line.sort(key=lambda row: -row["positive_fraction"])
            at, style = np.arange(len(line)) + shift, styles[name]
            lows, highs = ([row[f"difference_{end}"] for row in line] for end in ("low", "high"))
            panel.vlines(at, lows, highs, color=style.colour, linewidth=1.1)
            values = [row["difference"] for row in line]
            label = name if difficulty == difficulties[0] else None
            panel.plot(at, values, color=style.colour, linestyle=style.line, marker=style.marker, label=label)
        panel.set_xticks(range(len(fractions)), [f"{fraction:.0%}" for fraction in fractions])
        panel.set_xlabel("positive training patients")
        panel.set_title(f"difficulty {difficulty}")
    panels[0].set_ylabel("AUROC − that of real data")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _place(row: Row) -> Place:
    return row["difficulty"], row["positive_fraction"]


def _short(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
