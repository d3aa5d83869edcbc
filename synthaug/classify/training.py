"""Training of a 3D classifier: the same optimiser steps in every regime, the step chosen on validation data."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torchio as tio
from monai.losses import FocalLoss
from torch import nn

from synthaug.classify.prediction import predict_logits
from synthaug.config import ClassifierConfig, PreprocessConfig
from synthaug.data.manifest import class_counts, stack_images
from synthaug.errors import InputError
from synthaug.models.classifier import build_classifier
from synthaug.models.optimisation import Batch, OnStep, optimise
from synthaug.seeding import derive_seed


@dataclass
class TrainedClassifier:
    """A classifier at its chosen step."""

    network: nn.Module
    chosen_step: int
    history: list[dict[str, float]] = field(default_factory=list)
    """One record a validation: step, training loss, validation loss."""


def classical_augmentation(config: PreprocessConfig) -> tio.Compose:
    """The published augmentation: flip left-right, rotate in plane, translate, zoom, each with probability 0.5.

    Rotation to 15 degrees, translation to 10 % of the field of view, zoom 0.9 to 1.1.
    """
    reach = [0.1 * spacing * side for spacing, side in zip(config.spacing_mm, config.shape, strict=True)]
    still, whole = (0,) * 6, (1,) * 6
    moves: list[dict] = [
        {"scales": whole, "degrees": (0, 0, 0, 0, -15, 15), "translation": still},
        {"scales": whole, "degrees": still, "translation": [bound for r in reach for bound in (-r, r)]},
        {"scales": (0.9, 1.1), "degrees": still, "translation": still, "isotropic": True},
    ]
    affines = [tio.RandomAffine(**move, p=0.5, default_pad_value="minimum") for move in moves]
    return tio.Compose([tio.RandomFlip(axes=("LR",), flip_probability=0.5), *affines])


def train_classifier(
    loader: tio.SubjectsLoader,
    validation: Sequence[tio.Subject],
    config: ClassifierConfig,
    *,
    images: Sequence[str],
    shape: tuple[int, int, int],
    seed: int,
    on_step: OnStep | None = None,
) -> TrainedClassifier:
    """Train on the loader's batches and keep the weights with the lowest validation loss.

    Args:
        loader: Batches of preprocessed training subjects, as from ``SyntheticSampler.loader``.
        validation: Real, preprocessed subjects that choose the step. Never the test subjects.
        config: Network, loss, steps.
        images: Image names, in channel order.
        shape: Voxels of a volume.
        seed: Names the initial weights and what the network drops.
        on_step: Progress.

    Raises:
        InputError: The validation subjects lack a class, the network cannot take the volumes, or the settings ask for
            averaged weights, which the choice of a step would not see.
    """
    if config.training.ema:
        raise InputError(f"classifier.training.ema={config.training.ema} must be 0; the best single step is kept.")
    classes = len(class_counts(validation))
    network = build_classifier(
        config, in_channels=len(images), classes=classes, shape=shape, seed=derive_seed("classifier", seed)
    )
    labels = torch.tensor([subject["label"] for subject in validation])
    objective = _Objective(network, config)
    batches = _endless(loader, images, classes)
    trained = TrainedClassifier(network, chosen_step=0)
    best: dict[str, torch.Tensor] = {}
    lowest = float("inf")

    def watch(step: int, values: dict[str, float]) -> None:
        nonlocal best, lowest
        if step % config.evaluate_every == 0 or step == config.training.steps:
            logits = predict_logits(network, validation, images)
            # Cross-entropy whatever the training loss, so that steps are chosen by calibrated fit in every regime.
            loss = nn.functional.cross_entropy(logits, labels).item()
            trained.history.append({"step": step, "train_loss": values["loss"], "val_loss": loss})
            if loss < lowest:
                lowest, trained.chosen_step, best = loss, step, copy.deepcopy(network.state_dict())
        if on_step:
            on_step(step, values)

    training = replace(config.training, seed=derive_seed("classifier dropout", seed))
    optimise(objective, lambda step: next(batches), training, on_step=watch)
    if not best:
        raise RuntimeError("no validation loss was finite; the classifier did not train")
    network.load_state_dict(best)
    trained.network = network.eval()
    return trained


class _Objective(nn.Module):
    def __init__(self, network: nn.Module, config: ClassifierConfig) -> None:
        super().__init__()
        self.network = network
        focal = FocalLoss(gamma=2.0, use_softmax=True, to_onehot_y=True)
        self.loss = focal if config.loss == "focal" else None

    def forward(self, volumes: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = self.network(volumes)
        if self.loss is None:
            loss = nn.functional.cross_entropy(logits, labels)
        else:
            loss = self.loss(logits.float(), labels.unsqueeze(1))
        return loss, {"loss": loss.detach()}


def _endless(loader: tio.SubjectsLoader, images: Sequence[str], classes: int) -> Iterator[Batch]:
    epoch = 0
    while True:
        if hasattr(loader.batch_sampler, "set_epoch"):
            loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            if batch["label"].max() >= classes:
                raise InputError(
                    f"The training subjects have class {int(batch['label'].max())}, the validation subjects only "
                    f"{classes} classes; put every class into both."
                )
            yield {"volumes": stack_images(batch, images), "labels": batch["label"]}
        epoch += 1
