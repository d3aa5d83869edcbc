"""Records are written and read back unchanged, and files of earlier versions become records too."""

import json
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

import synthaug as sa
from synthaug.config import Config, MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import write_json
from synthaug.metrics.realism.judgement import RealismReport
from synthaug.statistics.intervals import Interval
from synthaug.study.records import SCHEMA, Arm, CellRecord, ImageComparison, Prediction, Subgroup, Summary, read_summary
from synthaug.study.records.arm_fields import ArmFields, arm_fields_of
from synthaug.study.summary.aggregate import summarise
from synthaug.study.summary.arms import arms_of
from synthaug.tracking.notes import note_of
from synthaug.tracking.studies import metrics_of

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"
OLD = ["full_size", "hippocampus", "hippocampus/same-cohort", "phantom"]
"""Summaries that were written before there were records."""


def a_record(regime="real", fraction=None, *, seed=0, right=3, **settings):
    rows = [
        Prediction(f"s{n}", f"p{n}", n % 2, (0.2, 0.8) if (n % 2 == 1) == (n < 2 * right) else (0.8, 0.2))
        for n in range(8)
    ]
    return CellRecord(
        regime,
        seed,
        id=f"{regime}-{seed}",
        synthetic_fraction=fraction,
        settings={key.replace("__", "."): value for key, value in settings.items()},
        treatment={"augment": ["flip"], "balance": "oversampled", "class_weights": None},
        generator="" if fraction is None else "ccella",
        labels="" if fraction is None else "requested",
        classifier="resnet10",
        protocol="same cohort",
        n_train=8,
        n_train_real=8,
        predictions=tuple(rows),
        history=({"step": 4, "val_loss": 0.5},),
        metrics={"auroc": 0.5},
    )


@pytest.fixture(scope="module")
def summary():
    records = [a_record(seed=seed) for seed in (0, 1)]
    records += [a_record("mixed", share, seed=seed, right=4) for share in (0.25, 0.5) for seed in (0, 1)]
    found = summarise(records, [{"regime": "mixed", "seed": 2}], MetricsConfig(bootstrap=10, permutations=9))
    image = ImageComparison.from_json(
        {"metric": "fid", "value": 2.0, "ci_low": 1.0, "ci_high": 3.0, "floor": 0.5, "n_floor": 3, "fingerprint": "f"}
    )
    groups = tuple(
        Subgroup("site", site, "real", 4, {"auroc": each}) for site, each in (("a", None), ("b", image.estimate))
    )
    left_out = ({"metric": "copies", "reason": "too few", "source": ""},)
    return replace(found, image_metrics=(image,), subgroups=groups, image_metrics_left_out=left_out)


def test_records_cannot_be_changed(summary):
    parts = [summary, *summary.arms, *summary.contrasts, *summary.image_metrics, *summary.subgroups, summary.verdict]
    parts += [a_record(), *a_record().predictions, summary.image_metrics[0].estimate]
    for record in parts:
        with pytest.raises(FrozenInstanceError):
            setattr(record, fields(record)[0].name, None)


def test_a_summary_is_read_back_as_it_was_written(summary, tmp_path):
    write_json(tmp_path / "summary.json", summary.to_json())
    assert sa.read_summary(tmp_path) == sa.read_summary(tmp_path / "summary.json")
    again = sa.read_summary(tmp_path)
    assert again.to_json() == summary.to_json()
    assert (again.arms, again.verdict.kind, again.subgroups) == (summary.arms, summary.verdict.kind, summary.subgroups)
    assert again.image_metrics[0].more == {"floor": 0.5, "n_floor": 3}
    assert again.contrasts[0].arm.label == summary.contrasts[0].arm.label


def test_volumes_that_are_easily_told_from_real_ones_are_told_above_the_verdict(summary):
    parts = (Interval(0.95, 0.91, 1.0), Interval(0.95, 0.89, 1.0))
    sure, unsure = (
        ImageComparison.from_json(RealismReport(part, None, None, None, 50, 50, 0).to_rows()[0]) for part in parts
    )
    assert replace(summary, image_metrics=(unsure,)).warning() == summary.warning() == ""
    told = replace(summary, image_metrics=(sure,))
    assert told.warning() == told.to_json()["warning"] != ""
    assert told.verdict.sentence() in note_of(told)
    assert "images/realism_statistics" in [metric.key for metric in metrics_of(told)]


def test_a_summary_keeps_the_keys_that_it_had_and_tells_its_schema_and_versions(summary):
    told = summary.to_json()
    kept = {"cells", "failed", "regimes", "contrasts", "permutations", "p_limit", "verdict", "subgroups"}
    assert kept | {"image_metrics", "image_metrics_left_out"} <= set(told)
    assert told["schema"] == SCHEMA
    assert set(told["versions"]) == {"synthaug", "torch", "monai"}
    of_arm = {"regime", "settings", "seeds", "repeats", "n_train", "n_train_real", "n_train_synthetic", "protocol"}
    assert of_arm | {"n_test", "auroc"} <= set(told["regimes"][0])
    assert {"contrast", "metric", "difference", "ci_low", "ci_high", "p", "p_holm"} <= set(told["contrasts"][0])
    arm = told["regimes"][1]["arm"]
    assert (arm["regime"], arm["fraction"], arm["generator"], arm["labels"]) == ("mixed", 0.25, "ccella", "requested")
    assert (arm["classifier"], arm["treatment"]["balance"]) == ("resnet10", "oversampled")
    assert told["answer"]["kind"] == summary.verdict.kind


@pytest.mark.parametrize("study", OLD)
def test_a_summary_of_an_earlier_version_becomes_records_with_the_same_labels(study):
    told = json.loads((STUDIES / study / "summary.json").read_text(encoding="utf-8"))
    assert "schema" not in told
    found = read_summary(STUDIES / study)
    assert [arm.label for arm in found.arms] == [row["regime"] for row in told["regimes"]]
    assert [row.label for row in found.contrasts] == [row["contrast"] for row in told["contrasts"]]
    assert {arm.regime for arm in found.arms} <= {"real", "synthetic", "mixed", "finetuned"}
    assert all(arm.fraction is None or 0 < arm.fraction <= 1 for arm in found.arms)
    assert found.schema == 1
    again = Summary.from_json(json.loads(json.dumps(found.to_json())))
    assert [arm.label for arm in again.arms] == [arm.label for arm in found.arms]
    clear = [
        row for row in found.in_metric("auroc") if row.is_clear(0.05) and row.arm.regime not in ("real", "synthetic")
    ]
    assert found.verdict.helped + found.verdict.hurt == len(clear)


def test_what_tells_arms_apart_is_in_a_cell_its_record_its_arm_and_the_file():
    names = {each.name for each in fields(ArmFields)}
    told = arm_fields_of(Config(), drawn=True)
    assert set(told) == names
    assert {
        name: getattr(CellRecord.from_json(CellRecord("mixed", 0, **told).to_json()), name) for name in names
    } == told
    [arm] = [each.arm for each in arms_of([CellRecord("mixed", 0, synthetic_fraction=0.5, **told)])]
    again = Arm.from_json(json.loads(json.dumps(arm.to_json())))
    assert all(getattr(again, name) == getattr(arm, name) == told[name] for name in names)


def test_a_cell_is_read_back_as_it_was_written_and_one_of_an_earlier_version_too():
    record = a_record("mixed", 0.5, split__train=8)
    assert CellRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    old = {
        key: value
        for key, value in record.to_json().items()
        if key not in ("schema", "versions", "treatment", "labels")
    }
    old["predictions"] = [
        {key: row[key] for key in ("patient_id", "label", "probabilities")} for row in old["predictions"]
    ]
    found = CellRecord.from_json(json.loads(json.dumps(old | {"augment": False, "a later key": 1})))
    assert (found.schema, found.treatment, found.versions) == (1, {"augment": False}, {})
    assert found.predictions[3].subject_id == "p3"


@pytest.mark.parametrize("kind", [CellRecord, Summary])
def test_a_file_of_a_later_version_is_refused(kind, summary):
    told = a_record().to_json() if kind is CellRecord else summary.to_json()
    with pytest.raises(InputError, match="upgrade"):
        kind.from_json(told | {"schema": SCHEMA + 1})


@pytest.mark.parametrize(("content", "words"), [(None, "no summary"), ("{}", "not the record")])
def test_what_is_no_summary_is_refused_by_its_name(tmp_path, content, words):
    if content:
        (tmp_path / "summary.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=rf"{tmp_path.name}.*{words}"):
        sa.read_summary(tmp_path / "summary.json")


def test_a_summary_becomes_tables(summary):
    arms = summary.to_frame()
    assert len(arms) == sum(len(arm.metrics) for arm in summary.arms)
    [row] = arms[(arms.arm == "mixed 0.5") & (arms.metric == "auroc")].itertuples()
    assert (row.value, row.fraction) == (summary.arms[2].metrics["auroc"].value, 0.5)
    assert list(summary.to_frame("contrasts").contrast) == [row.label for row in summary.contrasts]
    assert list(summary.to_frame("images").floor) == [0.5]
    of_size = replace(summary.image_metrics[0], axes={"split.train": 16})
    assert list(replace(summary, image_metrics=(of_size,)).to_frame("images")["split.train"]) == [16]
    assert replace(summary, image_metrics=()).to_frame("images").empty


def test_an_image_metric_tells_the_axis_values_of_its_pool_as_fields():
    row = {"metric": "fid", "value": 0.2, "ci_low": 0.1, "ci_high": 0.3}
    told = {**row, "source": "16", "axes": {"split.train": 16}, "settings": "1 scale"}
    again = ImageComparison.from_json(told).to_json()
    assert (again["axes"], again["settings"]) == ({"split.train": 16}, "1 scale")
    of_earlier = ImageComparison.from_json({**row, "source": "here pool.path a b generator.pretrained builtin/x"})
    assert of_earlier.axes == {"pool.path": "a b", "generator.pretrained": "builtin/x"}
    assert ImageComparison.from_json(row).axes == {}


@pytest.mark.parametrize("value", ["@reports.csv", "[a", "a: b: c", "2024-01-01", None, {"t2w": (0.0, 1.0)}, 1e-5])
def test_any_axis_value_of_an_earlier_summary_is_read_as_it_was(value):
    row = {"metric": "fid", "value": 0.2, "ci_low": 0.1, "ci_high": 0.3, "source": f"pool.reports {value}"}
    assert ImageComparison.from_json(row).axes == {"pool.reports": value}
    assert ImageComparison.from_json({**row, "axes": {"pool.path": "a"}}).axes == {"pool.path": "a"}


def test_a_label_is_made_of_fields():
    arm = Arm("mixed", fraction=0.5, settings={"split.train": 16, "generator.variant": "maisi"})
    assert (arm.label, arm.series(), arm.panel()) == ("mixed train 16 variant maisi", "mixed variant maisi", "train 16")
    assert replace(arm, tells_fraction=True).label == "mixed 0.5 train 16 variant maisi"
    assert replace(arm, name="half").label == "half train 16 variant maisi"
    assert arm.panel(without=["split.train"]) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"settings": 3},
        {"seed": "x"},
        {"temperature": None},
        {"predictions": []},
        {"predictions": [{"patient_id": "p", "label": 2, "probabilities": [0.5, 0.5]}]},
        {"predictions": [{"patient_id": "p", "label": 0, "probabilities": ["a", 0.5]}]},
        {"predictions": [{"patient_id": 3, "label": 0, "probabilities": [0.5, 0.5]}]},
        {"predictions": 7},
    ],
    ids=str,
)
def test_a_cells_file_that_was_damaged_is_named(tmp_path, change):
    row = {"patient_id": "p", "label": 0, "probabilities": [0.5, 0.5]}
    path = tmp_path / "cell.json"
    write_json(path, {"regime": "real", "seed": 0, "predictions": [row]})
    assert CellRecord.read(path).predictions[0].label == 0
    write_json(path, {"regime": "real", "seed": 0, "predictions": [row]} | change)
    with pytest.raises(InputError, match=r"cell\.json"):
        CellRecord.read(path)
