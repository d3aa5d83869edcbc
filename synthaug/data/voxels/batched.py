"""Random augmentation of a whole batch as one tensor: torchio's distributions without torchio's work a subject."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product

import numpy as np
import torch
import torchio as tio
from scipy import ndimage
from torch.nn import functional

from synthaug.ground.errors import InputError

Triple = tuple[float, float, float]
Change = Callable[[torch.Tensor, list[int]], torch.Tensor]
"""Chosen volumes (b, C, X, Y, Z) and their places in the batch to the changed volumes."""
BIAS_ORDER = 3
"""Order of the bias field's polynomial, as torchio's default."""


@dataclass(frozen=True)
class Moves:
    """What was drawn for one subject; the twin of torchio's deterministic transforms. Neutral by default."""

    flipped: bool = False
    """Left and right change places."""
    degrees: float = 0.0
    """Rotation about the superior-inferior axis."""
    translation_mm: Triple = (0.0, 0.0, 0.0)
    """RAS axes."""
    scale: float = 1.0
    """Above 1 the content grows."""
    bias: tuple[tuple[float, ...], ...] = ()
    """Polynomial coefficients of the bias field, for each image; () = none."""
    blur_mm: tuple[Triple, ...] = ()
    """Standard deviations of a Gaussian filter, for each image; () = none."""
    noise: tuple[float, ...] = ()
    """Standard deviation of white noise, for each image; () = none."""
    noise_seed: int = 0
    """Names the noise."""
    log_gamma: tuple[float, ...] = ()
    """Logarithm of the exponent, for each image; () = none."""

    @property
    def affine(self) -> bool:
        """Whether the volume is resampled."""
        return self.degrees != 0 or self.scale != 1 or any(self.translation_mm)


@dataclass(frozen=True)
class BatchedAugmentation:
    """Flip, affine, bias field, blur, noise and gamma of all volumes of a batch at once, on their device.

    Every kind is drawn for every subject with ``probability``; a range of 0 leaves it out. Parameters have the
    distributions of torchio's ``RandomFlip``, ``RandomAffine``, ``RandomBiasField``, ``RandomBlur``, ``RandomNoise``
    and ``RandomGamma``. All images of a subject share flip and affine; intensities are drawn per image. The defaults
    are the published classical augmentation, without intensities.

    Example:
        >>> augment = BatchedAugmentation(["t2w"], spacing_mm=(1, 1, 1), noise=0.1)
        >>> augment.apply(torch.rand(4, 1, 8, 8, 8), [augment.draw(seed, shape=(8, 8, 8)) for seed in range(4)]).shape
        torch.Size([4, 1, 8, 8, 8])
    """

    images: Sequence[str]
    """Images that are augmented, as the channels of one tensor."""
    spacing_mm: Triple
    """Voxel size."""
    flip: bool = True
    """Left-right mirroring."""
    rotate_degrees: float = 15.0
    """Largest rotation about the superior-inferior axis."""
    translate: float = 0.1
    """Largest translation along each axis, as a share of the field of view."""
    zoom: float = 0.1
    """Largest change of scale, 0.9 to 1.1."""
    bias: float = 0.0
    """Largest coefficient of the bias field; torchio's default is 0.5."""
    blur_mm: float = 0.0
    """Largest standard deviation of the Gaussian filter; torchio's default is 2."""
    noise: float = 0.0
    """Largest standard deviation of the noise; torchio's default is 0.25."""
    log_gamma: float = 0.0
    """Largest logarithm of the exponent; torchio's default is 0.3."""
    probability: float = 0.5
    """Chance of each kind, drawn one by one."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float | int) and value < 0:
                raise InputError(f"{field.name}={value} must not be negative.")
        if not 0 <= self.zoom < 1 or self.probability > 1 or not self.images:
            raise InputError(
                f"images={list(self.images)} must name one, zoom={self.zoom} must lie in [0, 1) and "
                f"probability={self.probability} in [0, 1]."
            )

    def __call__(self, subjects: Sequence[tio.Subject], seeds: Sequence[int]) -> list[tio.Subject]:
        """Replace the images of subjects, which are the caller's own copies; one seed a subject names its draws."""
        volumes = torch.stack([torch.cat([subject[name].data for name in self.images]) for subject in subjects])
        moves = [self.draw(seed, shape=tuple(volumes.shape[2:])) for seed in seeds]
        for subject, volume in zip(subjects, self.apply(volumes.float(), moves), strict=True):
            for name, channel in zip(self.images, volume, strict=True):
                subject[name].set_data(channel[None])
        return [*subjects]

    def draw(self, seed: int, *, shape: tuple[int, ...]) -> Moves:
        """Draw for one subject of (X, Y, Z) voxels; a pure function of the seed."""
        generator = torch.Generator().manual_seed(seed)
        used = (torch.rand(8, generator=generator) < self.probability).tolist()

        def uniform(count: int, reach: float, low: float | None = None) -> list[float]:
            low = -reach if low is None else low
            return (low + (reach - low) * torch.rand(count, generator=generator, dtype=torch.float64)).tolist()

        number = len(self.images)
        flipped = self.flip and used[0]
        (degrees,), (scale,) = uniform(1, self.rotate_degrees), uniform(1, self.zoom)
        shares = uniform(3, self.translate)
        sides = [side * step for side, step in zip(shape, self.spacing_mm, strict=True)]
        terms = len(_bias_powers())
        bias, blur = uniform(number * terms, self.bias), uniform(number * 3, self.blur_mm, 0.0)
        noise, log_gamma = uniform(number, self.noise, 0.0), uniform(number, self.log_gamma)
        return Moves(
            flipped=flipped,
            degrees=degrees if used[1] else 0.0,
            translation_mm=tuple(s * side for s, side in zip(shares, sides, strict=True)) if used[2] else (0.0,) * 3,  # type: ignore[arg-type]
            scale=1 + scale if used[3] else 1.0,
            bias=_rows(bias, terms) if self.bias and used[4] else (),
            blur_mm=_rows(blur, 3) if self.blur_mm and used[5] else (),  # type: ignore[arg-type]
            noise=tuple(noise) if self.noise and used[6] else (),
            noise_seed=int(torch.randint(2**62, (1,), generator=generator)),
            log_gamma=tuple(log_gamma) if self.log_gamma and used[7] else (),
        )

    def apply(self, volumes: torch.Tensor, moves: Sequence[Moves]) -> torch.Tensor:
        """Do to each volume of (B, C, X, Y, Z) what was drawn for it: flip, affine, bias, blur, noise, gamma."""
        volumes = volumes.clone()
        _on(volumes, [move.flipped for move in moves], lambda part, _: part.flip(2))
        _on(volumes, [move.affine for move in moves], lambda part, rows: self._affine(part, [moves[r] for r in rows]))
        _on(volumes, [bool(m.bias) for m in moves], lambda part, rows: _biased(part, [moves[r].bias for r in rows]))
        _on(volumes, [bool(m.blur_mm) for m in moves], lambda part, rows: self._blur(part, [moves[r] for r in rows]))
        _on(volumes, [bool(m.noise) for m in moves], lambda part, rows: _noisy(part, [moves[r] for r in rows]))
        _on(volumes, [bool(m.log_gamma) for m in moves], lambda part, rows: _gamma(part, [moves[r] for r in rows]))
        return volumes

    def _affine(self, volumes: torch.Tensor, moves: Sequence[Moves]) -> torch.Tensor:
        """One trilinear interpolation; what comes from outside is each volume's minimum, as in torchio.

        No move mixes Z with the other axes. So the weights are products of those along Z, a small matrix, and of those
        within the planes, which share a grid; ``grid_sample`` in three dimensions takes several times as long.
        """
        batch, channels, *sides, depth = volumes.shape
        theta = torch.as_tensor(
            np.stack([_output_to_input(move, np.array([*sides, depth]) * self.spacing_mm / 2) for move in moves]),
            dtype=volumes.dtype,
            device=volumes.device,
        )
        along = theta[:, :1, 0] * _centres(depth).to(theta) + theta[:, :1, 3]
        planes = _linear_weights(along).unsqueeze(1) @ volumes.flatten(2, 3).mT
        grid = functional.affine_grid(theta[:, 1:, 1:].contiguous(), [batch, 1, *sides], align_corners=False)
        moved = functional.grid_sample(
            planes.reshape(batch, channels * depth, *sides), grid, padding_mode="border", align_corners=False
        )
        inside = (grid.abs() <= 1).all(dim=-1)[:, None, :, :, None] & (along.abs() <= 1)[:, None, None, None]
        moved = moved.reshape(batch, channels, depth, *sides).movedim(2, -1)
        return torch.where(inside, moved, volumes.amin(dim=(2, 3, 4), keepdim=True))

    def _blur(self, volumes: torch.Tensor, moves: Sequence[Moves]) -> torch.Tensor:
        """A Gaussian filter is separable: one small matrix along each axis, its own for each volume and channel."""
        for axis, (side, step) in enumerate(zip(volumes.shape[2:], self.spacing_mm, strict=True)):
            kernels = np.stack([[_blur_matrix(side, std[axis] / step) for std in move.blur_mm] for move in moves])
            matrices = torch.as_tensor(kernels, dtype=volumes.dtype, device=volumes.device).unsqueeze(2)
            volumes = volumes.movedim(2 + axis, -1).matmul(matrices.mT).movedim(-1, 2 + axis)
        return volumes


def _on(volumes: torch.Tensor, chosen: Sequence[bool], change: Change) -> None:
    """Change in place the volumes that are chosen, as one tensor."""
    rows = [row for row, yes in enumerate(chosen) if yes]
    if rows:
        volumes[rows] = change(volumes[rows], rows)


def _rows(values: Sequence[float], length: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(values[start : start + length]) for start in range(0, len(values), length))


def _output_to_input(move: Moves, half_sides_mm: np.ndarray) -> np.ndarray:
    """(3, 4) for ``affine_grid``, which counts axes from the last and each from -1 to 1.

    torchio's order: rotated, translated, then scaled, about the centre; so the way back is unscaled first.
    """
    angle = math.radians(move.degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    matrix = turn.T / move.scale
    offset = -turn.T @ np.array(move.translation_mm)
    scaled = np.concatenate([matrix * half_sides_mm, offset[:, None]], axis=1) / half_sides_mm[:, None]
    return scaled[::-1][:, [2, 1, 0, 3]]


def _centres(side: int) -> torch.Tensor:
    """(side,): the centres of voxels along an axis from -1 to 1."""
    return (2 * torch.arange(side) + 1) / side - 1


def _linear_weights(places: torch.Tensor) -> torch.Tensor:
    """(B, side, side): what each of the voxels along an axis adds at each of the places (B, side), from -1 to 1."""
    side = places.shape[1]
    voxels = ((places + 1) * side - 1) / 2
    apart = voxels.clamp(0, side - 1).unsqueeze(2) - torch.arange(side, device=places.device)
    return (1 - apart.abs()).clamp_min(0)


@lru_cache(maxsize=1)
def _bias_powers() -> tuple[tuple[int, int, int], ...]:
    """Powers of x, y and z, in torchio's order."""
    orders = product(range(BIAS_ORDER + 1), repeat=3)
    return tuple((x, y, z) for x, y, z in orders if x + y + z <= BIAS_ORDER)


@lru_cache(maxsize=8)
def _bias_basis(shape: tuple[int, ...]) -> torch.Tensor:
    """(terms, X * Y * Z): the polynomials on a volume whose outermost voxel centres are at -1 and 1."""
    axes = [(np.arange(side) - (side - 1) / 2) / max((side - 1) / 2, 0.5) for side in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return torch.from_numpy(np.stack([(x**i * y**j * z**k).ravel() for i, j, k in _bias_powers()]).astype(np.float32))


def _biased(volumes: torch.Tensor, coefficients: Sequence[tuple[tuple[float, ...], ...]]) -> torch.Tensor:
    basis = _bias_basis(tuple(volumes.shape[2:])).to(volumes)
    fields = torch.tensor(coefficients, dtype=volumes.dtype, device=volumes.device).flatten(0, 1)
    # One by one: the sums of a product of matrices are rounded as the number of rows has it.
    exponent = torch.stack([field @ basis for field in fields])
    return volumes * exponent.exp().reshape(volumes.shape)


def _noisy(volumes: torch.Tensor, moves: Sequence[Moves]) -> torch.Tensor:
    """Noise is drawn on the CPU for each volume by itself, so that neither batch nor device changes it."""
    shape = volumes.shape[1:]
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(move.noise_seed)) for move in moves]
    stds = torch.tensor([move.noise for move in moves])[:, :, None, None, None]
    return volumes + (torch.stack(noise) * stds).to(volumes)


def _gamma(volumes: torch.Tensor, moves: Sequence[Moves]) -> torch.Tensor:
    exponents = torch.tensor([move.log_gamma for move in moves]).exp().to(volumes)[:, :, None, None, None]
    return volumes.sign() * volumes.abs() ** exponents


def _blur_matrix(side: int, std_voxels: float) -> np.ndarray:
    """(side, side): an axis to the axis under a Gaussian filter, mirrored at its ends as SciPy does."""
    return ndimage.gaussian_filter1d(np.eye(side), std_voxels, axis=0)
