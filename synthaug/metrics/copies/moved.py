"""Is a volume a training volume that was shifted, cut or rescaled? The likest of them over such moves.

A training volume is kept at several zooms. The templates with the nearest amplitude spectrum, which shifts and flips
hardly change, are compared by cross-correlation (:mod:`synthaug.data.near_copies`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from synthaug.data.near_copies import Fingerprint, fingerprint, likeness
from synthaug.data.voxels.geometry import Geometry, apply_geometry

ZOOMS = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)
"""At which a training volume is looked for; between two of them a copy still correlates."""
CANDIDATES = 12
"""Templates with the nearest spectra that are compared with a volume."""
AS_IT_IS = (slice(None),) * 3
MIRRORED = (slice(None, None, -1), slice(None), slice(None))
"""Left-right."""
HIGHEST = 1 - 1e-7
"""A correlation at most, so that Fisher's z of it is finite."""


class Template(NamedTuple):
    """A training volume at one zoom."""

    place: int
    """Of the training volume."""
    print: Fingerprint


def templates_of(volume: torch.Tensor, place: int) -> list[Template]:
    """A training volume (C, X, Y, Z) at every zoom; none where its first channel, which is looked at, is empty."""
    zoomed = (apply_geometry(volume[:1].float(), Geometry(zoom=zoom)) for zoom in ZOOMS)
    return [Template(place, found) for each in zoomed if (found := _print_of(each)) is not None]


class MovedCopies:
    """Finds the training volume that a volume is most like, wherever its content lies and whatever its scale.

    Args:
        templates: Of all training volumes.
        mirror: Whether left-right mirror images are looked for too.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> volumes = [torch.rand(1, 16, 16, 16, generator=draw) for _ in range(4)]
        >>> known = MovedCopies([each for place in range(4) for each in templates_of(volumes[place], place)])
        >>> place, alike = known.nearest(volumes[2].roll(2, dims=1))
        >>> place, alike > 0.7
        (2, True)
    """

    def __init__(self, templates: Sequence[Template], *, mirror: bool = True) -> None:
        self._flips: Sequence[tuple[slice, ...]] = (AS_IT_IS, MIRRORED) if mirror else (AS_IT_IS,)
        self._templates = templates
        spectra = np.stack([each.print.spectrum for each in templates]) if templates else np.zeros((0, 1))
        self._mean, self._spread = spectra.mean(axis=0), spectra.std(axis=0) + 1e-6
        self._spectra = self._unit(spectra)

    def nearest(self, volume: torch.Tensor) -> tuple[int, float]:
        """Place of the likest training volume and their correlation in (-1, 1); (0, 0) for a volume without detail."""
        found = _print_of(volume[:1].float())
        if found is None or not self._templates:
            return 0, 0.0
        order = np.argsort(-(self._spectra @ self._unit(found.spectrum[None])[0]))[:CANDIDATES]
        alike = [(likeness(found, self._templates[row].print, flips=self._flips), row) for row in order.tolist()]
        best, row = max(alike)
        return self._templates[row].place, min(best, HIGHEST)

    def _unit(self, spectra: np.ndarray) -> np.ndarray:
        """Spectra, standardised over the templates, as rows of length 1."""
        rows = (spectra - self._mean) / self._spread
        return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)


def _print_of(volume: torch.Tensor) -> Fingerprint | None:
    # A limit is read off held-out volumes, so that small ones, which tell little, need no limit of their own.
    return fingerprint(volume, least_side=1)
