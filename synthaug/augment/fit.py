"""Whether synthetic volumes are like the real ones that they stand beside: grid, names, intensities, preprocessing.

Networks tell a wrong orientation or another intensity scale from the anatomy at a glance, and learn that.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import torch
import torchio as tio
from nibabel.affines import voxel_sizes

from synthaug.ground.errors import InputError

SPACING_TOLERANCE = 0.01
"""Relative; headers keep float32."""
UNIT_MARGIN = 0.05
"""How far real intensities may lie outside the [0, 1] of synthetic volumes, as interpolation overshoots."""
SPAN_RATIO = 3
"""Ratio of intensity spans above which a loader's transform has not brought two volumes onto one scale."""


@dataclass(frozen=True)
class Look:
    """What must be alike in a real and a synthetic image.

    Example:
        >>> one, other = (Look((2, 2, 2), np.diag([spacing, 1, 1, 1])) for spacing in (1, 2))
        >>> one.unlike(other)
        'spacing_mm (1, 1, 1) and (2, 1, 1)'
    """

    shape: tuple[int, ...]
    """Voxels."""
    affine: np.ndarray | None = None
    """(4, 4); None = not known."""
    channels: int = 1
    """Of the image."""

    @classmethod
    def at(cls, shape: Sequence[int], affine: np.ndarray) -> "Look":
        """Of (C, X, Y, Z), with the identity, which libraries give to what they know no affine of, as not known."""
        channels, *voxels = shape
        return cls(tuple(voxels), None if np.array_equal(affine, np.eye(4)) else np.asarray(affine), channels)

    @classmethod
    def of(cls, image: tio.Image) -> "Look":
        """Of a torchio image; its header is read, its voxels are not."""
        return cls.at(image.shape, image.affine)

    def unlike(self, other: "Look") -> str:
        """The first thing that differs, with both values; "" = nothing."""
        if self.affine is not None and other.affine is not None:
            turned, other_turned = ("".join(nibabel.aff2axcodes(affine)) for affine in (self.affine, other.affine))
            if turned != other_turned:
                return f"orientation {turned} and {other_turned}"
            sides, other_sides = (voxel_sizes(affine) for affine in (self.affine, other.affine))
            if not np.allclose(sides, other_sides, rtol=SPACING_TOLERANCE):
                return f"spacing_mm {_plain(sides)} and {_plain(other_sides)}"
        if self.shape != other.shape:
            return f"shape {self.shape} and {other.shape}"
        if self.channels != other.channels:
            return f"channels {self.channels} and {other.channels}"
        return ""


def require_alike(real: Look, synthetic: Look, *, name: str, source: str) -> None:
    """InputError that names what differs between a real and a synthetic image."""
    difference = real.unlike(synthetic)
    if difference:
        raise InputError(
            f"{source}: real and synthetic {name!r} do not fit together: {difference}; preprocess the real subjects as "
            "the pool's were, before they meet."
        )


def require_one_scale(real: torch.Tensor, *, name: str, source: str) -> None:
    """InputError if a real image's intensities lie outside [0, 1], where synthetic ones are."""
    low, high = float(real.min()), float(real.max())
    if low < -UNIT_MARGIN or high > 1 + UNIT_MARGIN:
        raise InputError(
            f"{source}: real {name!r} has intensities from {low:.4g} to {high:.4g}, synthetic ones lie in [0, 1]; "
            "preprocess the real subjects as the pool's were, before they meet."
        )


def require_names(real: Iterable[str], synthetic: Iterable[str], *, source: str) -> None:
    """InputError unless a real and a synthetic subject have images of the same names."""
    names, others = sorted(real), sorted(synthetic)
    if names != others:
        raise InputError(f"{source}: real subjects have the images {names}, synthetic ones {others}; name them alike.")


def require_mixture(real: tio.Subject, synthetic: tio.Subject, *, before: tio.Subject, source: str) -> None:
    """InputError unless two subjects as a batch holds them fit together.

    Args:
        real: After the loader's transform.
        synthetic: Likewise.
        before: The real subject before the transform.
        source: Where the synthetic one comes from.
    """
    names = real.get_images_dict(intensity_only=False)
    require_names(names, synthetic.get_images_dict(intensity_only=False), source=source)
    for name in sorted(names):
        require_alike(Look.of(real[name]), Look.of(synthetic[name]), name=name, source=source)
        if not isinstance(real[name], tio.ScalarImage):
            continue
        spans = [float(subject[name].data.max() - subject[name].data.min()) for subject in (real, synthetic)]
        # A transform can bring other scales together; then they are judged by what it made of them.
        if real is before or max(spans) > SPAN_RATIO * min(spans):
            require_one_scale(before[name].data, name=name, source=source)


def require_replaceable(subject: tio.Subject, names: Sequence[str], synthetic: tio.Subject, *, source: str) -> None:
    """InputError unless these images of a synthetic subject can take the place of the real ones.

    Intensities of images that are not read yet are not looked at: reading would cost more than replacing.
    """
    for name in names:
        require_alike(Look.of(subject[name]), Look.of(synthetic[name]), name=name, source=source)
        if isinstance(subject[name], tio.ScalarImage) and subject[name]._loaded:
            require_one_scale(subject[name].data, name=name, source=source)


def require_preprocessing(born: Mapping[str, Any] | None, subjects: Sequence[Any], *, source: str) -> None:
    """InputError if :func:`synthaug.data.preprocess.preprocess` made the subjects otherwise than the pool was born."""
    middle = {"centre": "volume"}  # which is not recorded
    for subject in subjects if born else ():
        known = getattr(subject, "preprocessing", None)
        found = middle | dict(known or {})
        for key, value in (middle | dict(born or {})).items():
            if known is not None and _as_read(found.get(key)) != _as_read(value):
                raise InputError(
                    f"{source}: the pool was born with preprocessing {key} {value}, subject {subject['subject_id']} "
                    f"with {found.get(key)}; use one preprocessing for both."
                )


def label_like(real: Any, label: int) -> Any:
    """A class in the type of a real subject's label, so that both kinds collate.

    Example:
        >>> label_like(0.0, 1), label_like("0", 1), label_like(torch.tensor(0), 1)
        (1.0, '1', tensor(1))
    """
    if isinstance(real, torch.Tensor | np.ndarray) and math.prod(real.shape) == 1:
        return torch.full_like(real, label) if isinstance(real, torch.Tensor) else np.full_like(real, label)
    if isinstance(real, str | int | float | np.generic):
        return type(real)(label)
    if real is None:
        return label
    raise InputError(f"label is {real!r}; a class is one integer from 0.")


def voxels_like(real: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    """Voxels on the device of a real image and, where it holds fractions as they do, in its dtype."""
    return voxels.to(device=real.device, dtype=real.dtype if real.is_floating_point() else None)


def _plain(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{number:g}' for number in numbers)})"


def _as_read(value: Any) -> Any:
    """Tuples as JSON reads them."""
    if isinstance(value, Mapping):
        return {key: _as_read(each) for key, each in value.items()}
    return [_as_read(each) for each in value] if isinstance(value, list | tuple) else value
