"""Agreement of several readers on categories."""

import numpy as np


def fleiss_kappa(ratings: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Fleiss' kappa (1971, equations 2 to 8): agreement of readers beyond what their use of the categories gives.

    Args:
        ratings: How many readers put each case into each category (n, K); every case has the same number, at least 2.
        weights: How often each resample holds each case (R, n); None = every case once.

    Returns:
        Kappa of each resample (R,), in [-1, 1]; NaN where all ratings are of one category.

    Example:
        Two readers, four cases: they agree on three.

        >>> fleiss_kappa(np.array([[2, 0], [2, 0], [0, 2], [1, 1]])).round(3).tolist()
        [0.467]
    """
    ratings = np.asarray(ratings, dtype=float)
    weights = np.ones((1, len(ratings))) if weights is None else np.asarray(weights, dtype=float)
    readers = ratings.sum(axis=1)
    agreeing = (ratings * (ratings - 1)).sum(axis=1) / (readers * (readers - 1))
    observed = weights @ agreeing / weights.sum(axis=1)
    shares = weights @ ratings / (weights @ readers)[:, None]
    expected = (shares**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isclose(expected, 1), np.nan, (observed - expected) / (1 - expected))
