"""Memory that a study of several cohorts holds: preprocessed volumes mapped from files, or in memory.

    python benchmarks/scale/memory.py [--cohorts 9] [--patients 1000] [--side 32 32 16] [--out FOLDER]

Ours reads, splits, preprocesses and identifies the cohorts of ``data.phantom.seed`` as a study does before its first
training, first without and then with the files of the first run. The reference does the same with the preprocessed
volumes as tensors in memory, as earlier versions did. Each runs in a process of its own. The figures are MB above the
memory after the imports:

    anonymous   what the process allocated; without swap it cannot be dropped
    unique      pages that no other process has (USS); pages of a mapped file that this process alone has read count
    resident    all pages in memory (RSS); pages of mapped files that were read count
    peak        the highest resident memory until then

Pages of mapped files are the kernel's cache of the file: it drops them where memory is needed, and processes that map
the same file share them. ``read`` repeats the figures after every voxel of every cohort was read once more. The last
line printed is JSON. Linux.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from synthaug.config import Config, DataConfig, PhantomConfig, PreprocessConfig, StudyConfig
from synthaug.data.duplicates import refuse_duplicate_images
from synthaug.data.preprocess import preprocess
from synthaug.data.splits import Split
from synthaug.generate.stored.record import subjects_hash
from synthaug.ground.files import content_hash
from synthaug.study.grid import settings_of
from synthaug.study.running.studies import Studies
from synthaug.study.stages.cohort import draw_split, load_subjects

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


def map_cohorts(config: Config, out: Path) -> tuple[list[str], list[Split]]:
    """Ids and splits of the cohorts, as a study has them."""
    studies = Studies(out, lambda name, total: lambda *_: None)
    studies.read(config)
    return [study.data_id for study in studies], [study.split for study in studies]


def hold_cohorts(config: Config, out: Path) -> tuple[list[str], list[Split]]:
    """The same, with every preprocessed volume in memory; nothing is written."""
    ids, splits = [], []
    for _, each in settings_of(config):
        drawn = draw_split(each.split, load_subjects(each.data), each.data)
        split = Split(*(preprocess(part, each.preprocess, each.data.images) for _, part in drawn.parts()))
        refuse_duplicate_images(split, each.data.images)
        ids.append(content_hash([subjects_hash(part, each.data.images) for _, part in split.parts()]))
        splits.append(split)
    return ids, splits


def memory() -> dict[str, float]:
    """What this process holds, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.endswith(" kB")}
    found = {"anonymous": kilobytes["RssAnon"], "resident": kilobytes["VmRSS"], "peak": kilobytes["VmHWM"]}
    return {name: value / 1024 for name, value in found.items()} | {
        "unique": psutil.Process().memory_full_info().uss / MB
    }


SIDES: dict[str, Callable[[Config, Path], tuple[list[str], list[Split]]]] = {
    "ours": map_cohorts,
    "ours, again": map_cohorts,
    "reference": hold_cohorts,
}


def hold(side: str, config: Config, out: Path) -> dict[str, Any]:
    """Prepare the cohorts and tell what is held, in MB, the seconds, and the ids of the cohorts."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here on
    before, started = memory(), time.monotonic()
    before["peak"] = before["resident"]

    def held() -> dict[str, float]:
        return {name: round(value - before[name], 1) for name, value in memory().items()}

    ids, splits = SIDES[side](config, out)
    found: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1), **held()}
    for split in splits:
        for subject in split.subjects():
            float(subject["t2w"].data.sum())
    return found | {"read": held(), "ids": content_hash(ids)}


def measure(options: argparse.Namespace, out: Path) -> dict[str, dict[str, Any]]:
    """All sides, one after the other."""
    found = {}
    sizes = ["--cohorts", str(options.cohorts), "--patients", str(options.patients)]
    sizes += ["--side", *map(str, options.side), "--out", str(out)]
    for side in SIDES:
        words = [sys.executable, __file__, *sizes, "--only", side]
        done = subprocess.run(words, stdout=subprocess.PIPE, encoding="utf-8", check=True)
        found[side] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=9)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--side", type=int, nargs=3, default=(32, 32, 16))
    parser.add_argument("--out", type=Path, help="keeps the files; default: a temporary folder")
    parser.add_argument("--only", choices=SIDES, help="one side, in this process")
    options = parser.parse_args(arguments)
    if options.only:
        config = config_of(options.cohorts, options.patients, tuple(options.side))
        print(json.dumps(hold(options.only, config, options.out)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        found = measure(options, out)
        files = [path for path in out.rglob("*") if path.is_file()]
        disk = sum(path.stat().st_size for path in files) / MB
    assert len({side.pop("ids") for side in found.values()}) == 1, "the sides prepared other volumes"
    whole = options.cohorts == 9 and options.patients == 1000
    peak = max(found["ours"]["peak"], found["ours, again"]["peak"])
    result = {
        "claim": "MB that a study holds before its first training, above the memory after the imports (resident)",
        "ours": found["ours"]["resident"],
        "reference": found["reference"]["resident"],
        "ratio": found["ours"]["resident"] / found["reference"]["resident"],
        "target": TARGET_MB,
        "holds": peak <= TARGET_MB if whole else None,
        "sides": found,
        "volumes_mb": options.cohorts * options.patients * 4 * options.side[0] * options.side[1] * options.side[2] / MB,
        "files": len(files),
        "disk_mb": round(disk, 1),
        "cohorts": options.cohorts,
        "patients": options.patients,
        "shape": list(options.side),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
