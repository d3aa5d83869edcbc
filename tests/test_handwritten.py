"""The reports written by hand, by which generators are judged."""

import csv
from pathlib import Path

import pytest

from synthaug.data.reports import ProstateFindings

FOLDER = Path(__file__).parent / "handwritten"


def rows_of(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(("name", "least"), [("prostate", 80), ("hippocampus", 20)])
def test_there_are_enough_and_no_two_are_alike(name, least):
    rows = rows_of(name)
    assert len({row["report"].lower() for row in rows}) == len({row["name"] for row in rows}) == len(rows) >= least


def test_the_truth_beside_a_prostate_report_is_whole():
    for row in rows_of("prostate"):
        size = float(row["size_mm"]) if row["size_mm"] else None
        stated = ProstateFindings(
            int(row["pirads"]), row["zone"] or None, row["side"] or None, row["level"] or None, size
        )
        assert stated.label == int(row["label"]), row["name"]
        if stated.label:
            assert all((stated.zone, stated.side, stated.level, stated.size_mm)), row["name"]


def test_the_truth_beside_a_hippocampus_report_is_whole():
    for row in rows_of("hippocampus"):
        assert row["side"] in ("left", "right"), row["name"]
        assert 2000 < float(row["volume_mm3"]) < 4500, row["name"]
