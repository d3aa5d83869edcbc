"""A small 3D network that learns to tell two sets of volumes apart, trained anew for each fold."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor, nn

from synthaug.ground.seeding import derive_seed, torch_generator

STEPS = 120
"""Optimiser steps of a fold."""
BATCH = 16
"""Volumes a step, half of each set."""
CROP = 48
"""Longest side of a training crop; volumes are judged whole."""
SHIFT = 2
"""Voxels by which a crop is at least moved about."""
WIDTHS = (16, 32, 64)
"""Channels of each level."""
RATE = 2e-3


def critic_scores(
    volumes: Tensor, labels: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]], *, seed: int
) -> np.ndarray:
    """Score of each volume (n,) by the network of the fold that it was left out of; higher = more like label 1.

    Args:
        volumes: (n, C, X, Y, Z).
        labels: 0 or 1 (n,).
        folds: Pairs (training places, test places) that leave each volume out once.
        seed: Names first weights, batches and crops.
    """
    scores, inputs = np.zeros(len(labels)), with_detail(volumes)
    for fold, (training, test) in enumerate(folds):
        network = _trained(inputs, labels, training, seed=derive_seed("critic", seed, fold))
        scores[test] = _judge(network, inputs, test)
    return scores


def with_detail(volumes: Tensor) -> Tensor:
    """Each channel and, as one more, what its 3 x 3 x 3 mean leaves, both normalised: faint texture counts at once.

    Example:
        >>> with_detail(torch.rand(4, 1, 8, 8, 8)).shape
        torch.Size([4, 2, 8, 8, 8])
    """
    plain = volumes.float().numpy()
    both = np.concatenate([plain, plain - uniform_filter(plain, (0, 0, 3, 3, 3), mode="nearest")], axis=1)
    axes = (0, 2, 3, 4)
    both -= both.mean(axis=axes, keepdims=True)
    both /= both.std(axis=axes, keepdims=True) + 1e-6
    return torch.from_numpy(both).half()


def build_critic(channels: int) -> nn.Module:
    """Three convolutions that halve each side; spatial mean and largest value decide, whatever the shape."""
    widths = (channels, *WIDTHS)
    blocks = [
        nn.Sequential(
            # 4 voxels wide at first, so that the stride skips none.
            nn.Conv3d(before, after, 3 if level else 4, stride=2, padding=1, bias=False),
            nn.BatchNorm3d(after),
            nn.ReLU(),
        )
        for level, (before, after) in enumerate(itertools.pairwise(widths))
    ]
    network = nn.Sequential(*blocks, _MeanAndMax(), nn.Dropout(0.2), nn.Linear(2 * WIDTHS[-1], 1))
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


class _MeanAndMax(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps.mean(dim=(2, 3, 4)), maps.amax(dim=(2, 3, 4))], dim=1)


def _trained(volumes: Tensor, labels: np.ndarray, places: np.ndarray, *, seed: int) -> nn.Module:
    """A network after ``STEPS`` steps on the volumes at these places."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # first weights and dropout
        network = build_critic(volumes[int(places[0])].shape[0]).train()
        optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
        generator = torch_generator("critic batches", seed)
        sides = [places[labels[places] == label] for label in (0, 1)]
        for _ in range(STEPS):
            batch, wanted = _batch(volumes, sides, generator)
            loss = nn.functional.binary_cross_entropy_with_logits(network(batch).flatten(), wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def _batch(volumes: Tensor, sides: Sequence[np.ndarray], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Crops (B, C, x, y, z), one size and many places; softened labels (B,)."""
    drawn, wanted = [], []
    for label, side in enumerate(sides):
        for place in torch.randint(len(side), (BATCH // 2,), generator=generator).tolist():
            drawn.append(_crop(volumes[int(side[place])], generator))
            wanted.append(0.05 + 0.9 * label)
    stacked = torch.stack(drawn).float().contiguous(memory_format=torch.channels_last_3d)
    return stacked, torch.tensor(wanted)


def _crop(volume: Tensor, generator: torch.Generator) -> Tensor:
    cut = [slice(None)]
    for side in volume.shape[1:]:
        size = min(CROP, max(side - SHIFT, 1))
        first = int(torch.randint(side - size + 1, (1,), generator=generator))
        cut.append(slice(first, first + size))
    return volume[tuple(cut)]


@torch.inference_mode()
def _judge(network: nn.Module, volumes: Tensor, places: np.ndarray) -> np.ndarray:
    scores = [network(volumes[int(place)].float()[None]).item() for place in places]
    return np.array(scores)
