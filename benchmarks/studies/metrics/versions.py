"""Versions of real volumes that an image metric should, or should not, take for other images."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torchio as tio
from scipy.ndimage import gaussian_filter

from synthaug.ground.seeding import numpy_generator, torch_generator

BLUR_VOXELS = 1.0
"""Deviation of the Gaussian."""
NOISE = 0.1
"""Deviation of the added noise; volumes span [0, 1]."""
AXIAL = 3
"""Axis of (C, X, Y, Z) that slices are shuffled along."""


def blurred(volume: torch.Tensor, place: int) -> torch.Tensor:
    """Fine structure is gone."""
    return torch.from_numpy(gaussian_filter(volume.numpy(), (0, *[BLUR_VOXELS] * 3), mode="nearest")).clamp(0, 1)


def noisy(volume: torch.Tensor, place: int) -> torch.Tensor:
    """Structure that is not there."""
    noise = torch.randn(volume.shape, generator=torch_generator("noisy", place))
    return (volume + NOISE * noise).clamp(0, 1)


def shuffled(volume: torch.Tensor, place: int) -> torch.Tensor:
    """Every axial slice is real, the anatomy is not."""
    order = numpy_generator("shuffled", place).permutation(volume.shape[AXIAL])
    return volume.index_select(AXIAL, torch.from_numpy(order))


VERSIONS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "real": lambda volume, place: volume,
    "blurred": blurred,
    "noisy": noisy,
    "shuffled slices": shuffled,
}
"""Name to (volume (1, X, Y, Z) in [0, 1], its place) -> volume."""
PLANTED: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "exact": lambda volume, place: volume,
    "noisy": lambda volume, place: (
        volume + 0.05 * torch.randn(volume.shape, generator=torch_generator("copy", place))
    ).clamp(0, 1),
    "flipped": lambda volume, place: volume.flip(1),
    "intensity-shifted": lambda volume, place: (0.7 * volume + 0.15).clamp(0, 1),
}
"""Copies of training volumes that the gate has to find."""


def as_subjects(
    volumes: Sequence[torch.Tensor], labels: Sequence[int], spacing_mm: Sequence[float]
) -> list[tio.Subject]:
    """Volumes with their class, as ``compare_images`` takes them."""
    affine = np.diag([*spacing_mm, 1.0])
    return [
        tio.Subject(image=tio.ScalarImage(tensor=volume, affine=affine), label=int(label))
        for volume, label in zip(volumes, labels, strict=True)
    ]
