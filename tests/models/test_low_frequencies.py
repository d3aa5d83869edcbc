"""The network for the lowest frequencies sees amounts that norms hide, and nothing of the others."""

import pytest
import torch

from synthaug.models.parts.low_frequencies import LowFrequencies, cosines_of


@pytest.fixture
def network() -> LowFrequencies:
    torch.manual_seed(0)
    made = LowFrequencies(1, frequencies=2, told=3)
    for layer in (made.layers[-1], made.gains):
        torch.nn.init.normal_(layer.weight)
    return made


def test_a_new_one_says_nothing():
    assert not LowFrequencies(2, frequencies=3, told=4)(torch.randn(2, 2, 4, 4, 4), torch.randn(2, 4)).any()


def test_brightness_reaches_the_answer_and_fine_detail_does_not(network):
    told = torch.randn(1, 3)
    plain = torch.zeros(1, 1, 4, 6, 4)
    high = cosines_of(4, 4, plain.device)[3].expand(1, 1, 4, 6, 4)
    with torch.no_grad():
        torch.testing.assert_close(network(high, told), network(plain, told), rtol=0, atol=1e-5)
        assert (network(plain + 1, told) - network(plain, told)).abs().max() > 1e-3
        assert (network(plain, told + 1) - network(plain, told)).abs().max() > 1e-3


def test_half_precision_answers_nearly_the_same(network):
    noisy, told = torch.randn(2, 1, 4, 4, 4), torch.randn(2, 3)
    with torch.no_grad():
        exact = network(noisy, told)
        answer = network.to(torch.bfloat16)(noisy.bfloat16(), told.bfloat16())
    assert answer.dtype == torch.float32
    assert (answer - exact).norm() < 0.05 * exact.norm()


def test_any_shape_is_answered_and_short_axes_have_fewer_cosines(network):
    with torch.no_grad():
        answer = network(torch.randn(2, 1, 8, 6, 1), torch.randn(2, 3))
    assert answer.shape == (2, 1, 8, 6, 1)
    rows = cosines_of(1, 3, answer.device)
    assert rows.tolist() == [[1.0], [0.0], [0.0]]
    assert torch.allclose(cosines_of(5, 5, answer.device) @ cosines_of(5, 5, answer.device).T, torch.eye(5), atol=1e-6)
