"""What a generator may be asked for: reports, labels, seeds, steps, guidance, shape."""

from collections.abc import Sequence

import torch
from diffusers import SchedulerMixin

from synthaug.generate.diffusion import SCHEDULERS, SOLVERS_OF_EDM, TRAIN_TIMESTEPS, is_edm, require_suited
from synthaug.generate.trial import require_steps
from synthaug.ground.errors import InputError
from synthaug.models.denoiser import CCELLADenoiser


def seeds_of(
    seeds: Sequence[int] | None, generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> Sequence[int]:
    """The seeds themselves, or those that a generator (or one a report) draws."""
    if (seeds is None) == (generator is None):
        raise InputError("Give seeds=, one integer a report, or generator=, a torch.Generator; one of the two.")
    if seeds is not None:
        return seeds
    drawing = [generator] if isinstance(generator, torch.Generator) else list(generator or ())
    if len(drawing) == 1:
        drawing *= count
    places = [torch.randint(2**63 - 1, (), generator=each, device=each.device) for each in drawing]
    return [int(place) for place in places]


def require_equal_lengths(
    reports: Sequence[str], labels: Sequence[int] | None, seeds: Sequence[int], *, classes: int
) -> None:
    """InputError unless each report has its seed and, if there are any, its label."""
    if isinstance(reports, str):
        raise InputError("reports must be a list of texts, not one text.")
    if len(seeds) != len(reports) or (labels is not None and len(labels) != len(reports)):
        raise InputError(f"{len(reports)} reports need as many seeds and labels; got {len(seeds)} seeds.")
    if any(not 0 <= seed < 2**64 for seed in seeds):
        raise InputError("seeds must lie in 0..2**64 - 1.")
    if labels is not None and any(not 0 <= label < classes for label in labels):
        raise InputError(f"labels must lie in 0..{classes - 1} for this generator.")


def require_meaning(denoiser: CCELLADenoiser, labels: Sequence[int] | None, guidance_scale: float) -> None:
    """Refuse what this variant would pass over in silence."""
    variant, conditioning = denoiser.config.variant, denoiser.conditioning
    if labels is not None and conditioning.class_input == "none":
        raise InputError(f"Variant {variant!r} takes no class; call it without labels.")
    if labels is None and conditioning.class_input == "true":
        raise InputError(f"Variant {variant!r} is conditioned on the true class; give labels.")
    if guidance_scale != 1.0 and not (conditioning.text or denoiser.config.modalities):
        raise InputError(f"Variant {variant!r} reads no report, so guidance has no meaning; set it to 1.")


def require_possible_steps(scheduler: SchedulerMixin, steps: int, *, only_edm: bool) -> None:
    """InputError where the scheduler cannot sample this network, or cannot take that many steps."""
    require_suited(scheduler)
    if only_edm and not is_edm(scheduler):
        kind = type(scheduler).__name__
        raise InputError(
            f"{kind} cannot sample an EDM denoiser; choose by with_scheduler: {', '.join(SOLVERS_OF_EDM)}."
        )
    trained = TRAIN_TIMESTEPS if is_edm(scheduler) else scheduler.config.num_train_timesteps
    if not 1 <= steps <= trained:
        raise InputError(f"num_inference_steps={steps}: the generator was trained on 1 to {trained} steps.")
    if type(scheduler) in SCHEDULERS.values():
        require_steps(scheduler, steps)


def require_divisible(denoiser: CCELLADenoiser, shapes: Sequence[Sequence[int]]) -> None:
    """InputError where the networks cannot halve the sides of latents (c, x, y, z), level by level."""
    for unet, (_, *sides) in zip(denoiser.unets, shapes, strict=False):
        factor = 2 ** (len(unet.block_out_channels) - 1)
        if any(side % factor for side in sides):
            raise InputError(f"shape: the sides of its latents, {tuple(sides)}, must be multiples of {factor}.")


def require_finite(volumes: torch.Tensor, *, seeds: Sequence[int]) -> None:
    """InputError where a drawn volume holds NaN or infinity."""
    if not torch.isfinite(volumes).all():
        raise InputError(
            f"The generator drew values that are not finite, seeds {list(seeds)}; "
            "is it trained, and does the scheduler suit it?"
        )
