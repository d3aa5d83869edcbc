"""docs/evidence.md says what the committed JSON says, and the misses first."""

import json
import re
from pathlib import Path

import pytest

from synthaug.study.records import CellRecord

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "benchmarks" / "studies"
PAGE = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
TEMPLATE = (STUDIES / "evidence.md.j2").read_text(encoding="utf-8")


@pytest.fixture
def evidence(import_script):
    return import_script("studies", "evidence")


def test_the_page_is_what_its_script_writes_from_the_json(evidence):
    assert evidence.render() == PAGE, "run benchmarks/studies/evidence.py"


def test_no_figure_stands_in_the_words_themselves():
    words = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|`[^`]*`|git \w+|3D|95 %", "", TEMPLATE, flags=re.DOTALL)
    assert not re.findall(r"\d+\.\d+|\d+ %", words)


def test_figures_on_the_page_are_those_of_the_studies():
    generator = json.loads((STUDIES / "generator" / "ccella-hippocampus.json").read_text(encoding="utf-8"))
    same = json.loads((STUDIES / "same_cohort" / "summary.json").read_text(encoding="utf-8"))
    assert f"{generator['fid_seeded']['ratio']:.2f} ({generator['fid_seeded']['low']:.2f} to" in PAGE
    [gain] = [row for row in same["goals"] if (row["people"], row["augment"]) == (16, "classical")]
    assert f"{gain['difference']:+.2f} (".replace("-", "−") in PAGE
    assert f"{sum(row['holds'] for row in same['goals'])} of {len(same['goals'])} goals |" in PAGE


def test_it_is_short_with_three_pictures_and_one_table_and_tells_misses_first():
    assert len(PAGE.split()) <= 900
    pictures = re.findall(r"!\[[^\]]+\]\(\.\./([^)]+)\)", PAGE)
    assert len(pictures) == 3
    assert all((ROOT / each).is_file() for each in pictures)
    assert len(re.findall(r"^\|(?:-+\|)+$", PAGE, flags=re.MULTILINE)) == 1
    assert re.findall(r"^## (\w+)", PAGE, flags=re.MULTILINE)[:2] == ["Missed", "Held"]


def test_every_study_stands_there_with_its_outcome_or_as_not_run(evidence):
    for folder in sorted(path for path in STUDIES.iterdir() if path.is_dir() and path.name != "__pycache__"):
        planned = evidence.PLANNED.get(folder.name, "")
        assert f"`{folder.name}" in PAGE or f"- {planned}\n" in PAGE, folder.name


def test_a_planned_study_is_not_run_until_it_leaves_results(evidence, tmp_path):
    assert set(evidence.not_run(tmp_path)) == {*evidence.PLANNED.values()}
    (tmp_path / "filtering").mkdir()
    (tmp_path / "filtering" / "summary.json").write_text("{}", encoding="utf-8")
    assert evidence.PLANNED["filtering"] not in evidence.not_run(tmp_path)


def test_the_large_grid_has_fifty_cells_a_seed_that_pass_as_trained(import_script):
    grid = import_script("scale", "grid")
    cells = grid.describe_cells(grid.config_of(2))
    assert len(cells) == len({cell.id for cell in cells}) == 100
    record = grid.record_of(cells[-1])
    assert record == grid.record_of(cells[-1])
    assert CellRecord.from_json(json.loads(json.dumps(record.to_json()))).metrics == record.metrics
