"""Prompts: reports of the class, of known patients, the same for the same place."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.config import DataConfig, GeometryConfig, LabelRule, MeasurementConfig
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.reports.picai import COLUMNS, findings_of, read_marksheet
from synthaug.data.reports.writers import write_measurement_report
from synthaug.generate.stored.record import patient_hash
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.prompts import (
    RelabelledPrompts,
    TextPrompts,
    TrainingPrompts,
    WriterPrompts,
    as_prompts,
    describe,
    require_classes,
)

SHARED = Path(os.environ.get("SYNTHAUG_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_marksheet(folder, *rows):
    path = folder / "marksheet.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n", encoding="utf-8")
    return path


@given(
    reports=st.lists(st.text(max_size=5), min_size=1, max_size=12, unique=True),
    label=st.integers(0, 3),
    seed=st.integers(0, 99),
    rounds=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_every_text_is_used_once_before_any_is_used_twice(reports, label, seed, rounds):
    prompts = TextPrompts({label: reports})
    drawn = [prompts.report(label, index, seed=seed) for index in range(rounds * len(reports))]
    for begin in range(0, len(drawn), len(reports)):
        assert sorted(drawn[begin : begin + len(reports)]) == sorted(reports)
    attempts = [prompts.report(label, 0, attempt=attempt, seed=seed) for attempt in range(len(reports))]
    assert sorted(attempts) == sorted(reports)
    assert attempts == drawn[: len(reports)]  # an attempt moves on in the order: pools that were begun depend on it


def test_another_seed_draws_another_order():
    prompts = TextPrompts({0: [str(number) for number in range(20)]})
    orders = [[prompts.report(0, index, seed=seed) for index in range(20)] for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


def test_training_prompts_remember_their_patients_and_bare_texts_know_none(tiny_subjects):
    prompts = TrainingPrompts(tiny_subjects)
    assert set(prompts.patients) == {patient_hash(subject["patient_id"]) for subject in tiny_subjects}
    bare = as_prompts(prompts.texts)
    assert (bare.policy, bare.patients) == ("texts", None)
    assert bare.identity == prompts.identity
    assert as_prompts(prompts) is prompts
    assert describe(prompts)["policy"] == "training"


def test_relabelled_prompts_ask_for_sizes_that_nobody_has_each_under_the_class_of_its_size():
    measured = {"side": MeasurementConfig("gland", side="swaps"), "ml": MeasurementConfig("gland volume", "ml")}
    rows = {"a": {"side": "left", "ml": 30.0}, "b": {"side": "right", "ml": 60.0}, "c": {"side": "left", "ml": None}}
    data = DataConfig("unused", measurements=measured, label_rule=LabelRule("ml", above=40.0))
    subjects = [
        {"subject_id": "a", "patient_id": "a", "label": 0, "report": ""},
        {"subject_id": "b", "patient_id": "b", "label": 1, "report": "Free text, left, 60 ml."},
        {"subject_id": "c", "patient_id": "c", "label": 0, "report": "Of a gland that nobody measured."},
    ]
    geometry = GeometryConfig(zooms=(0.9, 1.0, 1.2), flip=True)
    subjects[0]["report"] = write_measurement_report(rows["a"], measured, seed=derive_seed("report", "a"))
    prompts = RelabelledPrompts(subjects, Relabeller.fit(subjects, data, geometry, rows=rows))
    ours = [(label, text) for label, texts in prompts.texts.items() for text in texts if "Impression" in text]
    told = {(label, "left" in text.lower(), int(re.findall(r"\d+", text)[0])) for label, text in ours}
    sizes = {0: (21, 30), 1: (51,)}  # 30 ml at 0.9, 1 and 1.2 of each length, whole ml
    assert told == {(label, side, size) for label in sizes for size in sizes[label] for side in (True, False)}
    assert [text for text in prompts.texts[1] if "60 ml" in text] == ["Free text, left, 60 ml."]
    assert "Of a gland that nobody measured." in prompts.texts[0]
    assert prompts.policy == "relabelled"
    assert set(prompts.patients) == {patient_hash(name) for name in "abc"}


@pytest.mark.parametrize(
    "reports", [{0: "No lesion."}, {0: ["a", float("nan")]}, {0: None}, {0: [b"a"]}, {"b": ["a"]}, {0.5: ["a"]}, ["a"]]
)
def test_what_is_no_list_of_texts_is_refused_before_a_folder_is_made(reports, tiny_pipeline, tmp_path):
    with pytest.raises(InputError):
        SyntheticPool.build(tiny_pipeline, tmp_path / "pool", per_class={0: 1}, reports=reports)
    assert not list(tmp_path.iterdir())


def test_a_class_without_reports_is_refused_by_its_number():
    with pytest.raises(InputError, match="No report of class 2"):
        require_classes(TextPrompts({0: ["a"], 2: []}), [0, 2])
    with pytest.raises(InputError, match="No report of class 1"):
        TextPrompts({0: ["a"]}).report(1, 0, seed=0)


@pytest.mark.parametrize("label", [0, 1])
def test_the_writer_states_findings_of_the_class_and_words_them_in_many_ways(label):
    prompts = WriterPrompts()
    found = [prompts.findings(label, index, seed=3) for index in range(40)]
    reports = [prompts.report(label, index, seed=3) for index in range(40)]
    assert {finding.label for finding in found} == {label}
    assert all(f"PI-RADS {finding.pirads}" in report for finding, report in zip(found, reports, strict=True))
    assert len(set(reports)) > 35
    assert reports == [WriterPrompts().report(label, index, seed=3) for index in range(40)]
    assert prompts.report(label, 0, attempt=1, seed=3) != reports[0]
    assert prompts.patients == []
    if label:
        stated = [f for f in found if f.isup is not None]
        assert stated
        assert all(f.zone and f.side and f.level and f.size_mm and f.psa and f.gland_volume_ml for f in found)


def test_the_writer_has_two_classes():
    with pytest.raises(InputError, match="none of class 2"):
        WriterPrompts().report(2, 0, seed=0)


def test_findings_of_a_marksheet_are_worded_and_their_patients_remembered(tmp_path):
    path = write_marksheet(tmp_path, '7,"2,5","0,3",3,7.7,55', "8,2,,0,,102", "9,N/A,,0,4,30")
    rows = read_marksheet(path)
    assert [row.patient_id for row in rows] == ["7", "8"]  # the third row says nothing of the image
    prompts = WriterPrompts(rows)
    assert prompts.patients == sorted([patient_hash("7"), patient_hash("8")])
    positive, negative = (prompts.report(label, 0, seed=0) for label in (1, 0))
    assert all(text in positive for text in ("PI-RADS 5", "7.7 ng/ml", "55 ml", "ISUP", " 3"))
    assert "PI-RADS 2" in negative
    assert "102 ml" in negative
    assert "PSA" not in negative
    assert "ISUP" not in negative
    assert WriterPrompts(rows[:1] + rows[1:]).identity == prompts.identity != WriterPrompts().identity
    with pytest.raises(InputError, match="no patient of class 0"):
        WriterPrompts(rows[:1])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7,high,,0,7,55", "row 2: column 'lesion_PIRADS': 'high' is not a category"),
        ("7,6,,0,7,55", "row 2: pirads=6"),
        ("7,4,,0,much,55", "row 2: column 'psa': 'much' is not a number"),
        ("7,4,2,9,7,55", "row 2: isup=9"),
        ("7,4,,0,0,55", "row 2: psa=0.0 must be a positive number"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_its_row(tmp_path, row, message):
    with pytest.raises(InputError) as refusal:
        read_marksheet(write_marksheet(tmp_path, row))
    assert message in str(refusal.value)


def test_a_marksheet_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such marksheet"):
        read_marksheet(tmp_path / "absent.csv")
    (tmp_path / "m.csv").write_text("patient_id,psa\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column 'lesion_PIRADS'"):
        read_marksheet(tmp_path / "m.csv")


def test_the_published_marksheet_is_read_whole():
    path = SHARED / "picai" / "marksheet.csv"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    rows = read_marksheet(path)
    by_class = [[row.findings for row in rows if row.findings.label == label] for label in (0, 1)]
    assert (
        len(rows) + sum(not findings_without(line) for line in path.read_text(encoding="utf-8").splitlines()[1:])
        == 1500
    )
    assert min(map(len, by_class)) > 500
    prompts = WriterPrompts(rows)
    assert "PI-RADS" in prompts.report(1, 0, seed=0)


def findings_without(line):
    """Whether a line of the published file states a category (its lists are quoted)."""
    import csv

    return findings_of({"lesion_PIRADS": next(csv.reader([line]))[8]})
