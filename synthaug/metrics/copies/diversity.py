"""How unlike the volumes of one set are: multi-scale structural similarity of pairs (Wang et al. 2003), by MONAI."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim
from scipy import stats

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.volumes import Volumes
from synthaug.statistics.intervals import checked_confidence

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Published weights of the scales, finest first."""
KERNELS = (11, 9, 7, 5)
"""Published width of the window, and narrower ones for small volumes."""


@dataclass(frozen=True)
class Similarity:
    """Mean MS-SSIM of pairs of volumes: 1 = all alike; lower = more diverse."""

    value: float
    ci_low: float
    """Lower end of the interval: pairs share no volume, so they count as independent."""
    ci_high: float
    """Upper end of the interval."""
    pairs: int
    """Pairs behind the mean."""
    settings: str
    """Scales and window, which follow from the volumes' shape; only equal settings can be compared."""


def ms_ssim(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Similarity of each volume of one batch to its partner in the other.

    Args:
        a: (B, C, X, Y, Z) in [0, 1].
        b: Likewise.

    Returns:
        (B,), 1 for equal volumes.

    Raises:
        InputError: Unlike shapes, or sides too short for the narrowest window.

    Example:
        >>> volume = torch.rand(1, 1, 16, 16, 8, generator=torch.Generator().manual_seed(0))
        >>> ms_ssim(volume, volume).round(6).tolist(), bool(ms_ssim(volume, volume.flip(2))[0] < 0.9)
        ([1.0], True)
    """
    if a.shape != b.shape:
        raise InputError(f"Volumes of {tuple(a.shape)} and {tuple(b.shape)} cannot be paired.")
    scales, kernel = fitting_scales(a.shape[2:])
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    similar = compute_ms_ssim(a.float(), b.float(), spatial_dims=3, kernel_size=kernel, weights=weights.tolist())
    return similar.flatten(1).mean(1).double().numpy()


def fitting_scales(sides: Sequence[int]) -> tuple[int, int]:
    """As many scales, then as wide a window, as volumes of such sides allow: (scales, window).

    Example:
        >>> fitting_scales((256, 256, 192)), fitting_scales((32, 32, 16))
        ((5, 11), (2, 7))
    """
    for scales in range(len(WEIGHTS), 0, -1):
        for kernel in KERNELS:
            # The window must fit the coarsest scale; the other bound is MONAI's own check.
            if min(sides) // max(2 ** (scales - 1), (scales - 1) ** 2) >= kernel:
                return scales, kernel
    raise InputError(f"Volumes of {tuple(sides)} voxels: MS-SSIM needs sides of at least {KERNELS[-1]}.")


def checked_pairs(pairs: int) -> int:
    """So many pairs, if these are enough for an interval; else InputError."""
    if pairs < 2:
        raise InputError(f"{pairs} pairs of volumes are too few for a similarity with an interval.")
    return pairs


def pair_similarity(
    volumes: Volumes,
    others: Volumes | None = None,
    *,
    pairs: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
    batch_size: int = 8,
) -> Similarity:
    """Mean similarity of random pairs that share no volume, within one set or between two.

    Args:
        volumes: (C, X, Y, Z) in [0, 1], read as they are needed.
        others: A second set, for pairs across; None = pairs within the first.
        pairs: At most so many.
        seed: Names the pairs.
        confidence: Coverage of the interval, in (0, 1).
        batch_size: Pairs that are held at a time.

    Raises:
        InputError: Fewer than two pairs, unlike shapes, volumes too small, or a confidence outside (0, 1).

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> noise = [torch.rand(1, 16, 16, 8, generator=draw) for _ in range(8)]
        >>> result = pair_similarity(noise)
        >>> result.pairs, result.ci_low <= result.value <= result.ci_high < 0.5
        (4, True)
    """
    checked_confidence(confidence)
    checked_pairs(pairs)
    rng = numpy_generator("similar pairs", seed)
    if others is None:
        order = rng.permutation(len(volumes))
        half = len(order) // 2
        left, right, others = order[:half], order[half : 2 * half], volumes
    else:
        left, right = rng.permutation(len(volumes)), rng.permutation(len(others))
    chosen = list(zip(left.tolist(), right.tolist(), strict=False))[:pairs]
    checked_pairs(len(chosen))
    found = []
    for start in range(0, len(chosen), batch_size):
        part = chosen[start : start + batch_size]
        found.append(ms_ssim(torch.stack([volumes[i] for i, _ in part]), torch.stack([others[j] for _, j in part])))
    values = np.concatenate(found)
    half_width = stats.sem(values) * stats.t.ppf((1 + confidence) / 2, len(values) - 1)
    scales, kernel = fitting_scales(volumes[0].shape[1:])
    return Similarity(
        value=float(values.mean()),
        ci_low=max(float(values.mean() - half_width), 0.0),  # few pairs: beyond what can be, which is 0 to 1
        ci_high=min(float(values.mean() + half_width), 1.0),
        pairs=len(values),
        settings=f"{scales} scales, window {kernel}",
    )
