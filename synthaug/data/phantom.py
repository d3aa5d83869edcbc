"""Seeded T2-like prostates: anatomy drawn in millimetres, so that any shape and spacing shows the same patient.

Axes and frame are those of :mod:`synthaug.data.anatomy`; the tissues are painted back to front in the frame.
"""

import re
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
import torchio as tio
from scipy.ndimage import map_coordinates

from synthaug.config.data import ReportStyle
from synthaug.data.anatomy import LEVELS, Array, Geometry, Points, Triple, draw_size, gland_parts, pelvis_parts, place
from synthaug.data.reports.writers import Level, ProstateFindings, Side, Zone, write_prostate_report
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed, numpy_generator

CONTRAST = {3: 0.85, 4: 0.95, 5: 1.0}
"""Share of the way from the tissue's signal to a lesion's, by PI-RADS category, at difficulty 0."""

Acquisition = Literal["noisy", "noise-free", "ideal"]
"""What the scanner adds: gain, bias field and noise; gain and bias field, the same ones, alone; nothing."""


def draw_findings(label: int, *, seed: int, difficulty: float = 0.5) -> ProstateFindings:
    """Draw what one patient's MRI shows.

    Args:
        label: 1 = PI-RADS 3 to 5 with a lesion; 0 = PI-RADS 1, or 2 with a benign finding.
        seed: Names the patient.
        difficulty: 0 to 1; harder means fewer and smaller PI-RADS 5 and more benign findings.

    Returns:
        Findings with PSA and gland volume; from PI-RADS 2 on with a place, from 3 on with a size and perhaps an ISUP.

    Raises:
        InputError: ``label`` is not 0 or 1, or ``difficulty`` lies outside [0, 1].

    Example:
        >>> draw_findings(1, seed=0).label
        1
    """
    _check_difficulty(difficulty)
    if label not in (0, 1):
        raise InputError(f"label={label!r} must be 0 or 1: phantoms have two classes.")
    draw = numpy_generator("findings", seed)
    volume_ml = float(np.clip(42 * np.exp(0.3 * draw.normal()), 22, 80).round())
    # PSA follows the volume and the lesion, loosely: alone it must not give the label away.
    psa = float(0.12 * volume_ml * np.exp(0.4 * draw.normal()) + label * np.exp(0.5 + 0.7 * draw.normal()))
    zone: Zone = "peripheral" if draw.random() < 0.7 else "transition"
    side: Side = "left" if draw.random() < 0.5 else "right"
    level: Level = list(LEVELS)[int(draw.integers(3))]
    chance, biopsied, grade = draw.random(), draw.random() < 0.5, int(draw.integers(3))
    if label == 0 and chance > 0.2 + 0.4 * difficulty:
        return ProstateFindings(1, psa=round(psa, 1), gland_volume_ml=volume_ml)
    place = ProstateFindings(2, zone, side, level, psa=round(psa, 1), gland_volume_ml=volume_ml)
    if label == 0:
        return place
    pirads = 5 if chance < 0.85 - 0.35 * difficulty else 4 if chance < 1.0 - 0.25 * difficulty else 3
    size_mm = round(draw_size(pirads, difficulty=difficulty, draw=draw), 0)
    return replace(place, pirads=pirads, size_mm=size_mm, isup=grade + pirads - 3 if biopsied else None)


def gland_mask(
    findings: ProstateFindings, *, shape: tuple[int, int, int], spacing_mm: Triple, seed: int
) -> torch.Tensor:
    """The whole gland as the share of each voxel that it fills, (1, X, Y, Z) in [0, 1].

    Example:
        >>> case = ProstateFindings(1, gland_volume_ml=40)
        >>> mask = gland_mask(case, shape=(32, 32, 16), spacing_mm=(2.5, 2.5, 4), seed=0)
        >>> round(mask.sum().item() * 2.5 * 2.5 * 4 / 1000)
        40
    """
    geometry = place(findings, seed=seed)
    points = geometry.to_frame(*_grid(shape, spacing_mm))
    return torch.from_numpy(_mask(points, (0.0, 0.0, 0.0), geometry.gland, edge_mm=_edge_mm(spacing_mm)))[None]


def render(
    findings: ProstateFindings,
    *,
    shape: tuple[int, int, int] = (32, 32, 16),
    spacing_mm: Triple = (2.5, 2.5, 4.0),
    seed: int,
    difficulty: float = 0.5,
    acquisition: Acquisition = "noisy",
) -> torch.Tensor:
    """Draw the T2-weighted volume of one patient.

    Args:
        findings: What the volume shows; gaps are drawn from the seed.
        shape: Voxels (X, Y, Z), RAS+.
        spacing_mm: Voxel size; the field of view should reach 80 x 80 x 60 mm.
        seed: Names the patient: anatomy, texture, bias field and noise.
        difficulty: 0 (lesions stand out) to 1 (faint lesions, more noise, more patchy tissue).
        acquisition: "noisy" as a scanner gives it; "noise-free" the same volume before its noise, with the same gain
            and bias field; "ideal" the anatomy alone.

    Returns:
        (1, X, Y, Z) float32, not negative, about 0 to 1000.

    Raises:
        InputError: ``difficulty`` lies outside [0, 1], shape or spacing is not positive, or the acquisition is unknown.

    Example:
        >>> render(ProstateFindings(1), shape=(16, 16, 8), spacing_mm=(5, 5, 8), seed=0).shape
        torch.Size([1, 16, 16, 8])
    """
    _check_difficulty(difficulty)
    if min(shape) < 1 or min(spacing_mm) <= 0:
        raise InputError(f"shape={shape} and spacing_mm={spacing_mm} must be positive.")
    if acquisition not in get_args(Acquisition):
        raise InputError(f"acquisition={acquisition!r} must be one of {', '.join(get_args(Acquisition))}.")
    geometry, draw = place(findings, seed=seed), numpy_generator("tissue", seed)
    grid, edge_mm = _grid(shape, spacing_mm), _edge_mm(spacing_mm)
    points = geometry.to_frame(*grid)
    image = np.full(shape, 430.0, np.float32)  # fat
    for part in (*pelvis_parts(geometry.gland, draw), *gland_parts(geometry, draw)):
        image += _mask(points, part.centre, part.semi_axes, edge_mm=edge_mm) * (np.float32(part.signal) - image)
    texture = _texture(points, draw)
    image *= 1 + (0.06 + 0.04 * np.float32(difficulty)) * texture
    _paint_finding(image, points, geometry, edge_mm=edge_mm, difficulty=difficulty, texture=texture)
    if acquisition != "ideal":
        sigma = 12 + 16 * difficulty if acquisition == "noisy" else 0.0
        image = _acquire(image, grid, numpy_generator("scanner", seed), sigma=sigma)
    return torch.from_numpy(np.maximum(image, 0, dtype=np.float32))[None]


def make_subjects(
    n: int,
    positive_fraction: float = 0.5,
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (32, 32, 16),
    spacing_mm: Triple = (2.5, 2.5, 4.0),
    difficulty: float = 0.5,
    style: ReportStyle = "template",
) -> list[tio.Subject]:
    """Make phantom patients under the subject convention, image ``t2w``.

    Args:
        n: Patients, at least 2.
        positive_fraction: Share with label 1, in (0, 1); exactly ``round(n * positive_fraction)`` patients have it.
        seed: Another seed, other patients. Patient k depends on the seed, k and its label only.
        shape: Voxels (X, Y, Z), RAS+.
        spacing_mm: Voxel size.
        difficulty: 0 (lesions stand out) to 1 (faint lesions among benign mimics).
        style: How reports are worded.

    Raises:
        InputError: ``n``, ``positive_fraction`` or ``difficulty`` is out of range.

    Example:
        >>> subjects = make_subjects(4, 0.25, seed=1)
        >>> sum(subject["label"] for subject in subjects), subjects[3]["subject_id"]
        (1, 'phantom-1-0003')
    """
    if n < 2:
        raise InputError(f"n={n} phantom patients is too few: give at least 2.")
    if not 0 < positive_fraction < 1:
        raise InputError(f"positive_fraction={positive_fraction} must lie between 0 and 1: both classes are needed.")
    positives = set(numpy_generator("phantom order", seed).permutation(n)[: round(n * positive_fraction)].tolist())
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [-(side - 1) / 2 * step for side, step in zip(shape, spacing_mm, strict=True)]
    subjects = []
    for k in range(n):
        name, patient = f"phantom-{seed}-{k:04d}", derive_seed("phantom", seed, k)
        findings = draw_findings(int(k in positives), seed=patient, difficulty=difficulty)
        volume = render(findings, shape=shape, spacing_mm=spacing_mm, seed=patient, difficulty=difficulty)
        subjects.append(
            tio.Subject(
                t2w=tio.ScalarImage(tensor=volume, affine=affine),
                label=findings.label,
                subject_id=name,
                patient_id=name,
                report=write_prostate_report(findings, seed=patient, style=style),
                synthetic=False,
                provenance="",
            )
        )
    return subjects


def findings_of(subject_id: str, label: int, *, difficulty: float = 0.5) -> tuple[ProstateFindings, int] | None:
    """What a subject of :func:`make_subjects` shows, and its patient's seed; None = the name is no phantom's.

    Example:
        >>> subject = make_subjects(4, 0.5, seed=1)[2]
        >>> findings, patient = findings_of(subject["subject_id"], subject["label"])
        >>> write_prostate_report(findings, seed=patient) == subject["report"]
        True
    """
    named = re.fullmatch(r"phantom-(\d+)-(\d{4,})", subject_id)
    if named is None or label not in (0, 1):
        return None
    patient = derive_seed("phantom", *(int(number) for number in named.groups()))
    return draw_findings(label, seed=patient, difficulty=difficulty), patient


def _check_difficulty(difficulty: float) -> None:
    if not 0 <= difficulty <= 1:
        raise InputError(f"difficulty={difficulty} must lie in [0, 1].")


def _grid(shape: tuple[int, int, int], spacing_mm: Triple) -> Points:
    """Voxel centres in mm from the centre of the volume, as three broadcastable axes."""
    x, y, z = (((np.arange(n) - (n - 1) / 2) * d).astype(np.float32) for n, d in zip(shape, spacing_mm, strict=True))
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _edge_mm(spacing_mm: Triple) -> float:
    """Width over which a voxel is shared by two tissues."""
    return max(1.0, 0.6 * float(np.mean(spacing_mm)))


def _radius(points: Points, centre: Triple, semi_axes: Triple) -> Array:
    """Distance from an ellipsoid's centre; 1 = its surface."""
    return np.sqrt(sum(((p - c) * np.float32(1 / s)) ** 2 for p, c, s in zip(points, centre, semi_axes, strict=True)))


def _mask(points: Points, centre: Triple, semi_axes: Triple, *, edge_mm: float) -> Array:
    """Share of each voxel inside an ellipsoid: 1, falling to 0 across ``edge_mm``."""
    steepness = np.float32(min(semi_axes) / edge_mm)
    return np.clip(0.5 + steepness * (1 - _radius(points, centre, semi_axes)), 0, 1)


def _texture(points: Points, draw: np.random.Generator) -> Array:
    """A smooth random field of about unit variance: two octaves of a lattice in mm, the same at any resolution."""
    total = np.zeros(points[0].shape, np.float32)
    for step_mm, amplitude in ((5.0, 1.6), (11.0, 1.6)):  # trilinear interpolation keeps 0.3 of a lattice's variance
        lattice = draw.standard_normal((24, 24, 24), dtype=np.float32)
        # The lattice repeats every 24 steps, farther than a prostate is wide.
        where = np.stack([axis / np.float32(step_mm) for axis in points])
        total += np.float32(amplitude / 2**0.5) * map_coordinates(lattice, where, order=1, mode="grid-wrap")
    return total


def _paint_finding(
    image: Array, points: Points, geometry: Geometry, *, edge_mm: float, difficulty: float, texture: Array
) -> None:
    """Darken ``image`` in place: a focal lesion from PI-RADS 3 on, a benign streak or nodule for 2, nothing for 1."""
    findings, centre = geometry.findings, geometry.finding_centre
    assert findings.size_mm is not None
    half = findings.size_mm / 2
    inner = _mask(points, geometry.transition_centre, geometry.transition, edge_mm=edge_mm)
    zone = inner if findings.zone == "transition" else 1 - 0.4 * inner  # findings respect their zone
    if findings.pirads == 2 and findings.zone == "transition":
        rim = _mask(points, centre, (0.9 * half, 0.9 * half, 0.9 * half), edge_mm=edge_mm)
        core = _mask(points, centre, (0.9 * half - 1.2, 0.9 * half - 1.2, 0.9 * half - 1.2), edge_mm=edge_mm)
        image += 0.8 * rim * (200 - image)
        image += core * (np.float32(420 - 80 * difficulty) - image)
    elif findings.pirads == 2:
        streak = _mask(points, centre, (half, 1.8, 0.8 * half), edge_mm=edge_mm)
        image += (0.4 + 0.2 * np.float32(difficulty)) * zone * streak * (300 - image)
    elif findings.pirads >= 3:
        bulge = 1.5 if findings.pirads == 5 else -0.5  # PI-RADS 5 may reach beyond the capsule
        width, depth, height = geometry.gland
        inside = _mask(points, (0, 0, 0), (width + bulge, depth + bulge, height + bulge), edge_mm=edge_mm)
        radius = _radius(points, centre, (half, 0.85 * half, 0.95 * half)) + 0.06 * texture
        focus = np.clip((1.15 - radius) / 0.3, 0, 1) * inside * zone
        strength = np.float32(CONTRAST[findings.pirads] * (1 - 0.3 * difficulty))
        image += strength * focus * (np.float32(80) - image)


def _acquire(image: Array, grid: Points, draw: np.random.Generator, *, sigma: float) -> Array:
    """Scanner gain, smooth bias field (second order), Rician noise of ``sigma`` scanner units (0 = none)."""
    x, y, z = (axis / np.float32(50) for axis in grid)
    c = (draw.normal(size=6) * 0.12).astype(np.float32)
    bias = np.exp(c[0] * x + c[1] * y + c[2] * z + c[3] * x * y + c[4] * (x**2 - y**2) + c[5] * z * y)
    gain = np.float32(draw.uniform(0.85, 1.15))
    # Drawn last and whatever sigma is, so that gain and bias field are those of the noisy volume.
    real, imaginary = draw.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma)
    return np.hypot(image * bias * gain + real, imaginary)
