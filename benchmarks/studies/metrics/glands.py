"""Gland volumes by the taps network against expert masks and clinical records, on real T2 images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torchio as tio

from synthaug.metrics.fidelity import gland_volume_fidelity
from synthaug.models.taps import measure_glands_ml

SOURCES = {
    # cohort: (column that states the volume, ml of one unit of it)
    "prostatex": ("prostate_volume_ml", 1.0),
    "promise12": ("gland_voxels", 0.003),  # nominal voxels of 1 x 1 x 3 mm
}


def measure_glands(data: Path, *, seed: int) -> list[dict[str, Any]]:
    """One row a cohort: correlation, error and interval."""
    rows = []
    for name, (column, ml) in SOURCES.items():
        manifest = pd.read_csv(data / name / "manifest.csv")
        manifest = manifest[manifest[column].notna()]
        images = [tio.ToCanonical()(tio.ScalarImage(data / name / file)) for file in manifest["t2w"]]
        measured = np.concatenate([measure_glands_ml([image.data], image.spacing) for image in images])
        found = gland_volume_fidelity(manifest[column].to_numpy(float) * ml, measured, seed=seed)
        rows.append({"cohort": name, "stated_by": column, **vars(found)})
    return rows
