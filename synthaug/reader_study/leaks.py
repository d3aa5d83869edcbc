"""What could tell real from synthetic volumes besides the anatomy: looked for before a reader study is handed out."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import mannwhitneyu

from synthaug.reader_study.cases import Case

TELLING = 0.001
"""p of the Mann-Whitney test below which a trait is told: of six traits one in 170 studies shows one by chance."""
STEP = 4
"""Grey levels, of 255, that nobody tells apart: levels are counted in such steps."""
FRAME = 0.99
"""Share of black voxels from which the plane at a side of a volume counts as empty."""


def traits(levels: np.ndarray) -> dict[str, float]:
    """What can be measured of a case (C, X, Y, Z; uint8) without looking at the anatomy."""
    return {
        "darkest level": float(levels.min()),
        "brightest level": float(levels.max()),
        "number of grey levels": float(len(np.unique(levels // STEP))),
        "share of black voxels": float((levels == 0).mean()),
        "share of white voxels": float((levels == 255).mean()),
        "width of the black frame": float(_frame(levels)),
    }


def _frame(levels: np.ndarray) -> int:
    """Empty rows and columns at the four sides of the slices."""
    black = (levels == 0).mean(axis=(0, 3))
    width = 0
    for axis in (0, 1):
        filled = np.flatnonzero(black.mean(axis=1 - axis) < FRAME)
        width += black.shape[axis] - (filled[-1] - filled[0] + 1 if len(filled) else 0)
    return width


def telling_traits(cases: Sequence[Case]) -> dict[str, float]:
    """The traits by which real and synthetic cases differ, each with its p (two-sided Mann-Whitney test)."""
    measured = [traits(case.volume) for case in cases]
    real = np.array([case.role == "real" for case in cases])
    found: dict[str, float] = {}
    for name in measured[0]:
        values = np.array([each[name] for each in measured])
        if np.ptp(values):
            p = float(mannwhitneyu(values[real], values[~real]).pvalue)
            found |= {name: p} if p < TELLING else {}
    return found
