"""Muon: which weights it takes, what it makes of a gradient, and that AdamW has all others."""

import pytest
import torch
from torch import nn

from synthaug.models.training.muon import SCALE, Muon, matrices_of, orthogonal

SETTINGS = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}


class Network(nn.Module):
    """One layer of each kind."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.words = nn.Embedding(20, 16)
            self.linear = nn.Linear(16, 12)
            self.convolution = nn.Conv3d(12, 8, 3, padding=1)
            self.norm = nn.GroupNorm(4, 8)
            self.last = nn.Conv3d(8, 1, 1)
            self.queries = nn.Parameter(torch.randn(1, 8, 8))
            self.frozen = nn.Linear(16, 16).requires_grad_(False)

    def forward(self, words):
        maps = self.linear(self.words(words))[..., None, None, None].expand(-1, -1, 3, 3, 3)
        return self.last(self.norm(self.convolution(maps))).square().mean() + self.queries.square().mean()


def stepped(make, *, steps=2):
    """Weights by name after some steps of an optimiser."""
    network = Network()
    optimizer = make(network)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.arange(6)).backward()
        optimizer.step()
    return dict(network.named_parameters())


def test_matrices_are_weights_of_linear_layers_and_convolutions():
    network = Network()
    assert {id(weight) for weight in matrices_of(network)} == {
        id(network.linear.weight),
        id(network.convolution.weight),
    }


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shape", [(8, 216), (64, 16), (32, 32)])
def test_singular_values_become_alike_and_vectors_stay_whatever_the_scale(shape, scale):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    within = left.T @ orthogonal(scale * matrix) @ right.T
    off = within - torch.diag(torch.diagonal(within))
    assert off.abs().max() < 1e-3
    assert torch.diagonal(within).sort().values[len(within) // 8 :] == pytest.approx(0.95, abs=0.3)
    assert orthogonal(torch.zeros(shape)).abs().max() == 0


def test_the_first_step_is_the_orthogonal_gradient_at_the_scale_of_adamw():
    before, after = Network(), stepped(lambda network: Muon(network, **SETTINGS), steps=1)
    before(torch.arange(6)).backward()
    for name in ("linear.weight", "convolution.weight"):
        weight = before.get_parameter(name)
        gradient = weight.grad.flatten(1)
        moved = orthogonal(gradient).reshape(weight.shape) * SCALE * max(gradient.shape) ** 0.5
        expected = weight.detach() * (1 - 0.01 * 0.1) - 0.01 * moved
        torch.testing.assert_close(after[name], expected, rtol=1e-4, atol=1e-5)
        sizes = moved.square().mean().sqrt()
        assert 0.1 < sizes < 0.4  # an update of AdamW has about 0.2 to 0.4


def test_all_other_weights_move_as_by_adamw_and_frozen_ones_stay():
    start = dict(Network().named_parameters())
    ours = stepped(lambda network: Muon(network, **SETTINGS), steps=1)
    adamw = stepped(
        lambda network: torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], **SETTINGS), steps=1
    )
    for name, weight in ours.items():
        if name in ("linear.weight", "convolution.weight"):
            assert not torch.allclose(weight, adamw[name], atol=1e-4)
        else:
            torch.testing.assert_close(weight, adamw[name])
        assert torch.equal(weight, start[name]) == name.startswith("frozen")


def test_what_was_saved_goes_on_with_the_same_bits():
    unbroken = stepped(lambda network: Muon(network, **SETTINGS), steps=3)
    network, other = Network(), Network()
    first, second = Muon(network, **SETTINGS), Muon(other, **SETTINGS)
    for at in range(3):
        model, optimizer = (network, first) if at < 2 else (other, second)
        if at == 2:
            other.load_state_dict(network.state_dict())
            second.load_state_dict(first.state_dict())
        optimizer.zero_grad()
        model(torch.arange(6)).backward()
        optimizer.step()
    assert all(torch.equal(weight, unbroken[name]) for name, weight in other.named_parameters())
