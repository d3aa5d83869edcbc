"""What one cell found: who was trained on what, how it went, and what it said of every test subject."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from synthaug.ground.errors import InputError
from synthaug.study.records.fields import SCHEMA, Settings, known, library_versions


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
        subject = row.get("subject_id", row["patient_id"])
        return cls(subject, row["patient_id"], row["label"], tuple(row["probabilities"]))


@dataclass(frozen=True)
class CellRecord:
    """A finished cell; a file of ``cells``."""

    regime: str
    seed: int
    id: str = ""
    training_seed: int | None = None
    synthetic_fraction: float | None = None
    """Share that is synthetic; None = none."""
    settings: Settings = field(default_factory=dict)
    """Value of each axis of the study that touches the cell."""
    name: str = ""
    """Words in place of regime and share in its arm's label, where whoever reads the study has better ones."""
    treatment: Settings = field(default_factory=dict)
    """How the real data is used: augment, balance, class_weights."""
    generator: str = ""
    labels: str = ""
    classifier: str = ""
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
        if told.get("schema", 1) > SCHEMA:
            raise InputError(
                f"Cell {told.get('id')} has schema {told['schema']}, this synthaug reads up to {SCHEMA}: upgrade it."
            )
        made = {"schema": 1, "versions": {}, **known(cls, told)}
        if not made.get("treatment") and "augment" in told:
            made["treatment"] = {"augment": told["augment"]}
        made["predictions"] = tuple(map(Prediction.from_json, told.get("predictions", ())))
        return cls(**{**made, **{name: tuple(made.get(name, ())) for name in ("history", "datasets")}})

    @property
    def classes(self) -> int:
        """Of the classifier."""
        return len(self.predictions[0].probabilities)
