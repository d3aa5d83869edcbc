"""Does the demonstration show its effect on other phantoms too, and how long does it take?

    python benchmarks/quickstart.py --out runs/quickstarts --json benchmarks/quickstart.json

Each seed draws other phantoms to train on and to test; the generator is the same. Every run is a process of its own, as
a newcomer starts it, and every result is written down. Finished runs are not made again, and are not timed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import synthaug as sa
from synthaug.config.files.presets import DEMO
from synthaug.ground.files import write_json

SEEDS = (21, 22, 23, 24, 25, 26)
"""Of the phantoms; the first is the demonstration's own."""


def measure(seed: int, out: Path) -> dict[str, Any]:
    """One run: its minutes, and each arm's gain in AUROC over real data."""
    folder = out / f"seed-{seed}"
    ready = (folder / "summary.json").is_file()
    began = time.monotonic()
    words = ["--preset", DEMO, "--data.phantom.seed", str(seed), "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "synthaug.bench", *words], check=True)
    seconds = None if ready else round(time.monotonic() - began, 1)
    summary = sa.read_summary(folder / "summary.json")
    gains = {
        contrast.arm.label: {
            "difference": contrast.difference.value,
            "low": contrast.difference.low,
            "high": contrast.difference.high,
            "p_holm": contrast.p_holm,
        }
        for contrast in summary.contrasts
        if contrast.metric == "auroc"
    }
    return {"seed": seed, "seconds": seconds, "verdict": summary.verdict.kind, "gains": gains}


def main(arguments: Sequence[str] | None = None) -> None:
    """Every seed in turn; what is done so far is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        rows.append(measure(seed, options.out))
        print(json.dumps(rows[-1]))
        if options.json:
            figures = {"date": date.today().isoformat(), "threads": torch.get_num_threads(), "runs": rows}
            write_json(options.json, figures)


if __name__ == "__main__":
    main()
