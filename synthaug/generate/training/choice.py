"""The weights that a training keeps: the best by the validation patients, never simply the last."""

import math
from typing import Any

import torch

from synthaug.ground.errors import InputError

TOLERANCE = 0.005
"""Relative differences of the validation loss below this are ties, which the FID decides."""


class BestWeights:
    """Keeps the trainable weights of the best look at a training.

    A look is better if it has fewer signs of copying, then a lower validation loss, then a lower FID.

    Args:
        module: Whose weights that are trainable now are kept; the averaged ones, when it is offered.

    Example:
        >>> layer = torch.nn.Linear(1, 1)
        >>> best = BestWeights(layer)
        >>> best.offer(100, {"val_loss": 0.3}), best.offer(200, {"val_loss": 0.4})
        (True, False)
        >>> best.step
        100
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.trainable = sorted(name for name, each in module.named_parameters() if each.requires_grad)
        self.step, self.rank = 0, (math.inf, math.inf, math.inf)
        self.weights: dict[str, torch.Tensor] = {}

    def offer(self, step: int, values: dict[str, float]) -> bool:
        """Take the weights as they are, if the look's values are the best so far; returns whether they were taken.

        Args:
            step: Number of the look's step.
            values: ``val_loss``; ``val_fid`` and ``val_copies_excess`` where they were measured.

        Raises:
            InputError: The loss is not finite.
        """
        found = values["val_loss"]
        if not math.isfinite(found):
            raise InputError(f"Training stopped at step {step}: val_loss is {found}; lower the learning rate.")
        loss = round(math.log(max(found, 1e-12)) / TOLERANCE)
        rank = (values.get("val_copies_excess", 0.0), float(loss), values.get("val_fid", 0.0))
        if rank >= self.rank:
            return False
        self.step, self.rank = step, rank
        state = self.module.state_dict()
        self.weights = {name: state[name].detach().cpu().clone() for name in self.trainable}
        return True

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back, if any look was offered."""
        parameters = dict(self.module.named_parameters())
        for name, value in self.weights.items():
            parameters[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"step": self.step, "rank": list(self.rank), "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.step, self.weights = state["step"], dict(state["weights"])
        self.rank = tuple(state["rank"])
