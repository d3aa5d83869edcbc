"""The judge of realism tells degraded volumes from real ones, and cannot tell real ones from each other."""

import numpy as np
import pytest
import torch
import torchio as tio
from scipy.ndimage import uniform_filter

from synthaug.config import PreprocessConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.realism.judgement import RealismReport, judge_realism
from synthaug.metrics.realism.texture import aspects, texture
from synthaug.statistics.intervals import Interval

SHAPE, SPACING_MM = (24, 24, 12), (3.4, 3.4, 5.4)
N = 50


def phantoms(n, seed):
    made = make_subjects(n, seed=seed, shape=SHAPE, spacing_mm=SPACING_MM)
    done = preprocess(made, PreprocessConfig(spacing_mm=SPACING_MM, shape=SHAPE), ["t2w"])
    return torch.stack([subject["t2w"].data.float() for subject in done])


@pytest.fixture(scope="module")
def real():
    return phantoms(N, 1)


@pytest.fixture(scope="module")
def unseen():
    return phantoms(N, 2)


def noisy(volumes):
    noise = numpy_generator("noise").normal(scale=0.02, size=volumes.shape)
    return (volumes + torch.from_numpy(noise).float()).clamp(0, 1)


def blurred(volumes):
    return torch.from_numpy(uniform_filter(volumes.numpy(), (0, 0, 3, 3, 3)))


def in_patches(volumes):
    """A small offset for each patch of 4 x 4 x 4 voxels: steps at its borders."""
    offsets = numpy_generator("patches").normal(scale=0.02, size=[side // 4 for side in SHAPE])
    for axis in range(3):
        offsets = np.repeat(offsets, 4, axis)
    return (volumes + torch.from_numpy(offsets).float()).clamp(0, 1)


def brighter(volumes):
    return volumes**0.7


@pytest.mark.parametrize(
    ("degrade", "aspect"),
    [(noisy, "local noise"), (blurred, "steps"), (in_patches, "patch borders"), (brighter, "grey values")],
)
def test_degraded_volumes_are_told_apart_by_what_was_degraded(real, unseen, degrade, aspect):
    report = judge_realism(list(real), list(degrade(unseen)), cnn=False)
    assert report.statistics.value >= 0.9
    assert report.statistics.low <= report.statistics.value <= report.statistics.high
    assert report.told_by[aspect] >= max(0.8, sorted(report.told_by.values())[-2])  # noise moves steps as well


def test_unseen_real_volumes_are_not_told_from_real_ones(real, unseen):
    report = judge_realism(list(real), list(unseen), training=list(unseen[:45]), cnn=False)
    assert 0.4 <= report.statistics.value <= 0.6
    assert report.kind == "realistic"
    assert max(report.told_by.values()) < 0.7
    assert 0.35 <= report.statistics_floor.value <= 0.65
    assert report.cnn is report.cnn_floor is None
    assert (report.n_real, report.n_synthetic, report.n_floor) == (N, N, 45)


def test_the_network_tells_texture_apart_and_nothing_else():
    draw = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 40, 1, 12, 12, 8, generator=draw)
    coarse = torch.nn.functional.interpolate(other[..., ::2, ::2, ::2], scale_factor=2, mode="trilinear")
    assert judge_realism(list(one), list(coarse)).cnn.low > 0.9
    assert 0.3 <= judge_realism(list(one), list(other)).cnn.value <= 0.7


def test_too_few_volumes_say_cannot_tell(real):
    noise = torch.rand(N, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert judge_realism(list(real), list(noise), cnn=False).kind == "told apart"
    few = judge_realism(list(real), list(noise[:39]), cnn=False)
    assert few.kind == "cannot tell"
    assert few.statistics.value > 0.9
    assert few.n_real == few.n_synthetic == 39
    hardly_any = judge_realism(list(real), list(noise[:9]))
    assert hardly_any.kind == "cannot tell"
    assert hardly_any.statistics is hardly_any.cnn is None
    assert not hardly_any.told_by


def test_an_interval_around_the_threshold_says_cannot_tell():
    def kind(low, high):
        part = Interval((low + high) / 2, low, high)
        return RealismReport(part, None, None, None, n_real=50, n_synthetic=50, n_floor=0).kind

    assert [kind(0.91, 0.95), kind(0.85, 0.95), kind(0.5, 0.7)] == ["told apart", "cannot tell", "realistic"]


def test_equal_seeds_judge_equally_and_no_patient_is_on_both_sides_of_a_fold():
    """Volumes of one patient are alike and of the same side: in other folds they would tell it from all others."""
    draw = torch.Generator().manual_seed(0)
    patients = torch.rand(10, 1, 8, 8, 8, generator=draw).repeat_interleave(4, dim=0)
    volumes = (patients + 0.01 * torch.rand(40, 1, 8, 8, 8, generator=draw)).clamp(0, 1)
    groups = [str(place // 4) for place in range(40)]
    first, second = slice(0, 20), slice(20, 40)
    parts = {"real_groups": groups[first], "synthetic_groups": groups[second]}
    real, synthetic = list(volumes[first]), list(volumes[second])
    kept = [judge_realism(real, synthetic, seed=3, **parts) for _ in range(2)]
    assert kept[0] == kept[1]
    assert kept[0].to_dict()["kind"] == kept[0].kind
    assert kept[0].statistics.value < 0.8 < judge_realism(real, synthetic, cnn=False).statistics.value


def test_the_patients_of_few_real_subjects_stay_together():
    def subjects(patients, each, first):
        numbers = [first + place for place in range(patients) for _ in range(each)]
        draw = torch.Generator().manual_seed(first)
        images = [tio.ScalarImage(tensor=torch.rand(1, 8, 8, 8, generator=draw)) for _ in numbers]
        return [tio.Subject(t2w=image, patient_id=f"p{number}") for image, number in zip(images, numbers, strict=True)]

    real, synthetic = subjects(8, 2, 0), subjects(16, 1, 100)
    settings = {"training": subjects(8, 2, 200), "cnn": False}
    groups = {
        name: [each["patient_id"] for each in side]
        for name, side in (("real_groups", real), ("training_groups", settings["training"]))
    }
    assert judge_realism(real, synthetic, **settings) == judge_realism(real, synthetic, **settings, **groups)


def test_several_sequences_and_small_odd_shapes_are_judged():
    draw = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 12, 2, 9, 8, 11, generator=draw)
    report = judge_realism(list(first), list(second * 0.5))
    assert report.statistics.value > 0.9
    assert report.cnn is not None


@pytest.mark.parametrize("shape", [(1, 4, 5, 6), (2, 8, 8, 8), (1, 96, 8, 16)])
def test_statistics_are_finite_for_any_shape_and_for_constant_volumes(shape):
    for volume in (np.zeros(shape), np.random.default_rng(0).random(shape)):
        assert np.isfinite(texture(volume)).all()
        assert len(aspects(volume)) == len(texture(volume))


@pytest.mark.parametrize(
    ("synthetic", "settings", "named"),
    [
        (torch.rand(12, 1, 8, 8, 9), {}, "shape"),
        (torch.full((12, 1, 8, 8, 8), torch.nan), {}, "NaN"),
        (torch.rand(12, 1, 8, 8, 8), {"real_groups": ["a"]}, "real_groups"),
        (torch.rand(12, 1, 8, 8, 8), {"confidence": 1.0}, "confidence"),
    ],
)
def test_unusable_volumes_are_refused(synthetic, settings, named):
    with pytest.raises(InputError, match=named):
        judge_realism(list(torch.rand(12, 1, 8, 8, 8)), list(synthetic), **settings)
