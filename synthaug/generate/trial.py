"""Whether a sampler gets through its steps, tried on one voxel before anything is trained or drawn."""

import functools
import warnings

import torch
from diffusers import SchedulerMixin

from synthaug.generate.diffusion import Prediction, is_edm, swap_scheduler, training_scheduler
from synthaug.ground.errors import InputError

_passed: set[tuple[str, str, int]] = set()


def require_steps(scheduler: SchedulerMixin, steps: int) -> None:
    """InputError if a sampler fails at this number of steps: some cannot place nearly as many as the training had.

    Args:
        scheduler: A sampler; it is not changed.
        steps: Denoising steps.
    """
    tried = (type(scheduler).__name__, repr(sorted(scheduler.config.items(), key=str)), steps)
    if tried in _passed:
        return
    try:
        try_steps(scheduler, steps)
    except (ValueError, IndexError, AssertionError) as error:
        raise _unusable(scheduler, steps) from error
    _passed.add(tried)


def try_steps(scheduler: SchedulerMixin, steps: int) -> None:
    """Let a sampler make these steps on one voxel; what it raises is passed on, ValueError where it makes too few.

    Args:
        scheduler: A sampler; it is not changed.
        steps: Denoising steps.
    """
    sampler = type(scheduler).from_config(scheduler.config)
    latents = torch.ones(1, 1, 1, 1, 1)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        sampler.set_timesteps(steps)
        for timestep in sampler.timesteps:
            latents = sampler.step(torch.zeros_like(latents), timestep, latents).prev_sample
    if len(sampler.timesteps) < steps or not torch.isfinite(latents).all():
        raise ValueError(f"{type(sampler).__name__} made {len(sampler.timesteps)} of {steps} steps")


def _unusable(scheduler: SchedulerMixin, steps: int) -> InputError:
    trained = scheduler.config.num_train_timesteps
    return InputError(
        f"pool.sampling.steps={steps}: {type(scheduler).__name__} cannot make so many of the {trained} training steps; "
        f"set fewer, at most {9 * trained // 10} suit every pool.sampling.scheduler, or choose another scheduler."
    )


@functools.cache
def require_sampling(prediction: Prediction, scheduler: str, steps: int, *, epsilon_scale: float | None = None) -> None:
    """InputError if ``scheduler`` cannot sample a generator trained on ``prediction`` in ``steps`` steps."""
    sampler = swap_scheduler(training_scheduler(prediction), scheduler, epsilon_scale=epsilon_scale)
    if not is_edm(sampler):  # whose solvers are our own and take any number
        require_steps(sampler, steps)
