"""What a study tells while it works. Whoever wants to know implements ``Listener``: ``tracking`` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torchio as tio

from synthaug.config import Config

Progress = Callable[[str, int], Callable[..., None]]
"""(name of a stage, its steps) to a function that is called after each step."""


def no_progress(stage: str, steps: int) -> Callable[..., None]:
    """Shows nothing."""
    return lambda *_: None


@dataclass(frozen=True)
class Training:
    """A training of an autoencoder or a generator that is about to begin."""

    out: Path
    """The study's folder."""
    stage: str
    """autoencoder or generator."""
    id: str
    """Hash of all that its result depends on: a killed training goes on under it."""
    config: Config
    """The study's."""
    validation: Sequence[tio.Subject]
    """Preprocessed."""
    training: Sequence[tio.Subject] = ()
    """Whom it is trained on, preprocessed: copies are looked for among them."""


class Watcher(Protocol):
    """Watches one training."""

    @property
    def autoencoder(self) -> Callable[..., Any]:
        """Called at intervals with the step, validation losses and reconstructions."""

    @property
    def generator(self) -> Callable[..., Any]:
        """Called at intervals with the step, validation losses, the pipeline and how many of its levels are trained."""

    def on_step(self, step: int, values: dict[str, float]) -> None:
        """Called after each step with the training losses."""

    def finish(self) -> None:
        """Called when the training is done."""


class Listener(Protocol):
    """Hears of the stages that a study makes."""

    def training_begins(self, training: Training) -> Watcher | None:
        """Called before a stage is trained; None = not to be watched."""


class Silent:
    """Hears nothing."""

    def training_begins(self, training: Training) -> None:
        """Watches nothing."""
