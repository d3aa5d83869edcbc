"""The best linear denoiser of latents whose covariance is known: what a network need not learn (ours)."""

from collections.abc import Sequence

import torch
from torch import nn

WHITE_SHARE = 0.02
"""Share of white noise that is mixed into the covariance, so that no direction is ruled out."""


class LinearDenoiser(nn.Module):
    """Wiener filter: E[x | x + sigma n] for Gaussian latents x of mean 0, unit noise n.

    The covariance is kept as its leading principal components and one variance for all other directions.

    Args:
        shape: Channels and sides of the latents.
        components: Principal components kept, at most.

    Example:
        >>> linear = LinearDenoiser((1, 2, 1, 1), components=2)
        >>> linear.fit(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).reshape(2, 1, 2, 1, 1))
        >>> noisy = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).reshape(2, 1, 2, 1, 1)
        >>> [round(value, 2) for value in linear(noisy, torch.tensor([1.0, 1.0])).flatten().tolist()]
        [0.66, 0.66, 0.02, -0.02]
    """

    directions: torch.Tensor
    variances: torch.Tensor
    rest: torch.Tensor

    def __init__(self, shape: Sequence[int], components: int) -> None:
        super().__init__()
        values = shape[0] * shape[1] * shape[2] * shape[3]
        kept = min(components, values)
        self.register_buffer("directions", torch.zeros(kept, values))
        self.register_buffer("variances", torch.zeros(kept))
        self.register_buffer("rest", torch.ones(1))

    @torch.no_grad()
    def fit(self, latents: torch.Tensor, moved: torch.Tensor | None = None) -> None:
        """Estimate the covariance.

        Args:
            latents: Of training volumes (N, c, x, y, z), mean 0.
            moved: Of moved copies of them (M, c, x, y, z), whose covariance counts half: few volumes tell few
                directions.
        """
        covariance = _covariance(latents)
        if moved is not None:
            covariance = (covariance + _covariance(moved)) / 2
        white = covariance.diagonal().mean()
        covariance = (1 - WHITE_SHARE) * covariance
        covariance.diagonal().add_(WHITE_SHARE * white)
        variances, directions = torch.linalg.eigh(covariance)
        kept = len(self.variances)
        self.variances.copy_(variances.flip(0)[:kept])
        self.directions.copy_(directions.flip(1)[:, :kept].T)
        left = len(variances) - kept
        self.rest.fill_(float(variances[:left].mean()) if left else float(variances[0]))

    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Noisy latents (B, c, x, y, z) at noise levels (B,) -> denoised ones, float32."""
        flat, noise = noisy.float().flatten(1), sigma.float().square().unsqueeze(1)
        directions, variances, rest = self.directions.float(), self.variances.float(), self.rest.float()
        others = rest / (rest + noise)
        gains = variances / (variances + noise) - others
        denoised = others * flat + ((flat @ directions.T) * gains) @ directions
        return denoised.view(noisy.shape)

    def error(self, sigma: torch.Tensor) -> torch.Tensor:
        """Expected root mean square error of a value at noise levels (B,), shaped (B, 1, 1, 1, 1)."""
        noise = sigma.float().square().unsqueeze(1)
        kept, values = self.directions.shape
        variances, rest = self.variances.float(), self.rest.float()
        total = (variances * noise / (variances + noise)).sum(1, keepdim=True)
        total = total + (values - kept) * rest * noise / (rest + noise)
        return (total / values).sqrt().view(-1, 1, 1, 1, 1)


def _covariance(latents: torch.Tensor) -> torch.Tensor:
    flat = latents.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat.T @ flat / len(flat)
