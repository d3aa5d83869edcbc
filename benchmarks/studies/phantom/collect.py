"""Figures of the phantom study from the folder that the bench wrote: ``summary.json``, ``results.csv``, the grid.

    python benchmarks/studies/phantom/collect.py runs/phantom

Prints the table of the README: for every difficulty and imbalance the AUROC of real data under each treatment, and what
synthetic volumes add to real data of the same loss, against the better of its oversampled and its weighted classifier.
"""

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from synthaug.bench.styles import PAPER, WIDTH_IN, styles_of

HERE = Path(__file__).parent
DIFFICULTY, FRACTION = "data.phantom.difficulty", "data.phantom.positive_fraction"
BALANCE, LOSS = "classifier.balance", "classifier.loss"
COLUMNS = [
    "difficulty", "positive_fraction", "loss", "arm", "auroc", "ci_low", "ci_high",
    "against", "difference", "difference_low", "difference_high", "p_holm",
]  # fmt: skip
Row = dict[str, Any]


def main(out: Path) -> None:
    """Copy, reckon, draw, print."""
    summary = json.loads((out / "summary.json").read_text())
    for name in ("summary.json", "results.csv"):
        shutil.copy(out / name, HERE / name)
    rows = list(grid(summary))
    with (HERE / "grid.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)
    gains(rows).savefig(HERE / "gains.png", dpi=150)
    print("\n".join(table(rows)))
    print(f"\n{summary['verdict']}")


def grid(summary: dict) -> Iterator[Row]:
    """A row an arm: its AUROC and, of arms with synthetic data, the difference to the stronger treatment of real data.

    The stronger is that of the higher test AUROC: it is picked against the synthetic arm, never for it.
    """
    arms = {row["regime"]: row for row in summary["regimes"]}
    contrasts = {row["contrast"]: row for row in summary["contrasts"] if row["metric"] == "auroc"}
    for name, arm in arms.items():
        settings, auroc = arm["settings"], arm["auroc"]
        kind = name.split(" difficulty")[0]
        row: Row = {
            "difficulty": settings[DIFFICULTY],
            "positive_fraction": settings[FRACTION],
            "loss": settings[LOSS],
            "arm": f"{kind}, {settings[BALANCE]}",
            "auroc": auroc["value"],
            "ci_low": auroc["ci_low"],
            "ci_high": auroc["ci_high"],
        }
        if not kind.startswith("real"):
            rivals = [
                other for other, theirs in arms.items()
                if other.startswith("real") and _place(theirs["settings"]) == _place(settings)
            ]  # fmt: skip
            strongest = max(rivals, key=lambda other: arms[other]["auroc"]["value"])
            gain = contrasts[f"{name} - {strongest}"]
            row |= {
                "against": f"real, {arms[strongest]['settings'][BALANCE]}",
                "difference": gain["difference"],
                "difference_low": gain["ci_low"],
                "difference_high": gain["ci_high"],
                "p_holm": gain["p_holm"],
            }
        yield row


def table(rows: list[Row]) -> list[str]:
    """Markdown: a line a difficulty, imbalance and loss."""
    real = ["real, oversampled", "real, weighted"]
    mixed = ["mixed, oversampled", "synthetic, oversampled"]
    names = {row["arm"] for row in rows}
    mixed = [name for name in mixed if name in names] or sorted(name for name in names if "real" not in name)
    lines = [
        f"| difficulty | positives | loss | {' | '.join([*real, *(f'{name} − stronger real' for name in mixed)])} |",
        f"|---|---|---|{'---|' * (len(real) + len(mixed))}",
    ]
    for place in dict.fromkeys((row["difficulty"], row["positive_fraction"], row["loss"]) for row in rows):
        here = {row["arm"]: row for row in rows if (row["difficulty"], row["positive_fraction"], row["loss"]) == place}
        cells = [f"{here[name]['auroc']:.3f}" for name in real]
        for name in mixed:
            row = here[name]
            cells.append(f"{row['difference']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})")
        difficulty, fraction, loss = place
        lines.append(f"| {difficulty} | {fraction:.0%} | {loss.replace('_', ' ')} | {' | '.join(cells)} |")
    return lines


@rc_context(PAPER)
def gains(rows: list[Row]) -> Figure:
    """What mixed data adds, over the share of positives; a panel a difficulty."""
    shown = [row for row in rows if row["arm"].startswith("mixed")]
    difficulties = sorted({row["difficulty"] for row in shown})
    fractions = sorted({row["positive_fraction"] for row in shown}, reverse=True)
    arms = sorted({(row["arm"], row["loss"]) for row in shown})
    styles = styles_of([f"{arm}, {loss}" for arm, loss in arms])
    figure = Figure(figsize=(WIDTH_IN, 3.0), layout="constrained")
    panels = figure.subplots(1, len(difficulties), sharey=True, squeeze=False)[0]
    for panel, difficulty in zip(panels, difficulties, strict=True):
        panel.axhline(0, color="0.6", linewidth=1, zorder=0)
        for place, (arm, loss) in enumerate(arms):
            line = [
                row for row in shown
                if (row["arm"], row["loss"], row["difficulty"]) == (arm, loss, difficulty)
            ]  # fmt: skip
            line.sort(key=lambda row: -row["positive_fraction"])
            at = np.arange(len(line)) + 0.12 * (place - (len(arms) - 1) / 2)
            values = [row["difference"] for row in line]
            style = styles[f"{arm}, {loss}"]
            lows, highs = [row["difference_low"] for row in line], [row["difference_high"] for row in line]
            panel.vlines(at, lows, highs, color=style.colour, linewidth=1.1)
            label = f"{arm.partition(', ')[2]}, {loss.replace('_', ' ')}" if difficulty == difficulties[0] else None
            panel.plot(
                at, values, color=style.colour, linestyle=style.line, marker=style.marker, markersize=4.5, label=label
            )
        panel.set_xticks(range(len(fractions)), [f"{fraction:.0%}" for fraction in fractions])
        panel.set_xlabel("positive training patients")
        panel.set_title(f"difficulty {difficulty}")
    panels[0].set_ylabel("AUROC, mixed − stronger real")
    figure.legend(loc="outside upper left", ncols=4, fontsize=7.5)
    return figure


def _place(settings: dict) -> tuple:
    return settings[DIFFICULTY], settings[FRACTION], settings[LOSS]


def _short(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
