"""Report and class follow a moved volume, or the move is left out for that subject."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.config import DataConfig, GeometryConfig, LabelRule, MeasurementConfig
from synthaug.data.phantom import findings_of, make_subjects
from synthaug.data.relabel.label_rule import boundary
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.relabel.statements import FreeText
from synthaug.data.reports.writers import ProstateFindings, write_measurement_report, write_prostate_report
from synthaug.data.voxels.geometry import Geometry
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed

MEASUREMENTS = {
    "side": MeasurementConfig("hippocampus", side="swaps"),
    "volume_mm3": MeasurementConfig("volume", "mm3", bands={"small": 2900}, above="large"),
    "length_mm": MeasurementConfig("length", "mm"),
    "age": MeasurementConfig("age", "years"),
}
DATA = DataConfig(root="unused", measurements=MEASUREMENTS, label_rule=LabelRule("volume_mm3", below="boundary"))
GEOMETRY = GeometryConfig()


def a_cohort(volumes=(2500, 2700, 3100, 3400), **columns) -> tuple[list[dict], dict[str, dict]]:
    """Subjects smaller than 2900 are class 1; reports as a study writes them."""
    rows, subjects = {}, []
    for place, volume in enumerate(volumes):
        name = f"case-{place}"
        rows[name] = {"side": "left", "volume_mm3": str(volume), "length_mm": "40", "age": "70"} | columns
        report = write_measurement_report(rows[name], MEASUREMENTS, seed=derive_seed("report", name))
        subjects.append({"subject_id": name, "label": int(volume < 2900), "report": report})
    return subjects, rows


def a_relabeller(data=DATA, geometry=GEOMETRY, texts=True, **columns) -> tuple[Relabeller, list[dict]]:
    subjects, rows = a_cohort(**columns)
    return Relabeller.fit(subjects, data, geometry, rows=rows, texts=texts), subjects


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 3), zoom=st.sampled_from(GEOMETRY.zooms), mirrored=st.booleans())
def test_the_rewritten_report_is_the_writers_of_the_moved_measurements(place, zoom, mirrored):
    relabeller, subjects = a_relabeller()
    subject = subjects[place]
    volume = float(relabeller.rows[subject["subject_id"]]["volume_mm3"]) * zoom**3
    row = {"side": "right" if mirrored else "left", "volume_mm3": volume, "length_mm": 40 * zoom, "age": 70}
    report, label = relabeller.rewrite(subject, Geometry(mirrored=mirrored, zoom=zoom))
    assert report == write_measurement_report(row, MEASUREMENTS, seed=derive_seed("report", subject["subject_id"]))
    assert label == int(volume < 2900)  # half-way between 2700 and 3100
    assert report in relabeller.reports(subject)


def test_a_mirrored_report_tells_the_other_side():
    relabeller, (subject, *_) = a_relabeller()
    assert "Left hippocampus." in subject["report"]
    assert "Right hippocampus." in relabeller.rewrite(subject, Geometry(mirrored=True))[0]


def test_where_crops_were_turned_alike_a_mirrored_one_keeps_its_side():
    measurements = MEASUREMENTS | {"side": MeasurementConfig("hippocampus", side="stays")}
    relabeller, (subject, *_) = a_relabeller(replace(DATA, measurements=measurements))
    assert relabeller.rewrite(subject, Geometry(mirrored=True))[0] == subject["report"]


def test_reports_are_few_and_begin_with_the_own_one():
    relabeller, (subject, *_) = a_relabeller()
    assert relabeller.reports(subject)[0] == subject["report"]
    assert len(relabeller.reports(subject)) == len(set(relabeller.reports(subject))) == 2 * len(GEOMETRY.zooms)
    without, _ = a_relabeller(geometry=GeometryConfig(flip=False, zooms=(1.0,)))
    assert without.reports(subject) == (subject["report"],)


def test_the_limit_is_estimated_from_the_training_subjects():
    for limit, expected in (("boundary", 2900), ("median", 2900), (2950, 2950)):
        relabeller, _ = a_relabeller(replace(DATA, label_rule=LabelRule("volume_mm3", below=limit)))
        assert relabeller.rule.limit == expected
    subjects, rows = a_cohort()
    fitted = Relabeller.fit(subjects[1:3], DATA, GEOMETRY, rows=rows | {"other": {"volume_mm3": "9999"}})
    assert fitted.rule.limit == 2900
    assert fitted.allowed(subjects[0]).zooms == GEOMETRY.zooms  # others can be asked about, too


def test_the_boundary_contradicts_the_fewest():
    values, ones = [1.0, 2, 3, 4, 9], [True, True, False, True, False]
    assert boundary(np.array(values), np.array(ones)) == 6.5  # one wrong, as at 2.5, but with more room
    assert boundary(np.array(values), ~np.array(ones), above=True) == 6.5


def test_a_rule_of_its_own_column_takes_no_decimal_comma_for_two_numbers(tmp_path):
    rows = [f"case-{place};{value}" for place, value in enumerate(["0,95", "0,97", "3100", "3400"])]
    (tmp_path / "manifest.csv").write_text("\n".join(["subject_id;size_mm3", *rows]), encoding="utf-8")
    rule = LabelRule("size_mm3", below="boundary")
    alone = DataConfig(root=str(tmp_path), label_rule=rule)
    with pytest.raises(InputError, match="row 2: size_mm3"):
        Relabeller.fit(a_cohort()[0], alone, GEOMETRY, texts=False)
    told = replace(alone, measurements={"size_mm3": MeasurementConfig("size", "mm3")})
    assert Relabeller.fit(a_cohort()[0], told, GEOMETRY, texts=False).rows["case-0"] == {"size_mm3": "0.95"}


def left_out(relabeller: Relabeller) -> dict[str, int]:
    return {each.move: each.subjects for each in relabeller.left_out}


@pytest.mark.parametrize(
    ("data", "lost"),
    [
        (replace(DATA, label_rule=None), {"zoom": 4}),
        (replace(DATA, label_rule=LabelRule()), {}),  # the class is said to depend on no size
        (replace(DATA, measurements=MEASUREMENTS | {"age": MeasurementConfig("age", "")}), {"zoom": 4}),
        (replace(DATA, measurements=MEASUREMENTS | {"age": MeasurementConfig("age", "", power=0)}), {}),
        (replace(DATA, label_rule=LabelRule("volume_mm3", below=2600)), {"zoom": 1}),  # 2700 is class 1 in the manifest
    ],
)
def test_a_move_is_left_out_where_report_or_class_could_be_wrong(data, lost, caplog):
    subjects, rows = a_cohort()
    for subject in subjects:  # as these measurements would be written
        seed = derive_seed("report", subject["subject_id"])
        subject["report"] = write_measurement_report(rows[subject["subject_id"]], data.measurements, seed=seed)
    with caplog.at_level(logging.WARNING):
        relabeller = Relabeller.fit(subjects, data, GEOMETRY, rows=rows)
    assert left_out(relabeller) == lost
    assert len(caplog.records) == len(lost)  # said once
    for subject in subjects:
        allowed = relabeller.allowed(subject)
        if allowed.zooms == (1.0,):
            with pytest.raises(InputError, match=subject["subject_id"]):
                relabeller.rewrite(subject, Geometry(zoom=0.9))


def test_free_text_bars_what_it_may_say_and_a_classifier_does_not_read_it():
    subjects, rows = a_cohort()
    for subject, report in zip(subjects, ("The left lobe.", "Normal.", "Focus, R apex.", ""), strict=True):
        subject["report"] = report
    data = replace(DATA, measurements={}, report="report")
    reading = Relabeller.fit(subjects, data, GEOMETRY, rows=rows)
    assert [reading.allowed(subject).mirror for subject in subjects] == [False, True, False, True]
    assert [len(reading.allowed(subject).zooms) for subject in subjects] == [1, 1, 1, len(GEOMETRY.zooms)]
    blind = Relabeller.fit(subjects, data, GEOMETRY, rows=rows, texts=False)
    assert blind.left_out == []
    # It still says nothing false: a report that cannot follow is gone.
    assert blind.rewrite(subjects[0], Geometry(mirrored=True)) == ("", 1)
    assert blind.rewrite(subjects[1], Geometry(zoom=1.1)) == ("", 0)


@pytest.mark.parametrize(
    "text",
    [
        "PI-RADS 4 lesion at 8 o'clock in the mid gland.",
        "Lesion at 3 o’clock",
        "Lesion at 3 o clock",
        "Läsion bei 5 Uhr, PI-RADS 4",
        "Lésion à 7 h, PI-RADS 4",
        "Läsion PZ re. posterolateral",
        "Läsion PZ li.",
        "lesione PZ dx",
        "lesione PZ sx",
        "förändring i PZ sin",
        "lesão na zona periférica esquerda",
        "lobo direito",
        "RPZ lesion",
        "LTZa, 12 mm",
        "RPZpl, PI-RADS 4",
        "sector 7p",
        "Lesion in segment 9",
        "lesion on the rt. side",
        "left apex",
    ],
)
def test_free_text_that_names_a_side_in_any_way_bars_mirroring(text):
    assert FreeText(text).against_mirroring()


@pytest.mark.parametrize("style", ["template", "structured", "prose", "list", "letter"])  # others have typing errors
def test_free_text_without_a_side_allows_mirroring(style):
    for seed in range(20):
        findings = ProstateFindings(pirads=2, psa=7.1, gland_volume_ml=50.0)
        report = write_prostate_report(findings, seed=seed, style=style)
        assert not FreeText(report).against_mirroring(), report


def test_a_missing_value_costs_that_subject_the_zoom_alone():
    subjects, rows = a_cohort()
    rows["case-0"]["volume_mm3"] = ""
    subjects[0]["report"] = write_measurement_report(rows["case-0"], MEASUREMENTS, seed=derive_seed("report", "case-0"))
    relabeller = Relabeller.fit(subjects, DATA, GEOMETRY, rows=rows)
    assert left_out(relabeller) == {"zoom": 1}
    assert relabeller.allowed(subjects[0]).zooms == (1.0,)
    assert relabeller.allowed(subjects[0]).mirror


@pytest.mark.parametrize(
    ("rule", "columns", "named"),
    [
        (LabelRule("volume_mm3", above="boundary"), {}, "other side"),
        (LabelRule("volume_mm3", below="boundary"), {"volume_mm3": ""}, "empty"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule, columns, named):
    with pytest.raises(InputError, match=named):
        a_relabeller(replace(DATA, label_rule=rule), **columns)


@pytest.mark.parametrize("settings", [{"column": "a"}, {"below": 3}, {"column": "a", "below": 1, "above": 2}])
def test_a_rule_has_one_limit(settings):
    with pytest.raises(InputError, match="label_rule"):
        LabelRule(**settings)


def test_a_side_is_no_number():
    with pytest.raises(InputError, match="side"):
        MeasurementConfig("kidney", unit="ml", side="swaps")
    with pytest.raises(InputError, match="middle"):
        write_measurement_report({"side": "middle"}, MEASUREMENTS, seed=0)


def test_phantoms_are_rewritten_from_their_findings():
    subjects = make_subjects(24, 0.5, seed=3, shape=(8, 8, 4), spacing_mm=(10, 10, 16))
    relabeller = Relabeller.fit(subjects, DataConfig(), GEOMETRY)
    for subject in subjects:
        findings, patient = findings_of(subject["subject_id"], subject["label"])
        allowed = relabeller.allowed(subject)
        assert allowed.mirror
        for zoom in allowed.zooms:
            report, label = relabeller.rewrite(subject, Geometry(mirrored=True, zoom=zoom))
            assert label == subject["label"]
            moved = replace(
                findings,
                side={"left": "right", "right": "left", None: None}[findings.side],
                size_mm=findings.size_mm and round(findings.size_mm * zoom),
                gland_volume_ml=round(findings.gland_volume_ml * zoom**3),
            )
            assert report == write_prostate_report(moved, seed=patient)
            assert moved.size_mm is None or (moved.size_mm >= 15 if moved.pirads == 5 else moved.size_mm <= 15)
    assert {each.move for each in relabeller.left_out} <= {"zoom"}


def test_a_rule_has_no_place_among_phantoms():
    subjects = make_subjects(4, 0.5, seed=3, shape=(8, 8, 4), spacing_mm=(10, 10, 16))
    with pytest.raises(InputError, match="manifest"):
        Relabeller.fit(subjects, DataConfig(label_rule=LabelRule("size", below=3)), GEOMETRY)


def test_columns_are_read_from_the_manifest(tmp_path):
    subjects, rows = a_cohort()
    lines = [",".join([name, *row.values()]) for name, row in rows.items()]
    (tmp_path / "manifest.csv").write_text(
        "\n".join(["subject_id,side,volume_mm3,length_mm,age", *lines]), encoding="utf-8"
    )
    relabeller = Relabeller.fit(subjects, replace(DATA, root=str(tmp_path)), GEOMETRY)
    assert relabeller.rewrite(subjects[1], Geometry(zoom=1.1))[1] == 0
    rule = LabelRule("nowhere", below=3)
    with pytest.raises(InputError, match="nowhere"):
        Relabeller.fit(subjects, replace(DATA, root=str(tmp_path), label_rule=rule), GEOMETRY)


def test_the_hippocampus_config_says_how_its_crops_follow():
    """A zoomed crop's class and sizes change, a mirrored one's side does not: all crops lie in one orientation."""
    settings = yaml.safe_load((Path(__file__).parents[2] / "configs" / "hippocampus.yaml").read_text(encoding="utf-8"))[
        "data"
    ]
    measurements = {name: MeasurementConfig(**values) for name, values in settings["measurements"].items()}
    data = DataConfig(root="unused", measurements=measurements, label_rule=LabelRule(**settings["label_rule"]))
    subjects, rows = [], {}
    for place, volume in enumerate((2900, 3700)):
        name = f"hippocampus_{place}"
        rows[name] = {"side": "left", "volume_mm3": volume, "anterior_mm3": volume // 2, "posterior_mm3": volume // 2}
        report = write_measurement_report(rows[name], measurements, seed=derive_seed("report", name))
        subjects.append({"subject_id": name, "label": int(place == 0), "report": report})
    relabeller = Relabeller.fit(subjects, data, GEOMETRY, rows=rows)
    assert relabeller.left_out == []
    report, label = relabeller.rewrite(subjects[0], Geometry(mirrored=True, zoom=1.1))
    assert label == 0
    assert "Left hippocampus." in report
    assert "3860" in report
