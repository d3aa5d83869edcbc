"""Figures of the full-size study from the bench's folder: ``summary.json``, ``results.csv``, ``costs.png``.

    python benchmarks/studies/full_size/collect.py runs/full-size

Prints the tables of the README. Time and memory are the run's own records; the pool is read once more, for its pace.
"""

import csv
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from math import log10
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from synthaug.data.reading.manifest import stack_images
from synthaug.ground.files import read_json, write_json
from synthaug.pool.pool import SyntheticPool
from synthaug.report.figures.styles import PAPER, WIDTH_IN
from synthaug.study.outlook.costs import Costs, total_costs

HERE = Path(__file__).parent
Row = dict[str, Any]


def main(out: Path) -> None:
    """Copy, reckon, draw, print."""
    summary = collect(out)
    write_json(HERE / "summary.json", summary)
    shutil.copy(out / "results.csv", HERE / "results.csv")
    cost_plot(summary["stages"]).savefig(HERE / "costs.png", dpi=150)
    print("\n".join(stage_table(summary["stages"])), "\n")
    print("\n".join(rate_table(summary["rates"])), "\n")
    print("\n".join(arm_table(summary["regimes"])), f"\n\n{summary['verdict']}")


def collect(out: Path) -> dict[str, Any]:
    """The bench's summary of the study in ``out``, with what each stage took."""
    found, costs = read_json(out / "summary.json"), total_costs(out)
    (pool,), (autoencoder,) = out.glob("pool-*"), out.glob("autoencoder-*")
    parts = split_counts(out / "split.csv")
    sequences = len(read_json(pool / "pool.json")["images"])
    return found | {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, one thread",
        "patients": parts,
        "stages": stages(costs),
        "wall_seconds_without_preparation": costs.wall_seconds,
        "rates": rates(costs, pool, studies=sum(parts.values()), sequences=sequences),
        "pool_bytes": sum(path.stat().st_size for path in (pool / "volumes").iterdir()),
        "training_psnr_db": -20 * log10(read_json(autoencoder / "config.json")["residual_deviation"]),
    }


def split_counts(path: Path) -> dict[str, int]:
    """Patients of each part."""
    with path.open(newline="", encoding="utf-8") as stream:
        return dict(Counter(row["part"] for row in csv.DictReader(stream)))


def stages(costs: Costs) -> list[Row]:
    """Wall and processor seconds and peak resident memory of each stage, in the order in which they came."""
    return [
        {
            "stage": name,
            "seconds": seconds,
            "processor_seconds": costs.processor_seconds[name],
            "peak_gib": costs.peak_mib[name] / 1024,
        }
        for name, seconds in costs.seconds.items()
    ]


def rates(costs: Costs, pool: Path, *, studies: int, sequences: int) -> list[Row]:
    """Volumes a second, of one sequence each, of what makes or reads volumes; every study holds several."""
    read = SyntheticPool.open(pool)
    started, started_processor = time.monotonic(), time.process_time()
    for subject in read.subjects():
        stack_images(subject, read.header["images"])
    reading = (time.monotonic() - started, time.process_time() - started_processor)
    took = {
        "preparation": (studies, costs.seconds["preparation"], costs.processor_seconds["preparation"]),
        "sampling": (len(read), costs.seconds["pool"], costs.processor_seconds["pool"]),
        "pool reading": (len(read), *reading),
    }
    return [
        {
            "what": what,
            "volumes": count * sequences,
            "a_second": count * sequences / seconds,
            "a_processor_second": count * sequences / processor,
        }
        for what, (count, seconds, processor) in took.items()
    ]


def stage_table(rows: Sequence[Row]) -> list[str]:
    """Markdown: a line a stage."""
    lines = ["| stage | seconds | processor seconds | peak memory, GiB |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['stage']} | {row['seconds']:.0f} | {row['processor_seconds']:.0f} | {row['peak_gib']:.2f} |"
        )
    total, processor = (sum(row[kind] for row in rows) for kind in ("seconds", "processor_seconds"))
    return [*lines, f"| all | {total:.0f} | {processor:.0f} | {max(row['peak_gib'] for row in rows):.2f} |"]


def rate_table(rows: Sequence[Row]) -> list[str]:
    """Markdown: a line a rate."""
    lines = ["| | volumes | volumes a second | a processor second |", "|---|---|---|---|"]
    for row in rows:
        paces = f"{row['a_second']:.3g} | {row['a_processor_second']:.3g}"
        lines.append(f"| {row['what']} | {row['volumes']} | {paces} |")
    return lines


def arm_table(regimes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown: the AUROC of each arm."""
    lines = ["| trained on | AUROC (95 % interval) |", "|---|---|"]
    for row in regimes:
        auroc = row["auroc"]
        lines.append(f"| {row['regime']} | {auroc['value']:.2f} ({auroc['ci_low']:.2f} to {auroc['ci_high']:.2f}) |")
    return lines


@rc_context(PAPER)
def cost_plot(rows: Sequence[Row]) -> Figure:
    """Time on the left, memory on the right; a line a stage, the first on top."""
    figure = Figure(figsize=(WIDTH_IN, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(rows))
    left.barh(places, [row["seconds"] for row in rows], height=0.7, color="#56B4E9", label="wall")
    left.barh(places, [row["processor_seconds"] for row in rows], height=0.35, color="#0072B2", label="processor")
    right.barh(places, [row["peak_gib"] for row in rows], height=0.7, color="#E69F00")
    left.set_yticks(places, [row["stage"] for row in rows])
    left.invert_yaxis()
    left.set_xlabel("seconds")
    right.set_xlabel("peak resident memory, GiB")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
