"""How strong each frequency band of a volume is, told to a U-Net whose norms hide it (ours)."""

from collections.abc import Iterable

import torch
from torch import nn

from synthaug.models.parts.low_frequencies import cosines_of

FARTHEST = 4.0
"""Standard deviations beyond which a component is told as this."""
TINY = 1e-6
"""Added before a logarithm."""


class Texture(nn.Module):
    """Principal components of a scan's noise and sharpness, measured in training and drawn from a normal in sampling.

    A U-Net divides every map by its deviation, and draws every volume with the noise of the average scan. What is told
    need not be guessed from noisy latents. Measured are root mean square and mean absolute value of each band of the
    clean latents, as logarithms. The bands are the cosines of the patches that space-to-depth made.

    Args:
        channels: Of the latents, a multiple of ``patch ** 3``.
        patch: Space-to-depth factor of the latents.
        components: Principal components that are told, at most two a channel.
        width: Values of the U-Net's embedding.

    Example:
        >>> texture = Texture(8, patch=2, components=2, width=12)
        >>> latents = torch.rand(6, 1, 1, 1, 1) * torch.randn(6, 8, 4, 6, 2)
        >>> texture.fit([latents])
        >>> told = texture.measure(latents)
        >>> told.shape, told.std(0, correction=0).round().tolist(), texture(told).shape
        (torch.Size([6, 2]), [1.0, 1.0], torch.Size([6, 12]))
    """

    centre: torch.Tensor
    directions: torch.Tensor

    def __init__(self, channels: int, *, patch: int, components: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.components = min(components, 2 * channels)
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)  # an untrained network answers as without it
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(self.components, width), nn.SiLU(), last)
        self.register_buffer("centre", torch.zeros(2 * channels))
        self.register_buffer("directions", torch.zeros(self.components, 2 * channels))

    @torch.no_grad()
    def fit(self, latents: Iterable[torch.Tensor]) -> None:
        """Find the components of training volumes, whose latents come in parts (N, c, x, y, z)."""
        amplitudes = torch.cat([self._amplitudes(part) for part in latents]).double()
        centred = amplitudes - amplitudes.mean(0)
        _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
        kept = min(self.components, len(sizes))
        deviations = sizes[:kept, None] / len(amplitudes) ** 0.5
        self.centre.copy_(amplitudes.mean(0))
        self.directions.zero_()
        self.directions[:kept] = torch.where(deviations > TINY, directions[:kept] / deviations, 0.0)

    @torch.no_grad()
    def measure(self, latents: torch.Tensor) -> torch.Tensor:
        """Clean latents (B, c, x, y, z) -> components (B, K), each of deviation 1 in training volumes."""
        with torch.autocast(latents.device.type, enabled=False):  # scans differ by a few per cent
            found = (self._amplitudes(latents) - self.centre.float()) @ self.directions.float().T
        return found.clamp(-FARTHEST, FARTHEST)

    def forward(self, told: torch.Tensor) -> torch.Tensor:
        """Components (B, K) -> what they add to the embedding (B, width)."""
        return self.layers(told.to(self.directions.dtype))

    def _amplitudes(self, latents: torch.Tensor) -> torch.Tensor:
        bands = bands_of(latents.float(), self.patch).flatten(2)
        return (torch.cat([bands.square().mean(2).sqrt(), bands.abs().mean(2)], dim=1) + TINY).log()


def bands_of(latents: torch.Tensor, patch: int) -> torch.Tensor:
    """The voxels of each patch (B, c, x, y, z) as orthonormal cosines, the slowest first.

    Example:
        >>> latents = torch.ones(1, 8, 1, 1, 1)
        >>> bands_of(latents, 2).square().round().flatten().tolist()
        [8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    rows = cosines_of(patch, patch, latents.device)
    voxels = latents.unflatten(1, (-1, patch, patch, patch))
    return torch.einsum("bsuvwxyz,iu,jv,kw->bsijkxyz", voxels, rows, rows, rows).flatten(1, 4)
