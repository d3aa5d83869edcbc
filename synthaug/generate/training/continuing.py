"""Going on from a trained generator: what of its design it brings, and what cannot be asked of it."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

from synthaug.config import DenoiserConfig, GeneratorConfig, LevelConfig
from synthaug.config.files.gone import without_gone
from synthaug.config.latents import latent_design
from synthaug.generate.levels import levels_of
from synthaug.generate.stored.folder import RECORD, locate, named, read_design, read_record
from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json
from synthaug.models.nvgenerate.growth import can_grow

FROZEN = "text_encoder.trainable"
"""Setting of the section ``generator`` that a frozen text encoder decides."""
OF_A_TRAINING = ("steps", "batch_size", "sigma_mean", "sigma_deviation")
"""Fields of a level that a further training may set anew; the others are its networks' and the space's."""


def with_own_design(config: GeneratorConfig, *, typed: Collection[str] = ()) -> GeneratorConfig:
    """The settings with what the generator that ``config.pretrained`` names brings: variant, latents, process, levels.

    A setting that was left at its default says nothing; one that was set has to agree. A text encoder that was frozen
    stays frozen: it was trained elsewhere on more reports than these, whose wording it would learn by heart.

    Args:
        config: Of the training; without ``pretrained`` it is returned as it is.
        typed: Names of fields that a command line sets, though perhaps to their defaults.

    Raises:
        InputError: There is no such generator, or a setting contradicts it.
    """
    if not config.pretrained:
        return config
    folder = locate(config.pretrained)
    own = read_design(folder)
    default = GeneratorConfig()
    for name, its in own.items():
        asked = config.process if name == "prediction" and getattr(config, name) else getattr(config, name)
        if asked not in (None, its) and (name in typed or getattr(config, name) != getattr(default, name)):
            raise InputError(
                f"generator.pretrained={config.pretrained!r}: generator.{name} is {its!r} there and {asked!r} here; "
                "leave it out, as a trained generator brings its own."
            )
    if config.prediction is None and own["prediction"] == replace(config, latents=own["latents"]).process:
        own["prediction"] = None  # as it was left: ids of trained generators stay
    record = read_record(folder)
    if "generator.levels" not in latent_design(own["latents"]).unused:
        with named(folder / RECORD):
            its_levels = levels_from_record(record)
        if config.levels:
            _require_own_levels(config, its_levels, record)
        else:
            own["levels"] = its_levels
    if _was_frozen(record):
        if FROZEN in typed and config.text_encoder.trainable:
            raise InputError(
                f"generator.pretrained={config.pretrained!r}: its text encoder was frozen and stays so; leave "
                f"generator.{FROZEN} out."
            )
        own["text_encoder"] = replace(config.text_encoder, trainable=False)
    return replace(config, **own)


def _require_own_levels(config: GeneratorConfig, its_levels: list[LevelConfig], record: Mapping[str, Any]) -> None:
    """InputError that names a setting of a level's network, or of its space, that is another than the generator's."""
    shape = (record.get("preprocessing") or {}).get("shape")
    if not its_levels and shape:
        its_levels = levels_of(GeneratorConfig(), shape)  # it was trained with those that follow from the shape
    for number, (level, its) in enumerate(zip(config.levels, its_levels, strict=False)):  # other counts: train_ldm
        asked, there = (_plain(asdict(each)) for each in (level, its))
        odd = [name for name in there if name not in OF_A_TRAINING and asked[name] != there[name]]
        if odd:
            raise InputError(
                f"generator.pretrained={config.pretrained!r}: generator.levels[{number}].{odd[0]} is {there[odd[0]]!r} "
                f"there and {asked[odd[0]]!r} here; leave it out, as a trained generator brings its own."
            )


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With lists as tuples, however deep: a level may have been made with either."""
    return {
        name: _plain(value) if isinstance(value, Mapping) else tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
    }


def _was_frozen(record: Mapping[str, Any]) -> bool:
    """Whether a generator's text encoder took no part in its training."""
    told = (record.get("generator") or {}).get("text_encoder")
    return isinstance(told, Mapping) and told.get("trainable") is False


def may_grow(name: str) -> bool:
    """Whether a generator is NV-Generate as it was imported, which gets its adapter and text encoder here.

    False where there is none: whoever opens it says so.
    """
    try:
        return can_grow(read_json(locate(name) / "denoiser" / "config.json"))
    except (InputError, OSError, ValueError, AttributeError):
        return False


def levels_from_record(record: Mapping[str, Any]) -> list[LevelConfig]:
    """The levels that a generator was trained with; steps and batch size are those of the training to come.

    Raises:
        InputError: The record is damaged.
    """
    told = (record.get("generator") or {}).get("levels") or []
    try:
        return [
            LevelConfig(
                **without_gone(level)
                | {"steps": 0, "batch_size": 0, "denoiser": DenoiserConfig(**_plain(level["denoiser"]))}
            )
            for level in told
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{RECORD}: generator.levels is {told!r:.200}, which no levels are.") from error
