"""Batched augmentation: torchio's transforms, parameter by parameter and in distribution, whatever the batch."""

import numpy as np
import pytest
import torch
import torchio as tio
from torch.nn import functional

from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.augmentation import classical_augmentation, classical_batches
from synthaug.config import PreprocessConfig
from synthaug.data.reading.manifest import make_subject, stack_images
from synthaug.data.voxels.batched import BatchedAugmentation, Moves
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator

SPACING = (1.0, 1.5, 2.0)
EVERYTHING = {"bias": 0.5, "blur_mm": 2.0, "noise": 0.25, "log_gamma": 0.3}


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    """Noise on a coarse lattice, so that an interpolation in a wrong place shows."""
    lattice = torch.rand(1, shape[0], *(-(-side // 3) for side in shape[1:]), generator=torch_generator("s", seed))
    return functional.interpolate(lattice, size=shape[1:], mode="trilinear")[0]


@pytest.mark.parametrize(
    ("moves", "reference"),
    [
        (Moves(flipped=True), tio.Flip(("LR",))),
        (Moves(degrees=12), tio.Affine((1, 1, 1), (0, 0, 12), (0, 0, 0), default_pad_value="minimum")),
        (Moves(translation_mm=(3, -2, 4)), tio.Affine((1, 1, 1), (0, 0, 0), (3, -2, 4), default_pad_value="minimum")),
        (
            Moves(degrees=-9, scale=0.93, translation_mm=(2, 1, -1.5)),
            tio.Affine((0.93,) * 3, (0, 0, -9), (2, 1, -1.5), default_pad_value="minimum"),
        ),
        (Moves(blur_mm=((1.0, 2.0, 0.5),)), tio.Blur((1.0, 2.0, 0.5))),
        (Moves(bias=(tuple(np.linspace(-0.5, 0.5, 20)),)), tio.BiasField([*np.linspace(-0.5, 0.5, 20)], 3)),
        (Moves(log_gamma=(0.2,)), tio.Gamma(float(np.exp(0.2)))),
    ],
    ids=["flip", "rotation", "translation", "affine", "blur", "bias", "gamma"],
)
def test_every_kind_does_what_torchios_does_with_the_same_parameters(moves, reference):
    volume = smooth(1, 16, 14, 10)
    wanted = reference(tio.ScalarImage(tensor=volume, affine=np.diag([*SPACING, 1]))).data
    found = BatchedAugmentation(["t1"], SPACING).apply(torch.stack([volume, volume]), [Moves(), moves])
    assert torch.equal(found[0], volume)  # its neighbour is left alone
    torch.testing.assert_close(found[1], wanted, atol=2e-6, rtol=1e-5)
    assert (wanted - volume).abs().mean() > 0.01


def test_a_volume_is_augmented_alike_whatever_the_others_of_its_batch():
    augment = BatchedAugmentation(["t1", "t2"], SPACING, **EVERYTHING)
    volumes = torch.stack([smooth(2, 17, 14, 10, seed=seed) for seed in range(6)])
    moves = [augment.draw(seed, shape=(17, 14, 10)) for seed in range(6)]
    together = augment.apply(volumes, moves)
    alone = [augment.apply(volume[None], [move])[0] for volume, move in zip(volumes, moves, strict=True)]
    assert torch.equal(together, torch.stack(alone))


def test_noise_has_its_deviation_and_is_named_by_its_seed():
    volumes = torch.zeros(3, 2, 20, 20, 20)
    one, again, other = (Moves(noise=(0.1, 0.3), noise_seed=seed) for seed in (5, 5, 6))
    found = BatchedAugmentation(["t1", "t2"], SPACING).apply(volumes, [one, again, other])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert found[2].std(dim=(1, 2, 3)).tolist() == pytest.approx([0.1, 0.3], rel=0.05)


def test_each_kind_is_drawn_as_often_and_as_widely_as_torchio_draws_it():
    augment, shape = BatchedAugmentation(["t1"], SPACING, **EVERYTHING), (16, 14, 10)
    drawn = [augment.draw(seed, shape=shape) for seed in range(3000)]
    assert drawn[:9] == [augment.draw(seed, shape=shape) for seed in range(9)]
    reach = [0.1 * side * step for side, step in zip(shape, SPACING, strict=True)]
    ranges = {
        "degrees": (-15, 15, [each.degrees for each in drawn if each.degrees]),
        "scale": (0.9, 1.1, [each.scale for each in drawn if each.scale != 1]),
        **{
            f"translation {axis}": (
                -reach[axis],
                reach[axis],
                [m.translation_mm[axis] for m in drawn if any(m.translation_mm)],
            )
            for axis in range(3)
        },
        "bias": (-0.5, 0.5, [each.bias[0][7] for each in drawn if each.bias]),
        "blur": (0, 2, [each.blur_mm[0][1] for each in drawn if each.blur_mm]),
        "noise": (0, 0.25, [each.noise[0] for each in drawn if each.noise]),
        "gamma": (-0.3, 0.3, [each.log_gamma[0] for each in drawn if each.log_gamma]),
    }
    for name, (low, high, values) in ranges.items():
        assert len(values) / len(drawn) == pytest.approx(0.5, abs=0.03), name
        # Of a uniform distribution: middle, and deviation = width / sqrt(12).
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.03 * (high - low)), name
        assert np.std(values) == pytest.approx((high - low) / 12**0.5, rel=0.05), name
    assert np.mean([each.flipped for each in drawn]) == pytest.approx(0.5, abs=0.03)


def test_classical_batches_have_the_moments_of_the_published_augmentation():
    """Voxel mean and deviation over many draws, against torchio's own path."""
    config = PreprocessConfig(spacing_mm=(1.0, 1.0, 1.0), shape=(12, 12, 8))
    volume = smooth(1, 12, 12, 8)
    subject = make_subject({"t1": tio.ScalarImage(tensor=volume)}, label=0, subject_id="a", patient_id="a")
    classical = classical_augmentation(config)
    torch.manual_seed(0)
    theirs = torch.stack([classical(subject)["t1"].data for _ in range(200)])
    ours = classical_batches(config, ["t1"], ["flip", "rotate", "translate", "zoom"])
    moves = [ours.draw(seed, shape=(12, 12, 8)) for seed in range(200)]
    found = ours.apply(volume.repeat(200, 1, 1, 1, 1), moves)
    spread = theirs.std(dim=0).mean().item()
    assert (found.mean(dim=0) - theirs.mean(dim=0)).abs().mean().item() < 0.15 * spread  # sqrt(2 / 200) of it = 0.1
    assert found.std(dim=0).mean().item() == pytest.approx(spread, rel=0.07)


@pytest.mark.parametrize(("moves", "same"), [([], True), (["flip"], False), (["zoom"], False)])
def test_moves_that_are_left_out_are_not_drawn(moves, same):
    augment = classical_batches(PreprocessConfig(), ["t1"], moves)
    drawn = [augment.draw(seed, shape=(16, 16, 8)) for seed in range(20)]
    assert all(each == Moves(noise_seed=each.noise_seed) for each in drawn) == same
    assert not any(each.degrees or any(each.translation_mm) for each in drawn)
    assert any(each.flipped for each in drawn) == ("flip" in moves)


def subjects(count: int = 6) -> list[tio.Subject]:
    return [
        make_subject(
            {name: tio.ScalarImage(tensor=smooth(1, 8, 8, 6, seed=10 * k + i)) for i, name in enumerate(("t1", "t2"))},
            label=k % 2,
            subject_id=f"s{k}",
            patient_id=f"s{k}",
        )
        for k in range(count)
    ]


def batches(*, epoch: int = 0, num_workers: int = 0) -> list[torch.Tensor]:
    augment = BatchedAugmentation(["t1", "t2"], SPACING, **EVERYTHING)
    sampler = SyntheticSampler(subjects(), None, batch_size=4, seed=2)
    sampler.set_epoch(epoch)
    loader = sampler.loader(batch_transform=augment, num_workers=num_workers)
    return [stack_images(batch, ["t1", "t2"]) for batch in loader]


def test_batches_are_a_function_of_seed_and_epoch_whatever_the_workers():
    once, again, spread, later = batches(), batches(), batches(num_workers=2), batches(epoch=1)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(once, spread, strict=True))
    assert not torch.equal(once[0], later[0])
    assert once[0].shape == (4, 2, 8, 8, 6)


def test_flip_and_affine_are_shared_by_the_images_and_intensities_are_not():
    pair = torch.cat([smooth(1, 8, 8, 6)] * 2)
    augment = BatchedAugmentation(["t1", "t2"], SPACING, probability=1.0)
    geometric = augment.apply(pair[None], [augment.draw(3, shape=(8, 8, 6))])[0]
    assert torch.equal(geometric[0], geometric[1])
    assert not torch.equal(geometric, pair)
    augment = BatchedAugmentation(["t1", "t2"], SPACING, probability=1.0, **EVERYTHING)
    everything = augment.apply(pair[None], [augment.draw(3, shape=(8, 8, 6))])[0]
    assert not torch.allclose(everything[0], everything[1])


@pytest.mark.parametrize("settings", [{"noise": -1}, {"zoom": 1.0}, {"probability": 2}, {"images": []}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError):
        BatchedAugmentation(**{"images": ["t1"], "spacing_mm": SPACING} | settings)
