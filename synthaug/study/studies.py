"""The data, generators and pools behind the cells of a study whose axes ask for more than one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from synthaug.config import Config
from synthaug.ground.files import content_hash
from synthaug.study.claims import claimed
from synthaug.study.events import Listener, Progress
from synthaug.study.grid import DATA, STAGES, Cell
from synthaug.study.preparation import Study

Stage = Literal["autoencoder", "generator"]


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

    def __iter__(self) -> Iterator[Study]:
        return iter(self._made.values())

    @property
    def first(self) -> Study:
        """That of the first values of all axes."""
        return next(iter(self))

    def of(self, config: Config) -> Study:
        """The study of a cell's config, read and checked when first asked for."""
        settings = asdict(config)
        name = content_hash([settings[part] for part in (*DATA, *STAGES)])
        if name not in self._made:
            self._made[name] = Study.read(config, self.out, self.progress, self.listener)
        classifier = content_hash([name, asdict(config.classifier)])
        if classifier not in self._classifiers:
            self._made[name].refuse_classifier(config.classifier)
            self._classifiers.add(classifier)
        return self._made[name]

    def identify(self, config: Config) -> tuple[str, str]:
        """Hashes of a config's data, with the rule that labels moved volumes where it is used, and pool ("" = none)."""
        study, data_id = self.of(config), self.of(config).data_id
        if config.classifier.augment == "labelled":
            data_id = content_hash([data_id, study.relabeller(config.classifier).identity])
        return data_id, study.pool_id if config.study.synthetic else ""

    def write_splits(self) -> None:
        """Write split.csv, and beside it a file for every other split."""
        written = {self.first.data_id: "split.csv"}
        for study in self:
            study.write_split(written.setdefault(study.data_id, f"split-{study.data_id}.csv"))

    def with_synthetic(self, cells: Sequence[Cell]) -> dict[str, Study]:
        """The studies whose pools the cells use, by the axis values that tell them apart."""
        found: dict[str, tuple[dict[str, Any], Study]] = {}
        for cell in cells:
            if cell.synthetic_fraction is not None:
                study = self.of(cell.config)
                kept = {key: value for key, value in cell.settings.items() if not key.startswith("classifier.")}
                found.setdefault(study.pool_id, (kept, study))
        return {" ".join(f"{key} {value}" for key, value in kept.items()): study for kept, study in found.values()}

    def make(self, cells: Sequence[Cell]) -> None:
        """Make the generators and pools that the cells use, as far as they are missing.

        A generator is trained by one bench, and others that share the folder wait for it; a pool they fill together.

        Raises:
            InputError: A generator or pool cannot be made, or has seen held-out patients.
        """
        for study in self.with_synthetic(cells).values():
            if not study.config.pool.path and not (study.pool_folder / "complete.json").is_file():
                train(study, "generator")
            _ = study.pool


def train(study: Study, stage: Stage) -> None:
    """Train a stage where it is missing, while no other process trains it.

    Raises:
        InputError: As of the stage, or as of :func:`claimed`.
    """
    autoencoder, generator = (
        study.out / f"autoencoder-{study.autoencoder_id}",
        study.out / f"generator-{study.generator_id}",
    )
    if (autoencoder if stage == "autoencoder" else generator).is_dir():
        return
    # One claim for both, as generators that go on from one autoencoder must not train it twice.
    with claimed(study.out, autoencoder, generator, what="training a generator"):
        getattr(study, stage)
