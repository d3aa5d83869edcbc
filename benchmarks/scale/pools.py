"""Pools of many volumes: what their manifest weighs, how long it takes to open, and what 10^8 of them would need.

    python benchmarks/scale/pools.py [--entries 1000000] [--card NAME SECONDS_PER_VOLUME PRICE_PER_HOUR ...]

Three forms are measured, one after the other. The first is the manifest of JSON lines as ``Ledger`` reads it. The
second is the index of its lines by which large pools are opened (``synthaug.pool.index``). The third has the same
entries in an SQLite file with an index over class and place. Each is opened and asked for single volumes. Simulated:
10^8 volumes as Ray tasks (``SHARDS_PER_WORKER`` a worker) whose workers die now and then and whose shard goes on
elsewhere. Of cards nothing is assumed: each ``--card`` brings its seconds a volume (as ``benchmarks/gpu/run.py``
measures them) and its price; without any, hours stand for one second a volume. The last line printed is JSON.
"""

import argparse
import contextlib
import heapq
import json
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthaug.pool.cluster import SHARDS_PER_WORKER
from synthaug.pool.index import INDEX, read_index, write_index
from synthaug.pool.ledger import Entry, Ledger, entry_line

MOST_SECONDS = 2.0
"""To open a pool of 10^6 entries."""
VOLUMES = 10**8
WORKERS = (8, 64, 512)
DEATHS_PER_HOUR = 0.02
"""Of each worker, as on machines that may be taken back: one in fifty hours."""
RELOADING_S = 60.0
"""Seconds that a killed shard loses: its volume, and the loading of the generator."""


def made_entry(number: int) -> Entry:
    """An entry as a builder writes it: two classes, a report of usual length."""
    name = f"{number:016x}"
    return {
        "id": name,
        "label": number % 2,
        "index": number // 2,
        "recipe": {
            "checkpoint": "0123456789abcdef",
            "report": "Focal T2 lesion of 18 mm in the left midgland peripheral zone. IMPRESSION: PI-RADS 5.",
            "class": number % 2,
            "requested_class": number % 2,
            "scheduler": "sde-dpmsolver++",
            "steps": 20,
            "guidance": 3.0,
            "seed": number * 2654435761 % 2**63,
            "shape": [32, 32, 16],
        },
        "files": {"t2w": f"volumes/{name}-t2w.nii.gz"},
        "sha256": {"t2w": f"{number * 2654435761:064x}"},
        "class_probabilities": [0.25, 0.75],
    }


def write_lines(folder: Path, entries: int) -> Path:
    """A pool's manifest."""
    path = folder / "manifest.jsonl"
    with path.open("w") as stream:
        stream.writelines(f"{entry_line(made_entry(number))}\n" for number in range(entries))
    return path


def write_sqlite(lines: Path, path: Path) -> float:
    """The same entries in SQLite; returns the seconds that it took."""
    started = time.process_time()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection, lines.open(encoding="utf-8") as stream:
        connection.execute("create table entries (label integer, place integer, line text, primary key (label, place))")
        rows = ((number % 2, number // 2, line) for number, line in enumerate(stream))
        connection.executemany("insert into entries values (?, ?, ?)", rows)
    return time.process_time() - started


def read_lines(folder: Path, wanted: Sequence[int]) -> dict[str, float]:
    """Seconds to open the manifest and for one look into it, and what the entries weigh in memory."""
    before, started = _resident_mb(), time.process_time()
    ledger = Ledger(folder)
    with contextlib.closing(ledger):
        ledger.refresh()
    opened = time.process_time() - started
    by_place = list(ledger.entries.values())
    started = time.process_time()
    for number in wanted:
        _ = by_place[number]["recipe"]
    return {
        "open_s": opened,
        "lookup_us": (time.process_time() - started) / len(wanted) * 1e6,
        "memory_mb": _resident_mb() - before,
    }


def read_sqlite(path: Path, wanted: Sequence[int]) -> dict[str, float]:
    """The same of the SQLite file: counted by class when it is opened, an entry read when it is asked for."""
    before, started = _resident_mb(), time.process_time()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("select label, count(*) from entries group by label").fetchall()
        opened = time.process_time() - started
        started = time.process_time()
        for number in wanted:
            [line] = connection.execute(
                "select line from entries where label = ? and place = ?", (number % 2, number // 2)
            ).fetchone()
            _ = json.loads(line)["recipe"]
        spent = time.process_time() - started
    return {"open_s": opened, "lookup_us": spent / len(wanted) * 1e6, "memory_mb": _resident_mb() - before}


def write_own(folder: Path, entries: int) -> float:
    """The index of the manifest's lines; returns the seconds that it took."""
    lists: dict[int | None, Sequence[Entry]] = {
        label: [{"id": f"{number:016x}"} for number in range(label, entries, 2)] for label in (0, 1)
    }
    started = time.process_time()
    write_index(folder, {**lists, None: []}, "identity")
    return time.process_time() - started


def read_own(folder: Path, wanted: Sequence[int]) -> dict[str, float]:
    """The same of that index, whose manifest is hashed when it is opened."""
    before, started = _resident_mb(), time.process_time()
    index = read_index(folder)
    assert index is not None
    opened = time.process_time() - started
    started = time.process_time()
    for number in wanted:
        _ = index.by_class[number % 2][number // 2]["recipe"]
    spent = time.process_time() - started
    return {"open_s": opened, "lookup_us": spent / len(wanted) * 1e6, "memory_mb": _resident_mb() - before}


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def simulate(volumes: int, workers: int, *, seconds: float, seed: int = 0) -> dict[str, float]:
    """Hours until the last of a pool's shards is whole, against the hours of workers that never stop."""
    draw, shards = random.Random(seed), workers * SHARDS_PER_WORKER
    sizes = [volumes * (part + 1) // shards - volumes * part // shards for part in range(shards)]
    free, busy, deaths = [0.0] * workers, 0.0, 0
    for size in sizes:
        spent, left = 0.0, size * seconds * draw.uniform(0.95, 1.05)  # nodes are not equally fast
        while True:
            lives = draw.expovariate(DEATHS_PER_HOUR) * 3600
            if lives >= left:
                spent += left
                break
            left, spent, deaths = left - lives, spent + lives + RELOADING_S, deaths + 1
        heapq.heappush(free, heapq.heappop(free) + spent)
        busy += spent
    hours = max(free) / 3600
    return {
        "tasks": shards,
        "volumes_a_task": volumes // shards,
        "deaths": deaths,
        "hours": hours,
        "over_ideal": hours / (volumes * seconds / workers / 3600),
        "worker_hours": busy / 3600,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--card", nargs=3, action="append", default=[], metavar=("NAME", "SECONDS", "PRICE"))
    asked = parser.parse_args(arguments)
    cards = [(name, float(seconds), float(price)) for name, seconds, price in asked.card] or [("1 s a volume", 1, None)]
    wanted = [random.Random(0).randrange(asked.entries) for _ in range(min(1000, asked.entries))]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        lines, index = write_lines(folder, asked.entries), folder / "index.sqlite"
        building = {"sqlite": write_sqlite(lines, index), "index": write_own(folder, asked.entries)}
        files = {"lines": lines, "index": folder / INDEX, "sqlite": index}
        bytes_of = {kind: path.stat().st_size / asked.entries for kind, path in files.items()}
        # Memory: the largest last. The index needs the manifest beside it.
        found = {"sqlite": read_sqlite(index, wanted), "index": read_own(folder, wanted)}
        found["lines"] = read_lines(folder, wanted)
    plans: dict[str, Any] = {}
    for name, seconds, price in cards:
        plans[name] = {str(workers): simulate(VOLUMES, workers, seconds=seconds) for workers in WORKERS}
        for plan in plans[name].values():
            plan["cost"] = None if price is None else plan["worker_hours"] * price
    print(
        json.dumps(
            {
                "claim": "pools of 10^6 entries open in 2 s; what 10^8 volumes need",
                "entries": asked.entries,
                "measured": found,
                "bytes_an_entry": bytes_of,
                "index_built_s": building,
                "open_a_million_s": {kind: each["open_s"] / asked.entries * 1e6 for kind, each in found.items()},
                "holds": {kind: each["open_s"] / asked.entries * 1e6 <= MOST_SECONDS for kind, each in found.items()},
                "manifest_gb_of_1e8": {kind: each * VOLUMES / 1e9 for kind, each in bytes_of.items()},
                "simulated": plans,
            }
        )
    )


if __name__ == "__main__":
    main()
