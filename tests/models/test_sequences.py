"""A denoiser that gains sequences answers to those that it knew as before, with every part that a level may have."""

import pytest
import torch

from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.sequences import with_sequences

PLACES, COUNT = [2, 0], 4
"""Where two sequences stand among four."""


def level(latents, guide, **parts):
    size = {"channels": [16], "attention": [False], "head_channels": 16, "norm_groups": 16}
    return {"latent_channels": latents, "guide_channels": guide, "unet_size": size, "sigma_max": 10.0, **parts}


LEVELS = {
    "three levels": [
        level(2, 0, texture=2, low_frequencies=2),
        level(2, 2, fine_channels=3),
        level(16, 16, patch=2, fine_channels=2, texture=4, low_frequencies=2),
    ],
    "more textures than there are": [level(2, 0, texture=6), level(16, 16, patch=2, texture=64)],
}


@torch.no_grad()
def trained(variant, levels):
    """With values everywhere, as after a training."""
    adapter = {"width": 16, "queries": 2, "blocks": 1, "heads": 2, "sinusoids": 8, "class_width": 8}
    denoiser = CCELLADenoiser(variant=variant, levels=levels, moves=3, adapter_size=adapter).eval()
    for weights in [*denoiser.parameters(), *(each for name, each in denoiser.named_buffers() if "texture" in name)]:
        weights.normal_(std=0.2)
    return denoiser


@torch.no_grad()
def answer(denoiser, number, latents, guide):
    unet, given = denoiser.unets[number], torch.Generator().manual_seed(0)
    return denoiser(
        latents,
        torch.tensor([10.0, 500.0]),
        context=torch.randn(2, 2, 16, generator=given) if denoiser.conditioning.text else None,
        class_vector=None if denoiser.conditioning.class_input == "none" else torch.tensor([[0.2, 0.8], [1.0, 0.0]]),
        spacing_mm=torch.ones(2, 3),
        level=number,
        guide=guide,
        texture=unet.texture.measure(latents) if hasattr(unet, "texture") else None,
    )


@pytest.mark.parametrize("variant", ["ccella", "maisi", "radmaisi"])
@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_known_sequences_are_answered_as_before(levels, variant):
    before = trained(variant, levels)
    after = with_sequences(before, PLACES, COUNT).eval()
    for number, sizes in enumerate(levels):
        each = sizes["latent_channels"] // len(PLACES)
        ours = [place * each + channel for place in PLACES for channel in range(each)]
        latents = torch.randn(2, COUNT * each, 4, 4, 2)
        guide = torch.randn_like(latents) if number else None
        now = answer(after, number, latents, guide)
        as_before = answer(before, number, latents[:, ours], guide if guide is None else guide[:, ours])
        torch.testing.assert_close(now[:, ours], as_before, atol=1e-4, rtol=1e-4)
