"""The cascade as a latent space: exactly invertible, normalised, and clear about volumes that it cannot take."""

import math

import pytest
import torch
from conftest import IMAGES, TINY_PREPROCESSING, tiny_cascade_config, tiny_generator_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthaug.config import DenoiserConfig, GeneratorConfig, LevelConfig, PreprocessConfig
from synthaug.generate.levels import fit_space, levels_of, total_steps, training_of
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.errors import InputError
from synthaug.models.cascade import SIGMA_DATA, Cascade, padded_shape

FEW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def cascades(draw):
    """Poolings, patches, shape and sequences that go together."""
    poolings = draw(st.sampled_from([(1,), (2, 1), (4, 1), (4, 2, 1), (3, 1), (6, 2, 1)]))
    patches = tuple(draw(st.sampled_from([1, 2])) for _ in poolings)
    multiple = math.lcm(*(a * b for a, b in zip(poolings, patches, strict=True)))
    shape = tuple(draw(st.integers(poolings[0], 13)) for _ in range(3))
    return Cascade(poolings, patches, shape, multiple, draw(st.integers(1, 3)))


@FEW
@given(space=cascades(), seed=st.integers(0, 99))
def test_volumes_come_back_from_their_levels(space, seed):
    shape = (4, space.sequences, *space.config.shape)
    training, other = noise(*shape, seed=seed), 3 * noise(*shape, seed=seed + 1) - 1
    space.fit(training)
    for volumes in (training, other):  # others than those it was fitted to as well
        levels = space.to_levels(volumes)
        assert [tuple(level.shape[1:]) for level in levels] == [space.latent_shape(n) for n in range(space.levels)]
        # As exact as float32 is where a level deviates little: 1e-6 is the least deviation.
        torch.testing.assert_close(space.from_levels(levels), volumes, atol=1e-4, rtol=0)
    first = space.to_levels(training, count=1)
    assert len(first) == 1
    assert torch.equal(first[0], space.to_levels(training)[0])


@FEW
@given(space=cascades())
def test_every_level_of_the_training_volumes_has_mean_zero_at_each_place_and_one_deviation(space):
    volumes = noise(6, space.sequences, *space.config.shape)
    space.fit(volumes)
    for latents in space.to_levels(volumes):
        torch.testing.assert_close(latents.mean(0), torch.zeros_like(latents[0]), atol=1e-3, rtol=0)
        assert latents.std().item() == pytest.approx(SIGMA_DATA, rel=1e-2)


def test_levels_by_hand():
    space = Cascade((2, 1), (1, 2), (2, 2, 2), 2)
    volumes = torch.stack([torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 2.0)])
    volumes[1, 0, 0, 0, 0] = 10.0  # pooled: 0 and 3
    space.fit(volumes)
    coarse, fine = space.to_levels(volumes)
    # Centred: -1.5 and 1.5, of deviation 1.5 sqrt(2), scaled to a half.
    assert coarse.flatten().tolist() == pytest.approx([-0.5 / 2**0.5, 0.5 / 2**0.5])
    assert fine.shape == (2, 8, 1, 1, 1)
    # The second volume's rest is 7 at one voxel and -1 at the others; half of it lies above the mean.
    ratio = fine[1].flatten() / fine[1].flatten()[1]
    assert sorted(ratio.tolist()) == pytest.approx([-7.0, *[1.0] * 7])


def test_finer_levels_left_out_stand_at_their_mean():
    space = Cascade((2, 1), (1, 2), (8, 8, 4), 4)
    volumes = noise(5, 1, 8, 8, 4)
    space.fit(volumes)
    coarse, fine = space.to_levels(volumes)
    assert torch.equal(space.from_levels([coarse]), space.from_levels([coarse, torch.zeros_like(fine)]))


def test_the_guide_tells_a_patients_own_and_not_the_mean():
    space = Cascade((4, 2, 1), (1, 1, 2), (16, 16, 8), 4)
    volumes = noise(6, 1, 16, 16, 8) * noise(6, 1, 1, 1, 1, seed=1) + 5 * noise(1, 1, 16, 16, 8, seed=2)
    space.fit(volumes)
    levels = space.to_levels(volumes)
    for level in (1, 2):
        guide = space.guide(level, levels)
        assert guide.shape[1:] == space.latent_shape(level)
        torch.testing.assert_close(guide.mean(0), torch.zeros_like(guide[0]), atol=1e-3, rtol=0)
        # A coarse volume at the mean tells nothing.
        mean = space.guide(level, [torch.zeros_like(each[:1]) for each in levels])
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        # Noise is added to the coarser volume, in units of its deviation, and raises the guide's own.
        shape = (6, *space.coarse_shape(level))
        noisy = space.guide(level, levels, torch.randn(shape, generator=torch.Generator().manual_seed(3)))
        assert noisy.std() > guide.std()
    assert space.guide_channels(0) == 0


def test_sides_that_do_not_divide_are_padded_by_their_edge_and_cropped(caplog):
    with caplog.at_level("INFO"):
        space = Cascade((4, 1), (1, 2), (14, 9, 6), 8)
    assert space.padded == padded_shape((14, 9, 6), multiple=8) == (16, 16, 8)
    assert "(14, 9, 6)" in caplog.text
    assert "(16, 16, 8)" in caplog.text
    ramp = torch.arange(14.0).view(1, 1, 14, 1, 1).expand(1, 1, 14, 9, 6)
    padded = space._pad(ramp)
    assert padded.shape[2:] == (16, 16, 8)
    assert padded[0, 0, :, 0, 0].tolist() == [0, *range(14), 13]
    assert torch.equal(space._crop(padded), ramp)


def test_a_saved_cascade_is_the_same_space(tmp_path):
    space, volumes = Cascade((4, 1), (1, 2), (10, 8, 8), 4, 2), noise(4, 2, 10, 8, 8)
    space.fit(volumes)
    space.save_pretrained(tmp_path)
    loaded = Cascade.from_pretrained(tmp_path)
    for one, other in zip(space.to_levels(volumes), loaded.to_levels(volumes), strict=True):
        assert torch.equal(one, other)


# --- levels of a config


def test_levels_follow_from_the_shape_two_or_three():
    assert [level.pooling for level in levels_of(GeneratorConfig(), (32, 40, 24))] == [4, 1]
    assert [level.pooling for level in levels_of(GeneratorConfig(), (256, 256, 128))] == [16, 4, 1]
    published = levels_of(GeneratorConfig(latents="autoencoder"), (256, 256, 128))
    assert [level.denoiser for level in published] == [GeneratorConfig().denoiser]


def test_each_level_has_its_own_steps_or_the_trainings():
    config = tiny_cascade_config()
    first, second = config.levels
    config.levels = [first, LevelConfig(patch=2, denoiser=second.denoiser, steps=7, batch_size=2)]
    config.training.warmup = 2
    loops = [training_of(config, level) for level in levels_of(config, (16, 16, 8))]
    assert [(loop.steps, loop.batch_size, loop.warmup) for loop in loops] == [(3, 4, 2), (7, 2, 2)]
    assert total_steps(config, (16, 16, 8)) == 10


# --- what cannot be used: one line, before any training


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([(2, 1), (4, 1), (1, 2)], "must fall to 1"),
        ([(4, 1), (2, 2)], "must fall to 1"),
        ([(3, 1), (2, 1), (1, 2)], "each dividing the one before"),
        ([(32, 1), (1, 2)], "smaller than the pooling of 32"),
    ],
)
def test_levels_that_make_no_cascade_are_refused(levels, message):
    levels = [LevelConfig(pooling=pooling, patch=patch, denoiser=DenoiserConfig()) for pooling, patch in levels]
    with pytest.raises(InputError, match=message):
        fit_space(noise(2, 1, 16, 16, 8), tiny_cascade_config(levels=levels))


def with_value(value):
    volumes = noise(3, 1, 16, 16, 8)
    volumes[1, 0, 2, 3, 4] = value
    return volumes


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        (with_value(float("nan")), r"\[1\].*NaN or infinite"),
        (with_value(float("inf")), r"\[1\].*NaN or infinite"),
        (noise(1, 1, 16, 16, 8), "1 training volume.*at least two that differ"),
        (noise(1, 1, 16, 16, 8).expand(4, -1, -1, -1, -1), "4 training volume.*at least two that differ"),
        (noise(3, 1, 3, 16, 8), "smaller than the pooling of 4"),
    ],
    ids=["nan", "inf", "one", "alike", "small"],
)
def test_volumes_that_cannot_be_learnt_are_refused(volumes, message):
    with pytest.raises(InputError, match=message):
        fit_space(volumes, tiny_cascade_config())


def test_another_shape_or_number_of_images_than_the_trained_is_refused(tiny_cascade):
    space = tiny_cascade.autoencoder
    with pytest.raises(InputError, match=r"\(1, 8, 16, 8\).*made for \(1, 16, 16, 8\)"):
        space.to_levels(noise(1, 1, 8, 16, 8))
    with pytest.raises(InputError, match="made for"):
        space.to_levels(noise(1, 2, 16, 16, 8))
    with pytest.raises(InputError, match=r"draws \(16, 16, 8\) voxels only"):
        tiny_cascade(["PI-RADS 4"], seeds=[0], shape=(32, 16, 8))
    for levels in (0, 3):
        with pytest.raises(InputError, match=f"levels={levels}"):
            tiny_cascade(["PI-RADS 4"], seeds=[0], levels=levels)


def test_a_cascade_is_trained_by_edm_alone():
    with pytest.raises(InputError, match=r"generator\.prediction=epsilon needs generator\.latents=autoencoder"):
        tiny_cascade_config(prediction="epsilon")
    assert tiny_cascade_config().process == "edm"
    assert GeneratorConfig(latents="autoencoder").process == "epsilon"


def refused(subjects, space, config, message, preprocessing=TINY_PREPROCESSING):
    steps = []
    with pytest.raises(InputError, match=message):
        train_ldm(
            subjects,
            space,
            config,
            preprocessing=preprocessing,
            images=IMAGES,
            on_step=lambda *each: steps.append(each),
        )
    assert steps == []


def test_spaces_and_volumes_that_do_not_fit_are_refused_before_any_step(
    tiny_subjects, tiny_cascade, tiny_autoencoder, tmp_path
):
    space, silent = (
        tiny_cascade.autoencoder,
        [subject.__class__({**subject, "report": ""}) for subject in tiny_subjects],
    )
    refused(tiny_subjects, tiny_autoencoder, tiny_cascade_config(), "latents=cascade: .*ImageAutoencoder")
    refused(tiny_subjects, space, tiny_generator_config(), "latents=autoencoder: .*Cascade")
    refused(tiny_subjects, space, tiny_cascade_config(levels=[LevelConfig()]), "1 levels asked for, 2 are there")
    other = PreprocessConfig(shape=(16, 16, 16), spacing_mm=(5.0, 5.0, 4.0))
    refused(tiny_subjects, space, tiny_cascade_config(), r"draws \(16, 16, 8\) voxels only", other)
    for variant in ("ccella", "ellamaisi", "decoupled"):
        refused(silent, space, tiny_cascade_config(variant=variant), "No training subject has a report")
