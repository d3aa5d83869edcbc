"""What can be told of a study's settings before any data is read."""

from pathlib import Path

from transformers import AutoConfig

from synthaug.config import Config, TextEncoderConfig
from synthaug.config.checks import require
from synthaug.generate.trial import require_sampling
from synthaug.ground.errors import InputError
from synthaug.models.text_encoder import MINILM, minilm_folder
from synthaug.models.variants import VARIANTS


def check_study(config: Config, *, generates: bool | None = None) -> None:
    """Refuse settings that contradict each other or name what is not there. Nothing is written, read whole or trained.

    Args:
        config: The study. Single settings have been checked by their own dataclass.
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
    if config.study.synthetic if generates is None else generates:
        _check_pool(config)


def _check_pool(config: Config) -> None:
    pool = config.pool
    if pool.path:
        require(Path(pool.path).is_dir(), f"pool.path={pool.path}: no such folder.")
        return
    if pool.marksheet:
        require(Path(pool.marksheet).is_file(), f"pool.marksheet={pool.marksheet}: no such file.")
    _check_generator(config)


def _check_generator(config: Config) -> None:
    generator, sampling = config.generator, config.pool.sampling
    config.require_divisible_shape()
    if generator.pretrained:
        return  # its own settings count, and say so when it is opened
    require_sampling(generator.process, sampling.scheduler, sampling.steps)
    require(
        sampling.guidance == 1 or generator.report_dropout > 0,
        f"pool.sampling.guidance={sampling.guidance:g} needs generator.report_dropout above 0: guidance leads away "
        "from what an empty report gives, and the generator never sees one.",
    )
    if VARIANTS[generator.variant].text:
        require_encoder(generator.text_encoder)


def require_encoder(config: TextEncoderConfig) -> None:
    """InputError if there is no text encoder where the config says; its weights are not read."""
    if config.path is None:
        return
    if config.path == MINILM:
        minilm_folder()
        return
    try:
        AutoConfig.from_pretrained(config.path)
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"generator.text_encoder.path={config.path}: no usable text encoder ({reason}).") from error
