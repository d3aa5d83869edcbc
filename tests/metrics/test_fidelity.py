"""Condition fidelity: tables counted by hand, swaps that matter or not, gland volumes that follow or not."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_pool import build_pool
from taps_wheel import Threshold, ball, needs_taps, real_data

from synthaug.data.reports.writers import ProstateFindings, write_prostate_report
from synthaug.ground.errors import InputError
from synthaug.metrics.fidelity import (
    class_fidelity,
    gland_agreement,
    gland_volume_fidelity,
    stated_volume_ml,
    swap_agreements,
    swap_score,
)
from synthaug.models.extractors.taps import measure_glands_ml


def line(requested, probabilities=None) -> str:
    return json.dumps({"requested_class": requested, "class_probabilities": probabilities})


def one_hot(*classes: int) -> np.ndarray:
    return np.eye(2)[list(classes)]


# --- classes


def test_tables_counted_by_hand():
    asked = [line(0, [0.9, 0.1]), line(1, [0.6, 0.4]), line(1, [0.2, 0.8]), line(1, [0.1, 0.9])]
    found = class_fidelity(asked, one_hot(0, 0, 1, 0))
    assert found.tables == {
        "requested against predicted": [[1, 0], [1, 2]],
        "requested against audited": [[1, 0], [2, 1]],
        "predicted against audited": [[2, 0], [1, 1]],
    }
    assert {name: share for name, (share, _, _) in found.agreement.items()} == {
        "requested against predicted": 0.75,
        "requested against audited": 0.5,
        "predicted against audited": 0.75,
    }
    # Wilson's interval of 2 in 4 as tables give it.
    assert found.agreement["requested against audited"][1:] == pytest.approx((0.150, 0.850), abs=1e-3)
    json.dumps(found.to_dict())


def test_a_pool_tells_what_was_requested_and_predicted(tiny_pipeline, tiny_subjects, tmp_path):
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path)
    subjects = list(pool.subjects())
    audited = np.array([[0.5, 0.6]] * len(subjects))
    found = class_fidelity([subject["provenance"] for subject in subjects], audited)
    assert np.sum(found.tables["requested against predicted"], axis=1).tolist() == [pool.counts[0], pool.counts[1]]
    assert found.tables["requested against audited"] == [[0, pool.counts[0]], [0, pool.counts[1]]]


@pytest.mark.parametrize(
    ("provenances", "audited", "message"),
    [
        ([""], one_hot(0), "Volume 0 has no provenance"),
        ([line(0), "{}"], one_hot(0, 1), "Volume 1 has no provenance"),
        ([line(0)], one_hot(0, 1), "do not fit"),
        ([], np.zeros((0, 2)), "do not fit"),
        ([line(0)], np.array([[np.nan, 0.5]]), "do not fit"),
        ([line(2)], one_hot(0), "lies beyond the 2"),
        ([line(0, [1.0, 0.0]), line(0)], one_hot(0, 0), "Volume 1 has no predicted class"),
    ],
)
def test_unusable_classes_are_named(provenances, audited, message):
    with pytest.raises(InputError, match=message):
        class_fidelity(provenances, audited)


# --- swaps


def brightness(volume: torch.Tensor, report: str) -> float:
    return -abs(float(volume.mean()) - float(report))


def obedient(reports, seeds):
    """Draws the brightness that the report names, over noise that the seed names."""
    noise = [torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack([0.01 * each + float(report) for each, report in zip(noise, reports, strict=True)])


def deaf(reports, seeds):
    """Draws the same whatever the report says."""
    return obedient(["0.5"] * len(reports), seeds)


PAIRS = [("0.2", "0.8"), ("0.9", "0.1"), ("0.3", "0.6")]


def test_an_obedient_generator_wins_every_swap_and_a_deaf_one_none():
    good, bad = (swap_score(swap_agreements(draw, PAIRS, brightness)) for draw in (obedient, deaf))
    assert (good.share, good.pairs) == (1.0, 3)
    assert good.margin == pytest.approx(np.mean([0.6, 0.8, 0.3]), abs=0.02)
    assert (bad.share, bad.margin) == (0.5, 0.0)
    assert good.ci_low > bad.ci_low


def test_both_images_of_a_pair_are_drawn_from_the_same_noise(tiny_pipeline, tiny_subjects):
    reports = [tiny_subjects[0]["report"], tiny_subjects[1]["report"]]
    seen = []

    def draw(reports, seeds):
        seen.append(seeds)
        return tiny_pipeline(reports, seeds=seeds, num_inference_steps=2).volumes

    scores = swap_agreements(draw, [tuple(reports)] * 2, lambda volume, report: float(volume.mean()), seed=3)
    assert scores.shape == (2, 2, 2)
    assert np.isfinite(scores).all()
    [(one, same, two, again)] = seen
    assert (one, two) == (same, again)
    assert one != two


@pytest.mark.parametrize("calls", [1, 3])
def test_pairs_drawn_together_score_as_each_alone(calls):
    pairs = [(f"{place / 10}", f"{place / 20 + 0.3}") for place in range(5)]
    together = swap_agreements(obedient, pairs, brightness)
    np.testing.assert_array_equal(swap_agreements(obedient, pairs, brightness, at_once=calls), together)


def test_unusable_swaps_are_named():
    with pytest.raises(InputError, match="Pair 1 holds one report twice"):
        swap_agreements(deaf, [PAIRS[0], ("0.1", "0.1")], brightness)
    for agreements, message in ((np.zeros((2, 2)), "shape"), (np.full((1, 2, 2), np.nan), "not finite")):
        with pytest.raises(InputError, match=message):
            swap_score(agreements)


# --- gland volumes


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("Estimated gland volume of 27 cc. Tumour of 1.4 cm.", 27),
        ("Prostate measures 5.8 x 3.7 x 4.5 cm (estimated volume: 50 cc).", 50),
        ("The prostate has a volume of 41.5 mL; PSA density 0.2 ng/ml/ml.", 41.5),
        ("Prostate volume: 120 cm3", 120),
        ("Prostate volume 45,5 ml.", 45.5),
        ("Prostate of 5,8 x 3,7 x 4,5 cm, volume 50 cc.", 50),
        ("Prostate volume,45 ml", 45),
        ("PSA of 7.1 ng/ml. PI-RADS 4.", None),
        ("Prostate enlarged. PSA level 12 ng/ml.", None),
        ("Prostate with PSA 7 ng/ml", None),
        ("Lesion of 0.5 cc in the left apex.", None),
        ("Prostate of 0 ml.", None),
        ("", None),
    ],
)
def test_the_stated_volume_is_read(report, expected):
    assert stated_volume_ml(report) == expected


@given(ml=st.floats(10, 300), psa=st.floats(0.1, 99), seed=st.integers(0, 10**6))
def test_the_writers_reports_are_read_back(ml, psa, seed):
    findings = ProstateFindings(pirads=4, psa=psa, gland_volume_ml=ml, size_mm=12)
    assert stated_volume_ml(write_prostate_report(findings, seed=seed)) == pytest.approx(ml, rel=0.01)


def test_real_reports_are_read():
    reports = pd.read_csv(real_data("prostate_diagnosis") / "manifest.csv")["report"]
    stated = reports.map(stated_volume_ml)
    assert stated.notna().mean() > 0.5
    assert stated.dropna().between(10, 250).all()


def test_volumes_counted_by_hand():
    found = gland_volume_fidelity(np.array([20, 30, 40, np.nan, 80]), np.array([25, 50, 28, 1, 70]))
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 (1 + 1) / (4 * 15).
    assert found.spearman == pytest.approx(0.8)
    assert (found.n, found.median_error_ml, found.median_bias_ml) == (4, 11.0, -2.5)
    assert found.spearman_interval[0] <= 0.8 <= found.spearman_interval[1]
    assert found.median_error_interval_ml[0] <= 11 <= found.median_error_interval_ml[1]
    assert gland_volume_fidelity(np.array([20, 30, 40, 80.0]), np.array([80, 40, 30, 20])).spearman == -1


@pytest.mark.parametrize(
    ("stated", "measured", "message"),
    [
        ([1, 2, 3], [1, 2, 3], "at least 4"),
        ([1, 2, 3, np.nan], [1, 2, 3, 4], "at least 4"),
        ([1, 2, 3, 4], [1, 2, 3], "do not fit"),
        ([1, 2, 3, 4], [1, 2, 3, np.nan], "do not fit"),
        ([5, 5, 5, 5], [1, 2, 3, 4], "All stated gland volumes are 5 ml"),
        ([1, 2, 3, 4], [0, 0, 0, 0], "All measured gland volumes are 0 ml"),
    ],
)
def test_unusable_volumes_are_named(stated, measured, message):
    with pytest.raises(InputError, match=message):
        gland_volume_fidelity(np.array(stated, dtype=float), np.array(measured, dtype=float))


def test_agreement_with_a_gland_is_best_where_it_is_as_large_as_stated():
    spacing = (1.0, 1.0, 3.0)
    volume = ball((48, 48, 16), spacing, radius_mm=15)
    [seen] = measure_glands_ml([volume], spacing, network=Threshold())
    agreement = gland_agreement(spacing, network=Threshold())
    scores = [agreement(volume, f"Gland volume {share * seen:.6f} ml.") for share in (1, 2, 0.5)]
    assert scores == pytest.approx([0, -np.log(2), -np.log(2)], abs=1e-4)
    with pytest.raises(InputError, match="states no gland volume"):
        agreement(volume, "PI-RADS 4.")


@needs_taps
def test_agreement_with_a_gland_runs_on_the_network():
    volume = torch.rand(1, 16, 16, 8, generator=torch.Generator().manual_seed(0))
    assert np.isfinite(gland_agreement((0.8, 0.8, 3.0))(volume, "Prostate of 40 ml."))
