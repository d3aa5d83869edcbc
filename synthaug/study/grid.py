"""A study's config becomes its cells, each named by what determines its result."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from synthaug.config import Config, DataConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.ground.seeding import derive_seed
from synthaug.study.identity import Identity, classifier_settings, id_of, identify
from synthaug.study.introduced import CELL
from synthaug.study.records.arm_fields import arm_fields_of
from synthaug.study.records.fields import STAGES

logger = logging.getLogger(__name__)

DATA = ("data", "split", "preprocess")
"""Sections that say which volumes train, choose and test."""
REPEATS = ("split.seed", "split.fold", "split.file", "split.held_out")
"""Axes that repeat a comparison, as seeds do, instead of being compared."""


@dataclass(frozen=True)
class Cell:
    """One classifier to train and test."""

    regime: str
    """real, synthetic, mixed or finetuned."""
    seed: int
    """The study's: names, with the split, the training that is repeated."""
    training_seed: int
    """Names the classifier's first weights and its batches: one for all arms of a repeat, another in another repeat."""
    synthetic_fraction: float | None
    """Share that is synthetic, of the training set or (finetuned) of the optimiser steps; None = none."""
    settings: dict[str, Any]
    """Value of each axis of the study that touches this cell."""
    config: Config
    """The study's config with these values."""
    identity: Identity
    """All that determines the result, but for settings that have the values they were introduced with."""
    name: str = ""
    """Words in place of regime and share: what the cell is pre-trained on, where pools have names."""

    @cached_property
    def id(self) -> str:
        """Names the cell."""
        return id_of(self.identity)

    @property
    def pool_id(self) -> str:
        """Names the pool; "" = there is none."""
        return id_of(self.identity["pool"]) if self.identity["pool"] else ""

    def describe(self) -> dict[str, Any]:
        """What a record says of the cell."""
        names = ("name", "regime", "seed", "training_seed", "synthetic_fraction", "settings", "id", "identity")
        drawn = self.synthetic_fraction is not None
        return {**{name: getattr(self, name) for name in names}, **arm_fields_of(self.config, drawn=drawn)}

    def line(self) -> str:
        """The cell in a listing of the study.

        Example:
            >>> [cell.line() for cell in describe_cells(Config())][1]
            'synthetic  seed 0  synthetic fraction 1'
        """
        fraction = "" if self.synthetic_fraction is None else f"  synthetic fraction {self.synthetic_fraction:g}"
        settings = "".join(f"  {key} {value}" for key, value in self.settings.items())
        return f"{self.regime:<10} seed {self.seed}{fraction}{settings}"


def cells_of(config: Config, inputs_of: Callable[[Config], tuple[str, Any]]) -> list[Cell]:
    """The cells of a study, regime by regime for each seed, so that an unfinished study compares what it has.

    Args:
        config: The study.
        inputs_of: Gives the hash of subjects, split and preprocessing, and what names the pool.

    Raises:
        InputError: An axis names no setting, or a value that the setting cannot have.

    Example:
        >>> cells = cells_of(Config(), lambda config: ("data", "pool"))
        >>> [(cell.regime, cell.seed) for cell in cells][:4]
        [('real', 0), ('synthetic', 0), ('mixed', 0), ('real', 1)]
    """
    fractions: dict[str, list[float | None]] = {
        "real": [None],
        "synthetic": [1.0],
        "mixed": [*config.study.synthetic_fraction],
        "finetuned": [*config.study.pretrain_share],
    }
    arms = [(regime, fraction) for regime in config.study.regimes for fraction in fractions[regime]]
    cells: dict[str, Cell] = {}
    resolved = [(settings, each, *inputs_of(each)) for settings, each in settings_of(config)]
    for seed in config.study.seeds:
        for settings, each, data_id, pool_identity in resolved:
            training_seed = _training_seed(seed, settings, config.study.all_axes)
            for regime, fraction in arms:
                cell = _cell(regime, fraction, seed, training_seed, settings, each, data_id, pool_identity)
                # Ways of making volumes that come to the same ones, or to none, share their cells. Other arms that come
                # to one training, as all patients and as many as there are, each have a cell of its id.
                of_arm = {key: value for key, value in cell.settings.items() if key.split(".")[0] not in STAGES}
                cells.setdefault(content_hash([cell.id, cell.name, seed, of_arm]), cell)
    return list(cells.values())


def trained_once(cells: Sequence[Cell]) -> list[Cell]:
    """The first cell of each id: the classifiers to train."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(cell.id, cell)
    return list(found.values())


def idle_axes(cells: Sequence[Cell]) -> list[str]:
    """Axes that change nothing: whatever their value, the same classifier is trained.

    Example:
        >>> from synthaug.config import StudyConfig
        >>> study = StudyConfig(axes={"classifier.network": ["resnet10", "resnet18"], "split.train": [1, 96]})
        >>> idle_axes(cells_of(Config(study=study), lambda config: ("all 96", "pool")))
        ['split.train']
    """
    found = []
    for axis, values in cells[0].config.study.axes.items():
        ids: dict[str, set[str]] = {}
        for cell in cells:
            rest = {key: value for key, value in cell.settings.items() if key != axis}
            alike = content_hash([cell.regime, cell.name, cell.synthetic_fraction, cell.seed, rest])
            ids.setdefault(alike, set()).add(cell.id)
        if len(values) > 1 and all(len(each) == 1 for each in ids.values()):
            found.append(axis)
    return found


def describe_cells(config: Config) -> list[Cell]:
    """The cells that a study would run, without reading data."""

    def identify(each: Config) -> tuple[str, str]:
        settings = asdict(each)
        data = [settings[name] for name in DATA]
        return content_hash(data), content_hash([*data, *(settings[name] for name in STAGES)])

    return cells_of(config, identify)


def _cell(
    regime: str,
    fraction: float | None,
    seed: int,
    training_seed: int,
    settings: dict[str, Any],
    config: Config,
    data_id: str,
    pool: Any,
) -> Cell:
    if fraction is None:
        settings = {key: value for key, value in settings.items() if key.split(".")[0] not in STAGES}
        pool = None
    names = {path: name for name, path in config.study.pretrained_on.items()}
    told = ""
    if names:
        told = "not pre-trained" if fraction is None else f"pre-trained on {names[str(config.pool.path)]}"
        settings = {key: value for key, value in settings.items() if key != "pool.path"}
    causes = {"regime": regime, "seed": training_seed, "fraction": fraction, "data": data_id, "pool": pool}
    identity = identify(CELL, classifier_settings(config.classifier), **causes)
    return Cell(regime, seed, training_seed, fraction, settings, config, identity, told)


def tell_idle_axes(cells: Sequence[Cell]) -> None:
    """Say which axes change nothing."""
    for axis in idle_axes(cells):
        logger.warning("study.axes: %s changes nothing here: its arms are the same classifiers.", axis)


def settings_of(config: Config, *sections: str) -> list[tuple[dict[str, Any], Config]]:
    """Every combination of the values of ``study.axes``, each with the config that has them.

    Args:
        config: The study.
        *sections: Whose axes are gone through; none = all.

    Raises:
        InputError: An axis names no setting, or a value that the setting cannot have.

    Example:
        >>> from synthaug.config import StudyConfig
        >>> study = StudyConfig(axes={"classifier.network": ["resnet10", "resnet18"], "split.train": [1, 0.5]})
        >>> [config.classifier.network for _, config in settings_of(Config(study=study))]
        ['resnet10', 'resnet10', 'resnet18', 'resnet18']
    """
    axes = {
        key: values
        for key, values in config.study.all_axes.items()
        if not sections or key.partition(".")[0] in sections
    }
    typed = {key: [_typed(config, key, value) for value in values] for key, values in axes.items()}
    combinations: list[tuple[dict[str, Any], Config]] = [({}, config)]
    for key, values in axes.items():
        combinations = [
            (settings | {key: value}, _replace(each, key.split("."), checked))
            for settings, each in combinations
            for value, checked in zip(values, typed[key], strict=True)
        ]
    return combinations


def cohorts_of(config: Config) -> list[DataConfig]:
    """The data settings of a study, each once, those of the first values of its axes first.

    Example:
        >>> from synthaug.config import StudyConfig
        >>> study = StudyConfig(axes={"data.root": ["here", "there"], "split.train": [1, 0.5]})
        >>> [data.root for data in cohorts_of(Config(study=study))]
        ['here', 'there']
    """
    found: list[DataConfig] = []
    for _, each in settings_of(config, "data"):
        if each.data not in found:
            found.append(each.data)
    return found


def is_protected(config: Config) -> bool:
    """Whether any cohort of a study is of patients outside public data sets."""
    return any(data.protected for data in cohorts_of(config))


def is_private(config: Config) -> bool:
    """Whether patient ids and images of a study are kept out of MLflow: one protected cohort is enough."""
    return any(each.private for _, each in settings_of(config, "data", "tracking"))


def _training_seed(seed: int, settings: dict[str, Any], axes: dict[str, list[Any]]) -> int:
    """Seed of a repeat. Each split has its own, so that repeats also differ in initial weights and batches.

    The first split of the axes keeps the seed of the study, so that a study that gets more splits keeps its cells.

    Example:
        >>> axes = {"split.seed": [4, 5], "split.train": [0.5, 1]}
        >>> seeds = [_training_seed(0, {"split.seed": split, "split.train": 1}, axes) for split in (4, 5)]
        >>> seeds[0] == 0 != seeds[1]
        True
    """
    places = {key: axes[key].index(settings[key]) for key in REPEATS if key in axes}
    return derive_seed("repeat", seed, places) if any(places.values()) else seed


@cache
def _parser(section: str) -> ArgumentParser:
    """Of one section: the whole config takes ten times as long."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(type(getattr(Config(), section)), section)
    return parser


def _typed(config: Config, key: str, value: Any) -> Any:
    """A value of an axis, checked as one from a file is."""
    *sections, name = key.split(".")
    values = asdict(config)
    place: Any = values
    for section in sections:
        place = place.get(section) if isinstance(place, dict) else None
    if not isinstance(place, dict) or name not in place:
        raise InputError(f"study.axes: there is no setting {key!r}; see --help-all for the settings.")
    place[name] = value
    section = key.partition(".")[0]
    parser = _parser(section)
    try:
        made = parser.instantiate_classes(parser.parse_object({section: values[section]}))
    except (ArgumentError, InputError) as error:
        raise InputError(f"study.axes: {key}={value} cannot be: {' '.join(str(error).split())}") from error
    for part in (*sections, name):
        made = getattr(made, part)
    return made


def _replace(part: Any, path: list[str], value: Any) -> Any:
    """A dataclass with the value at a path replaced; its own checks run again."""
    first, *rest = path
    return replace(part, **{first: _replace(getattr(part, first), rest, value) if rest else value})
