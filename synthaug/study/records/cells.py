"""What one cell found: who was trained on what, how it went, and what it said of every test subject."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_record
from synthaug.study.records.arm_fields import ArmFields
from synthaug.study.records.fields import SCHEMA, Settings, known, library_versions, require_kinds, require_schema


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of a test subject, before the temperature."""

    subject_id: str
    patient_id: str
    label: int
    probabilities: tuple[float, ...]

    @classmethod
    def from_json(cls, row: Settings) -> Self:
        """A row of ``predictions``; cells of schema 1 may name the patient alone."""
        subject, probabilities = row.get("subject_id", row["patient_id"]), tuple(row["probabilities"])
        if not (isinstance(subject, str) and isinstance(row["patient_id"], str)):
            raise InputError(f"predictions: {row['patient_id']!r:.100} is no patient.")
        if type(row["label"]) is not int or not 0 <= row["label"] < len(probabilities):
            raise InputError(f"predictions: label {row['label']!r:.100} of {len(probabilities)} classes cannot be.")
        if not all(type(each) in (int, float) and -1e-6 <= each <= 1 + 1e-6 for each in probabilities):
            raise InputError(f"predictions: {probabilities!r:.100} are no probabilities.")
        return cls(subject, row["patient_id"], row["label"], probabilities)


@dataclass(frozen=True)
class CellRecord(ArmFields):
    """A finished cell; a file of ``cells``."""

    regime: str
    seed: int
    id: str = ""
    identity: Settings = field(default_factory=dict)
    """What the id is the hash of; {} = an earlier version trained it."""
    training_seed: int | None = None
    synthetic_fraction: float | None = None
    """Share that is synthetic; None = none."""
    settings: Settings = field(default_factory=dict)
    """Value of each axis of the study that touches the cell."""
    name: str = ""
    """Words in place of regime and share in its arm's label, where whoever reads the study has better ones."""
    protocol: str = ""
    n_train: int = 0
    n_train_real: int = 0
    n_train_synthetic: int = 0
    steps: int = 0
    """Of the optimiser, at most."""
    batch_size: int = 0
    pretrain_steps: int = 0
    steps_made: int = 0
    chosen_step: int = 0
    temperature: float = 1.0
    history: tuple[Settings, ...] = ()
    """Validation at intervals: step, train_loss, val_loss and others."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    datasets: tuple[Settings, ...] = ()
    """The volumes behind it, by content hash."""
    predictions: tuple[Prediction, ...] = ()
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=library_versions)
    """Of synthaug, torch and MONAI when it was trained."""
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """The content of a cell's file."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Settings) -> Self:
        """The content of a cell's file, of any version so far.

        Raises:
            InputError: A later version wrote it.
        """
        require_schema(told, f"Cell {told.get('id')}")
        made = {"schema": 1, "versions": {}, **known(cls, told)}
        if not made.get("treatment") and "augment" in told:
            made["treatment"] = {"augment": told["augment"]}
        made["predictions"] = tuple(map(Prediction.from_json, told.get("predictions", ())))
        if len({len(row.probabilities) for row in made["predictions"]}) > 1:
            raise InputError("predictions: some have more classes than others.")
        made |= {name: tuple(made.get(name, ())) for name in ("history", "datasets")}
        require_kinds(cls, made)
        return cls(**made)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a cell's file.

        Raises:
            InputError: It is damaged.
        """
        record = read_record(path, cls.from_json)
        if not record.predictions:
            raise InputError(f"{path}: holds no predictions; delete it to have it made again.")
        return record

    @property
    def classes(self) -> int:
        """Of the classifier."""
        return len(self.predictions[0].probabilities)


def tested_patients(records: Iterable[CellRecord]) -> dict[str, int]:
    """The class of each test patient: the highest of its volumes', as splits are drawn by."""
    found: dict[str, int] = {}
    for record in records:
        for row in record.predictions:
            found[row.patient_id] = max(row.label, found.get(row.patient_id, 0))
    return found
