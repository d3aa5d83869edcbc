"""The memorisation gate: planted copies are found, other patients are not, and the promise follows the held-out set."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchio as tio
from conftest import IMAGES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from synthaug.config import PreprocessConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.data.voxels.geometry import Geometry, apply_geometry
from synthaug.ground.errors import InputError
from synthaug.metrics.copies.memorisation import CopyDetector, tail_limit
from synthaug.metrics.features import seeded_extractor
from synthaug.metrics.volumes import VolumeSet

SIZES = {"training": 40, "held out": 120, "other": 60}


def noisy(volume: torch.Tensor) -> torch.Tensor:
    return (volume + 0.05 * torch.randn(volume.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def cropped(volume: torch.Tensor) -> torch.Tensor:
    """A tenth of each side is cut off all round."""
    kept = torch.zeros_like(volume)
    inner = (slice(None), *(slice(round(side / 10), side - round(side / 10)) for side in volume.shape[1:]))
    kept[inner] = volume[inner]
    return kept


def moved(**move) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda volume: apply_geometry(volume, Geometry(**move))


PLANTED = {
    "exact": lambda volume: volume,
    "noisy": noisy,
    "flipped": lambda volume: volume.flip(1),
    "intensity-shifted": lambda volume: (0.7 * volume + 0.15).clamp(0, 1),
    "gamma": lambda volume: volume**1.5,
}
MOVED = {
    "shifted": moved(shift=(3, -2, 1)),
    "cropped": cropped,
    "grown": moved(zoom=1.08),
    "shrunk": moved(zoom=0.9),
    "mirrored, shifted and grown": moved(mirrored=True, shift=(2, 1, -1), zoom=1.07),
}


@pytest.fixture(scope="module")
def phantoms() -> dict[str, list[torch.Tensor]]:
    shape, spacing = (16, 16, 8), (5.0, 5.0, 8.0)
    config = PreprocessConfig(spacing_mm=spacing, shape=shape)
    drawn = {}
    for seed, (name, n) in enumerate(SIZES.items()):
        subjects = preprocess(make_subjects(n, seed=seed, shape=shape, spacing_mm=spacing), config, IMAGES)
        drawn[name] = [stack_images(subject, IMAGES) for subject in subjects]
    return drawn


@pytest.fixture(scope="module")
def detector(phantoms) -> CopyDetector:
    return CopyDetector(phantoms["training"], phantoms["held out"], seeded_extractor())


@pytest.fixture(scope="module")
def whole_phantoms() -> tuple[list[torch.Tensor], CopyDetector]:
    """Training volumes of the usual grid, which hold the detail that moved copies are told by, and their detector."""
    sets = [preprocess(make_subjects(n, seed=seed), PreprocessConfig(), IMAGES) for n, seed in ((12, 7), (30, 8))]
    drawn = [[stack_images(subject, IMAGES) for subject in subjects] for subjects in sets]
    return drawn[0], CopyDetector(*drawn, seeded_extractor())


@pytest.mark.parametrize("kind", MOVED)
def test_copies_that_were_shifted_cropped_or_rescaled_are_found(whole_phantoms, kind):
    training, detector = whole_phantoms
    audit = detector.audit([MOVED[kind](volume) for volume in training])
    assert audit.copies.mean() >= 0.75
    assert (audit.nearest_moved == np.arange(len(training))).mean() >= 0.75


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_copies_are_found_and_traced_to_their_original(detector, phantoms, kind):
    audit = detector.audit([PLANTED[kind](volume) for volume in phantoms["training"]])
    assert audit.share()[0] >= 0.95
    assert (audit.nearest == np.arange(SIZES["training"])).mean() >= 0.95
    assert audit.mirrored.mean() == pytest.approx(float(kind == "flipped"), abs=0.05)


def test_other_patients_are_seldom_called_copies(detector, phantoms):
    audit = detector.audit(phantoms["other"])
    share, low, high = audit.share()
    assert low <= share <= high
    # One in a hundred is asked for; more than five of a hundred would come once in 2,000 draws.
    assert share <= 0.05
    assert detector.false_alarms == pytest.approx(3 / 121)


def test_the_audit_does_not_depend_on_the_neighbours(detector, phantoms):
    whole = detector.audit(phantoms["other"][:11])
    alone = detector.audit(phantoms["other"][10:11])
    assert alone.nearest[0] == whole.nearest[10]
    assert alone.correlation[0] == pytest.approx(whole.correlation[10], abs=1e-5)
    assert alone.moved_correlation[0] == whole.moved_correlation[10]
    assert alone.feature_distance[0] == pytest.approx(whole.feature_distance[10], rel=1e-4)


def test_several_volumes_of_a_held_out_patient_count_once(phantoms):
    def limits(copies):
        people = [(volume, f"p{place}") for place, volume in enumerate(phantoms["held out"][:19])]
        subjects = [
            tio.Subject(t2w=tio.ScalarImage(tensor=volume), patient_id=name) for volume, name in people * copies
        ]
        found = CopyDetector(phantoms["training"][:8], VolumeSet.of(subjects), seeded_extractor())
        return found.n_held_out, found.false_alarms, found.correlation_limit, found.distance_limit, found.moved_limit

    plain = CopyDetector(phantoms["training"][:8], phantoms["held out"][:19], seeded_extractor())
    once = (19, plain.false_alarms, plain.correlation_limit, plain.distance_limit, plain.moved_limit)
    assert limits(1) == once
    assert limits(3) == pytest.approx(once, rel=1e-5)


def test_few_held_out_patients_promise_less_and_say_so(phantoms):
    few = CopyDetector(phantoms["training"][:8], phantoms["held out"][:19], seeded_extractor(), false_alarms=0.01)
    assert few.false_alarms == pytest.approx(3 / 20)
    assert few.audit(phantoms["held out"][:19]).copies.sum() == 0  # the limits lie beyond these
    audit = few.audit(PLANTED["noisy"](volume) for volume in phantoms["training"][:8])
    assert audit.copies.all()
    assert (audit.false_alarms, audit.expected_false_alarms) == (few.false_alarms, 0.01)


def test_few_held_out_patients_keep_to_the_false_alarms_that_were_asked_for(phantoms):
    others, shares = phantoms["other"], []
    for start in range(0, 60, 20):
        few = phantoms["held out"][start : start + 20]
        shares.append(CopyDetector(phantoms["training"], few, seeded_extractor()).audit(others).copies.mean())
    # Limits at the extremes of twenty would call one in ten a copy.
    assert np.mean(shares) <= 0.02


def test_a_held_out_volume_that_is_a_training_volume_is_named(phantoms):
    held_out = [*phantoms["held out"][:9], phantoms["training"][3].flip(1) * 0.5]
    with pytest.raises(InputError, match="Held-out volume 9 is training volume 3"):
        CopyDetector(phantoms["training"], held_out, seeded_extractor())


@pytest.mark.parametrize("n", [2, 9, 40, 199])
def test_a_further_draw_passes_the_tail_limit_as_often_as_asked(n):
    rng = np.random.default_rng(0)
    passed = {"exponential": 0.0, "gaussian": 0.0, "uniform": 0.0}
    for name in passed:
        draws = {"exponential": rng.exponential, "gaussian": rng.normal, "uniform": rng.uniform}[name](size=(1000, n))
        limits = np.array([tail_limit(row, 0.02) for row in draws])
        # The shares of a further draw beyond each limit, exactly.
        beyond = {"exponential": stats.expon.sf, "gaussian": stats.norm.sf, "uniform": stats.uniform.sf}[name](limits)
        passed[name] = beyond.mean()
    assert passed["exponential"] == pytest.approx(0.02, abs=0.003)
    if n > 2:  # of two draws one would be the tail
        assert max(passed["gaussian"], passed["uniform"]) <= 0.021


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-5, 5), min_size=2, max_size=30, unique=True).map(np.array),
    share=st.floats(1e-3, 0.5),
    scale=st.floats(0.1, 10),
    shift=st.floats(-10, 10),
)
def test_the_tail_limit_moves_with_its_values_and_out_with_its_share(values, share, scale, shift):
    limit = tail_limit(values, share)
    assert tail_limit(scale * values + shift, share) == pytest.approx(scale * limit + shift, rel=1e-6, abs=1e-6)
    assert tail_limit(values, share / 2) >= limit
    assert tail_limit(np.random.default_rng(0).permutation(values), share) == limit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": []}, "no volumes"),
        ({"training": [torch.rand(1, 16, 16, 8)]}, "fewer than two training"),
        ({"held_out": [torch.rand(1, 16, 16, 8)]}, "fewer than two held-out"),
        ({"held_out": [torch.rand(1, 16, 16, 16)] * 2}, "not of the training volumes' shape"),
        ({"training": [torch.zeros(1, 16, 16, 8)] * 2}, "constant"),
        ({"false_alarms": 0.0}, "false_alarms=0.0"),
    ],
)
def test_unusable_input(change, message):
    two, others = ([torch.rand(1, 16, 16, 8) for _ in range(2)] for _ in range(2))
    with pytest.raises(InputError, match=message):
        CopyDetector(**({"training": two, "held_out": others, "extractor": seeded_extractor()} | change))
    with pytest.raises(InputError, match="no volumes to audit"):
        CopyDetector(two, others, seeded_extractor()).audit([])
