"""EDM: training and sampling of a denoiser D(x; sigma) (Karras et al. 2022, arXiv 2206.00364).

Symbols as in the paper: ``sigma`` is the standard deviation of the noise, ``F`` the raw network.
"""

from typing import Literal, get_args

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from synthaug.ground.errors import InputError
from synthaug.models.cascade import SIGMA_DATA

SIGMA_RANGE = (0.002, 80.0)
"""Noise levels that the network's time input spans; the paper's."""
Solver = Literal["heun", "ancestral", "euler_ode", "multistep", "multistep_sde"]


def draw_sigma(size: int, *, mean: float, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """Log-normal noise levels of a training batch (size,): ln sigma ~ N(mean, deviation^2), Table 1."""
    return (mean + deviation * torch.randn(size, generator=generator)).exp()


def loss_weight(sigma: torch.Tensor, sigma_data: float = SIGMA_DATA) -> torch.Tensor:
    """lambda(sigma), which makes every noise level's initial loss 1 (Table 1)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def preconditioning(
    sigma: torch.Tensor, sigma_data: float = SIGMA_DATA
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """c_skip, c_out and c_in of D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), Table 1.

    Example:
        At the data's own deviation, half of a noisy image is the best linear guess of the clean one.

        >>> [round(float(c), 4) for c in preconditioning(torch.tensor(SIGMA_DATA))]
        [0.5, 0.3536, 1.4142]
    """
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total.sqrt(), total.rsqrt()


def network_time(sigma: torch.Tensor) -> torch.Tensor:
    """c_noise: ln sigma, stretched from ``SIGMA_RANGE`` to the 0 to 1,000 that sinusoidal embeddings are made for.

    Example:
        >>> network_time(torch.tensor([0.002, 0.4, 80.0])).round().tolist()
        [0.0, 500.0, 1000.0]
    """
    low, high = (torch.tensor(bound).log() for bound in SIGMA_RANGE)
    return 1000 * (sigma.log() - low) / (high - low)


class EDMScheduler(SchedulerMixin, ConfigMixin):
    """Samplers over the noise levels of equation 5, one network evaluation a step.

    ``timesteps`` are the noise levels at which D is evaluated; :meth:`step` takes D's answer. Heun's method
    (Algorithm 2) evaluates twice for every level but the last, so n levels cost 2 n - 1 evaluations.

    Args:
        solver: ``heun``: Algorithm 2; ``ancestral``: DDPM's procedure, which draws each level anew from the posterior;
            ``euler_ode``: DDIM; ``multistep`` and ``multistep_sde``: DPM-Solver++(2M) (arXiv 2211.01095),
            deterministic or with fresh noise.
        sigma_min: Last noise level.
        sigma_max: First noise level. It must exceed what all voxels share, such as the brightness, whose standard
            deviation is that of one voxel times the root of their number. A higher level wastes steps. Without effect
            on a pipeline whose generator has levels: each is drawn from its own (``LevelConfig.sigma_max``).
        rho: Larger values put more levels at low noise.
        churn: S_churn; noise is added anew between ``churn_range`` (heun); 0 = deterministic.
        churn_range: S_min and S_max.
        churn_noise: S_noise.
        sigma_data: Standard deviation of the data that the network was trained on: 0.5 of a cascade's levels, 1 of an
            autoencoder's latents.
        epsilon_scale: By which the predicted noise is divided (epsilon scaling, arXiv 2308.15321). A denoiser meets
            its own errors when it samples and removes a little too much noise; above 1 gives the lost contrast back.
    """

    order = 1
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(
        self,
        solver: Solver = "multistep_sde",
        sigma_min: float = 0.01,
        sigma_max: float = 40.0,
        rho: float = 7.0,
        churn: float = 0.0,
        churn_range: tuple[float, float] = (0.05, 20.0),
        churn_noise: float = 1.003,
        sigma_data: float = SIGMA_DATA,
        epsilon_scale: float = 1.0,
    ) -> None:
        if solver not in get_args(Solver):
            raise InputError(f"Unknown solver {solver!r}; the solvers are {', '.join(get_args(Solver))}.")
        self.num_inference_steps = 0
        self.timesteps = torch.empty(0)

    def set_timesteps(
        self,
        num_inference_steps: int,
        device: str | torch.device | None = None,
        sigma_max: float | None = None,
    ) -> None:
        """Lay out the noise levels of one drawing, equation 5, and forget the one before.

        Args:
            num_inference_steps: Noise levels.
            device: Of ``timesteps``.
            sigma_max: In place of the config's.
        """
        n, c = num_inference_steps, self.config
        ramp = torch.linspace(0, 1, n, dtype=torch.float64)
        first, last = (sigma_max or c.sigma_max) ** (1 / c.rho), c.sigma_min ** (1 / c.rho)
        levels = (first + ramp * (last - first)) ** c.rho
        self.num_inference_steps = n
        self.sigmas = [*levels.tolist(), 0.0]
        self._churned = [sigma * (1 + self._gamma(sigma)) for sigma in self.sigmas]
        times = []
        for index in range(n):
            times.append(self._churned[index])
            if c.solver == "heun" and index + 1 < n:
                times.append(self.sigmas[index + 1])
        self.timesteps = torch.tensor(times, dtype=torch.float32, device=device)
        self._at = 0
        self._halfway: tuple[torch.Tensor, torch.Tensor] | None = None
        self._before: torch.Tensor | None = None

    def _gamma(self, sigma: float) -> float:
        low, high = self.config.churn_range
        if self.config.solver != "heun" or not low <= sigma <= high:
            return 0.0
        return min(self.config.churn / self.num_inference_steps, 2**0.5 - 1)

    def first_sample(self, noise: torch.Tensor) -> torch.Tensor:
        """Unit noise scaled to the first noise level."""
        return noise * self._churned[0]

    def step(self, denoised, timestep, sample, *, generator=None) -> SchedulerOutput:
        """From the sample (B, c, x, y, z) at one noise level to that at the next, given D's answer."""
        if self.config.epsilon_scale != 1:
            denoised = sample + (denoised - sample) / self.config.epsilon_scale
        solve = self._heun if self.config.solver == "heun" else self._exponential
        return SchedulerOutput(prev_sample=solve(denoised, sample, generator))

    def _heun(self, denoised, sample, generators):
        """Algorithm 2, one evaluation at a time."""
        index, sigma_hat = self._at, self._churned[self._at]
        following = self.sigmas[index + 1]
        if self._halfway is None:
            slope = (sample - denoised) / sigma_hat
            moved = sample + (following - sigma_hat) * slope
            if following > 0:
                self._halfway = (sample, slope)
                return moved
        else:
            start, slope = self._halfway
            slope = (slope + (sample - denoised) / following) / 2
            moved, self._halfway = start + (following - sigma_hat) * slope, None
        self._at = index + 1
        extra = self._churned[index + 1] ** 2 - following**2
        if extra > 0:
            moved = moved + extra**0.5 * self.config.churn_noise * _noise(moved, generators)
        return moved

    def _exponential(self, denoised, sample, generators):
        """DPM-Solver++ in its data-prediction form; of first order and with noise it is DDPM's posterior."""
        solver, index = self.config.solver, self._at
        sigma, following = self.sigmas[index], self.sigmas[index + 1]
        self._at, before, self._before = index + 1, self._before, denoised
        if following == 0:
            return denoised
        step = torch.tensor(sigma / following, dtype=torch.float64).log().item()  # h, in half log-SNR
        noisy = solver in ("ancestral", "multistep_sde")
        shrink = -torch.expm1(torch.tensor(-(2 if noisy else 1) * step, dtype=torch.float64)).item()
        kept = (following / sigma) ** (2 if noisy else 1)
        moved = kept * sample + shrink * denoised
        if solver.startswith("multistep") and before is not None:
            last = torch.tensor(self.sigmas[index - 1] / sigma, dtype=torch.float64).log().item()
            moved = moved + 0.5 * shrink * (step / last) * (denoised - before)
        if noisy:
            moved = moved + following * shrink**0.5 * _noise(moved, generators)
        return moved


def _noise(like: torch.Tensor, generators) -> torch.Tensor:
    """Unit noise, each row by its own generator, drawn on the CPU so that every device gets the same.

    As in diffusers, one generator serves all rows, and none means torch's own.
    """
    if not isinstance(generators, list):
        return torch.randn(like.shape, generator=generators).to(like)
    rows = [torch.randn(like.shape[1:], generator=generator) for generator in generators]
    return torch.stack(rows).to(like)
