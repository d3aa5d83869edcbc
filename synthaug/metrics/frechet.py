"""Fréchet distance between sets of features, for any number of rows against any number of features."""

import numpy as np
from scipy.linalg import svdvals

from synthaug.metrics.rows import Measure, Rows, checked_features


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, section 3; Dowson 1982).

    ``|mean_a - mean_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2)``. Let
    ``A = (a - mean_a) / sqrt(n - 1)`` be the centred rows, and ``B`` alike. ``S_a S_b`` has the non-zero eigenvalues of
    ``(A B^T) (A B^T)^T``. The last trace is therefore the sum of the singular values of the (n, m) matrix ``A B^T``,
    which needs no matrix square root and no regularisation. Where n > d, ``A`` is first shortened to its (d, d) QR
    factor.

    Args:
        a: Features (n, d), n >= 2.
        b: Features (m, d), m >= 2.

    Returns:
        The distance, >= 0, in squared feature units; symmetric.

    Raises:
        InputError: Fewer than two rows, unlike d, or values that are not finite.

    Example:
        Means 1 and 4, variances 1 and 4: (1 - 4)^2 + (1 - 2)^2.

        >>> round(frechet(np.array([[0.0], [1.0], [2.0]]), np.array([[2.0], [4.0], [6.0]])), 9)
        10.0
    """
    a, b = checked_features(a, b, least=2)
    return _direct(a, b)


def frechet_of_rows(a: np.ndarray, b: np.ndarray) -> Measure:
    """The distance as a function of rows, with everything that has size d computed once.

    The distance needs only the inner products of the rows. Choosing rows chooses rows and columns of the Gram
    matrices. Centring rows of features is centring rows and columns of ``a b^T``.
    """
    if max(len(a), len(b)) > 2 * a.shape[1]:  # even half the rows outnumber the features: short factors are quicker
        return lambda rows_a, rows_b: np.array([_direct(a[rows_a], b[rows_b])])
    # The distance does not change when both sets move alike; small numbers lose fewer digits in the products.
    centre = np.concatenate([a, b]).mean(axis=0)
    a, b = a - centre, b - centre
    gram_a, gram_b, cross = a @ a.T, b @ b.T, a @ b.T

    def distance(rows_a: Rows, rows_b: Rows) -> np.ndarray:
        aa, bb, ab = gram_a[np.ix_(rows_a, rows_a)], gram_b[np.ix_(rows_b, rows_b)], cross[np.ix_(rows_a, rows_b)]
        n, m = ab.shape
        shift = aa.mean() + bb.mean() - 2 * ab.mean()
        spread = (np.trace(aa) - n * aa.mean()) / (n - 1) + (np.trace(bb) - m * bb.mean()) / (m - 1)
        centred = ab - ab.mean(axis=0) - ab.mean(axis=1, keepdims=True) + ab.mean()
        overlap = svdvals(centred, overwrite_a=True, check_finite=False).sum() / np.sqrt((n - 1) * (m - 1))
        return np.array([max(0.0, float(shift + spread - 2 * overlap))])

    return distance


def _factor(rows: np.ndarray) -> np.ndarray:
    """F (min(n, d), d) with F^T F = the covariance; F is the centred rows themselves unless there are more than d."""
    centred = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    if len(rows) <= rows.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _direct(a: np.ndarray, b: np.ndarray) -> float:
    factor_a, factor_b = _factor(a), _factor(b)
    shift = a.mean(axis=0) - b.mean(axis=0)
    spread = np.sum(factor_a**2) + np.sum(factor_b**2)
    overlap = svdvals(factor_a @ factor_b.T, overwrite_a=True, check_finite=False).sum()
    return max(0.0, float(shift @ shift + spread - 2 * overlap))
