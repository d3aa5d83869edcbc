"""Do an extractor's features know the class at all? The real volumes of one class against those of the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cohorts import Cohort, Sample
from sklearn.metrics import roc_auc_score
from thirds import LABEL, classings

from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.distances.kernels import mmd_of_rows
from synthaug.metrics.features import Extractor

HALVED = {"promise12": ("gland_voxels",)}
"""Columns that stand for a class too, cut at their median."""
PERMUTATIONS = 999


def tell_classes(
    cohort: Cohort, sample: Sample, extractor: Extractor, *, data: Path, seed: int
) -> list[dict[str, Any]]:
    """One row a way to class: MMD between its classes, its mean over shuffled classes, and how many reach it.

    Of logits and of read sizes also the AUROC.
    """
    manifest, rows = pd.read_csv(data / cohort.name / "manifest.csv"), []
    ways = classings(cohort, sample, data)
    for column in (*ways, *HALVED.get(cohort.name, ())):
        part = ways.get(column, ways[LABEL])
        # Two sides of a person are no two observations, and shuffling would take them for such.
        part = part.at(np.unique(part.people, return_index=True)[1])
        features, classes = extractor.features(part.volumes), part.labels
        known = np.full(len(classes), True)
        if column not in ways:
            values = manifest[column].to_numpy(float)[part.places]
            known = np.isfinite(values)
            classes = values[known] > np.median(values[known])
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
                "auroc": _auroc(classes, features[known], extractor.name),
            }
        )
    return rows


def _auroc(classes: np.ndarray, features: np.ndarray, name: str) -> float:
    """Of the difference of two logits, or of the mean size that is read: the smaller, the likelier class 1."""
    if "logits" in name:
        return float(roc_auc_score(classes, np.diff(features)))
    return float(roc_auc_score(classes, -features.mean(axis=1))) if name.startswith("read-out") else np.nan
