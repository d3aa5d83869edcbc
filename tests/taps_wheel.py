"""What tests of the prostate network need: the wheel, and real T2 images."""

import importlib.util
import os
from pathlib import Path

import pytest

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
