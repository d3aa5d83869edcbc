"""What a generator may be asked for: reports, labels, seeds, steps, guidance, shape."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers import SchedulerMixin

from synthaug.generate.diffusion import SCHEDULERS, SOLVERS_OF_EDM, TRAIN_TIMESTEPS, is_edm, require_suited
from synthaug.generate.stored.told import Guidance
from synthaug.generate.trial import require_steps
from synthaug.ground.errors import InputError
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.latent_space import LatentSpace
from synthaug.models.variants import VARIANTS


@dataclass(frozen=True)
class Request:
    """The arguments of a call as plain Python values; lists, tuples, arrays, tensors and columns of a table are one."""

    reports: list[str]
    labels: list[int] | None
    seeds: list[int]
    """One a report. PyTorch's generator reads their last 32 bits: seeds equal modulo 2**32 draw the same noise."""
    spacing_mm: list[float]
    shape: list[int]
    steps: int
    guidance: Guidance
    levels: int

    @classmethod
    def of(
        cls,
        reports: Iterable[str],
        labels: Iterable[int] | None,
        seeds: Iterable[int] | None,
        generator: torch.Generator | Iterable[torch.Generator] | None,
        *,
        spacing_mm: Iterable[float],
        shape: Iterable[int],
        steps: int,
        guidance: Guidance,
        levels: int,
    ) -> Self:
        """The values of these arguments.

        Raises:
            InputError: One is no text or number where one belongs, or reports, labels and seeds are not as many.
        """
        texts = [_text(report, f"reports[{row}]") for row, report in enumerate(_list(reports, "reports"))]
        found = cls(
            reports=texts,
            labels=None if labels is None else _whole_numbers(labels, "labels"),
            seeds=_seeds(seeds, generator, len(texts)),
            spacing_mm=[_number(value, "spacing_mm") for value in _list(spacing_mm, "spacing_mm")],
            shape=_whole_numbers(shape, "shape"),
            steps=_whole(steps, "num_inference_steps"),
            guidance=Guidance(
                _number(guidance.guidance, "guidance_scale"),
                None if guidance.guided_levels is None else _whole(guidance.guided_levels, "guided_levels"),
                None if guidance.guidance_below is None else _number(guidance.guidance_below, "guidance_below"),
            ),
            levels=_whole(levels, "levels"),
        )
        if {len(found.seeds), len(texts if found.labels is None else found.labels)} != {len(texts)}:
            raise InputError(f"{len(texts)} reports need as many seeds and labels; got {len(found.seeds)} seeds.")
        if any(not 0 <= seed < 2**64 for seed in found.seeds):
            raise InputError("seeds must lie in 0..2**64 - 1.")
        if len(found.spacing_mm) != 3 or min(found.spacing_mm) <= 0:
            raise InputError(f"spacing_mm={tuple(found.spacing_mm)}: three positive numbers, one along each axis.")
        return found


def _list(values: Any, name: str) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a list of {'texts' if name == 'reports' else 'numbers'}, not {values!r:.50}.")
    return list(values)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f'{name} is {value!r:.50}, no text; give "" where there is no report.')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} holds characters that are no Unicode ({error}); read its file in UTF-8.") from error
    return str(value)


def _number(value: Any, name: str) -> float:
    plain = value.item() if getattr(value, "shape", None) == () else value
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not math.isfinite(plain):
        raise InputError(f"{name} holds {plain!r:.50}, no number.")
    return plain


def _whole(value: Any, name: str) -> int:
    plain = _number(value, name)
    if plain != int(plain):
        raise InputError(f"{name} holds {plain}, no whole number.")
    return int(plain)


def _whole_numbers(values: Any, name: str) -> list[int]:
    return [_whole(value, name) for value in _list(values, name)]


def _seeds(seeds: Any, generator: Any, count: int) -> list[int]:
    """The seeds themselves, or those that a generator (or one a report) draws."""
    if (seeds is None) == (generator is None):
        raise InputError("Give seeds=, one integer a report, or generator=, a torch.Generator; one of the two.")
    if seeds is not None:
        return _whole_numbers(seeds, "seeds")
    drawing = [generator] if isinstance(generator, torch.Generator) else _list(generator, "generator")
    if not all(isinstance(each, torch.Generator) for each in drawing):
        raise InputError("generator must be a torch.Generator, or a list of them.")
    if len(drawing) == 1:
        drawing *= count
    places = [torch.randint(2**63 - 1, (), generator=each, device=each.device) for each in drawing]
    return [int(place) for place in places]


def require_meaning(denoiser: CCELLADenoiser, labels: Sequence[int] | None, guidance_scale: float) -> None:
    """Refuse what this variant would pass over in silence."""
    variant, modalities = denoiser.config.variant, bool(denoiser.config.modalities)
    require_variant(variant, labelled=labels is not None, guided=guidance_scale != 1.0, modalities=modalities)
    if labels is not None and any(not 0 <= label < denoiser.config.classes for label in labels):
        raise InputError(f"labels must lie in 0..{denoiser.config.classes - 1} for this generator.")


def require_variant(variant: str, *, labelled: bool, guided: bool, modalities: bool = False) -> None:
    """InputError where a variant cannot be told what it is to be told; no generator is needed for the answer.

    Args:
        variant: Key of ``VARIANTS``.
        labelled: Whether classes are given.
        guided: Whether guidance leads.
        modalities: Whether the generator is told modalities, which guidance leads away from too.
    """
    conditioning = VARIANTS[variant]
    if labelled and conditioning.class_input == "none":
        raise InputError(
            f"Variant {variant!r} takes no class; call it without labels, which pool.prompts=override gives."
        )
    if not labelled and conditioning.class_input == "true":
        raise InputError(f"Variant {variant!r} is conditioned on the true class; give labels.")
    if guided and not (conditioning.text or modalities):
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


def latent_shapes(space: LatentSpace, denoiser: CCELLADenoiser, asked: Request) -> list[tuple[int, ...]]:
    """Of each level that is drawn; InputError where there are not so many, or a side does not do."""
    if not 1 <= asked.levels <= space.levels:
        raise InputError(f"levels={asked.levels}: this generator has 1 to {space.levels}.")
    shapes: list[tuple[int, ...]] = [space.latent_shape(level, asked.shape) for level in range(asked.levels)]
    require_divisible(denoiser, shapes)
    return shapes


def require_finite(volumes: torch.Tensor, *, seeds: Sequence[int]) -> None:
    """InputError where a drawn volume holds NaN or infinity."""
    if not torch.isfinite(volumes).all():
        raise InputError(
            f"The generator drew values that are not finite, seeds {list(seeds)}; "
            "is it trained, and does the scheduler suit it?"
        )
