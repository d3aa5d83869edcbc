"""Which optimiser step is kept: the one with the lowest validation loss, and when to stop looking for a better one."""

import copy
from typing import Any

import torch
from torch import nn


class StepChoice:
    """Remembers the best step so far with its weights.

    Args:
        patience: Validations without a lower loss after which no better step is expected; 0 = never.

    Example:
        >>> choice, network = StepChoice(patience=2), nn.Linear(1, 1)
        >>> for step, loss in enumerate([0.5, 0.3, 0.4, 0.35], start=1):
        ...     choice.offer(step, network, train_loss=0.0, val_loss=loss)
        >>> choice.step, choice.exhausted()
        (2, True)
    """

    def __init__(self, patience: int = 0) -> None:
        self.patience = patience
        self.history: list[dict[str, float]] = []
        self.step = 0
        """0: no validation loss was finite yet."""
        self.weights: dict[str, torch.Tensor] = {}

    def offer(self, step: int, network: nn.Module, *, train_loss: float, val_loss: float) -> None:
        """Note a validation, and keep the network's weights if its loss is the lowest so far.

        Args:
            step: Optimiser steps made.
            network: As it is after them.
            train_loss: Of the last batch.
            val_loss: :func:`~synthaug.classify.calibration.calibrated_loss` of the validation subjects.
        """
        lowest = {record["step"]: record["val_loss"] for record in self.history}.get(self.step, float("inf"))
        self.history.append({"step": step, "train_loss": train_loss, "val_loss": val_loss})
        if val_loss < lowest:  # never so for NaN
            self.step = step
            self.weights = copy.deepcopy({name: value.detach().cpu() for name, value in network.state_dict().items()})

    def exhausted(self) -> bool:
        """Whether the last ``patience`` validations brought nothing better."""
        since = sum(record["step"] > self.step for record in self.history)
        return 0 < self.patience <= since

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"history": [dict(record) for record in self.history], "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.history, self.step, self.weights = state["history"], state["step"], state["weights"]
