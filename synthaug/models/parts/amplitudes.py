"""How strong each frequency band of the noisy latents is, told to a U-Net whose norms hide it (ours)."""

import torch
from torch import nn

from synthaug.models.parts.low_frequencies import cosines_of

HIDDEN = 128
"""Values of a hidden layer."""
SHARPER = 8.0
"""By which logarithms of amplitudes are multiplied: scans differ by a few per cent once noise is added."""
TINY = 1e-6
"""Added before a logarithm."""


class Amplitudes(nn.Module):
    """The amplitude of each frequency band shifts the U-Net's embedding and sets the gain of the band in its answer.

    A U-Net divides every map by its deviation. It cannot tell how noisy a scan is, and draws every volume with the
    noise of the average scan. The bands are the cosines of the patches that space-to-depth made, which are a Haar
    transform for patches of 2. Both last layers start at 0, so that an untrained network answers as without it.

    Args:
        channels: Of the latents, a multiple of ``patch ** 3``.
        patch: Space-to-depth factor of the latents.
        told: Values of the embedding of time, report, class and spacing.

    Example:
        >>> shift, answer = Amplitudes(8, patch=2, told=12)(torch.randn(3, 8, 4, 6, 2), torch.randn(3, 12))
        >>> shift.shape, answer.shape
        (torch.Size([3, 12]), torch.Size([3, 8, 4, 6, 2]))
    """

    def __init__(self, channels: int, *, patch: int, told: int) -> None:
        super().__init__()
        self.patch = patch
        self.layers = nn.Sequential(
            nn.Linear(2 * channels + told, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU()
        )
        self.shift, self.gains = nn.Linear(HIDDEN, told), nn.Linear(HIDDEN, channels)
        for layer in (self.shift, self.gains):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, noisy: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents (B, c, x, y, z), embedding (B, told) -> shift of the embedding, part of the answer."""
        with torch.autocast(noisy.device.type, enabled=False):
            bands = bands_of(noisy.float(), self.patch)
            strengths = bands.flatten(2)
            amplitudes = torch.cat([strengths.square().mean(2).sqrt(), strengths.abs().mean(2)], dim=1)
            known = [SHARPER * (amplitudes + TINY).log(), nn.functional.silu(told.float())]
            found = self.layers(torch.cat(known, dim=1).to(self.gains.weight.dtype))
            gains = self.gains(found).float()[:, :, None, None, None]
            return self.shift(found), bands_of(gains * bands, self.patch, back=True)


def bands_of(latents: torch.Tensor, patch: int, *, back: bool = False) -> torch.Tensor:
    """The voxels of each patch (B, c, x, y, z) as orthonormal cosines, the slowest first; ``back``: the inverse.

    Example:
        >>> latents = torch.ones(1, 8, 1, 1, 1)
        >>> bands_of(latents, 2).square().round().flatten().tolist()
        [8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        >>> torch.allclose(bands_of(bands_of(latents, 2), 2, back=True), latents)
        True
    """
    rows = cosines_of(patch, patch, latents.device)
    rows = rows.T if back else rows
    voxels = latents.unflatten(1, (-1, patch, patch, patch))
    return torch.einsum("bsuvwxyz,iu,jv,kw->bsijkxyz", voxels, rows, rows, rows).flatten(1, 4)
