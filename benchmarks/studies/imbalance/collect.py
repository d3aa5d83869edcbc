"""Figures of the phantom map: ``map.json``, and ``gains.png`` with the gain by imbalance and size, with intervals.

    python benchmarks/studies/imbalance/collect.py runs/map --out benchmarks/studies/imbalance

In every cohort the arm with synthetic volumes is held against the real treatment with the lowest validation loss, on
the same patients and seeds; among the arms with synthetic volumes validation chooses too.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json, write_json
from synthaug.metrics.classification import auroc
from synthaug.report.figures.styles import COLOURS, MARKERS, PAPER, WIDTH_IN
from synthaug.statistics.intervals import paired_difference
from synthaug.study.records import CellRecord
from synthaug.study.summary.arms import stack_scores

DIFFICULTY, POSITIVES, SIZE, ARM = "data.phantom.difficulty", "data.phantom.positive_fraction", "split.train", "arm"
Place = tuple[float, float, int]
"""Difficulty, share of positives, training patients."""
Row = dict[str, Any]


def read_records(out: Path) -> list[CellRecord]:
    """The finished cells in order; InputError where there is none."""
    files = sorted((out / "cells").glob("*.json"))
    if not files:
        raise InputError(f"{out}: no finished cell there; run run.py first.")
    records = [CellRecord.from_json(read_json(file)) for file in files]
    return sorted(records, key=lambda record: (place_of(record), record.settings[ARM], record.seed))


def place_of(record: CellRecord) -> Place:
    """The cohort of a record."""
    return record.settings[DIFFICULTY], record.settings[POSITIVES], record.settings[SIZE]


def gains_of(records: Sequence[CellRecord], *, resamples: int = 1000) -> Iterator[Row]:
    """A row a cohort: the arms' AUROC, and what the chosen synthetic arm adds to the chosen real treatment."""
    for place in dict.fromkeys(map(place_of, records)):
        here = _of_whole_seeds([record for record in records if place_of(record) == place])
        arms: dict[str, list[CellRecord]] = {}
        for record in here:
            arms.setdefault(record.settings[ARM], []).append(record)
        losses = {name: _validation_loss(found) for name, found in arms.items()}
        sides = {
            side: min(names, key=losses.__getitem__)
            for side in ("real", "mixed")
            if (names := [name for name, found in arms.items() if found[0].regime == side])
        }
        if len(sides) < 2:
            raise InputError(f"The cohort {place} lacks real or synthetic arms; run run.py to its end.")
        both = [arms[sides["mixed"]], arms[sides["real"]]]
        patients, labels, scores = stack_scores([*both[0], *both[1]])
        half = len(both[0])
        gain = paired_difference(
            auroc,
            patient_ids=patients,
            labels=labels,
            arrays=scores[:half],
            baseline=scores[half:],
            resamples=resamples,
        )
        yield {
            "difficulty": place[0],
            "positive_fraction": place[1],
            "n": place[2],
            "seeds": half,
            "auroc": {name: float(np.mean([each.metrics["auroc"] for each in found])) for name, found in arms.items()},
            "validation_loss": losses,
            "synthetic": sides["mixed"],
            "against": sides["real"],
            "gain": gain.value,
            "low": gain.low,
            "high": gain.high,
        }


def _of_whole_seeds(records: Sequence[CellRecord]) -> list[CellRecord]:
    """Those of seeds that every arm of the cohort has: a run that was cut short has fewer of the last."""
    arms = {record.settings[ARM] for record in records}
    done = Counter(record.seed for record in records)
    return [record for record in records if done[record.seed] == len(arms)]


def _validation_loss(records: Sequence[CellRecord]) -> float:
    return float(np.mean([min(point["val_loss"] for point in record.history) for record in records]))


@rc_context(PAPER)
def picture(rows: Sequence[Row]) -> Figure:
    """Gain over the size of the training set; a panel a difficulty, a line an imbalance."""
    difficulties = sorted({row["difficulty"] for row in rows})
    positives = sorted({row["positive_fraction"] for row in rows}, reverse=True)
    sizes = sorted({row["n"] for row in rows})
    figure = Figure(figsize=(WIDTH_IN, 3.0), layout="constrained")
    panels = figure.subplots(1, len(difficulties), sharey=True, squeeze=False)[0]
    for panel, difficulty in zip(panels, difficulties, strict=True):
        panel.axhline(0, color="0.6", linewidth=1, zorder=0)
        for number, share in enumerate(positives):
            line = [row for row in rows if (row["difficulty"], row["positive_fraction"]) == (difficulty, share)]
            line.sort(key=lambda row: row["n"])
            at = np.array([sizes.index(row["n"]) for row in line]) + 0.09 * (number - (len(positives) - 1) / 2)
            colour = COLOURS[number % len(COLOURS)]
            panel.vlines(at, [row["low"] for row in line], [row["high"] for row in line], color=colour, linewidth=1.1)
            label = f"1:{round(1 / share - 1)}" if difficulty == difficulties[0] else None
            values = [row["gain"] for row in line]
            panel.plot(at, values, color=colour, marker=MARKERS[number % len(MARKERS)], linewidth=1, label=label)
        panel.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        panel.set_xlim(-0.3, len(sizes) - 0.7)  # the same where a size is missing
        panel.set_xlabel("training patients")
        panel.set_title(f"difficulty {difficulty:g}")
    panels[0].set_ylabel("AUROC − that of the chosen real treatment")
    figure.legend(loc="outside upper left", ncols=len(positives), title="positives to negatives")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both files and print a line a cohort."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder that run.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    records = read_records(options.study)
    rows = list(gains_of(records))
    seconds = sum(record.seconds for record in records)
    write_json(options.out / "map.json", {"date": date.today().isoformat(), "seconds": seconds, "rows": rows})
    picture(rows).savefig(options.out / "gains.png", dpi=150)
    for row in rows:
        print(
            f"difficulty {row['difficulty']:g}, 1:{round(1 / row['positive_fraction'] - 1)}, n {row['n']}: "
            f"{row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}), {row['synthetic']} over {row['against']}"
        )


if __name__ == "__main__":
    main()
