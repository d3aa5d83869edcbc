"""Seeded T2-like prostates: anatomy drawn in millimetres, so that any shape and spacing shows the same patient.

Axes are RAS+: the first index rises towards the patient's right, the second towards anterior, the third towards
superior. So a finding on the patient's left lies at low x, the peripheral zone (posterior) at low y, the base of the
gland at high z and its apex at low z. Coordinates are millimetres from the centre of the volume.

Anatomy is painted back to front in the *frame*: the gland's own millimetre coordinates. The patient's pose and a
smooth, volume-preserving deformation lead from there to the volume's coordinates.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from synthaug.data.reports import Level, ProstateFindings, Side, Zone, write_prostate_report
from synthaug.errors import InputError
from synthaug.seeding import derive_seed, numpy_generator

Array = NDArray[np.float32]
Triple = tuple[float, float, float]
Points = tuple[Array, Array, Array]

LEVELS: dict[Level, float] = {"base": 0.45, "midgland": 0.0, "apex": -0.45}
"""Height of a finding in units of the gland's vertical semi-axis."""
SIZES_MM = {2: (9.0, 14.0), 3: (12.0, 14.0), 4: (13.0, 15.0), 5: (18.0, 26.0)}
"""Range of the largest diameter by PI-RADS category (category 5 begins at 15 mm)."""
CONTRAST = {3: 0.85, 4: 0.95, 5: 1.0}
"""Share of the way from the tissue's signal to a lesion's, by PI-RADS category, at difficulty 0."""


class Part(NamedTuple):
    """An ellipsoid of one tissue."""

    centre: Triple
    """Frame coordinates in mm."""
    semi_axes: Triple
    """Lengths in mm."""
    signal: float
    """T2 signal in scanner units, 0 to 1000."""


@dataclass(frozen=True)
class Geometry:
    """Where everything lies in one patient; lengths in millimetres."""

    findings: ProstateFindings
    """The findings, with every gap in place, size and volume filled by the seed."""
    gland: Triple
    """Semi-axes of the gland, which is centred on the frame's origin."""
    transition: Triple
    """Semi-axes of the transition zone."""
    transition_centre: Triple
    """Its centre in the frame."""
    finding_centre: Triple
    """Centre of the lesion or of the benign finding in the frame."""
    shift: Triple
    """Where the gland's centre lies in the volume."""
    rotation: NDArray[np.float64]
    """Frame to volume, (3, 3)."""
    waves: NDArray[np.float64]
    """Row = a shear of axis i along axis i + 1: amplitude (mm), wavenumber (1/mm), phase. Shears keep volumes."""

    def to_frame(self, x: Array, y: Array, z: Array) -> Points:
        """Volume coordinates (mm, broadcastable) to frame coordinates."""
        moved = [axis - offset for axis, offset in zip((x, y, z), self.shift, strict=True)]
        rotation, waves = self.rotation.astype(np.float32), self.waves.astype(np.float32)
        turned = [sum(rotation[i, j] * moved[i] for i in range(3)) for j in range(3)]
        for axis, (amplitude, wavenumber, phase) in enumerate(waves):
            turned[axis] = turned[axis] + amplitude * np.sin(wavenumber * turned[(axis + 1) % 3] + phase)
        return turned[0], turned[1], turned[2]

    def to_volume(self, point: Triple) -> Triple:
        """A frame point to volume coordinates: the inverse of ``to_frame``."""
        moved = np.array(point, float)
        for axis in (2, 1, 0):
            amplitude, wavenumber, phase = self.waves[axis]
            moved[axis] -= amplitude * np.sin(wavenumber * moved[(axis + 1) % 3] + phase)
        x, y, z = self.rotation @ moved + np.array(self.shift)
        return float(x), float(y), float(z)


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
    size_mm = round(_draw_size(pirads, difficulty=difficulty, draw=draw), 0)
    return replace(place, pirads=pirads, size_mm=size_mm, isup=grade + pirads - 3 if biopsied else None)


def place(findings: ProstateFindings, *, seed: int) -> Geometry:
    """Lay out a patient: the one place that decides where things are.

    Args:
        findings: Size of the gland, zone, side, level and size of the finding; gaps are drawn.
        seed: Names the patient. Side, level and zone change nothing but the place of the finding.

    Example:
        >>> place(ProstateFindings(4, side="left"), seed=0).finding_centre[0] < 0
        True
    """
    draw, gaps = numpy_generator("anatomy", seed), numpy_generator("gaps", seed)
    full = ProstateFindings(
        findings.pirads,
        findings.zone or ("peripheral", "transition")[int(gaps.integers(2))],
        findings.side or ("left", "right")[int(gaps.integers(2))],
        findings.level or list(LEVELS)[int(gaps.integers(3))],
        findings.size_mm or _draw_size(max(findings.pirads, 2), difficulty=0.5, draw=gaps),
        gland_volume_ml=findings.gland_volume_ml or float(gaps.uniform(30, 60)),
    )
    assert full.gland_volume_ml is not None
    # Proportions of a prostate (width : depth : height), scaled to the volume of an ellipsoid, 4/3 pi a b c.
    proportions = np.array([25.0, 17.5, 20.0]) * np.exp(0.05 * draw.normal(size=3))
    scale = np.cbrt(1000 * full.gland_volume_ml / (4 / 3 * np.pi * proportions.prod()))
    width, depth, height = (proportions * scale).tolist()
    # Benign enlargement happens in the transition zone: its share grows with the gland.
    share = 0.58 + 0.12 * float(np.clip((full.gland_volume_ml - 25) / 50, 0, 1)) + draw.uniform(-0.02, 0.02)
    transition = (share * width, (share + 0.02) * depth, (share + 0.12) * height)
    transition_centre = (0.0, 0.6 * (1 - share) * depth, 0.06 * height)
    angles = draw.normal(size=3) * (4.0, 3.0, 3.0)
    waves = np.stack([draw.uniform(0.6, 1.4, 3), 2 * np.pi / draw.uniform(28, 50, 3), draw.uniform(0, 6.28, 3)], 1)
    shift = tuple((draw.uniform(-1, 1, 3) * (3.0, 3.0, 2.5) + (0.0, 2.0, 0.0)).tolist())
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    centre = _finding_centre(full, (width, depth, height), transition, transition_centre, draw)
    return Geometry(
        full, (width, depth, height), transition, transition_centre, centre, shift, rotation, waves
    )


def lesion_centre_mm(findings: ProstateFindings, *, seed: int) -> Triple:
    """Centre of the lesion (or of the benign finding) in RAS millimetres from the centre of the volume.

    Raises:
        InputError: PI-RADS 1 has no finding.

    Example:
        >>> x, y, z = lesion_centre_mm(ProstateFindings(5, "peripheral", "right", "base"), seed=0)
        >>> x > 0 and z > 0
        True
    """
    if findings.pirads == 1:
        raise InputError("pirads=1 has no lesion and so no lesion centre; findings need PI-RADS 2 or more.")
    geometry = place(findings, seed=seed)
    return geometry.to_volume(geometry.finding_centre)


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
    noise: bool = True,
) -> torch.Tensor:
    """Draw the T2-weighted volume of one patient.

    Args:
        findings: What the volume shows; gaps are drawn from the seed.
        shape: Voxels (X, Y, Z), RAS+.
        spacing_mm: Voxel size; the field of view should reach 80 x 80 x 60 mm.
        seed: Names the patient: anatomy, texture, bias field and noise.
        difficulty: 0 (lesions stand out) to 1 (faint lesions, more noise, more patchy tissue).
        noise: False = the same anatomy without noise, bias field and scanner gain.

    Returns:
        (1, X, Y, Z) float32, not negative, about 0 to 1000.

    Raises:
        InputError: ``difficulty`` lies outside [0, 1], or shape or spacing is not positive.

    Example:
        >>> render(ProstateFindings(1), shape=(16, 16, 8), spacing_mm=(5, 5, 8), seed=0).shape
        torch.Size([1, 16, 16, 8])
    """
    _check_difficulty(difficulty)
    if min(shape) < 1 or min(spacing_mm) <= 0:
        raise InputError(f"shape={shape} and spacing_mm={spacing_mm} must be positive.")
    geometry, draw = place(findings, seed=seed), numpy_generator("tissue", seed)
    grid, edge_mm = _grid(shape, spacing_mm), _edge_mm(spacing_mm)
    points = geometry.to_frame(*grid)
    image = np.full(shape, 430.0, np.float32)  # fat
    for part in (*_pelvis(geometry.gland, draw), *_gland(geometry, draw)):
        image += _mask(points, part.centre, part.semi_axes, edge_mm=edge_mm) * (np.float32(part.signal) - image)
    texture = _texture(points, draw)
    image *= 1 + (0.06 + 0.04 * np.float32(difficulty)) * texture
    _paint_finding(image, points, geometry, edge_mm=edge_mm, difficulty=difficulty, texture=texture)
    if noise:
        image = _acquire(image, grid, numpy_generator("scanner", seed), difficulty=difficulty)
    return torch.from_numpy(np.maximum(image, 0, dtype=np.float32))[None]


def make_subjects(
    n: int,
    positive_fraction: float = 0.5,
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (32, 32, 16),
    spacing_mm: Triple = (2.5, 2.5, 4.0),
    difficulty: float = 0.5,
) -> list[tio.Subject]:
    """Make phantom patients under the subject convention, image ``t2w``.

    Args:
        n: Patients, at least 2.
        positive_fraction: Share with label 1, in (0, 1); exactly ``round(n * positive_fraction)`` patients have it.
        seed: Another seed, other patients. Patient k depends on the seed, k and its label only.
        shape: Voxels (X, Y, Z), RAS+.
        spacing_mm: Voxel size.
        difficulty: 0 (lesions stand out) to 1 (faint lesions among benign mimics).

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
                report=write_prostate_report(findings, seed=patient),
                synthetic=False,
                provenance="",
            )
        )
    return subjects


def _check_difficulty(difficulty: float) -> None:
    if not 0 <= difficulty <= 1:
        raise InputError(f"difficulty={difficulty} must lie in [0, 1].")


def _draw_size(pirads: int, *, difficulty: float, draw: np.random.Generator) -> float:
    """Largest diameter in mm; beyond difficulty 0.5 lesions shrink, though a PI-RADS 5 stays at 15 mm or more."""
    low, high = SIZES_MM[pirads]
    size = float(draw.uniform(low, high)) * (1 - 0.7 * max(0.0, difficulty - 0.5))
    return max(size, 15.0) if pirads == 5 else size


def _finding_centre(
    full: ProstateFindings, gland: Triple, transition: Triple, transition_centre: Triple, draw: np.random.Generator
) -> Triple:
    """The middle of the named zone at the named level, off the midline on the named side."""
    assert full.level is not None
    side = -1.0 if full.side == "left" else 1.0
    height = LEVELS[full.level] + draw.uniform(-0.07, 0.07)
    angle, lift = np.deg2rad(draw.uniform(38, 62)), draw.uniform(-0.1, 0.3)
    if full.zone == "transition":
        x, y, z = side * 0.48 * transition[0], transition_centre[1] + lift * transition[1], 0.85 * height * gland[2]
    else:
        radius = 0.76 * float(np.sqrt(1 - height**2))
        x, y, z = side * radius * np.sin(angle) * gland[0], -radius * np.cos(angle) * gland[1], height * gland[2]
    return float(x), float(y), float(z)


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


def _pelvis(gland: Triple, draw: np.random.Generator) -> list[Part]:
    """What surrounds the gland, back to front: bones, muscles, bladder, rectum, seminal vesicles, veins."""
    width, depth, height = gland
    spread, back = width + draw.uniform(12, 16), -(depth + draw.uniform(10, 12))
    gas = draw.random() < 0.4
    wide = draw.uniform(0.85, 1.2)
    parts = [Part((0, -58, 0), (60, 22, 90), 170)]  # gluteal muscle and sacral side
    for side in (-1.0, 1.0):
        parts += [
            Part((side * (spread + 22), 2, 6), (17, 26, 40), 110),  # cortical bone of the acetabulum
            Part((side * (spread + 22), 2, 6), (15, 24, 38), 330),  # its marrow
            Part((side * spread, 2, 4), (6, 24, 60), 140),  # obturator internus
            Part((side * (width + 4.5), -6, -10), (2, 20, 26), 160),  # levator ani
            Part((side * 17, depth + 24, -10), (15, 10, 20), 300),  # pubic bone
            Part((side * 11, -0.75 * depth - 2, height + 4), (12, 5, 5), 200),  # seminal vesicle, wall
            Part((side * 11, -0.75 * depth - 2, height + 4), (11, 4, 4), 680),  # seminal vesicle
            Part((side * 0.72 * width, -0.8 * depth - 1, 0), (3.5, 3, 18), 300),  # neurovascular bundle
        ]
    return [
        *parts,
        Part((0, 1, -height - 11), (19, 13, 9), 230),  # urogenital diaphragm
        Part((0, 1, -height - 10), (5, 5, 12), 150),  # membranous urethra, wall
        Part((0, 1, -height - 10), (2.5, 2.5, 12), 480),  # membranous urethra
        Part((0, depth + 25, -10), (3.5, 9, 17), 130),  # symphysis
        Part((0, 8, height + 15), (30, 22, 17), 180),  # bladder wall
        Part((0, 8, height + 15), (27.5, 19.5, 14.5), 900),  # urine
        Part((0, back, 0), (15 * wide, 10.5, 90), 190),  # rectal wall
        Part((0, back, 0), (12 * wide, 8, 88), 30 if gas else draw.uniform(250, 480)),  # rectal content
        Part((0, depth + 5, -4), (14, 5, 18), 580),  # dorsal veins
    ]


def _gland(geometry: Geometry, draw: np.random.Generator) -> list[Part]:
    """The gland, back to front: capsule, zones, nodules, stroma, urethra."""
    width, depth, height = geometry.gland
    inner, core = geometry.transition, geometry.transition_centre
    peripheral, central = draw.uniform(560, 720), draw.uniform(320, 400)
    parts = [
        Part((0, 0, 0), geometry.gland, 170),  # capsule
        Part((0, 0, 0), (width - 1.3, depth - 1.3, height - 1.3), peripheral),
        Part((0, -0.4 * depth, 0.72 * height), (0.45 * width, 0.28 * depth, 0.3 * height), 330),  # central zone
        Part(core, inner, 200),  # surgical capsule
        Part(core, (inner[0] - 1.2, inner[1] - 1.2, inner[2] - 1.2), central),
    ]
    assert geometry.findings.gland_volume_ml is not None
    for _ in range(4 + round(geometry.findings.gland_volume_ml / 10)):
        direction = draw.normal(size=3)
        offset = direction / np.linalg.norm(direction) * draw.random() ** (1 / 3) * 0.72 * np.array(inner)
        centre = tuple((offset + core).tolist())
        semi_axes = draw.uniform(2.5, 2.8 + 0.05 * geometry.findings.gland_volume_ml) * draw.uniform(0.8, 1.2, 3)
        signal = draw.uniform(470, 620) if draw.random() < 0.55 else draw.uniform(240, 300)  # glandular or stromal
        parts += [Part(centre, tuple((semi_axes + 0.8).tolist()), 210), Part(centre, tuple(semi_axes.tolist()), signal)]
    return [
        *parts,
        Part((0, 0.84 * depth, 0), (0.42 * width, 0.2 * depth, 0.75 * height), 230),  # anterior fibromuscular stroma
        Part((0, 0.05 * depth, -0.3 * height), (2, 2.5, 0.5 * height), 540),  # urethra
    ]


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


def _acquire(image: Array, grid: Points, draw: np.random.Generator, *, difficulty: float) -> Array:
    """Scanner gain, smooth bias field (second order), Rician noise."""
    x, y, z = (axis / np.float32(50) for axis in grid)
    c = (draw.normal(size=6) * 0.12).astype(np.float32)
    bias = np.exp(c[0] * x + c[1] * y + c[2] * z + c[3] * x * y + c[4] * (x**2 - y**2) + c[5] * z * y)
    gain, sigma = np.float32(draw.uniform(0.85, 1.15)), np.float32(12 + 16 * difficulty)
    real, imaginary = draw.standard_normal((2, *image.shape), dtype=np.float32) * sigma
    return np.hypot(image * bias * gain + real, imaginary)
