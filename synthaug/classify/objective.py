"""The loss of a classifier: its kind, weights of the classes, what is added to the logits."""

from collections.abc import Mapping

import numpy as np
import torch
from monai.losses import FocalLoss
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from synthaug.config import ClassifierConfig
from synthaug.ground.errors import InputError


class Objective(nn.Module):
    """Loss of a batch: cross-entropy or focal, over rows that may be weighted and logits that may be offset."""

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
