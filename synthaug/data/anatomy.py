"""Where everything lies in a phantom patient, in millimetres; :mod:`synthaug.data.phantom` paints it.

Axes are RAS+: the first index rises towards the patient's right, the second towards anterior, the third towards
superior. The patient's left lies at low x, the peripheral zone (posterior) at low y, the base of the gland at high z,
its apex at low z. Coordinates are millimetres from the centre of the volume.

The *frame* is the gland's own millimetre coordinates. The patient's pose and a smooth, volume-preserving deformation
lead from there to the volume's coordinates.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from synthaug.data.reports.writers import Level, ProstateFindings
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator

Array = NDArray[np.float32]
Triple = tuple[float, float, float]
Points = tuple[Array, Array, Array]

LEVELS: dict[Level, float] = {"base": 0.45, "midgland": 0.0, "apex": -0.45}
"""Height of a finding in units of the gland's vertical semi-axis."""
SIZES_MM = {2: (9.0, 14.0), 3: (12.0, 14.0), 4: (13.0, 15.0), 5: (18.0, 26.0)}
"""Range of the largest diameter by PI-RADS category (category 5 begins at 15 mm)."""


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
        findings.size_mm or draw_size(max(findings.pirads, 2), difficulty=0.5, draw=gaps),
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
    return Geometry(full, (width, depth, height), transition, transition_centre, centre, shift, rotation, waves)


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


def pelvis_parts(gland: Triple, draw: np.random.Generator) -> list[Part]:
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


def gland_parts(geometry: Geometry, draw: np.random.Generator) -> list[Part]:
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


def draw_size(pirads: int, *, difficulty: float, draw: np.random.Generator) -> float:
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
