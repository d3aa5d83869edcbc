"""Logits of a trained classifier."""

from collections.abc import Sequence

import torch
import torchio as tio
from torch import nn

from synthaug.data.reading.manifest import stack_images

LEFT_RIGHT = -3
"""Axis of the volumes (..., X, Y, Z), which are RAS."""


@torch.no_grad()
def predict_logits(
    network: nn.Module,
    subjects: Sequence[tio.Subject],
    images: Sequence[str],
    *,
    batch_size: int = 16,
    flips: bool = False,
) -> torch.Tensor:
    """Logits (N, K), on the CPU, of preprocessed subjects.

    Args:
        network: Volumes (B, C, X, Y, Z) to logits (B, K); comes back in the mode in which it was.
        subjects: Preprocessed subjects.
        images: Image names, in channel order.
        batch_size: Volumes at once.
        flips: Average the logits of each volume and of its left-right mirror image.
    """
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    rows = []
    try:
        for start in range(0, len(subjects), batch_size):
            # One by one: a torchio data set takes no slices.
            places = range(start, min(start + batch_size, len(subjects)))
            batch = [stack_images(subjects[place], images) for place in places]
            volumes = torch.stack(batch).to(device)
            logits = network(volumes).float()
            if flips:
                logits = (logits + network(volumes.flip(LEFT_RIGHT)).float()) / 2
            rows.append(logits.cpu())
    finally:
        network.train(training)
    return torch.cat(rows)
