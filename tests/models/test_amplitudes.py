"""The network for amplitudes sees how strong each band is, which norms hide, and answers band by band."""

import pytest
import torch

from synthaug.models.parts.amplitudes import Amplitudes, bands_of


@pytest.fixture
def network() -> Amplitudes:
    made = Amplitudes(8, patch=2, told=3)
    for layer in (made.shift, made.gains):
        torch.nn.init.normal_(layer.weight)
    return made


def test_a_new_one_says_nothing():
    shift, answer = Amplitudes(8, patch=2, told=3)(torch.randn(2, 8, 4, 4, 4), torch.randn(2, 3))
    assert not shift.any()
    assert not answer.any()


@pytest.mark.parametrize(("patch", "sequences"), [(1, 2), (2, 1), (2, 2), (3, 1)])
def test_bands_keep_the_power_and_are_undone(patch, sequences):
    latents = torch.randn(2, sequences * patch**3, 3, 2, 4)
    bands = bands_of(latents, patch)
    torch.testing.assert_close(bands.square().sum(), latents.square().sum())
    torch.testing.assert_close(bands_of(bands, patch, back=True), latents)


def test_a_noisier_scan_is_told_from_a_quieter_one_of_the_same_mean(network):
    told, mean = torch.randn(1, 3), torch.randn(1, 8, 1, 1, 1)
    noise = torch.randn(1, 8, 8, 8, 8)
    with torch.no_grad():
        quiet, _ = network(mean + 0.2 * noise, told)
        loud, _ = network(mean + 0.25 * noise, told)
        elsewhere, _ = network(mean + 0.2 * noise.flip(2, 3, 4), told)
    assert (loud - quiet).abs().max() > 0.05
    torch.testing.assert_close(elsewhere, quiet)  # amounts alone are told, not places


def test_gains_answer_each_band_by_itself(network):
    told, noisy = torch.randn(2, 3), torch.randn(2, 8, 4, 4, 4)
    with torch.no_grad():
        _, answer = network(noisy, told)
        gains = bands_of(answer, 2) / bands_of(noisy, 2)
    torch.testing.assert_close(gains, gains[:, :, :1, :1, :1].expand_as(gains), rtol=1e-2, atol=1e-2)


def test_a_volume_does_not_depend_on_its_neighbours(network):
    told, noisy = torch.randn(3, 3), torch.randn(3, 8, 4, 4, 4)
    with torch.no_grad():
        together, alone = network(noisy, told), network(noisy[:1], told[:1])
    for many, one in zip(together, alone, strict=True):
        torch.testing.assert_close(many[:1], one)


def test_half_precision_answers_nearly_the_same(network):
    noisy, told = torch.randn(2, 8, 4, 4, 4), torch.randn(2, 3)
    with torch.no_grad():
        exact = network(noisy, told)[1]
        answer = network.to(torch.bfloat16)(noisy.bfloat16(), told.bfloat16())[1]
    assert answer.dtype == torch.float32
    assert (answer - exact).norm() < 0.1 * exact.norm()
