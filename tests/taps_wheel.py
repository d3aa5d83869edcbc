"""What tests of the prostate network need: the wheel, real T2 images, and a stand-in for its weights with a phantom."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug.ground.errors import InputError
from synthaug.models.extractors.taps import INSTALL, taps_file

SHARED = Path(os.environ.get("SYNTHAUG_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def has_taps() -> bool:
    """Whether lavlab-taps and onnx are installed."""
    try:
        return taps_file().is_file() and importlib.util.find_spec("onnx") is not None
    except InputError:
        return False


needs_taps = pytest.mark.skipif(not has_taps(), reason=f"the prostate network is not installed: {INSTALL}")


def real_data(name: str) -> Path:
    """The folder of a real data set, or skip."""
    folder = SHARED / "data" / name
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"the data set {name} is not here; SYNTHAUG_SHARED names the folder of data/")
    return folder


class Threshold(torch.nn.Module):
    """Stands where the network does: all that is brighter than half of the brightest is gland."""

    def forward(self, shown):
        return shown - shown.amax() / 2


def ball(shape, spacing_mm, *, radius_mm, centre_mm=(0, 0, 0)) -> torch.Tensor:
    """A bright ball in a dim box, ``centre_mm`` from its middle."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm - c for n, mm, c in zip(shape, spacing_mm, centre_mm, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return torch.from_numpy(np.where(x**2 + y**2 + z**2 < radius_mm**2, 0.9, 0.1)).float()[None]
