"""Class probabilities of a trained classifier."""

from collections.abc import Sequence

import torch
import torchio as tio
from torch import nn

from synthaug.data.manifest import stack_images


@torch.no_grad()
def predict_logits(
    network: nn.Module, subjects: Sequence[tio.Subject], images: Sequence[str], *, batch_size: int = 16
) -> torch.Tensor:
    """Logits (N, K), on the CPU, of preprocessed subjects."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    rows = []
    try:
        for start in range(0, len(subjects), batch_size):
            volumes = torch.stack([stack_images(subject, images) for subject in subjects[start : start + batch_size]])
            rows.append(network(volumes.to(device)).float().cpu())
    finally:
        network.train(training)
    return torch.cat(rows)
