"""Do an extractor's features know the class at all? The real volumes of one class against those of the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cohorts import Cohort, Sample

from synthaug.metrics.features import Extractor
from synthaug.metrics.kernels import mmd_of_rows
from synthaug.seeding import numpy_generator

HALVED = {"promise12": ("gland_voxels",)}
"""Columns that stand for a class too, cut at their median."""
PERMUTATIONS = 999


def tell_classes(
    cohort: Cohort, sample: Sample, extractor: Extractor, *, data: Path, seed: int
) -> list[dict[str, Any]]:
    """One row a class column: MMD between its classes, its mean over shuffled classes, and how many reach it."""
    # Two sides of a person are no two observations, and shuffling would take them for such.
    sample = sample.at(np.unique(sample.people, return_index=True)[1])
    manifest, rows = pd.read_csv(data / cohort.name / "manifest.csv").iloc[sample.places], []
    features = extractor.features(sample.volumes)
    for column in ("label", *HALVED.get(cohort.name, ())):
        values = manifest[column].to_numpy(float)
        known = np.isfinite(values)
        classes = values[known].astype(int) if column == "label" else values[known] > np.median(values[known])
        measure = mmd_of_rows(features[known], features[known])
        draw = numpy_generator("shuffled classes", cohort.name, column, seed)
        orders = [classes, *(draw.permutation(classes) for _ in range(PERMUTATIONS))]
        found = np.array([measure(np.flatnonzero(order == 0), np.flatnonzero(order == 1))[0] for order in orders])
        rows.append(
            {
                "cohort": cohort.name,
                "extractor": extractor.name,
                "column": column,
                "n_0": int((classes == 0).sum()),
                "n_1": int((classes == 1).sum()),
                "mmd": found[0],
                "mmd_of_shuffled": found[1:].mean(),
                "p": float((found >= found[0]).mean()),
            }
        )
    return rows
