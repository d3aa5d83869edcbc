"""The data, generators and pools behind the cells of a study whose axes ask for more than one of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torchio as tio

from synthaug.config import Config
from synthaug.ground.files import content_hash
from synthaug.models.training.optimisation import OnStep
from synthaug.pool.pool import SyntheticPool
from synthaug.study.events import Listener, Progress
from synthaug.study.grid import DATA, STAGES, Cell, settings_of
from synthaug.study.identity import Identity
from synthaug.study.records import CellRecord
from synthaug.study.running.cell import run_cell
from synthaug.study.stages.checks import check_study
from synthaug.study.stages.cohort import load_subjects, save_own_split, unless_refused
from synthaug.study.stages.making import has_pool, make_generator, make_pool
from synthaug.study.stages.preparation import Study


def examine_studies(config: Config, out: Path) -> None:
    """Check settings, generators and splits of every study of a config, without reading a voxel.

    Raises:
        InputError: As :meth:`Study.examine`.
    """
    subjects: dict[str, list[tio.Subject]] = {}
    examined = set()
    for _, each in settings_of(config):
        settings = asdict(each)
        name = content_hash([settings[part] for part in (*DATA, *STAGES, "classifier")])
        if name not in examined:
            data = content_hash(settings["data"])
            if data not in subjects:
                subjects[data] = load_subjects(each.data)
            Study.examine(each, subjects[data], out)
            examined.add(name)


def start_studies(config: Config, out: Path, progress: Progress, listener: Listener | None = None) -> list[Study]:
    """The studies of every value of the axes, for the commands of single stages; as :meth:`Study.start`.

    Raises:
        InputError: Anything about their settings, data, splits or the folder cannot be used.
    """
    configs = {_name_of(each): each for _, each in settings_of(config)}
    with unless_refused(out):
        studies = [Study.read(each, out, progress, listener, generates=True) for each in configs.values()]
    for study in studies:
        save_own_split(study.split, out, data_id=study.data_id)
    return studies


def _name_of(config: Config) -> str:
    """The same for configs with one way of making data, generator and pool."""
    settings = asdict(config)
    return content_hash([settings[part] for part in (*DATA, *STAGES)])


@dataclass(frozen=True)
class Source:
    """A study whose pool is used, with what tells the pool from the others of the grid."""

    study: Study
    axes: Mapping[str, Any]
    """Values of the study's axes, but for those of classifiers."""
    name: str = ""

    @property
    def words(self) -> str:
        """The name and the values; never read back."""
        return " ".join(filter(None, (self.name, *(f"{key} {value}" for key, value in self.axes.items()))))


class Studies:
    """The data, generators and pools behind the cells: one ``Study`` for each way of making them.

    Args:
        out: The study's folder.
        progress: Bars of the stages.
        listener: Hears of the trainings; None = nobody does.
    """

    def __init__(self, out: Path, progress: Progress, listener: Listener | None = None) -> None:
        self.out, self.progress, self.listener = out, progress, listener
        self._made: dict[str, Study] = {}
        self._classifiers: set[str] = set()
        self._pools: dict[int, SyntheticPool] = {}
        self._pool_identities: dict[int, Identity] = {}

    def __iter__(self) -> Iterator[Study]:
        return iter(self._made.values())

    @property
    def first(self) -> Study:
        """That of the first values of all axes."""
        return next(iter(self))

    def read(self, config: Config) -> None:
        """Read, split and preprocess the subjects, for every value of the axes.

        Raises:
            InputError: As of :meth:`Study.read`, or an axis cannot be.
        """
        configs = [each for _, each in settings_of(config)]
        for each in configs:
            check_study(each, self.out)  # of all, before anything is read or kept
        with unless_refused(self.out):
            for each in configs:
                self.of(each)

    def of(self, config: Config) -> Study:
        """The study of a cell's config, read and checked when first asked for."""
        name = _name_of(config)
        if name not in self._made:
            self._made[name] = Study.read(config, self.out, self.progress, self.listener)
        classifier = content_hash([name, asdict(config.classifier)])
        if classifier not in self._classifiers:
            self._made[name].refuse_classifier(config.classifier)
            self._classifiers.add(classifier)
        return self._made[name]

    def identify(self, config: Config) -> tuple[str, Identity | None]:
        """What names a config's data, with the rule that labels moved volumes where it is used, and its pool."""
        study, data_id = self.of(config), self.of(config).data_id
        if config.classifier.augment == "labelled":
            data_id = content_hash([data_id, study.relabeller(config.classifier.geometry, texts=False).identity])
        return data_id, self.identify_pool(study) if config.study.synthetic else None

    def identify_pool(self, study: Study) -> Identity:
        """What names the pool of one of the studies, as it was when this was first asked."""
        if id(study) not in self._pool_identities:
            self._pool_identities[id(study)] = study.identify_pool()
        return self._pool_identities[id(study)]

    def write_splits(self) -> None:
        """Write split.csv, and beside it a file for every other split."""
        written = {self.first.data_id: "split.csv"}
        for study in self:
            study.write_split(written.setdefault(study.data_id, f"split-{study.data_id}.csv"))

    def sources(self, cells: Sequence[Cell]) -> list[Source]:
        """The studies whose pools the cells use, each once."""
        found: dict[str, Source] = {}
        for cell in cells:
            if cell.synthetic_fraction is not None:
                axes = {key: value for key, value in cell.settings.items() if not key.startswith("classifier.")}
                found.setdefault(cell.pool_id, Source(self.of(cell.config), axes, cell.name))
        return list({source.words: source for source in found.values()}.values())

    def with_synthetic(self, cells: Sequence[Cell]) -> dict[str, Study]:
        """The studies whose pools the cells use, by the words that tell them apart."""
        return {source.words: source.study for source in self.sources(cells)}

    def make_generators(self, cells: Sequence[Cell]) -> None:
        """Train the generators whose pools the cells use and that are not made yet.

        A generator is trained by one bench; others that share the folder wait for it.

        Raises:
            InputError: A generator cannot be trained, or has seen held-out patients.
        """
        for study in self.with_synthetic(cells).values():
            if not has_pool(study):
                make_generator(study)

    def make_pools(self, cells: Sequence[Cell]) -> None:
        """Make the pools that the cells use and that are missing; benches that share the folder fill them together.

        Raises:
            InputError: A pool cannot be made, or comes from held-out patients.
        """
        for study in self.with_synthetic(cells).values():
            self.make_pool(study)

    def make_pool(self, study: Study) -> SyntheticPool:
        """The pool of one of the studies, opened once."""
        if id(study) not in self._pools:
            self._pools[id(study)] = make_pool(study)
        return self._pools[id(study)]

    def run(self, cell: Cell, *, on_step: OnStep | None = None) -> CellRecord:
        """The record of a cell; its pool is opened, or made, where it uses one."""
        study = self.of(cell.config)
        pool = None if cell.synthetic_fraction is None else self.make_pool(study)
        return run_cell(cell, study, pool, on_step=on_step)
