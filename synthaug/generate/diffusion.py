"""How an image becomes noise and back: the published DDPM schedule or a rectified flow, and the samplers of each."""

import functools
import inspect
from typing import Any, Literal

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

from synthaug.config import SamplingConfig
from synthaug.generate.edm import EDMScheduler, Solver
from synthaug.generate.nvgenerate.flow import MaisiFlowScheduler
from synthaug.ground.errors import InputError
from synthaug.models.cascade import SIGMA_DATA

Prediction = Literal["edm", "epsilon", "v_prediction", "flow_prediction", "maisi_flow"]
TRAIN_TIMESTEPS = 1000


class SDESolverScheduler(DPMSolverMultistepScheduler):
    """SDE-DPM-Solver++ (Lu et al. 2022) over the noise levels of Karras et al. (2022), for diffusion and for flows.

    Fresh noise at every step lets later steps mend the errors of earlier ones, as the published ancestral sampler does.
    Ours: flows get these levels too, as far as the published noise schedule reaches. The even spacing in time of
    diffusers spends most steps where little changes.

    Example:
        >>> flow = swap_scheduler(training_scheduler("flow_prediction"), "dpm_solver_sde")
        >>> flow.set_timesteps(4)
        >>> [round(time) for time in flow.timesteps.tolist()]
        [988, 935, 579, 37]
    """

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Lay out the steps of one drawing."""
        super().set_timesteps(num_inference_steps, device=device)
        if not is_flow(self):
            return
        kept = published_signal()
        ratios = ((1 - kept) / kept).sqrt().flip(0)  # of noise to signal
        levels = torch.from_numpy(self._convert_to_karras(ratios, num_inference_steps))
        shares = (levels / (1 + levels)).float()
        self.sigmas = torch.cat([shares, torch.zeros(1)])
        self.timesteps = (shares * self.config.num_train_timesteps).to(device)


SCHEDULERS: dict[str, type[SchedulerMixin]] = {
    "ddpm": DDPMScheduler,
    "ddim": DDIMScheduler,
    "dpm_solver": DPMSolverMultistepScheduler,
    "dpm_solver_sde": SDESolverScheduler,
    "unipc": UniPCMultistepScheduler,
    "flow_euler": FlowMatchEulerDiscreteScheduler,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "dpm_solver_sde": {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}
}
"""What a sampler sets beside diffusers' defaults."""
SOLVERS_OF_EDM: dict[str, Solver] = {
    "ddpm": "ancestral",
    "ddim": "euler_ode",
    "dpm_solver": "multistep",
    "dpm_solver_sde": "multistep_sde",
    "heun": "heun",
}
"""The same samplers over EDM's noise levels, and Heun's method (its Algorithm 2)."""
OF_EDM = {"sigma_data": SIGMA_DATA, "epsilon_scale": 1.0}
"""Settings of EDM's samplers that belong to the trained network, with what they usually are."""
SAMPLER_OF_MAISI_FLOWS = "flow_euler"
"""The one sampler of MAISI-v2's rectified flow."""
SAMPLERS_OF_FLOWS = ("flow_euler", "dpm_solver", "dpm_solver_sde", "unipc")
"""Schedulers that can follow a rectified flow."""
SAMPLERS_OF_DIFFUSION = ("ddpm", "ddim", "dpm_solver", "dpm_solver_sde", "unipc")
"""Schedulers that can undo the published noise schedule."""
NOISE_SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
"""What every scheduler of a trained diffusion model shares."""


TRAINED = (*NOISE_SCHEDULE, "clip_sample", "use_flow_sigmas", "flow_shift", "shift")
"""Settings of a scheduler that belong to the trained network."""


def training_scheduler(
    prediction: Prediction, *, num_train_timesteps: int = TRAIN_TIMESTEPS, sigma_data: float = SIGMA_DATA
) -> SchedulerMixin:
    """The noise process that a generator is trained with; its config makes any sampler that suits it.

    Published: 1,000 steps, scaled-linear beta 0.0015 to 0.0195, no clipping, prediction of the noise ("epsilon").
    Ours: the velocity of the same process, and a rectified flow (Liu et al. 2023). Its paths from noise to image are
    straight, so that few steps follow them.

    Example:
        >>> training_scheduler("epsilon").config.beta_end, is_flow(training_scheduler("flow_prediction"))
        (0.0195, True)
    """
    if prediction == "edm":
        return EDMScheduler(sigma_data=sigma_data)
    if prediction == "maisi_flow":
        return MaisiFlowScheduler(num_train_timesteps)
    if prediction == "flow_prediction":
        return DPMSolverMultistepScheduler(
            num_train_timesteps=num_train_timesteps, prediction_type=prediction, use_flow_sigmas=True
        )
    return DDPMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=prediction,
    )


def is_edm(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler's network is an EDM denoiser."""
    return isinstance(scheduler, EDMScheduler)


def is_maisi_flow(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler's network predicts the velocity of MAISI-v2's rectified flow."""
    return isinstance(scheduler, MaisiFlowScheduler)


def default_sampler(prediction: Prediction) -> str:
    """Name of the sampler that a generator is left with after its training."""
    return SAMPLER_OF_MAISI_FLOWS if prediction == "maisi_flow" else SamplingConfig.scheduler


def is_flow(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler's network predicts the velocity of a rectified flow."""
    if is_edm(scheduler) or is_maisi_flow(scheduler):
        return False
    alone = "flow_prediction" if isinstance(scheduler, FlowMatchEulerDiscreteScheduler) else "epsilon"
    return scheduler.config.get("prediction_type", alone) == "flow_prediction"


def prediction_of(scheduler: SchedulerMixin) -> Prediction:
    """What the network of a scheduler was trained to predict."""
    if is_edm(scheduler):
        return "edm"
    if is_maisi_flow(scheduler):
        return "maisi_flow"
    return "flow_prediction" if is_flow(scheduler) else scheduler.config.prediction_type


def corrupt(
    scheduler: SchedulerMixin, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents at ``timesteps`` and what the network should predict from them.

    Args:
        scheduler: Of :func:`training_scheduler`.
        latents: Clean latents (B, c, x, y, z).
        noise: Unit noise of the same shape.
        timesteps: (B,) integers in 0..999; of EDM, noise levels; of MAISI-v2's flow, times.

    Example:
        >>> image, noise = torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1)
        >>> noisy, wanted = corrupt(training_scheduler("flow_prediction"), image, noise, torch.tensor([249]))
        >>> noisy.item(), wanted.item()
        (0.25, 1.0)
    """
    if is_edm(scheduler):
        return latents + timesteps.view(-1, *[1] * (latents.ndim - 1)) * noise, latents
    if is_maisi_flow(scheduler):
        return scheduler.add_noise(latents, noise, timesteps), latents - noise
    if is_flow(scheduler):
        share = flow_time(timesteps).view(-1, *[1] * (latents.ndim - 1))
        share = share / scheduler.config.num_train_timesteps
        return (1 - share) * latents + share * noise, noise - latents
    noisy = scheduler.add_noise(latents, noise, timesteps)
    if scheduler.config.prediction_type == "v_prediction":
        return noisy, scheduler.get_velocity(latents, noise, timesteps)
    return noisy, noise


def flow_time(timesteps: torch.Tensor) -> torch.Tensor:
    """A flow's time runs from 1 (nearly the image) to 1,000 (all noise), as its samplers count."""
    return timesteps + 1


def network_time(scheduler: SchedulerMixin, timesteps: torch.Tensor) -> torch.Tensor:
    """A drawn training timestep in the scheduler's own count."""
    return flow_time(timesteps) if is_flow(scheduler) else timesteps


@functools.cache
def published_signal() -> torch.Tensor:
    """Share of the variance that is the image's at each timestep of the published schedule (1000,), float64."""
    return training_scheduler("epsilon").alphas_cumprod.double()


def first_shares(scheduler: SchedulerMixin) -> tuple[float, float]:
    """What image and noise are multiplied by at the first of a sampler's timesteps.

    Samplers that count noise in another unit than the network's start from noise alone.

    Example:
        >>> sampler = swap_scheduler(training_scheduler("v_prediction"), "dpm_solver")
        >>> sampler.set_timesteps(20)
        >>> [round(share, 3) for share in first_shares(sampler)]
        [0.012, 1.0]
    """
    unit = getattr(scheduler, "init_noise_sigma", 1.0)
    if is_flow(scheduler):
        noise = float(scheduler.timesteps[0]) / scheduler.config.num_train_timesteps
        return 1 - noise, noise
    if unit != 1.0:
        return 0.0, float(unit)
    kept = float(scheduler.alphas_cumprod[int(scheduler.timesteps[0])])
    return kept**0.5, (1 - kept) ** 0.5


def swap_scheduler(scheduler: SchedulerMixin, name: str, *, epsilon_scale: float | None = None) -> SchedulerMixin:
    """The scheduler called ``name`` for the same trained network, with ``SETTINGS`` and diffusers' other defaults.

    Only settings of the network are carried over. diffusers would also carry over saved settings of the previous
    sampler, and one name would then mean two samplers.

    Args:
        scheduler: Of the trained network.
        name: Key of ``SCHEDULERS`` or ``SOLVERS_OF_EDM``.
        epsilon_scale: In place of an EDM sampler's own, and kept with the generator; None = as it is.

    Raises:
        InputError: Unknown, or it cannot sample what the network was trained on.
    """
    if epsilon_scale is not None and not (is_edm(scheduler) and epsilon_scale > 0):
        raise InputError(f"epsilon_scale={epsilon_scale}: a positive number, for an EDM denoiser only.")
    if name not in SCHEDULERS and name not in SOLVERS_OF_EDM:
        raise InputError(
            f"Unknown scheduler {name!r}; the schedulers are {', '.join({**SCHEDULERS, **SOLVERS_OF_EDM})}."
        )
    if is_edm(scheduler):
        if name not in SOLVERS_OF_EDM:
            raise InputError(f"Scheduler {name!r} cannot sample an EDM denoiser; use {', '.join(SOLVERS_OF_EDM)}.")
        scale = {} if epsilon_scale is None else {"epsilon_scale": epsilon_scale}
        return EDMScheduler.from_config(scheduler.config, solver=SOLVERS_OF_EDM[name], **scale)
    if is_maisi_flow(scheduler):
        if name != SAMPLER_OF_MAISI_FLOWS:
            raise InputError(f"Scheduler {name!r} cannot sample MAISI-v2's flow; use {SAMPLER_OF_MAISI_FLOWS}.")
        return MaisiFlowScheduler.from_config(scheduler.config)
    _require_suited(name, flow=is_flow(scheduler))
    known = inspect.signature(SCHEDULERS[name].__init__).parameters
    trained = {key: scheduler.config[key] for key in TRAINED if key in scheduler.config}
    shared = {key: value for key, value in trained.items() if key in known}
    swapped = SCHEDULERS[name](**shared, **SETTINGS.get(name, {}))
    # What this sampler has no use for stays in its config, so that the next swap still finds it.
    swapped.register_to_config(**{key: value for key, value in trained.items() if key not in known})
    return swapped


def process_of(scheduler: SchedulerMixin) -> SchedulerMixin:
    """The noise process that a sampler's network was trained with, whichever sampler it is."""
    flow = "dpm_solver" if is_flow(scheduler) else "ddpm"
    return swap_scheduler(scheduler, SAMPLER_OF_MAISI_FLOWS if is_maisi_flow(scheduler) else flow)


def require_suited(scheduler: SchedulerMixin) -> None:
    """InputError if a scheduler, made from the config of a trained one, cannot sample its network.

    diffusers keeps the settings that a scheduler does not know in its config, which is how this can tell.
    """
    names = {kind: name for name, kind in SCHEDULERS.items()}
    if type(scheduler) in names:
        _require_suited(names[type(scheduler)], flow=is_flow(scheduler))


def _require_suited(name: str, *, flow: bool) -> None:
    suited, kind = (SAMPLERS_OF_FLOWS, "a rectified flow") if flow else (SAMPLERS_OF_DIFFUSION, "a diffusion model")
    if name not in suited:
        raise InputError(f"Scheduler {name!r} cannot sample {kind}; use {', '.join(suited)}.")


def noise_schedule(scheduler: SchedulerMixin) -> list:
    """What of a scheduler belongs to the trained network and not to the sampler."""
    if is_edm(scheduler):
        own = {name: scheduler.config[name] for name, usual in OF_EDM.items() if scheduler.config[name] != usual}
        return ["edm", own] if own else ["edm"]
    if is_maisi_flow(scheduler):
        return ["maisi_flow", scheduler.config.num_train_timesteps, scheduler.config.base_places]
    if is_flow(scheduler):
        return [scheduler.config.num_train_timesteps, "flow_prediction"]
    return [scheduler.config[name] for name in NOISE_SCHEDULE]
