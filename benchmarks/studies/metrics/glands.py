"""Gland volumes by the taps network against expert masks and clinical records, on real T2 images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torchio as tio

from synthaug.data.reading.images import read_image
from synthaug.ground.files import atomic_path
from synthaug.metrics.fidelity import gland_volume_fidelity
from synthaug.models.extractors.taps import measure_glands_ml

SOURCES = {
    # cohort: (column that states the volume, ml of one unit of it)
    "prostatex": ("prostate_volume_ml", 1.0),
    "promise12": ("gland_voxels", 0.003),  # nominal voxels of 1 x 1 x 3 mm
}


def compare_glands(data: Path, *, cache: Path, seed: int) -> list[dict[str, Any]]:
    """One row a cohort: correlation, error and interval; what was measured is kept in ``cache``."""
    rows = []
    for name, (column, ml) in SOURCES.items():
        manifest = pd.read_csv(data / name / "manifest.csv")
        manifest = manifest[manifest[column].notna()]
        kept = cache / f"glands-{name}.npy"
        if not kept.is_file():
            with atomic_path(kept) as temporary:
                np.save(temporary, [_measure(data / name / file) for file in manifest["t2w"]])
        measured = np.load(kept)
        found = gland_volume_fidelity(manifest[column].to_numpy(float) * ml, measured, seed=seed)
        rows.append({"cohort": name, "stated_by": column, **vars(found)})
    return rows


def _measure(path: Path) -> float:
    image = tio.ToCanonical()(read_image(path))
    return float(measure_glands_ml([image.data], image.spacing)[0])
