"""Training of a 3D classifier: the same optimiser steps in every regime, the step chosen on validation data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torchio as tio
from accelerate.utils import broadcast_object_list
from torch import nn

from synthaug.classify.batches import batches_of, in_turn, require_classes, undivided
from synthaug.classify.calibration import calibrated_loss, fit_temperature
from synthaug.classify.objective import Objective, logit_offsets, loss_weights
from synthaug.classify.prediction import predict_logits
from synthaug.classify.selection import StepChoice
from synthaug.config import ClassifierConfig
from synthaug.data.reading.manifest import class_counts as count_classes
from synthaug.data.reading.manifest import class_labels
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed
from synthaug.models.classifier import build_classifier
from synthaug.models.training.loop import Batch
from synthaug.models.training.optimisation import OnStep, optimise
from synthaug.models.training.processes import processes


@dataclass
class TrainedClassifier:
    """A classifier at its chosen step."""

    network: nn.Module
    chosen_step: int
    steps: int
    """Optimiser steps made; fewer than asked for where the patience ended."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One record a validation: step, training loss, validation loss."""
    temperature: float = 1.0
    """Divides the logits to make their probabilities honest; fitted on the validation subjects."""


@dataclass(frozen=True)
class Pretraining:
    """The part of a training that comes first and learns from other batches, such as those of a synthetic pool."""

    loader: tio.SubjectsLoader
    """Its batches."""
    steps: int
    """Optimiser steps, of those of the whole training."""
    class_counts: Mapping[int, int] | None = None
    """Subjects of each class behind the loader, for weights "balanced"."""


def train_classifier(
    loader: tio.SubjectsLoader,
    validation: Sequence[tio.Subject],
    config: ClassifierConfig,
    *,
    images: Sequence[str],
    shape: tuple[int, int, int],
    seed: int,
    class_counts: Mapping[int, int] | None = None,
    pretraining: Pretraining | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
) -> TrainedClassifier:
    """Train on the loader's batches and keep the weights with the lowest validation loss, at its best temperature.

    With ``pretraining`` the first of ``config.training.steps`` are made on its batches and only the others are
    validated and chosen from. Learning rate, moments and average continue from pre-training to fine-tuning. All regimes
    share one schedule and differ in their data only.

    Several processes (``accelerate launch``, ``torchrun``) pass the same loader and take a share of each batch. Batch
    norms see that share only, so that results differ slightly from those of one process. A ``SyntheticSampler`` deals
    nothing out meanwhile.

    Args:
        loader: Batches of preprocessed training subjects, as from ``SyntheticSampler.loader``.
        validation: Real, preprocessed subjects that choose the step and the temperature. Never the test subjects.
        config: Network, loss, steps.
        images: Image names, in channel order.
        shape: Voxels of a volume.
        seed: Names the initial weights and what the network drops.
        class_counts: Training subjects of each class, for weights "balanced" (``config.balance`` is weighted).
        pretraining: What comes before the loader's batches; None = nothing.
        checkpoint: File that a killed training resumes from, to the same weights; removed at the end. The loader's
            batch sampler then needs ``set_epoch``, so that its batches are a function of the epoch.
        on_step: Progress.

    Raises:
        InputError: Training and validation subjects are not of the same classes. The network cannot take the volumes.
            The class weights do not fit. The pre-training leaves no step. The loader cannot be resumed.
    """
    classes = len(count_classes(validation))
    for part in [loader, *([pretraining.loader] if pretraining else [])]:
        require_classes(part, classes)
    network = build_classifier(
        config, in_channels=len(images), classes=classes, shape=shape, seed=derive_seed("classifier", seed)
    )
    pretraining_steps = pretraining.steps if pretraining else 0
    if not 0 <= pretraining_steps < config.training.steps:
        raise InputError(f"Of {config.training.steps} steps {pretraining_steps} cannot be pre-training; leave some.")
    choice = StepChoice(config.patience)
    watch = _Watch(network, validation, images, choice, on_step, first=pretraining_steps + 1)

    def batches(part: tio.SubjectsLoader, counts: Mapping[int, int] | None) -> Callable[[int], Batch]:
        return batches_of(
            part,
            images=images,
            classes=classes,
            weights=loss_weights(config, classes=classes, class_counts=counts),
            offsets=logit_offsets(config, classes=classes, class_counts=counts),
            resumable=checkpoint is not None,
        )

    batch_of = batches(loader, class_counts)
    if pretraining:
        batch_of = in_turn(batches(pretraining.loader, pretraining.class_counts), batch_of, steps=pretraining_steps)
    with undivided([loader, *([pretraining.loader] if pretraining else [])]):
        optimise(
            Objective(network, config.loss),
            batch_of,
            replace(config.training, seed=derive_seed("classifier dropout", seed)),
            checkpoint=checkpoint,
            on_step=watch.note,
            every=config.evaluate_every,
            on_interval=watch.validate,
            until=choice.exhausted if config.patience else None,
            companion=choice,
        )
    return _chosen(choice, network, validation, images=images, flips=config.test_flips)


@dataclass
class _Watch:
    """Offers the network to the choice after each interval, from step ``first`` on."""

    network: nn.Module
    validation: Sequence[tio.Subject]
    images: Sequence[str]
    choice: StepChoice
    on_step: OnStep | None
    first: int
    loss: float = float("nan")
    """Of the last training step."""

    def note(self, step: int, values: dict[str, float]) -> None:
        """Keep the step's loss and tell of it."""
        self.loss = values["loss"]
        if self.on_step:
            self.on_step(step, values)

    def validate(self, step: int) -> None:
        """Whatever the training loss, and with the temperature that each classifier gets in the end, so that steps are
        chosen by the same measure in every regime."""
        if step < self.first:
            return
        logits = predict_logits(self.network, self.validation, self.images).double().numpy()
        labels = np.array(class_labels(self.validation))
        self.choice.offer(step, self.network, train_loss=self.loss, val_loss=calibrated_loss(logits, labels))


def told_by_main(value: Any) -> Any:
    """What the main process passed, in every process that trains together; alone, the value itself.

    Example:
        >>> told_by_main({"step": 3})
        {'step': 3}
    """
    if processes().num_processes == 1:
        return value
    told = [value]
    broadcast_object_list(told)
    return told[0]


def _chosen(
    choice: StepChoice, network: nn.Module, validation: Sequence[tio.Subject], *, images: Sequence[str], flips: bool
) -> TrainedClassifier:
    """The network at its chosen step, in every process that of the main one, with its temperature."""
    choice.load_state_dict(told_by_main(choice.state_dict()))  # which alone validates
    if not choice.weights:
        raise InputError("No validation loss was finite, so no step can be chosen; lower the learning rate.")
    network.load_state_dict(choice.weights)
    network.eval()
    logits = predict_logits(network, validation, images, flips=flips)
    labels = np.array(class_labels(validation))
    temperature = fit_temperature(logits.double().numpy(), labels)
    steps = int(choice.history[-1]["step"])
    return TrainedClassifier(network, choice.step, steps, choice.history, temperature)
