"""Memory that a study of several cohorts holds: preprocessed volumes alone, or also the images as they came.

    python benchmarks/scale/memory.py [--cohorts 9] [--patients 1000] [--side 32 32 16]

Ours reads, splits and preprocesses the cohorts of ``data.phantom.seed`` as a study does before its first training. The
reference also keeps the images as they came, as earlier versions did. Both run in forks of this process; what is told
is what each holds and its peak, above the memory after the imports. The last line printed is JSON. Linux.
"""

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from synthaug.config import Config, DataConfig, PhantomConfig, PreprocessConfig, StudyConfig
from synthaug.study.grid import settings_of
from synthaug.study.running.studies import Studies
from synthaug.study.stages.cohort import load_subjects

TARGET_MB = 600.0
"""That nine cohorts of 1,000 small phantoms may hold."""
MB = 2**20


def config_of(cohorts: int, patients: int, shape: tuple[int, int, int]) -> Config:
    """A study of real data alone, one cohort a value of its axis."""
    spacing = tuple(80.0 / side for side in shape)
    return replace(
        Config(),
        data=DataConfig(phantom=PhantomConfig(n=patients, shape=shape, spacing_mm=spacing)),
        preprocess=PreprocessConfig(shape=shape, spacing_mm=spacing),
        study=StudyConfig(regimes=["real"], axes={"data.phantom.seed": list(range(cohorts))}),
    )


def hold(config: Config, answers: Any, *, raw: bool) -> None:
    """Read the study and tell what is held, in MB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # from here on the peak is this process's own
    process = psutil.Process()
    before, rss = process.memory_full_info().uss, process.memory_info().rss
    kept = [load_subjects(each.data) for _, each in settings_of(config)] if raw else []
    studies = Studies(Path("nowhere"), lambda name, total: lambda *_: None)
    studies.read(config)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
    answers.put({"held": (process.memory_full_info().uss - before) / MB, "peak": (peak - rss) / MB})
    del kept


def measure(config: Config) -> dict[str, dict[str, float]]:
    """Both sides, one after the other."""
    context = multiprocessing.get_context("fork")
    found = {}
    for name, raw in (("ours", False), ("reference", True)):
        answers = context.SimpleQueue()
        child = context.Process(target=hold, args=(config, answers), kwargs={"raw": raw})
        child.start()
        found[name] = answers.get()
        child.join()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=9)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--side", type=int, nargs=3, default=(32, 32, 16))
    options = parser.parse_args(arguments)
    found = measure(config_of(options.cohorts, options.patients, tuple(options.side)))
    whole = options.cohorts == 9 and options.patients == 1000
    result = {
        "claim": "MB that a study holds before its first training, above the memory after the imports",
        "ours": found["ours"]["held"],
        "reference": found["reference"]["held"],
        "ratio": found["ours"]["held"] / found["reference"]["held"],
        "target": TARGET_MB,
        "holds": found["ours"]["peak"] <= TARGET_MB if whole else None,
        "peak": {name: each["peak"] for name, each in found.items()},
        "volumes_mb": options.cohorts * options.patients * 4 * options.side[0] * options.side[1] * options.side[2] / MB,
        "cohorts": options.cohorts,
        "patients": options.patients,
        "shape": list(options.side),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
