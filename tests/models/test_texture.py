"""What a level is told of a scan's noise and sharpness, in units of the training volumes."""

import pytest
import torch

from synthaug.models.parts.texture import FARTHEST, Texture, bands_of


def scans(noise, *, seed=0):
    """Latents of patches of 2, each with noise of its own strength; the anatomy of each is another."""
    generator = torch.Generator().manual_seed(seed)
    anatomy = torch.zeros(len(noise), 8, 6, 6, 6)
    anatomy[:, :1] = torch.randn(len(noise), 1, 6, 6, 6, generator=generator)
    return anatomy + torch.tensor(noise).view(-1, 1, 1, 1, 1) * torch.randn(anatomy.shape, generator=generator)


@pytest.fixture
def fitted():
    texture = Texture(8, patch=2, components=2, width=6)
    noise = torch.rand(40, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.1
    texture.fit(scans(noise.tolist()).split(16))
    return texture


def test_training_volumes_have_mean_0_and_deviation_1(fitted):
    noise = torch.rand(40, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.1
    told = fitted.measure(scans(noise.tolist()))
    torch.testing.assert_close(told.mean(0), torch.zeros(2), atol=0.05, rtol=0)
    torch.testing.assert_close(told.std(0, correction=0), torch.ones(2), atol=0.05, rtol=0)


def test_the_first_component_is_the_noise_and_places_do_not_matter(fitted):
    quiet, loud = scans([0.15]), scans([0.4])
    told = [fitted.measure(each)[0, 0] for each in (quiet, loud, loud.flip(2, 3, 4))]
    assert (told[1] - told[0]).abs() > 1
    torch.testing.assert_close(told[2], told[1])


def test_what_lies_far_from_all_training_volumes_is_told_as_far_and_no_farther(fitted):
    assert fitted.measure(scans([50.0])).abs().max() == FARTHEST


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_volumes_than_components_leave_the_others_at_0(count):
    texture = Texture(8, patch=2, components=4, width=6)
    latents = scans([0.2, 0.3][:count])
    texture.fit([latents])
    told = texture.measure(latents)
    assert torch.isfinite(told).all()
    assert not told[:, count - 1 :].abs().gt(1e-3).any()
    torch.testing.assert_close(told[:, : count - 1].abs(), torch.ones(count, count - 1))


def test_more_components_than_amplitudes_are_as_many_as_these():
    texture = Texture(1, patch=1, components=10, width=6)
    assert texture.components == 2
    assert texture(torch.zeros(3, 2)).shape == (3, 6)


def test_half_precision_around_it_measures_the_same(fitted):
    latents = scans([0.2, 0.3])
    with torch.autocast("cpu", torch.bfloat16):
        told = fitted.measure(latents)
    assert torch.equal(told, fitted.measure(latents))


def test_an_untrained_one_says_nothing_and_a_trained_one_tells_volumes_apart(fitted):
    told = fitted.measure(scans([0.15, 0.4]))
    assert not fitted(told).any()
    torch.nn.init.normal_(fitted.layers[-1].weight)
    assert (fitted(told)[0] - fitted(told)[1]).abs().max() > 0.1


@pytest.mark.parametrize(("patch", "sequences"), [(1, 2), (2, 1), (2, 2), (3, 1)])
def test_bands_keep_the_power_of_each_sequence(patch, sequences):
    latents = torch.randn(2, sequences * patch**3, 3, 2, 4)
    before, after = (each.unflatten(1, (sequences, -1)) for each in (latents, bands_of(latents, patch)))
    torch.testing.assert_close(after.square().sum((2, 3, 4, 5)), before.square().sum((2, 3, 4, 5)))
