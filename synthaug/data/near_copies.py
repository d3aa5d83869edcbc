"""Images that are nearly one image, under two patients' names: shifted, flipped, rescaled, re-quantised.

The detail of a volume is a difference of Gaussians on a grid of at most ``GRID`` voxels per side. It is compared with
its nearest neighbours in the amplitude spectrum, which does not depend on shifts and flips. The likeness is the highest
normalised cross-correlation over flips and over shifts by up to a quarter of a side.
"""

import itertools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray
from scipy import fft, ndimage

from synthaug.data.splits import Split

GRID = 32
"""Voxels a side at most after pooling."""
FINE, BROAD = 0.8, 2.5
"""Standard deviations (pooled voxels) of the Gaussians whose difference is the detail."""
LIMIT = 0.87
"""Correlation from which two images count as nearly one: copies reach 0.90, images of two people or sides 0.83."""
NEIGHBOURS = 4
"""Nearest volumes by spectrum that are compared with each volume."""
MOST_PAIRS = 4000
"""Pairs that are compared at most, the nearest first: about a minute."""
REACH = 0.25
"""Share of a side by which one image may lie shifted against the other."""
LEAST_SIDE = 12
"""Smaller volumes (pooled voxels a side) hold too little detail to tell people apart."""
LEAST_REPORT = 300
"""Characters; shorter reports are often alike without being one."""
FLIPS = tuple(itertools.product((slice(None), slice(None, None, -1)), repeat=3))

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a volume.

    Attributes:
        detail: Difference of Gaussians (X, Y, Z) of unit variance inside ``box``, 0 outside; half precision.
        box: The smallest that holds all content; around it is padding.
        spectrum: Log magnitudes of the detail's Fourier transform, the same for every flip, nearly for every shift.
    """

    detail: NDArray[np.float16]
    box: tuple[slice, ...]
    spectrum: Floats

    def layers(self) -> tuple[Floats, Floats, Floats]:
        """The detail, its square, and 1 inside the box, 0 outside."""
        detail, field = self.detail.astype(np.float32), np.zeros(self.detail.shape, np.float32)
        field[self.box] = 1
        return detail, detail**2, field


class NearCopy(NamedTuple):
    """Two images of two patients that are nearly one."""

    image: str
    one: tio.Subject
    other: tio.Subject
    likeness: float


@dataclass(frozen=True)
class Alike:
    """Two patients with nearly one image or report, and the parts of the split in which they stand."""

    image: str
    """Its name; "" = the report."""
    subject_id: str
    part: str
    nearest_subject: str
    nearest_part: str
    likeness: float
    """Correlation of the images; 1 of reports, which are the same."""


def fingerprint(volume: torch.Tensor, *, least_side: int = LEAST_SIDE) -> Fingerprint | None:
    """Fingerprint of a preprocessed volume (1, X, Y, Z); None where it is too small or empty to be told from others."""
    pooled = _pool(volume[0].float().numpy())
    if min(pooled.shape) < least_side or not pooled.any():
        return None
    field = np.zeros_like(pooled)
    box = ndimage.find_objects((pooled > 0).astype(np.int8))[0]
    field[box] = 1
    fine, broad = (_blur(pooled, field, sigma) for sigma in (FINE, BROAD))
    detail = (fine - broad) * field
    spread = float(np.sqrt((detail**2).sum() / field.sum()))
    if spread < 1e-6:
        return None
    detail = (detail / spread).astype(np.float32)
    return Fingerprint(detail.astype(np.float16), box, _spectrum(detail))


def likeness(one: Fingerprint, other: Fingerprint, *, flips: Sequence[tuple[slice, ...]] = FLIPS) -> float:
    """Highest correlation of two details of one shape over flips and shifts, each on what both fields have in common.

    Args:
        one: A fingerprint.
        other: That which is flipped and shifted.
        flips: Which flips are tried; all eight unless told.

    Example:
        >>> volume = torch.rand(1, 20, 20, 16, generator=torch.Generator().manual_seed(0))
        >>> pair = [fingerprint(each) for each in (volume, volume.flip(1).roll(2, 2))]
        >>> likeness(*pair) > LIMIT
        True
    """
    shape = [fft.next_fast_len(side + int(side * REACH), real=True) for side in one.detail.shape]
    steps = [int(side * REACH) for side in one.detail.shape]
    shifts = np.ix_(*(np.r_[: step + 1, side - step : side] for step, side in zip(steps, shape, strict=True)))

    layers, others = one.layers(), other.layers()
    still = [fft.rfftn(values, shape) for values in layers]
    least = 0.4 * min(layers[2].sum(), others[2].sum())
    best = -1.0
    for flip in flips:
        moved = [np.conj(fft.rfftn(values[flip], shape)) for values in others]
        pairs = ((0, 0), (1, 2), (2, 1), (2, 2))
        product, mine, theirs, common = (fft.irfftn(still[a] * moved[b], shape)[shifts] for a, b in pairs)
        found = product / np.sqrt(np.maximum(mine, 1) * np.maximum(theirs, 1))
        best = max(best, float(np.where(common > least, found, -1).max()))
    return best


def find_near_copies(subjects: Sequence[tio.Subject], images: Sequence[str]) -> list[NearCopy]:
    """Pairs of images of two patients whose likeness is at least ``LIMIT``.

    Args:
        subjects: Preprocessed subjects of one shape.
        images: Names of the images to compare, each with its own kind.
    """
    found = []
    for name in images:
        prints = [(subject, fingerprint(subject[name].data)) for subject in subjects]
        kept = [(subject, each) for subject, each in prints if each is not None]
        for one, other in _candidates(kept):
            score = likeness(kept[one][1], kept[other][1])
            if score >= LIMIT:
                found.append(NearCopy(name, kept[one][0], kept[other][0], score))
    return found


def tell_near_copies(split: Split, images: Sequence[str]) -> list[Alike]:
    """Log two patients whose images are nearly one, in one line, and those with one report on two sides, in another.

    Both are reported and not refused. They are likely one person under two names or one edited file, which only the
    owner of the originals can tell.

    Args:
        split: Preprocessed subjects.
        images: Names of the images to compare.

    Returns:
        The pairs, those in different parts of the split first.
    """
    logger = logging.getLogger(__name__)
    part_of = {id(subject): part for part, subjects in split.parts() for subject in subjects}
    found = find_near_copies([subject for _, subjects in split.parts() for subject in subjects], images)
    # Those that leak first.
    found.sort(key=lambda copy: (part_of[id(copy.one)] == part_of[id(copy.other)], -copy.likeness))
    if found:
        first = found[0]
        one, other = (f"{each['subject_id']!r} ({part_of[id(each)]})" for each in (first.one, first.other))
        more = _and_more(found)
        logger.warning(
            f"Subjects {one} and {other}{more} have nearly the same image {first.image!r}, correlation "
            f"{first.likeness:.2f}, but are two patients; give both one patient, or take one out."
        )
    shared = shared_reports(split)
    if shared:
        (one, part), (other, elsewhere) = shared[0]
        more = _and_more(shared)
        logger.warning(
            f"Subjects {one!r} ({part}) and {other!r} ({elsewhere}){more} have the same report but are two patients; "
            "give both one patient if they are one."
        )
    pairs = [
        Alike(
            copy.image,
            copy.one["subject_id"],
            part_of[id(copy.one)],
            copy.other["subject_id"],
            part_of[id(copy.other)],
            round(copy.likeness, 3),
        )
        for copy in found
    ]
    return pairs + [Alike("", *one, *other, 1.0) for one, other in shared]


def shared_reports(split: Split) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of (subject, part) of two patients in two parts with one report of at least ``LEAST_REPORT`` characters.

    Blanks, punctuation and case do not count.
    """
    first: dict[str, tuple[str, str, str]] = {}
    shared = []
    for part, subjects in split.parts():
        for subject in subjects:
            words = re.sub(r"\W+", " ", str(subject.get("report", "")).casefold()).strip()
            if len(words) < LEAST_REPORT:
                continue
            name, patient, where = first.setdefault(words, (subject["subject_id"], subject["patient_id"], part))
            if patient != subject["patient_id"] and where != part:
                shared.append(((name, where), (subject["subject_id"], part)))
    return shared


def _candidates(prints: Sequence[tuple[tio.Subject, Fingerprint]]) -> list[tuple[int, int]]:
    """Each volume with its nearest of other patients, by spectra standardised over all volumes."""
    if len(prints) < 2:
        return []
    spectra = np.stack([each.spectrum for _, each in prints])
    spectra = (spectra - spectra.mean(axis=0)) / (spectra.std(axis=0) + 1e-6)
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True) + 1e-6
    names = np.array([subject["patient_id"] for subject, _ in prints])
    nearness: dict[tuple[int, int], float] = {}
    for a, row in enumerate(spectra):
        near = np.where(names == names[a], -np.inf, spectra @ row)
        for b in np.argsort(-near)[:NEIGHBOURS].tolist():
            if np.isfinite(near[b]):
                nearness[min(a, b), max(a, b)] = float(near[b])
    return sorted(nearness, key=lambda pair: -nearness[pair])[:MOST_PAIRS]


def _pool(values: Floats) -> Floats:
    factors = [max(1, -(-side // GRID)) for side in values.shape]
    sides = [side // factor for side, factor in zip(values.shape, factors, strict=True)]
    whole = values[tuple(slice(side * factor) for side, factor in zip(sides, factors, strict=True))]
    split = [length for pair in zip(sides, factors, strict=True) for length in pair]
    return whole.reshape(split).mean(axis=(1, 3, 5))


def _blur(values: Floats, field: Floats, sigma: float) -> Floats:
    """Gaussian mean of what lies inside the field."""
    inside, weight = (ndimage.gaussian_filter(each, sigma, mode="constant") for each in (values * field, field))
    return inside / (weight + 1e-3)


def _spectrum(detail: Floats) -> Floats:
    """Low frequencies' magnitudes, those that flips exchange in order of size."""
    windows = [np.hanning(side + 2)[1:-1] for side in detail.shape]
    power = np.abs(fft.fftn(detail * windows[0][:, None, None] * windows[1][:, None] * windows[2]))
    power = ndimage.gaussian_filter(power, 0.7, mode="wrap")
    power = np.log(power + 1e-2 * power.max())
    low = [np.arange(min(side // 2, 8)) for side in detail.shape]
    signs = ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1))
    octants = [power[np.ix_(*(sign * each for sign, each in zip(s, low, strict=True)))] for s in signs]
    return np.sort(np.stack(octants), axis=0).ravel().astype(np.float32)


def _and_more(pairs: Sequence[object]) -> str:
    """How many pairs there are beside the first."""
    others = len(pairs) - 1
    return f" (and {others} more {'pair' if others == 1 else 'pairs'})" if others else ""
