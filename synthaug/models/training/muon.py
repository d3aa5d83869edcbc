"""Muon: momentum made orthogonal for the matrices of a network, AdamW for everything else (ours for generators)."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial that raises small singular values fastest (Jordan 2024)."""
ITERATIONS = 4
SCALE = 0.2
"""Root mean square of an update over the rate. It is about that of AdamW, so that both share one rate (Liu et al.)."""
LEAST_SIDE = 8
"""Sides of the smallest matrix; smaller ones, such as a last layer's, are left to AdamW."""


class Muon(torch.optim.AdamW):
    """AdamW, but for the weights of linear layers and convolutions, whose momentum is orthogonalised.

    Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024), with the scale of Liu et al.
    (arXiv 2502.16982). A convolution counts as a matrix of output channels by all else. The rate, its schedule and the
    decay of weights are AdamW's.

    Args:
        network: Whose parameters that ask for gradients are optimised.
        kwargs: Arguments of ``torch.optim.AdamW``.

    Example:
        >>> layer = nn.Linear(8, 8, bias=False)
        >>> _ = nn.init.zeros_(layer.weight)
        >>> optimizer = Muon(layer, lr=1.0, weight_decay=0.0)
        >>> (layer.weight * torch.diag(torch.arange(1.0, 9.0))).sum().backward()
        >>> optimizer.step()  # eight singular values from 1 to 8 have become alike
        >>> bool(torch.linalg.svdvals(layer.weight.detach()).std() < 0.2 * torch.linalg.matrix_norm(layer.weight, 2))
        True
    """

    def __init__(self, network: nn.Module, **kwargs: Any) -> None:
        matrices = {id(weight): weight for weight in matrices_of(network)}
        rest = [each for each in network.parameters() if each.requires_grad and id(each) not in matrices]
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": [*matrices.values()]}]
        super().__init__([group for group in groups if group["params"]], **kwargs)
        self.matrices = [*matrices.values()]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of both."""
        group = self.param_groups[-1]
        for weight in self.matrices:
            if weight.grad is None:
                continue
            if not (state := self.state[weight]):
                # AdamW takes up no state without a count of steps.
                state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
            state["step"] += 1
            momentum = state["momentum"]
            momentum.lerp_(weight.grad, 1 - MOMENTUM)
            update = orthogonal(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
            scale = SCALE * math.sqrt(max(update.shape))
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update.reshape(weight.shape), alpha=-group["lr"] * scale)
            weight.grad = None  # AdamW passes over it
        super().step(closure)


def matrices_of(network: nn.Module) -> Iterator[torch.Tensor]:
    """Weights of linear layers and convolutions that ask for gradients and are not too small; no embeddings."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            weight = layer.weight
            if weight.requires_grad and min(weight.flatten(1).shape) >= LEAST_SIDE:
                yield weight


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix (m, n) with singular values near 1 (0.7 to 1.2) where they are not tiny, float32.

    Newton-Schulz iteration. Every iterate is a symmetric polynomial of the Gram matrix times ``matrix``. So the
    iteration runs on the smaller side's Gram matrix, and the larger side is met twice only. The matrix is divided by
    its Schatten-4 norm. This is nearer to the largest singular value than Frobenius' norm and saves an iteration.

    Example:
        >>> values = torch.linalg.svdvals(orthogonal(torch.randn(16, 64)))
        >>> bool((values > 0.6).all() and (values < 1.3).all())
        True
    """
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    wide = wide / wide.abs().max().clamp(min=1e-30)  # gradients of 1e-12 occur, whose fourth powers vanish
    gram = wide @ wide.T
    size = gram.norm().clamp(min=1e-30)
    gram, applied = gram / size, size.rsqrt() * torch.eye(len(gram), device=gram.device)
    first, second, third = COEFFICIENTS
    for left in reversed(range(ITERATIONS)):
        factor = torch.addmm(gram, gram, gram, beta=second, alpha=third)
        factor.diagonal().add_(first)
        applied = factor @ applied
        gram = factor @ gram @ factor if left else gram
    made = applied @ wide
    return made if matrix.shape[0] <= matrix.shape[1] else made.T
