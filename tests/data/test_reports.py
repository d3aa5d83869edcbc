"""Reports say what the findings or the measurements say, and end with the conclusion."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import FINDINGS

from synthaug.config import MeasurementConfig
from synthaug.data.reports.writers import ProstateFindings, write_measurement_report, write_prostate_report
from synthaug.ground.errors import InputError

VOLUMES = {
    "total": MeasurementConfig("hippocampal volume", "mm3", {"small": 2800, "average": 3400}),
    "anterior": MeasurementConfig("anterior part", "mm3", {"small": 1200, "average": 1700}),
    "posterior": MeasurementConfig("posterior part", "mm3", {"small": 1200, "average": 1700}, above="big"),
}


@settings(max_examples=200, deadline=None)
@given(FINDINGS, st.integers(0, 2**62))
def test_the_impression_states_exactly_what_is_found(findings: ProstateFindings, seed: int) -> None:
    report = write_prostate_report(findings, seed=seed)
    body, impression = report.split("IMPRESSION: ")
    assert report.isascii()
    assert len(report) < 250
    assert f"PI-RADS {findings.pirads}" in impression
    for word, value in (("left", "left"), ("right", "right")):
        assert (word in impression) == (findings.side == value)
    for word in ("base", "midgland", "apex"):
        assert (word in impression) == (findings.level == word)
    for word in ("peripheral", "transition"):
        assert (f"{word} zone" in impression) == (findings.zone == word)
    assert ("PSA" in body) == (findings.psa is not None)
    assert ("ISUP" in body) == (findings.isup is not None)
    assert (" ml." in body) == (findings.gland_volume_ml is not None)
    assert "None" not in report


def test_a_seed_names_the_wording_and_seeds_vary_it() -> None:
    findings = ProstateFindings(4, "peripheral", "left", "apex", 13.0, 7.1, 45.0, 2)
    reports = [write_prostate_report(findings, seed=seed) for seed in range(20)]
    assert reports == [write_prostate_report(findings, seed=seed) for seed in range(20)]
    assert len(set(reports)) > 10
    assert all("13 mm" in report and "7.1 ng/ml" in report and "45 ml" in report for report in reports)


@pytest.mark.parametrize(("pirads", "label"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)])
def test_label_begins_at_pirads_3(pirads: int, label: int) -> None:
    assert ProstateFindings(pirads).label == label


@pytest.mark.parametrize(
    "wrong",
    [{"pirads": 0}, {"pirads": 6}, {"zone": "central"}, {"side": "L"}, {"level": "mid"}, {"size_mm": -1}, {"isup": 6}],
)
def test_findings_outside_their_range_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ProstateFindings(**{"pirads": 3, **wrong})


@pytest.mark.parametrize("seed", range(6))
def test_measurements_become_words_numbers_and_an_impression(seed: int) -> None:
    row = {"total": "2650.2", "anterior": 1700, "posterior": 1701}
    report = write_measurement_report(row, VOLUMES, seed=seed)
    body, impression = report.split("Impression: ")
    assert impression == "small hippocampal volume, average anterior part, big posterior part."
    assert all(text in body for text in ("2650 mm3", "1700 mm3", "1701 mm3"))
    assert len(report) < 250
    assert report == write_measurement_report({**row, "total": 2650.2}, VOLUMES, seed=seed)


def test_measurement_wordings_vary_with_the_seed() -> None:
    assert len({write_measurement_report({"total": 3000}, VOLUMES, seed=seed) for seed in range(20)}) == 4


def test_missing_values_are_not_mentioned() -> None:
    report = write_measurement_report({"total": math.nan, "anterior": "", "posterior": 900}, VOLUMES, seed=0)
    assert "hippocampal" not in report
    assert "anterior" not in report
    assert report.endswith("Impression: small posterior part.")
    assert write_measurement_report({"total": None}, VOLUMES, seed=0) == ""


def test_several_lesions_in_a_cell_are_refused_or_the_largest_counts() -> None:
    row = {"pirads": "3,5"}
    with pytest.raises(InputError, match="'3,5' is not a number"):
        write_measurement_report(row, {"pirads": MeasurementConfig(name="PI-RADS")}, seed=0)
    largest = {"pirads": MeasurementConfig(name="PI-RADS", several="largest")}
    assert write_measurement_report(row, largest, seed=0).endswith("Impression: PI-RADS 5.")


def test_a_measurement_without_bands_is_a_plain_number() -> None:
    report = write_measurement_report({"age": 71.5}, {"age": MeasurementConfig("age", "years")}, seed=0)
    assert report.endswith("Impression: age 71.5 years.")
    assert "large" not in report


@pytest.mark.parametrize("value", ["n/a", "12 mm", math.inf, True, [3]])
def test_a_value_that_is_no_number_is_refused_with_its_column(value: object) -> None:
    with pytest.raises(InputError, match="'total'") as refusal:
        write_measurement_report({"total": value}, VOLUMES, seed=0)
    assert repr(value) in str(refusal.value)


def test_bands_that_do_not_rise_are_refused() -> None:
    with pytest.raises(InputError, match="bands"):
        MeasurementConfig("volume", bands={"small": 3400, "average": 2800})
