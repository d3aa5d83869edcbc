"""What can be told of a study's settings before any data is read."""

import functools
import logging
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from synthaug.config import Config, GeneratorConfig, PoolConfig
from synthaug.config.checks import require
from synthaug.generate.levels import levels_of
from synthaug.generate.requests import require_variant
from synthaug.generate.training.additions import require_lora
from synthaug.generate.training.continuing import may_grow
from synthaug.generate.trial import require_sampling
from synthaug.ground.errors import InputError
from synthaug.models.text_encoder import require_text_encoder
from synthaug.models.variants import VARIANTS, Conditioning
from synthaug.pool.building.order import require_class_heads

WRITTEN_SPLITS = "split*.csv"
"""Files of a study's folder that say who trains, chooses and tests."""


def check_study(config: Config, out: Path | None = None, *, generates: bool | None = None) -> None:
    """Refuse settings that contradict each other or name what is not there. Nothing is written, read whole or trained.

    Args:
        config: The study. Single settings have been checked by their own dataclass.
        out: Its folder; None = none yet.
        generates: Whether synthetic volumes are made; None = as the regimes ask. A study of real data alone is not
            asked for anything that a generator needs.

    Raises:
        InputError: With the settings in question.
    """
    settings = config.classifier.training
    require(
        "finetuned" not in config.study.regimes or settings.steps > 1,
        f"classifier.training.steps={settings.steps} must be at least 2 where study.regimes has 'finetuned'.",
    )
    if config.split.file:
        require(Path(config.split.file).is_file(), f"split.file={config.split.file}: no such file.")
        _refuse_own_split(config.split.file, out)
    if config.study.synthetic if generates is None else generates:
        _check_pool(config)


def _refuse_own_split(file: str, out: Path | None) -> None:
    """InputError where ``split.file`` is a file that a study writes to its folder: its own split would replace it."""
    if out and Path(file).resolve().parent == out.resolve() and Path(file).match(WRITTEN_SPLITS):
        raise InputError(
            f"split.file={file}: is the split that a study in {out} writes itself; copy it to another folder and name "
            "the copy, or choose another --out."
        )


def _check_pool(config: Config) -> None:
    pool = config.pool
    if pool.path:
        require(Path(pool.path).is_dir(), f"pool.path={pool.path}: no such folder.")
        return
    if pool.marksheet:
        require(Path(pool.marksheet).is_file(), f"pool.marksheet={pool.marksheet}: no such file.")
    if pool.reports:
        require(Path(pool.reports).is_file(), f"pool.reports={pool.reports}: no such file.")
    if not pool.generator:  # which is checked when it is opened
        _check_generator(config)


def _check_generator(config: Config) -> None:
    generator, sampling = config.generator, config.pool.sampling
    config.require_divisible_shape()
    if generator.unet == "lora":
        require_lora()
    if generator.pretrained and not may_grow(generator.pretrained):
        return  # its own settings count, and say so when it is opened
    if not generator.pretrained:
        require_sampling(generator.process, sampling.scheduler, sampling.steps, epsilon_scale=sampling.epsilon_scale)
        require(
            sampling.guidance_below is None or generator.process == "edm",
            f"pool.sampling.guidance_below={sampling.guidance_below}: a noise level, for an EDM denoiser only.",
        )
    require(
        sampling.guidance == 1 or generator.report_dropout > 0,
        f"pool.sampling.guidance={sampling.guidance:g} needs generator.report_dropout above 0: guidance leads away "
        "from what an empty report gives, and the generator never sees one.",
    )
    if sampling.guided_levels is not None and not generator.pretrained:
        levels = len(levels_of(generator, config.preprocess.shape))
        require(
            sampling.guided_levels <= levels,
            f"pool.sampling.guided_levels={sampling.guided_levels}: this generator has 1 to {levels}.",
        )
    refuse_unanswerable(config.pool, generator.variant)
    if VARIANTS[generator.variant].text:
        _require_text_encoder(generator.text_encoder.path)


def overrides_class(pool: PoolConfig, conditioning: Conditioning) -> bool:
    """Whether the class is told: asked for, or the variant knows it only when it is told."""
    return pool.prompts == "override" or conditioning.class_input == "true"


def refuse_unanswerable(pool: PoolConfig, variant: str, *, modalities: bool = False) -> None:
    """InputError where a pool asks a generator for what its variant cannot tell or be told.

    Args:
        pool: What is asked.
        variant: Of the generator, which need not be there yet.
        modalities: Whether it is told modalities.
    """
    guided, labelled = pool.sampling.guidance != 1, overrides_class(pool, VARIANTS[variant])
    require_variant(variant, labelled=labelled, guided=guided, modalities=modalities)
    require_class_heads(variant, pool.labels)


def ignored_settings(config: Config) -> list[str]:
    """A line for each choice under which settings that were changed from their defaults have no effect.

    Example:
        >>> from synthaug.config import AdapterConfig, GeneratorConfig
        >>> ignored_settings(Config(generator=GeneratorConfig(variant="maisi", adapter=AdapterConfig(width=32))))
        ['generator.variant=maisi ignores generator.adapter.width.']
    """
    changed = _changed(asdict(config), asdict(Config(data=config.data)))
    lines = []
    for choice, sections in _choices(config):
        names = [name for name in changed if any(f"{name}.".startswith(f"{section}.") for section in sections)]
        if names:
            lines.append(f"{choice} ignores {', '.join(names)}.")
    return lines


def _choices(config: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each choice that was made, and the settings that it leaves without effect."""
    generator = config.generator
    if not config.study.synthetic:
        return
    if config.pool.path:
        yield (
            f"pool.path={config.pool.path}",
            ("autoencoder", "generator", *_fields("pool", config.pool, "path", "filter", "keep")),
        )
        return
    if config.pool.generator:
        yield f"pool.generator={config.pool.generator}", ("autoencoder", "generator")
    elif generator.pretrained:
        kept = _fields("generator.text_encoder", generator.text_encoder, "trainable")
        own = (
            "autoencoder",
            "generator.denoiser",
            *(() if may_grow(generator.pretrained) else ("generator.adapter", *kept)),
        )
        yield f"generator.pretrained={generator.pretrained}", own
    else:
        yield from _choices_of_design(generator)
    if config.pool.labels != "agreed":
        yield f"pool.labels={config.pool.labels}", ("pool.attempts",)


def _choices_of_design(generator: GeneratorConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    told = VARIANTS[generator.variant]
    of_text = ("generator.adapter", "generator.text_encoder", "generator.report_dropout")
    of_loss = ("generator.class_loss_weight",)
    ignored = (*(() if told.text else of_text), *(() if told.class_loss else of_loss))
    yield f"generator.variant={generator.variant}", ignored
    yield f"generator.latents={generator.latents}", generator.latent_design.unused
    if generator.text_encoder.path and told.text:
        sizes = tuple(f"generator.text_encoder.{name}" for name in ("width", "layers", "heads", "place_values"))
        yield f"generator.text_encoder.path={generator.text_encoder.path}", sizes


def _fields(section: str, settings: Any, *but: str) -> tuple[str, ...]:
    return tuple(f"{section}.{item.name}" for item in fields(settings) if item.name not in but)


def _changed(now: Any, default: Any, place: str = "") -> list[str]:
    """Dotted names of the settings that differ."""
    if isinstance(now, dict) and isinstance(default, dict) and now.keys() == default.keys():
        return [name for key in now for name in _changed(now[key], default[key], f"{place}.{key}".lstrip("."))]
    return [] if now == default else [place]


@functools.cache
def say_once(line: str) -> None:
    """Write a line to the log, once a process."""
    logging.getLogger(__name__).warning(line)


@functools.cache  # a dry run asks for each cohort
def _require_text_encoder(path: str | None) -> None:
    """InputError if there is no text encoder where the settings say; None is the one that is built here."""
    if path is None:
        return
    try:
        require_text_encoder(path)
    except InputError as error:
        raise InputError(f"generator.text_encoder.path: {error}") from error
