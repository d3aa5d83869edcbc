"""The middle axial slice of a volume, turned as radiologists look at it, and the files of such pictures."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from synthaug.ground.errors import InputError

SHOWN = 6
"""Volumes of a row."""
LEFT_RIGHT = 0
"""Axis of a volume (X, Y, Z) in RAS+ that runs from left to right."""


def draw_slice(axes: Axes, volume: torch.Tensor) -> None:
    """The middle axial slice of a RAS volume (X, Y, Z) in [0, 1], the patient's right on the left, anterior up."""
    axes.imshow(middle_slice(volume), cmap="gray", vmin=0, vmax=1, origin="lower")
    axes.set_axis_off()


def middle_slice(volume: torch.Tensor) -> np.ndarray:
    """Rows from posterior to anterior, columns from the patient's right to left."""
    return volume.flip(LEFT_RIGHT)[:, :, volume.shape[2] // 2].T.numpy()


def require_png(path: str | Path) -> None:
    """InputError where a picture is asked for under the name of another kind of file."""
    if Path(path).suffix != ".png":
        raise InputError(f"{path}: pictures are written as PNG; give a name that ends in .png.")
