"""Kernel distances between sets of features: unbiased squared maximum mean discrepancies (Gretton et al. 2012, eq. 3).

Unlike the Fréchet distance they are unbiased, so that small sets can be compared. Equal distributions give values
around zero, including negative ones.
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist, pdist

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.rows import Measure, Rows, checked_features

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Features (n, d) and (m, d) to similarities (n, m)."""


def kid(a: np.ndarray, b: np.ndarray, *, subsets: int = 0, subset_size: int = 1000, seed: int = 0) -> float:
    """Kernel inception distance (Binkowski et al. 2018): the kernel is (x.y / d + 1)^3.

    Args:
        a: Features (n, d), n >= 2.
        b: Features (m, d), m >= 2.
        subsets: Number of random subsets to average over, as published. 0 = all rows at once, which has the smallest
            variance.
        subset_size: Rows a side of each subset, at most n and m.
        seed: Names the subsets.

    Returns:
        The squared distance; about 0, perhaps below, for equal distributions.

    Raises:
        InputError: Too few rows, unlike d, or values that are not finite.

    Example:
        One feature: (x y + 1)^3 is 1 among zeros, 8 among ones and 1 between them: 1 + 8 - 2.

        >>> kid(np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]]))
        7.0
    """
    a, b = checked_features(a, b, least=2)
    between = kid_of_rows(a, b)
    if not subsets:
        return float(between(np.arange(len(a)), np.arange(len(b)))[0])
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise InputError(f"subset_size={subset_size} must lie between 2 and the {min(len(a), len(b))} rows there are.")
    rng = numpy_generator("kid subsets", seed)
    draws = [
        between(rng.permutation(len(a))[:subset_size], rng.permutation(len(b))[:subset_size]) for _ in range(subsets)
    ]
    return float(np.mean(draws))


def mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel as wide as the median distance between rows of ``a``.

    Only the first set, the real one, sets the scale, so that several synthetic sets are measured by one kernel.

    Args:
        a: Features (n, d), n >= 2.
        b: Features (m, d), m >= 2.

    Returns:
        At most 2; about 0, perhaps below, for equal distributions.

    Raises:
        InputError: Fewer than two rows, unlike d, values that are not finite, or all rows of ``a`` alike.

    Example:
        Rows one apart: exp(-1/2) within both sets and, on average, (1 + exp(-1/2)) / 2 between equal sets.

        >>> same = np.array([[0.0], [1.0]])
        >>> round(mmd(same, same), 4), round(float(np.exp(-0.5) - 1), 4)
        (-0.3935, -0.3935)
    """
    a, b = checked_features(a, b, least=2)
    return float(mmd_of_rows(a, b)(np.arange(len(a)), np.arange(len(b)))[0])


def kid_of_rows(a: np.ndarray, b: np.ndarray) -> Measure:
    """:func:`kid` as a function of rows."""
    return _of_rows(a, b, lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3)


def mmd_of_rows(a: np.ndarray, b: np.ndarray) -> Measure:
    """:func:`mmd` as a function of rows; the width stays that of all rows of ``a``."""
    width = np.median(pdist(a))
    if width == 0:
        raise InputError("Half of the real feature rows are alike, so there is no scale to measure a distance in.")
    return _of_rows(a, b, lambda x, y: np.exp(-cdist(x, y, "sqeuclidean") / (2 * width**2)))


def _of_rows(a: np.ndarray, b: np.ndarray, kernel: Kernel) -> Measure:
    similar_a, similar_b, across = kernel(a, a), kernel(b, b), kernel(a, b)

    def distance(rows_a: Rows, rows_b: Rows) -> np.ndarray:
        within = _mean_of_pairs(similar_a[np.ix_(rows_a, rows_a)]) + _mean_of_pairs(similar_b[np.ix_(rows_b, rows_b)])
        return np.array([within - 2 * across[np.ix_(rows_a, rows_b)].mean()])

    return distance


def _mean_of_pairs(similar: np.ndarray) -> float:
    """Mean over pairs of different rows."""
    n = len(similar)
    return float((similar.sum() - np.trace(similar)) / (n * (n - 1)))
