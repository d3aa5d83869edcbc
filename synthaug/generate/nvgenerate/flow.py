"""MAISI-v2's rectified flow (arXiv 2508.05772): its training times and its Euler sampler, both MONAI's.

Differences from other rectified flows: the velocity is image - noise. Time is continuous, 0 at the image and 1,000 at
the noise. The larger the latents, the more of it lies near the noise.
"""

import math
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from monai.networks.schedulers.rectified_flow import RFlowScheduler, timestep_transform

BASE_PLACES = 32**3
"""Places of a latent at which time is not transformed."""


class MaisiFlowScheduler(SchedulerMixin, ConfigMixin):
    """MONAI's RFlowScheduler as a diffusers scheduler, as NV-Generate's scripts set it up.

    As published, timesteps are rounded to half precision, and each step ends at the next timestep truncated to an
    integer. The steps therefore overlap slightly.

    Args:
        num_train_timesteps: The time at which there is noise alone.
        base_places: Places of a latent at which time is not transformed.

    Example:
        >>> flow = MaisiFlowScheduler()
        >>> flow.set_timesteps(4, places=8 * 32**3)  # twice as long a side
        >>> flow.timesteps.tolist()
        [1000.0, 857.0, 666.5, 400.0]
        >>> noise, velocity = torch.ones(1, 1, 1, 1, 1), -torch.ones(1, 1, 1, 1, 1)
        >>> round(flow.step(velocity, flow.timesteps[0], noise).prev_sample.item(), 4)
        0.857
    """

    order = 1
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, base_places: int = BASE_PLACES) -> None:
        self._flow = RFlowScheduler(
            num_train_timesteps=num_train_timesteps,
            use_discrete_timesteps=False,
            use_timestep_transform=True,
            sample_method="uniform",
            base_img_size_numel=base_places,
        )
        self.num_inference_steps = 0
        self.timesteps = torch.empty(0)
        self._at = 0

    def set_timesteps(
        self,
        num_inference_steps: int,
        device: str | torch.device | None = None,
        places: int = BASE_PLACES,
    ) -> None:
        """Lay out the steps of one drawing.

        Args:
            num_inference_steps: Steps.
            device: Of ``timesteps``.
            places: Of the latent, x * y * z.
        """
        self._flow.set_timesteps(num_inference_steps, input_img_size_numel=places)
        self.timesteps = self._flow.timesteps.float().to(device)
        self._next = [*self.timesteps[1:].tolist(), 0]
        self.num_inference_steps, self._at = num_inference_steps, 0

    def step(self, velocity: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor) -> SchedulerOutput:
        """From the latents (B, c, x, y, z) at one timestep to those at the next, in order."""
        moved, _ = self._flow.step(velocity, float(timestep), sample, self._next[self._at])
        self._at += 1
        return SchedulerOutput(prev_sample=moved)

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Noisy latents (B, c, x, y, z) at timesteps (B,)."""
        return self._flow.add_noise(latents, noise, timesteps)

    def draw_times(self, size: int, places: int, generator: torch.Generator) -> torch.Tensor:
        """Training times (size,): uniform, then moved towards the noise as in sampling."""
        trained = self.config.num_train_timesteps
        return timestep_transform(
            torch.rand(size, generator=generator) * trained,
            input_img_size_numel=places,
            base_img_size_numel=self.config.base_places,
            num_train_timesteps=trained,
        )


def places_of(shape: Sequence[int]) -> int:
    """Places x * y * z of latents of ``shape`` (c, x, y, z), or with a batch before it."""
    return math.prod(shape[-3:])
