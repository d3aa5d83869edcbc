"""Findings: each code is told where it holds and nowhere else, has its page, and can be muted."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from synthaug.config import Config, DataConfig, ReportConfig
from synthaug.config.study import FindingCode
from synthaug.ground.errors import InputError
from synthaug.report.tables import headlines
from synthaug.study.records import Arm, CellRecord, Contrast, Estimate, ImageComparison, Prediction, Summary, Verdict
from synthaug.study.records.findings import MEANINGS, Finding
from synthaug.study.summary.findings import FEW, findings_of, mute

ARM, REAL = Arm("mixed"), Arm("real")
GAIN = Contrast(ARM, REAL, "auroc", Estimate(0.1, 0.05, 0.15), p=0.01, p_holm=0.01, repeats=3)
QUIET = Summary(6, (ARM, REAL), (GAIN,), Verdict("helped", provenance="known"))
COPIES = ImageComparison("copies", Estimate(0.2, 0.1, 0.3), more={"false_alarms": 0.05})

NO_CLASS = ImageComparison(
    "class_shown",
    Estimate(0.5, 0.4, 0.6),
    more={"real": 0.8, "real_low": 0.7, "real_high": 0.9, "missing": True},
)
FAR_OFF = ImageComparison("fid", Estimate(0.6, 0.4, 0.8), more={"floor": 0.1, "value_at_floor_n": 0.6})


def records(patients=2 * FEW, positive=FEW):
    rows = [Prediction(f"s{n}", f"p{n}", int(n < positive), (0.5, 0.5)) for n in range(patients)]
    return [CellRecord("real", 0, predictions=tuple(rows))]


def codes(summary=QUIET, *, cells=None, config=None, pools=None):
    found = findings_of(summary, cells or records(), config or Config(), pools)
    return [(each.code, each.severity) for each in found]


def test_a_study_without_faults_has_no_findings():
    assert codes(pools={"": {"volumes": 9, "contradicts": 0, "unlike": 0, "off": 0, "reports": 9, "cut": 0}}) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"failed": ({"regime": "real"},)}, ("cells-failed", "error")),
        ({"near_copies": ({"part": "train", "nearest_part": "test"},)}, ("near-copies", "error")),
        ({"near_copies": ({"part": "train", "nearest_part": "train"},)}, ("near-copies", "warning")),
        ({"contrasts": (replace(GAIN, repeats=1),)}, ("few-repeats", "warning")),
        ({"verdict": Verdict("unclear", limit="too few swaps")}, ("p-limit", "warning")),
        ({"verdict": Verdict("helped", provenance="unknown")}, ("unknown-provenance", "warning")),
        ({"image_metrics": (COPIES,)}, ("copies", "error")),
        ({"image_metrics": (replace(COPIES, estimate=Estimate(0.1, 0.0, 0.3)),)}, ("copies", "warning")),
        (
            {"image_metrics_left_out": ({"metric": "copies", "reason": "too few", "source": ""},)},
            ("copies-unknown", "note"),
        ),
        (
            {"image_metrics": (ImageComparison("realism_statistics", Estimate(1, 1, 1), more={"told_apart": True}),)},
            ("told-apart", "warning"),
        ),
        ({"image_metrics": (FAR_OFF,)}, ("far-from-real", "warning")),
        ({"image_metrics": (NO_CLASS,)}, ("class-not-shown", "warning")),
    ],
)
def test_each_fault_of_a_summary_has_its_code(change, found):
    assert codes(replace(QUIET, **change)) == [found]


def test_no_more_copies_than_chance_are_no_finding():
    assert codes(replace(QUIET, image_metrics=(replace(COPIES, estimate=Estimate(0.04, 0.0, 0.3)),))) == []


def test_a_distance_near_that_of_real_volumes_is_no_finding():
    assert codes(replace(QUIET, image_metrics=(replace(FAR_OFF, estimate=Estimate(0.6, 0.3, 0.8)),))) == []


def test_labels_that_reports_often_contradict_are_a_warning():
    found = [codes(pools={"": {"volumes": 8, "contradicts": number}}) for number in (2, 3)]
    assert found == [[("reports-contradict", "note")], [("reports-contradict", "warning")]]


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({"reports": 9, "cut": 2}, "reports-cut"),
        ({"contradicts": 1}, "reports-contradict"),
        ({"unlike": 1}, "reports-unlike"),
        ({"off": 1}, "field-of-view"),
    ],
)
def test_each_fault_of_a_pool_has_its_code(counts, code):
    assert [each for each, _ in codes(pools={"": {"volumes": 9, **counts}})] == [code]


def test_few_test_patients_are_those_of_the_rarest_class_who_is_named():
    config = Config(data=DataConfig(classes=["benign", "cancer"]))
    assert codes(cells=records(positive=FEW - 1)) == [("few-test-patients", "warning")]
    [finding] = findings_of(QUIET, records(positive=5), config)
    assert "5 of class cancer" in finding.sentence


def test_a_patient_with_a_volume_of_the_higher_class_is_of_that_class():
    both = [Prediction(f"s{n}{label}", f"p{n}", label, (0.5, 0.5)) for n in range(FEW) for label in (1, 0)]
    rest = [Prediction(f"h{n}", f"h{n}", 0, (0.5, 0.5)) for n in range(FEW)]
    found = [CellRecord("real", 0, predictions=(*both, *rest))]
    assert codes(cells=found) == []
    told = dict(headlines(QUIET, found, DataConfig(root="x"), confidence=0.95))
    assert told["test patients"] == f"{2 * FEW}: {FEW} class 0, {FEW} class 1"


def test_errors_come_first_and_muted_ones_are_marked():
    summary = replace(QUIET, failed=({"regime": "real"},), verdict=Verdict("helped", provenance="unknown"))
    config = Config(report=ReportConfig(mute=["cells-failed"]))
    found = findings_of(summary, records(positive=5), config)
    assert [each.severity for each in found] == ["error", "warning", "warning"]
    assert [each.code for each in found if each.muted] == ["cells-failed"]
    assert not any(each.muted for each in mute(found, []))


def test_findings_are_read_back_and_a_code_that_is_none_is_refused():
    summary = replace(QUIET, findings=(Finding("copies", "error", "20 %"),))
    told = json.loads(json.dumps(summary.to_json()))
    assert Summary.from_json(told).findings == summary.findings
    told["findings"][0]["code"] = "nonsense"
    with pytest.raises(InputError):
        Summary.from_json(told)


def test_every_code_has_a_meaning_a_page_and_a_name_in_the_config():
    assert list(get_args(FindingCode)) == list(MEANINGS)
    page = (Path(__file__).parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)$", page, flags=re.MULTILINE) == list(MEANINGS)
    for meaning in MEANINGS.values():
        assert meaning.why in page
        assert meaning.mend in page
