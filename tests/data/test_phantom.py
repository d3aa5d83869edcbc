"""Phantoms are what their findings, reports and labels say, at any resolution."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.data.anatomy import lesion_centre_mm, place
from synthaug.data.phantom import draw_findings, gland_mask, make_subjects, render
from synthaug.data.reports.writers import ProstateFindings
from synthaug.ground.errors import InputError

SHAPE, SPACING_MM = (32, 32, 16), (2.5, 2.5, 4.0)
KEYS = {"t2w", "label", "subject_id", "patient_id", "report", "synthetic", "provenance"}
LESION = ProstateFindings(5, "peripheral", "left", "midgland", size_mm=20.0, gland_volume_ml=45.0)


def _voxel(point_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    x, y, z = (round(p / d + (n - 1) / 2) for p, d, n in zip(point_mm, SPACING_MM, SHAPE, strict=True))
    return x, y, z


def _clean(findings: ProstateFindings, seed: int) -> torch.Tensor:
    return render(findings, shape=SHAPE, spacing_mm=SPACING_MM, seed=seed, acquisition="ideal")[0]


def test_the_same_seed_draws_the_same_patients_and_another_seed_others() -> None:
    first, again, other = make_subjects(4, seed=3), make_subjects(4, seed=3), make_subjects(4, seed=4)
    for one, two, third in zip(first, again, other, strict=True):
        assert torch.equal(one["t2w"].data, two["t2w"].data)
        assert one["report"] == two["report"]
        assert not torch.equal(one["t2w"].data, third["t2w"].data)


def test_a_patient_depends_on_the_others_through_the_label_only() -> None:
    few, many = make_subjects(6, seed=1), make_subjects(12, seed=1)
    same = [(a, b) for a, b in zip(few, many, strict=False) if a["label"] == b["label"]]
    assert same
    assert all(torch.equal(a["t2w"].data, b["t2w"].data) and a["report"] == b["report"] for a, b in same)


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 12), st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_class_counts_are_exact(n: int, fraction: float, seed: int) -> None:
    subjects = make_subjects(n, fraction, seed, shape=(8, 8, 4), spacing_mm=(10, 10, 16))
    assert sum(subject["label"] for subject in subjects) == round(n * fraction)
    assert len({subject["patient_id"] for subject in subjects}) == n


def test_labels_are_shuffled_not_sorted() -> None:
    labels = [[s["label"] for s in make_subjects(12, seed=seed, shape=(8, 8, 4))] for seed in range(3)]
    assert all(order not in (sorted(order), sorted(order)[::-1]) for order in labels)
    assert labels[0] != labels[1] or labels[1] != labels[2]


def test_subjects_keep_the_convention() -> None:
    subject = make_subjects(2, seed=7)[1]
    assert set(subject) == KEYS
    assert subject["subject_id"] == subject["patient_id"] == "phantom-7-0001"
    assert type(subject["label"]) is int
    assert subject["synthetic"] is False
    assert subject["provenance"] == ""
    image = subject["t2w"]
    assert image.shape == (1, *SHAPE)
    assert image.data.dtype == torch.float32
    assert image.orientation == ("R", "A", "S")
    np.testing.assert_allclose(image.spacing, SPACING_MM)
    np.testing.assert_allclose(image.get_center(), (0, 0, 0), atol=1e-6)


def test_the_report_of_a_subject_states_its_class() -> None:
    for subject in make_subjects(16, seed=2, shape=(8, 8, 4)):
        pirads = int(subject["report"].split("IMPRESSION: PI-RADS ")[1][0])
        assert int(pirads >= 3) == subject["label"]


@pytest.mark.parametrize("zone", ["peripheral", "transition"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("level", ["base", "midgland", "apex"])
def test_the_lesion_is_dark_where_the_findings_say(zone: str, side: str, level: str) -> None:
    here = replace(LESION, zone=zone, side=side, level=level)
    there = replace(here, side="right" if side == "left" else "left")
    for seed in range(3):
        spot = _voxel(lesion_centre_mm(here, seed=seed))
        # The other image shows the same patient with the lesion on the other side.
        assert _clean(here, seed)[spot] < 0.75 * _clean(there, seed)[spot]


@pytest.mark.parametrize("seed", range(5))
def test_left_is_low_x_base_is_high_z_and_peripheral_is_posterior(seed: int) -> None:
    x, y, z = zip(
        lesion_centre_mm(LESION, seed=seed),
        lesion_centre_mm(replace(LESION, side="right"), seed=seed),
        lesion_centre_mm(replace(LESION, level="base"), seed=seed),
        lesion_centre_mm(replace(LESION, level="apex"), seed=seed),
        lesion_centre_mm(replace(LESION, zone="transition"), seed=seed),
        strict=True,
    )
    assert x[0] < x[1] - 10
    assert z[3] + 6 < z[0] < z[2] - 6
    assert y[0] < y[4] - 5


@pytest.mark.parametrize("seed", range(3))
def test_the_two_sides_of_the_volume_differ_where_the_lesion_lies(seed: int) -> None:
    without = _clean(replace(LESION, pirads=1), seed)
    for side, half in (("left", slice(0, 16)), ("right", slice(16, 32))):
        darkening = (without - _clean(replace(LESION, side=side), seed)).clamp(min=0)
        assert darkening[half].sum() > 0.8 * darkening.sum() > 0


def test_higher_pirads_and_lower_difficulty_make_darker_lesions() -> None:
    spot = _voxel(lesion_centre_mm(LESION, seed=0))
    signals = [_clean(replace(LESION, pirads=pirads), 0)[spot].item() for pirads in (5, 4, 3, 1)]
    assert signals == sorted(signals)
    assert len(set(signals)) == 4
    easy, hard = (render(LESION, seed=0, difficulty=d, acquisition="ideal")[0][spot] for d in (0.0, 1.0))
    assert easy < hard


@pytest.mark.parametrize("volume_ml", [22.0, 45.0, 80.0])
@pytest.mark.parametrize(("shape", "spacing_mm"), [(SHAPE, SPACING_MM), ((64, 64, 27), (1.25, 1.25, 2.5))])
def test_the_gland_has_the_stated_volume_at_any_resolution(volume_ml, shape, spacing_mm) -> None:
    findings = ProstateFindings(1, gland_volume_ml=volume_ml)
    mask = gland_mask(findings, shape=shape, spacing_mm=spacing_mm, seed=5)
    assert mask.sum().item() * np.prod(spacing_mm) / 1000 == pytest.approx(volume_ml, rel=0.05)


def test_a_finer_grid_shows_the_same_patient() -> None:
    coarse = _clean(LESION, 0)
    fine = render(LESION, shape=(64, 64, 32), spacing_mm=(1.25, 1.25, 2.0), seed=0, acquisition="ideal")
    averaged = torch.nn.functional.avg_pool3d(fine, 2)[0]
    correlation = torch.corrcoef(torch.stack([coarse.flatten(), averaged.flatten()]))[0, 1]
    assert correlation > 0.95


def test_frame_and_volume_coordinates_are_inverse() -> None:
    geometry = place(LESION, seed=9)
    point = (11.0, -7.0, 14.0)
    back = geometry.to_frame(*(np.array([axis], np.float32) for axis in geometry.to_volume(point)))
    np.testing.assert_allclose(np.concatenate(back), point, atol=1e-3)


def test_volumes_look_like_scanner_output() -> None:
    noisy, clean = render(LESION, seed=0), render(LESION, seed=0, acquisition="ideal")
    assert noisy.min() >= 0
    assert 400 < noisy.max() < 2500
    assert 0 <= clean.min() < clean.max() <= 1300
    assert not torch.equal(noisy, clean)


def test_the_noise_free_twin_lacks_the_noise_and_nothing_else() -> None:
    noisy, twin, ideal = (render(LESION, seed=0, acquisition=kind) for kind in ("noisy", "noise-free", "ideal"))
    bright = twin > 200  # there the Rician noise is as good as Gaussian
    noise = (noisy - twin)[bright]
    assert abs(noise.mean()) < 2
    assert noise.std() == pytest.approx(12 + 16 * 0.5, rel=0.05)
    # What remains between the twin and the anatomy is a smooth gain and bias field: neighbours share it.
    ratio = (twin / ideal.clamp(min=1))[0]
    assert ratio.std() > 0.02
    assert (ratio[1:] / ratio[:-1]).log().abs().max() < 0.03


def test_findings_follow_the_label_but_psa_and_volume_do_not_determine_it() -> None:
    drawn = {label: [draw_findings(label, seed=seed) for seed in range(200)] for label in (0, 1)}
    assert {f.pirads for f in drawn[0]} == {1, 2}
    assert {f.pirads for f in drawn[1]} == {3, 4, 5}
    assert all(f.size_mm is not None and 12 <= f.size_mm <= 26 for f in drawn[1])
    wins = np.mean([[(a.psa or 0) < (b.psa or 0) for b in drawn[1]] for a in drawn[0]])
    assert 0.5 < wins < 0.85


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_subjects(1), "n=1"),
        (lambda: make_subjects(4, 0.0), "positive_fraction=0"),
        (lambda: make_subjects(4, 1.0), "positive_fraction=1"),
        (lambda: make_subjects(4, difficulty=1.5), "difficulty=1.5"),
        (lambda: draw_findings(2, seed=0), "label=2"),
        (lambda: render(LESION, spacing_mm=(0, 1, 1), seed=0), "spacing_mm"),
        (lambda: render(LESION, acquisition="blurred", seed=0), "acquisition='blurred'"),
        (lambda: lesion_centre_mm(ProstateFindings(1), seed=0), "pirads=1"),
    ],
)
def test_unusable_arguments_are_refused_by_name(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
