"""The best linear denoiser, by hand and by simulation, and what a network behind it starts from."""

import pytest
import torch
from conftest import TINY_PREPROCESSING, tiny_cascade_config

from synthaug.generate.diffusion import training_scheduler
from synthaug.generate.preconditioning import balance, denoise
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.parts.linear_denoiser import WHITE_SHARE, LinearDenoiser
from synthaug.models.parts.unet import FineHead

SHAPE = (1, 2, 3, 2)


def gaussian(count, *, seed=0):
    """Latents with a covariance of few strong directions, and the covariance."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(12, 12, generator=torch.Generator().manual_seed(1)) * torch.logspace(0.5, -1, 12)
    return (torch.randn(count, 12, generator=generator) @ mixing.T).view(count, *SHAPE), mixing @ mixing.T


def fitted(components=12):
    linear = LinearDenoiser(SHAPE, components)
    linear.fit(gaussian(20_000)[0])
    return linear


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_it_is_the_wiener_filter_of_the_covariance(sigma):
    noisy, covariance = gaussian(5, seed=2)
    covariance = (1 - WHITE_SHARE) * covariance + WHITE_SHARE * covariance.diagonal().mean() * torch.eye(12)
    wiener = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(12))
    found = fitted()(noisy, torch.full((5,), sigma)).flatten(1)
    torch.testing.assert_close(found, noisy.flatten(1) @ wiener.T, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("components", [3, 12])
def test_its_error_is_what_it_says(components):
    linear = fitted(components)
    clean, _ = gaussian(4000, seed=3)
    for sigma in (0.2, 1.0, 5.0):
        levels = torch.full((len(clean),), sigma)
        noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
        error = (linear(noisy, levels) - clean).square().mean().sqrt()
        assert error.item() == pytest.approx(linear.error(levels)[0].item(), rel=0.1)  # white noise is mixed in


def test_moved_copies_count_half():
    still, moved = torch.zeros(4, *SHAPE), torch.zeros(4, *SHAPE)
    still[:, 0, 0, 0, 0], moved[:, 0, 1, 0, 0] = torch.tensor([1.0, -1, 1, -1]), torch.tensor([2.0, -2, 2, -2])
    linear = LinearDenoiser(SHAPE, 12)
    linear.fit(still, moved)
    largest = sorted(linear.variances.tolist())[-2:]
    white = WHITE_SHARE * 2.5 / 12
    assert largest == pytest.approx([(1 - WHITE_SHARE) * 0.5 + white, (1 - WHITE_SHARE) * 2 + white])


def test_a_new_network_behind_it_answers_as_the_filter_does():
    level = {"latent_channels": 1, "guide_channels": 0, "sigma_max": 40.0}
    level |= {"unet_size": {"channels": (32,), "attention": (True,)}, "linear": {"shape": SHAPE, "components": 4}}
    denoiser, scheduler = CCELLADenoiser(variant="radmaisi", levels=[level]), training_scheduler("edm")
    denoiser.linear.fit(gaussian(50)[0])
    noisy, sigma = gaussian(3, seed=5)[0], torch.tensor([0.1, 1.0, 9.0])
    conditions = {"context": None, "class_vector": denoiser.class_vector(None, torch.tensor([0, 1, 0]))}
    with torch.no_grad():
        answer = denoise(denoiser, scheduler, (), noisy, sigma, spacing_mm=torch.ones(3, 3), **conditions)
    assert torch.equal(answer, denoiser.linear(noisy, sigma))
    weight = balance(scheduler, (), sigma, power=2, linear=denoiser.linear)
    assert torch.equal(weight, denoiser.linear.error(sigma).square())


def test_the_fine_head_answers_at_the_resolution_before_the_patches():
    torch.manual_seed(0)
    head = FineHead(2, seen=2, out_channels=1, patch=2)
    said, shown = torch.randn(1, 16, 4, 4, 4), [torch.randn(1, 8, 4, 4, 4) for _ in range(2)]
    assert not head(said, shown).any()  # a new one says nothing
    torch.nn.init.ones_(head.last.weight)
    answer = head(said, shown)
    assert answer.shape == (1, 8, 4, 4, 4)
    shown[0][0, 0, 0, 0, 0] += 1
    changed = (head(said, shown) != answer)[0].flatten(1).any(1)
    assert changed.all()  # one fine voxel reaches its neighbours in every place of the patch


def test_sizes_of_a_level_reach_the_saved_denoiser(tiny_cascade, tmp_path):
    tiny_cascade.denoiser.save_pretrained(tmp_path)
    loaded = CCELLADenoiser.from_pretrained(tmp_path)
    assert torch.equal(loaded.linear.directions, tiny_cascade.denoiser.linear.directions)
    assert tiny_cascade.denoiser.linear.variances.min() > 0
    levels = tiny_cascade_config().levels
    assert loaded.linear.directions.shape == (levels[0].linear_components, 4 * 4 * 2)
    assert loaded.unets[1].fine.first.out_channels == levels[1].fine_channels
    assert loaded.unets[1].low.frequencies == levels[1].low_frequencies
    assert TINY_PREPROCESSING.shape == (16, 16, 8)
