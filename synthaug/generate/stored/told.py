"""What a generator's record says of how it may be asked: guidance, and how long a report may be."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from transformers import PreTrainedTokenizerBase

from synthaug.config import SamplingConfig
from synthaug.generate.diffusion import SCHEDULERS, SOLVERS_OF_EDM
from synthaug.ground.errors import InputError

ARGUMENTS = {
    "scheduler": "",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "guided_levels": "guided_levels",
    "guidance_below": "guidance_below",
}
"""Settings that a card is measured with, and their names as arguments of the pipeline."""


class Guidance(NamedTuple):
    """How guidance leads: fields of :class:`~synthaug.config.pool.SamplingConfig`."""

    guidance: float = 1.0
    guided_levels: int | None = None
    guidance_below: float | None = None

    @classmethod
    def of(cls, sampling: SamplingConfig) -> Self:
        """Of these settings."""
        return cls(sampling.guidance, sampling.guided_levels, sampling.guidance_below)

    def __str__(self) -> str:
        below = "" if self.guidance_below is None else f" below noise {self.guidance_below:g}"
        count = self.guided_levels
        led = "" if count is None else f" of {count} level{'s' * (count > 1)}"
        return f"guidance {self.guidance:g}{led}{below}"


def measured_sampling(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of :class:`SamplingConfig` that the figures of a generator's card were measured with.

    Example:
        >>> measured_sampling({"evaluation": {"figures": {"settings": {"guidance": 3.0, "n": 60}}}})
        {'guidance': 3.0}
        >>> measured_sampling({})  # a card without figures
        {}
    """
    figures = _under(_under(record, "evaluation"), "figures")
    told = {**_under(figures, "settings"), **_under(figures, "sampling")}  # of phantoms, of people
    found = {name: told[name] for name in ARGUMENTS if told.get(name) is not None}
    try:
        SamplingConfig(**found)
    except (InputError, TypeError):
        return {}
    return found if found.get("scheduler", "ddpm") in {*SCHEDULERS, *SOLVERS_OF_EDM} else {}


def sampling_of(record: Mapping[str, Any]) -> SamplingConfig:
    """The settings that a generator's card was measured with, the defaults where it tells none."""
    return SamplingConfig(**measured_sampling(record))


def arguments_of(sampling: SamplingConfig) -> dict[str, Any]:
    """The settings as arguments of a call of the pipeline, whose scheduler is its own.

    Example:
        >>> arguments_of(SamplingConfig(steps=8, guidance=3.0))
        {'num_inference_steps': 8, 'guidance_scale': 3.0, 'guided_levels': None, 'guidance_below': None}
    """
    return {argument: getattr(sampling, name) for name, argument in ARGUMENTS.items() if argument}


def measured_arguments(record: Mapping[str, Any]) -> dict[str, Any]:
    """The same as arguments of a call of the pipeline, whose scheduler is its own.

    Example:
        >>> measured_arguments({"evaluation": {"figures": {"settings": {"guidance": 3.0, "steps": 8}}}})
        {'num_inference_steps': 8, 'guidance_scale': 3.0}
    """
    return {ARGUMENTS[name]: value for name, value in measured_sampling(record).items() if ARGUMENTS[name]}


def _under(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What stands under a key, where it is a table."""
    found = record.get(key)
    return found if isinstance(found, Mapping) else {}


def require_guidance(record: Mapping[str, Any], guidance: Guidance, *, levels: int, edm: bool) -> None:
    """InputError where guidance would lead away from what the generator never learnt: how it draws without a report.

    Args:
        record: Of the generator.
        guidance: Asked for.
        levels: That the generator has.
        edm: Whether it is an EDM denoiser, whose times are noise levels.

    Example:
        >>> require_guidance({"generator": {"report_dropout": 0.1}}, Guidance(3.0), levels=1, edm=False)
    """
    if guidance.guidance_below is not None and not (edm and guidance.guidance_below > 0):
        raise InputError(f"guidance_below={guidance.guidance_below}: a positive noise level, for an EDM denoiser only.")
    if guidance.guided_levels is not None and not 1 <= guidance.guided_levels <= levels:
        raise InputError(f"guided_levels={guidance.guided_levels}: this generator has 1 to {levels}.")
    dropout = record.get("generator", {}).get("report_dropout")
    if guidance.guidance != 1 and dropout == 0:
        raise InputError(
            f"guidance {guidance.guidance:g} needs a generator that was trained with generator.report_dropout above 0, "
            "and this one was trained with 0; set guidance to 1."
        )


def cut_reports(tokenizer: PreTrainedTokenizerBase, reports: Iterable[str]) -> int:
    """How many different reports are longer than the text encoder reads; their beginnings are cut off."""
    longest = tokenizer.model_max_length
    return sum(
        len(tokenizer(report, truncation=False, verbose=False).input_ids) > longest for report in dict.fromkeys(reports)
    )
