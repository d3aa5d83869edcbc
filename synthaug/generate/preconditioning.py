"""The network behind a linear predictor: what the spread of the latents already tells is not left to it to learn.

Ours, and off unless a training measured that spread: channel by channel, or as a covariance
(:class:`~synthaug.models.parts.linear_denoiser.LinearDenoiser`). Published networks see noisy latents as they are.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import SchedulerMixin

from synthaug.generate import edm
from synthaug.generate.diffusion import is_edm, is_flow, published_signal
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.parts.linear_denoiser import LinearDenoiser


def denoise(
    denoiser: CCELLADenoiser,
    scheduler: SchedulerMixin,
    deviations: Sequence[float],
    latents: torch.Tensor,
    time: torch.Tensor,
    **conditions: Any,
) -> torch.Tensor:
    """The predicted noise, velocity or flow, or EDM's D(x; sigma), float32.

    Args:
        denoiser: The network.
        scheduler: Any sampler of it, or the scheduler it was trained with.
        deviations: Standard deviation of each clean latent channel; empty = the network alone, as published.
        latents: Noisy latents (B, c, x, y, z).
        time: In the scheduler's count (B,).
        conditions: Its other arguments.
    """
    told = told_time(scheduler, deviations, time)
    if not is_edm(scheduler) and not len(deviations):
        return denoiser(latents.to(denoiser.dtype), told, **conditions).float()
    inward, skip, outward = coefficients(scheduler, deviations, time)
    guess, linear = skip * latents, denoiser.linear
    if linear is not None and conditions.get("level", 0) == 0:
        guess, outward = linear(latents, time), linear.error(time)
        conditions["guide"] = guess / edm.SIGMA_DATA
    answer = denoiser((inward * latents).to(denoiser.dtype), told, **conditions)
    return guess + outward * answer.float()


def told_time(scheduler: SchedulerMixin, deviations: Sequence[float], time: torch.Tensor) -> torch.Tensor:
    """What the network, and the adapter, is told of the time (B,).

    The time itself. Behind a linear predictor of a flow it is the published schedule's timestep of equal
    signal-to-noise ratio. Where that schedule has no ratio so high or low, it goes on in a straight line. Input and
    target of the network are then the same for velocity and flow, and either can be fine-tuned from the other.

    Example:
        Image and noise weigh alike at half of a flow's time.

        >>> from synthaug.generate.diffusion import training_scheduler
        >>> flow, half = training_scheduler("flow_prediction"), torch.tensor([500.0])
        >>> told_time(flow, [], half).tolist(), [round(t) for t in told_time(flow, [1.0], half).tolist()]
        ([500.0], [254])
    """
    if is_edm(scheduler):
        return edm.network_time(time)
    if not len(deviations) or not is_flow(scheduler):
        return time
    kept = published_signal().to(time.device)
    log_ratios = torch.logit(kept).neg()  # of noise to signal: ascending
    share = time.double() / scheduler.config.num_train_timesteps
    wanted = 2 * torch.logit(share, eps=5e-4)  # at its last moment a flow is noise alone
    below = (torch.searchsorted(log_ratios, wanted) - 1).clamp(0, len(kept) - 2)
    low, high = log_ratios[below], log_ratios[below + 1]
    return (below + (wanted - low) / (high - low)).float()


def coefficients(
    scheduler: SchedulerMixin, deviations: Sequence[float], time: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Factors on the noisy latents before the network, beside it, and on its answer: each (B, c, 1, 1, 1).

    The preconditioning of Karras et al. (2022), channel by channel and for any target. Noisy latents are
    ``a x + s e`` with x of variance v and unit noise e; the target is ``p x + q e``. The multiple of the noisy latents
    nearest to the target has the factor ``(p a v + q s) / (a^2 v + s^2)``. The rest has the variance
    ``p^2 v + q^2 - (p a v + q s)^2 / (a^2 v + s^2) = v (p s - q a)^2 / (a^2 v + s^2)``. Input and target of the network
    have unit variance at every time and in every channel. A zero prediction gives Gaussian noise with the standard
    deviation of the channel.

    Example:
        Channels of unit variance need nothing when the velocity is predicted.

        >>> from synthaug.generate.diffusion import training_scheduler
        >>> parts = coefficients(training_scheduler("v_prediction"), [1.0, 2.0], torch.tensor([400]))
        >>> [[round(value, 3) for value in part.flatten().tolist()] for part in parts]
        [[1.0, 0.766], [0.0, -0.746], [1.0, 1.532]]
    """
    if is_edm(scheduler):
        skip, outward, inward = (
            each.view(-1, 1, 1, 1, 1) for each in edm.preconditioning(time.float(), scheduler.config.sigma_data)
        )
        return inward, skip, outward
    if is_flow(scheduler):
        noise_share = time / scheduler.config.num_train_timesteps
        signal = 1 - noise_share
        of_image, of_noise = -torch.ones_like(signal), torch.ones_like(signal)
    else:
        kept = scheduler.alphas_cumprod.to(time.device)[time.long()]
        signal, noise_share = kept.sqrt(), (1 - kept).sqrt()
        of_image, of_noise = torch.zeros_like(signal), torch.ones_like(signal)
        if scheduler.config.prediction_type == "v_prediction":
            of_image, of_noise = -noise_share, signal
    a, s, p, q = (each.float().view(-1, 1, 1, 1, 1) for each in (signal, noise_share, of_image, of_noise))
    v = torch.tensor(deviations, dtype=torch.float32, device=time.device).square().view(1, -1, 1, 1, 1)
    total = a.square() * v + s.square()
    return total.rsqrt(), (p * a * v + q * s) / total, (v / total).sqrt() * (p * s - q * a).abs()


def balance(
    scheduler: SchedulerMixin,
    deviations: Sequence[float],
    time: torch.Tensor,
    *,
    power: int,
    linear: LinearDenoiser | None = None,
) -> torch.Tensor | float:
    """What errors are divided by, so that every time weighs alike: the mean size of the network's part (B, 1, 1, 1, 1).

    Args:
        linear: Which the network corrects.
        scheduler: As trained.
        deviations: As in :func:`denoise`; empty = 1.
        time: (B,).
        power: 1 for absolute, 2 for squared errors.
    """
    if linear is not None:
        return linear.error(time).pow(power)
    if not is_edm(scheduler) and not len(deviations):
        return 1.0
    return coefficients(scheduler, deviations, time)[2].pow(power).mean(1, keepdim=True)
