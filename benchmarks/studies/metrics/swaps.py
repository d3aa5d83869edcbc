"""Swapped classes over many deals of the patients into halves: one deal of few patients says little."""

from typing import Any

import numpy as np
from cohorts import Cohort, Sample, halves

from synthaug.metrics.distances import FAMILIES
from synthaug.metrics.features import Extractor

WORSE = {"fid": 1, "kid": 1, "mmd": 1, "precision": -1, "recall": -1, "density": -1, "coverage": -1}
"""Which way a metric should move where the synthetic set is worse."""
DEALS = 100


def swap_often(cohort: Cohort, sample: Sample, extractor: Extractor, *, classes: str) -> list[dict[str, Any]]:
    """One row a class and metric: its means, and the share of deals in which swapping moves it the right way.

    ``classes`` says what the labels of the sample are.
    """
    features = extractor.features(sample.volumes)
    deals = [halves(sample.labels, sample.people, seed=seed) for seed in range(DEALS)]
    rows = []
    for group in np.unique(sample.labels).tolist():
        # (deals, real to real or swapped, metrics)
        found = np.array([_both(features, sample.labels == group, deal) for deal in deals])
        for (name, sign), of_metric in zip(WORSE.items(), np.moveaxis(found, 2, 0), strict=True):
            change = (of_metric[:, 1] - of_metric[:, 0]) * sign
            rows.append(
                {
                    "cohort": cohort.name,
                    "extractor": extractor.name,
                    "classes": classes,
                    "group": group,
                    "metric": name,
                    "volumes": int((sample.labels == group).sum()),
                    "deals": DEALS,
                    "real_real": of_metric[:, 0].mean(),
                    "swapped": of_metric[:, 1].mean(),
                    "expected": "up" if sign > 0 else "down",
                    "moved": bool(change.mean() > 0),
                    "share_of_deals": float((change > 0).mean()),
                }
            )
    return rows


def _both(features: np.ndarray, inside: np.ndarray, deal: tuple[np.ndarray, np.ndarray]) -> list[list[float]]:
    """Every metric from a class in the first half to the same class, and to the other one, in the second."""
    first, second = deal
    real = features[first[inside[first]]]
    return [
        [float(value) for family in FAMILIES for value in _distances(family, real, features[second[partner]])]
        for partner in (inside[second], ~inside[second])
    ]


def _distances(family, real: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.atleast_1d(family.of_rows(real, other)(np.arange(len(real)), np.arange(len(other))))
