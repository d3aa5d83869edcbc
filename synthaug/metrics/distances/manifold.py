"""Where one set of features lies in the other: precision, recall, density, coverage (Naeem et al. 2020).

A set's manifold is the union of balls around its rows that reach to their k-th nearest other row of that set.
"""

import numpy as np
from scipy.spatial.distance import cdist

from synthaug.metrics.rows import Measure, Rows, checked_features

NEIGHBOURS = 5
"""k, as published for density and coverage."""


def precision_recall_density_coverage(real: np.ndarray, synthetic: np.ndarray, *, k: int = NEIGHBOURS) -> np.ndarray:
    """The four figures of two sets of features.

    Precision: share of synthetic rows inside the real manifold; are they realistic? Recall: share of real rows inside
    the synthetic manifold. Density: mean number of real balls around a synthetic row, divided by k. Robust to outliers
    with wide balls, unlike precision; may exceed 1. Coverage: share of real balls that hold a synthetic row; are all
    kinds of patients there?

    Args:
        real: Features (n, d), n > k.
        synthetic: Features (m, d), m > k.
        k: Which neighbour a ball reaches to.

    Returns:
        (4,): precision, recall, density, coverage.

    Raises:
        InputError: Too few rows, unlike d, or values that are not finite.

    Example:
        >>> line = np.arange(4.0)[:, None]
        >>> precision_recall_density_coverage(line, line + 2.5, k=1).tolist()
        [0.5, 0.5, 0.75, 0.5]
    """
    real, synthetic = checked_features(real, synthetic, least=k + 1)
    return manifold_of_rows(real, synthetic, k=k)(np.arange(len(real)), np.arange(len(synthetic)))


def manifold_of_rows(real: np.ndarray, synthetic: np.ndarray, *, k: int = NEIGHBOURS) -> Measure:
    """:func:`precision_recall_density_coverage` as a function of rows; the rows of a set must differ."""
    among_real, among_synthetic, between = cdist(real, real), cdist(synthetic, synthetic), cdist(real, synthetic)

    def figures(rows: Rows, others: Rows) -> np.ndarray:
        across = between[np.ix_(rows, others)]
        real_radii = _radii(among_real[np.ix_(rows, rows)], k)[:, None]
        synthetic_radii = _radii(among_synthetic[np.ix_(others, others)], k)
        inside = across < real_radii
        return np.array(
            [
                inside.any(axis=0).mean(),
                (across < synthetic_radii).any(axis=1).mean(),
                inside.sum(axis=0).mean() / k,
                (across.min(axis=1, keepdims=True) < real_radii).mean(),
            ]
        )

    return figures


def _radii(distances: np.ndarray, k: int) -> np.ndarray:
    """Distance of each row to its k-th nearest other; the nearest of all is the row itself."""
    return np.partition(distances, k, axis=1)[:, k]
