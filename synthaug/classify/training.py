"""Training of a 3D classifier: the same optimiser steps in every regime, the step chosen on validation data."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from accelerate.utils import broadcast_object_list
from monai.losses import FocalLoss
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from synthaug.classify.calibration import calibrated_loss, fit_temperature
from synthaug.classify.prediction import predict_logits
from synthaug.classify.selection import StepChoice
from synthaug.config import ClassifierConfig
from synthaug.data.reading.manifest import class_counts as count_classes
from synthaug.data.reading.manifest import stack_images
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed
from synthaug.models.classifier import build_classifier
from synthaug.models.training.optimisation import Batch, OnStep, optimise, processes


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
    validated and chosen from. Rate, moments and average go on from one part to the other: the fine-tuning then has a
    lower rate than what came before, as is usual, and all regimes share one schedule, so that they differ in their data
    alone.

    In several processes (``accelerate launch``, ``torchrun``) each passes the same loader and takes its share of each
    batch; batch norms then see the share only, so that the result is near to, not equal to, that of one process. A
    ``SyntheticSampler`` deals nothing out meanwhile.

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
        InputError: The validation subjects lack a class, the network cannot take the volumes, the class weights do
            not fit, the pre-training leaves no step, or the loader cannot be resumed.
    """
    classes = len(count_classes(validation))
    network = build_classifier(
        config, in_channels=len(images), classes=classes, shape=shape, seed=derive_seed("classifier", seed)
    )
    labels = np.array([subject["label"] for subject in validation])
    pretraining_steps = pretraining.steps if pretraining else 0
    if not 0 <= pretraining_steps < config.training.steps:
        raise InputError(f"Of {config.training.steps} steps {pretraining_steps} cannot be pre-training; leave some.")
    choice, last_loss = StepChoice(config.patience), float("nan")

    def note(step: int, values: dict[str, float]) -> None:
        nonlocal last_loss
        last_loss = values["loss"]
        if on_step:
            on_step(step, values)

    def validate(step: int) -> None:
        if step <= pretraining_steps:
            return
        # Whatever the training loss, and with the temperature that each classifier gets in the end, so that steps are
        # chosen by the same measure in every regime.
        loss = calibrated_loss(predict_logits(network, validation, images).double().numpy(), labels)
        choice.offer(step, network, train_loss=last_loss, val_loss=loss)

    def batches(part: tio.SubjectsLoader, counts: Mapping[int, int] | None) -> Callable[[int], Batch]:
        return _batches(
            part,
            images=images,
            classes=classes,
            weights=loss_weights(config, classes=classes, class_counts=counts),
            offsets=logit_offsets(config, classes=classes, class_counts=counts),
            resumable=checkpoint is not None,
        )

    batch_of = batches(loader, class_counts)
    if pretraining:
        batch_of = _in_turn(batches(pretraining.loader, pretraining.class_counts), batch_of, steps=pretraining_steps)
    with _undivided([loader, *([pretraining.loader] if pretraining else [])]):
        optimise(
            _Objective(network, config.loss),
            batch_of,
            replace(config.training, seed=derive_seed("classifier dropout", seed)),
            checkpoint=checkpoint,
            on_step=note,
            every=config.evaluate_every,
            on_interval=validate,
            until=choice.exhausted if config.patience else None,
            companion=choice,
        )
    return _chosen(choice, network, validation, images=images, flips=config.test_flips)


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


def loss_weights(
    config: ClassifierConfig, *, classes: int, class_counts: Mapping[int, int] | None
) -> torch.Tensor | None:
    """Weights (K,) of the classes in the loss, or None.

    Raises:
        InputError: Not one weight a class, or "balanced" weights without the counts they are made from.

    Example:
        >>> loss_weights(ClassifierConfig(balance="weighted"), classes=2, class_counts={0: 30, 1: 10}).tolist()
        [0.6666666865348816, 2.0]
    """
    if config.balance != "weighted":
        return None
    weights = config.class_weights
    if weights is None:
        counts = _all_counts("Balanced class weights", classes, class_counts)
        labels = np.repeat(range(classes), counts)
        weights = compute_class_weight("balanced", classes=np.arange(classes), y=labels).tolist()
    if len(weights) != classes:
        raise InputError(f"classifier.class_weights={weights} must be {classes} numbers, one a class.")
    return torch.tensor(weights, dtype=torch.float32)


def logit_offsets(
    config: ClassifierConfig, *, classes: int, class_counts: Mapping[int, int] | None
) -> torch.Tensor | None:
    """What is added to the logits (K,) while training: the log of each class's share (Menon et al. 2021), or None.

    Predictions go without: they are those of classes that are equally frequent.

    Raises:
        InputError: The counts that the shares are made from are missing.

    Example:
        >>> config = ClassifierConfig(loss="logit_adjusted", balance="none")
        >>> logit_offsets(config, classes=2, class_counts={0: 30, 1: 10}).exp().tolist()
        [0.75, 0.25]
    """
    if config.loss != "logit_adjusted":
        return None
    counts = torch.tensor(_all_counts("Logits to adjust", classes, class_counts), dtype=torch.float32)
    return (counts / counts.sum()).log()


def _all_counts(asker: str, classes: int, class_counts: Mapping[int, int] | None) -> list[int]:
    """Training subjects of each class; InputError where a class has none."""
    if class_counts is None or sorted(class_counts) != list(range(classes)):
        raise InputError(f"{asker} need the number of training subjects of {classes} classes.")
    return [class_counts[label] for label in range(classes)]


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
    labels = np.array([subject["label"] for subject in validation])
    temperature = fit_temperature(logits.double().numpy(), labels)
    steps = int(choice.history[-1]["step"])
    return TrainedClassifier(network, choice.step, steps, choice.history, temperature)


class _Objective(nn.Module):
    def __init__(self, network: nn.Module, loss: str) -> None:
        super().__init__()
        self.network = network
        self.focal = None
        if loss == "focal":
            self.focal = FocalLoss(gamma=2.0, use_softmax=True, to_onehot_y=True, reduction="none")

    def forward(
        self,
        volumes: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = self.network(volumes).float()
        if offsets is not None:
            logits = logits + offsets
        if self.focal is None:
            rows = nn.functional.cross_entropy(logits, labels, reduction="none")
        else:
            rows = self.focal(logits, labels.unsqueeze(1)).mean(dim=1)  # over the classes, as MONAI does
        # Mean over the rows, not over the weights: parts of a batch then add up to its loss.
        loss = (rows if weights is None else rows * weights).mean()
        return loss, {"loss": loss.detach()}


@contextlib.contextmanager
def _undivided(loaders: Sequence[tio.SubjectsLoader]) -> Iterator[None]:
    """The loaders' samplers leave the dealing to the optimisation loop, which gives each process part of each batch."""
    with contextlib.ExitStack() as stack:
        for loader in loaders:
            if hasattr(loader.batch_sampler, "undivided"):
                stack.enter_context(loader.batch_sampler.undivided())
        yield


def _in_turn(first: Callable[[int], Batch], second: Callable[[int], Batch], *, steps: int) -> Callable[[int], Batch]:
    """The batches of ``first`` for so many steps, then those of ``second`` from its own beginning."""
    return lambda step: first(step) if step < steps else second(step - steps)


def _batches(
    loader: tio.SubjectsLoader,
    *,
    images: Sequence[str],
    classes: int,
    weights: torch.Tensor | None,
    offsets: torch.Tensor | None,
    resumable: bool,
) -> Callable[[int], Batch]:
    """The batch of each step, asked for in order from any first step; with the weight of each row and what is added to
    its logits, if there are any."""
    if resumable and not hasattr(loader.batch_sampler, "set_epoch"):
        raise InputError(
            "The loader's batch sampler has no set_epoch, so no killed training can go on: pass no checkpoint."
        )
    stream: Iterator[Batch] | None = None

    def batch_of(step: int) -> Batch:
        nonlocal stream
        if stream is None:
            stream = _endless(loader, images, classes, first_step=step)
        batch = next(stream)
        if weights is not None:
            batch = {**batch, "weights": weights[batch["labels"]]}
        if offsets is not None:
            batch = {**batch, "offsets": offsets.repeat(len(batch["labels"]), 1)}
        return batch

    return batch_of


def _endless(loader: tio.SubjectsLoader, images: Sequence[str], classes: int, *, first_step: int) -> Iterator[Batch]:
    first_epoch, seen = divmod(first_step, len(loader))
    for epoch in itertools.count(first_epoch):
        if hasattr(loader.batch_sampler, "set_epoch"):
            loader.batch_sampler.set_epoch(epoch)
        for batch in itertools.islice(loader, seen if epoch == first_epoch else 0, None):
            if batch["label"].max() >= classes:
                raise InputError(
                    f"The training subjects have class {int(batch['label'].max())}, the validation subjects only "
                    f"{classes} classes; put every class into both."
                )
            yield {"volumes": stack_images(batch, images), "labels": batch["label"]}
