"""A small network that sees the lowest spatial frequencies as they are, beside a U-Net whose norms hide them (ours)."""

import math

import torch
from torch import nn

HIDDEN = 256
"""Values of a hidden layer."""


class LowFrequencies(nn.Module):
    """What an MLP answers to the lowest cosine coefficients of the noisy latents, told what the U-Net is told.

    A U-Net divides every map by its deviation. How bright, how rich in contrast and how large a volume is are then
    known to it from relations between maps alone, and are learnt late. Here they are a few numbers. The last layer and
    the gains start at 0, so that an untrained network answers as without it.

    Args:
        channels: Of the latents.
        frequencies: Cosines along each axis; an axis of fewer voxels has as many as voxels.
        told: Values of the embedding of time, report, class and spacing.

    Example:
        >>> network = LowFrequencies(1, frequencies=2, told=8)
        >>> network(torch.randn(3, 1, 4, 6, 1), torch.randn(3, 8)).shape
        torch.Size([3, 1, 4, 6, 1])
    """

    def __init__(self, channels: int, *, frequencies: int, told: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        values = channels * frequencies**3
        last, self.gains = nn.Linear(HIDDEN, values), nn.Linear(told, values)
        for layer in (last, self.gains):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(
            nn.Linear(values + told, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), last
        )

    def forward(self, noisy: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """Noisy latents (B, c, x, y, z) in units of the U-Net's input, embedding (B, told) -> their like."""
        with torch.autocast(noisy.device.type, enabled=False):
            cosines = [cosines_of(side, self.frequencies, noisy.device) for side in noisy.shape[2:]]
            found = torch.einsum("bcxyz,ix,jy,kz->bcijk", noisy.float(), *cosines)
            flat, told = (each.to(self.gains.weight.dtype) for each in (found.flatten(1), told))
            told = nn.functional.silu(told)
            answer = self.layers(torch.cat([flat, told], dim=1)) + self.gains(told) * flat
            return torch.einsum("bcijk,ix,jy,kz->bcxyz", answer.float().view_as(found), *cosines)


def cosines_of(side: int, frequencies: int, device: torch.device) -> torch.Tensor:
    """Orthonormal cosines (frequencies, side) of an axis; rows beyond its voxels are 0.

    Example:
        >>> rows = cosines_of(4, 3, torch.device("cpu"))
        >>> torch.allclose(rows @ rows.T, torch.eye(3), atol=1e-6)
        True
    """
    number = torch.arange(frequencies, device=device, dtype=torch.float32)[:, None]
    place = torch.arange(side, device=device, dtype=torch.float32)[None, :]
    rows = torch.cos(math.pi * number * (place + 0.5) / side) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return rows * (number < side)
