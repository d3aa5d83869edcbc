"""Swapped classes over many deals of the patients into halves: one deal of few patients says little."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from cohorts import Cohort, Sample, halves

from synthaug.metrics.distances.estimates import FAMILIES
from synthaug.metrics.distances.manifold import NEIGHBOURS, manifold_of_rows
from synthaug.metrics.features import Extractor
from synthaug.metrics.rows import Measure

WORSE = {"fid": 1, "kid": 1, "mmd": 1, "precision": -1, "recall": -1, "density": -1, "coverage": -1}
"""Which way a metric should move where the synthetic set is worse."""
BALLS = ("precision", "recall", "density", "coverage")
"""Metrics of balls that reach to the k-th neighbour."""
DEALS = 100
"""Random halvings of the people."""
REACHES = (1, 2, 3, 4, 5, 8)
"""Each k that may be chosen; 5 is the published one."""


def swap_often(
    cohort: Cohort, sample: Sample, extractor: Extractor, *, classes: str, k: int | None = None, deals: int = DEALS
) -> list[dict[str, Any]]:
    """One row a class and metric: its means, and the share of deals in which swapping moves it the right way.

    ``classes`` says what the labels of the sample are. With a ``k`` only the metrics of balls, at that reach.
    """
    measures = [family.of_rows for family in FAMILIES] if k is None else [partial(manifold_of_rows, k=k)]
    names = WORSE if k is None else BALLS
    features = extractor.features(sample.volumes)
    dealt = [halves(sample.labels, sample.people, seed=seed) for seed in range(deals)]
    rows = []
    for group in np.unique(sample.labels).tolist():
        inside = sample.labels == group
        # (deals, real to real or swapped, metrics)
        found = np.array([_both(measures, features, inside, deal) for deal in dealt])
        for name, of_metric in zip(names, np.moveaxis(found, 2, 0), strict=True):
            change = (of_metric[:, 1] - of_metric[:, 0]) * WORSE[name]
            rows.append(
                {
                    "cohort": cohort.name,
                    "extractor": extractor.name,
                    "classes": classes,
                    "k": float(k or NEIGHBOURS) if name in BALLS else np.nan,
                    "group": group,
                    "metric": name,
                    "volumes": int(inside.sum()),
                    "deals": deals,
                    "real_real": of_metric[:, 0].mean(),
                    "swapped": of_metric[:, 1].mean(),
                    "expected": "up" if WORSE[name] > 0 else "down",
                    "moved": bool(change.mean() > 0),
                    "share_of_deals": float((change > 0).mean()),
                }
            )
    return rows


def share_of_balls(rows: list[dict[str, Any]]) -> float:
    """The mean share of deals in which precision and recall, of both classes, move the right way."""
    return float(np.mean([row["share_of_deals"] for row in rows if row["metric"] in ("precision", "recall")]))


def try_reaches(
    cohort: Cohort, others: Sample, extractor: Extractor, *, classes: str, deals: int = DEALS
) -> list[dict[str, Any]]:
    """One row a k: the mean share of deals in which precision and recall, of both classes, move the right way.

    ``others`` are people who are not measured, so that the k with the largest share is fixed before the measured are
    looked at.
    """
    rows = []
    for k in REACHES:
        found = swap_often(cohort, others, extractor, classes=classes, k=k, deals=deals)
        share = share_of_balls(found)
        rows.append({key: found[0][key] for key in ("cohort", "extractor", "classes")} | {"k": k, "share": share})
    best = max(rows, key=lambda row: (row["share"], row["k"]))
    return [row | {"chosen": row is best} for row in rows]


def _both(
    measures: list[Callable[..., Measure]],
    features: np.ndarray,
    inside: np.ndarray,
    deal: tuple[np.ndarray, np.ndarray],
) -> list[list[float]]:
    """Every metric from a class in the first half to the same class, and to the other one, in the second."""
    first, second = deal
    real = features[first[inside[first]]]
    return [
        [float(value) for measure in measures for value in _distances(measure(real, other), len(real), len(other))]
        for other in (features[second[partner]] for partner in (inside[second], ~inside[second]))
    ]


def _distances(between: Measure, n: int, m: int) -> np.ndarray:
    return np.atleast_1d(between(np.arange(n), np.arange(m)))
