"""What a user waits for before anything is said: help, refusals, a run's first line, a rerun of a finished study.

    python benchmarks/speed/start.py --before CHECKOUT [--finished FOLDER] [--repeats 3]

``CHECKOUT`` holds an earlier version of this repository: both sides are timed, each in processes of its own.
``FOLDER`` is a study that this version finished (for the rerun); its settings are read from its config.yaml. Seconds
are processor seconds of the whole process, or up to its first line, so that other work on the machine counts little;
seconds on the clock stand beside them. The time goes into imports: of jsonargparse and the settings where a line is
refused, of torch, torchio, MONAI and MLflow where it is not. The last line printed is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CODE = "import sys; from synthaug.bench.commands import main; sys.exit(main(sys.argv[1:]))"
CASES: dict[str, tuple[list[str], float]] = {
    "help": (["bench", "--help"], 0.5),
    "misspelt pool action": (["pool", "verifi"], 2.0),
    "misspelt option": (["pool", "build", "--out", "{out}", "--pool.per_clas", "3"], 2.0),
    "value outside its range": (["bench", "--pool.per_class", "-1", "--out", "{out}"], 2.0),
    "axis of no setting": (["bench", "--study.axes", '{"split.trian": [1]}', "--out", "{out}"], 2.0),
    "no manifest": (["bench", "--data.root", "{out}", "--out", "{out}"], 2.0),
}
"""Words of a command line, and the most seconds that they may take."""
FIRST_LINE, RERUN = 1.0, 5.0


def whole(source: Path, words: Sequence[str]) -> tuple[float, float]:
    """Processor and clock seconds of a command."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", CODE, *words], env=_with(source), cwd=source, capture_output=True, check=False
    )
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, time.perf_counter() - started


def first_line(source: Path, words: Sequence[str]) -> tuple[float, float]:
    """Processor and clock seconds up to a command's first line; then it is ended."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-u", "-c", CODE, *words],
        env=_with(source),
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        waited = time.perf_counter() - started
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        process.kill()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), waited


def _with(source: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}


def timed(before: Path, finished: Path | None, repeats: int) -> dict[str, Any]:
    """Median seconds of each case, of both sides, which take turns."""
    sides = {"ours": ROOT} | ({"reference": before} if before != ROOT else {})
    with tempfile.TemporaryDirectory() as out:
        cases = {name: (whole, words, limit) for name, (words, limit) in CASES.items()}
        cases["first line of a run"] = (first_line, ["bench", "--out", f"{out}/run"], FIRST_LINE)
        if finished is not None:
            words = ["bench", "--config", str(finished / "config.yaml"), "--out", str(finished)]
            cases["rerun of a finished study"] = (whole, words, RERUN)
        found: dict[str, Any] = {}
        for name, (measure, words, limit) in cases.items():
            words = [word.replace("{out}", out) for word in words]
            # Only the version that finished a study finds nothing to do.
            asked = {"ours": ROOT} if name.startswith("rerun") else sides
            taken = {side: [measure(source, words) for _ in range(repeats)] for side, source in asked.items()}
            found[name] = {"at_most": limit}
            for side, pairs in taken.items():
                spent, clock = (statistics.median(each) for each in zip(*pairs, strict=True))
                found[name][side] = {"processor_s": round(spent, 2), "clock_s": round(clock, 2)}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, default=ROOT, help="checkout of an earlier version")
    parser.add_argument("--finished", type=Path, help="folder of a finished study")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args(arguments)
    cases = timed(asked.before.resolve(), asked.finished and asked.finished.resolve(), asked.repeats)
    print(
        json.dumps(
            {
                "claim": "processor seconds before a user is told anything",
                "cases": cases,
                "holds": all(case["ours"]["processor_s"] <= case["at_most"] for case in cases.values()),
                "load": [round(each, 1) for each in os.getloadavg()],
                "cores": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
