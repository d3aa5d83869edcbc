"""The reports written by hand, by which generators are judged."""

import csv
from pathlib import Path

FOLDER = Path(__file__).parent / "handwritten"


def rows_of(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
