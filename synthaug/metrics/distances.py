"""Fréchet distance between sets of features, its real-real floor and its interval.

The estimate from n rows is too large by about c / n, so no value means much alone: beside it stand the distance of
the real data to itself (the floor) and an interval, and values of unlike sizes or extractors are never compared.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import svdvals
from threadpoolctl import threadpool_limits

from synthaug.errors import InputError
from synthaug.seeding import numpy_generator

FLOOR_SPLITS = 20
"""Random splits that the floor is averaged over."""

Rows = np.ndarray
"""Row numbers, int."""
Distance = Callable[[Rows, Rows], float]
"""The Fréchet distance between some rows of the one set and some rows of the other."""


@dataclass(frozen=True)
class FrechetResult:
    """A Fréchet distance with all that is needed to read it. Distances are in squared feature units."""

    value: float
    """Distance of all real rows to all synthetic rows."""
    ci_low: float
    """Lower end of the interval around ``value``."""
    ci_high: float
    """Upper end of the interval around ``value``."""
    floor: float
    """Mean distance between two disjoint parts of the real rows, ``n_floor`` rows each."""
    value_at_floor_n: float
    """Mean distance between ``n_floor`` real and ``n_floor`` synthetic rows: to be held against ``floor``."""
    n_floor: int
    """Rows a side behind ``floor`` and ``value_at_floor_n``."""
    n_real: int
    """Real rows."""
    n_synthetic: int
    """Synthetic rows."""
    fingerprint: str
    """Fingerprint of the extractor."""


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, section 3; Dowson 1982).

    ``|mean_a - mean_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2)``. With the centred rows
    ``A = (a - mean_a) / sqrt(n - 1)``, and ``B`` alike, ``S_a S_b`` has the non-zero eigenvalues of
    ``(A B^T) (A B^T)^T``, so the last trace is the sum of the singular values of the (n, m) matrix ``A B^T``:
    no matrix square root and no regularisation. Where n > d, ``A`` is first shortened to its (d, d) QR factor.

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
    a, b = _checked(a, b, least=2)
    return _direct(a, b)


def frechet_report(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    fingerprint: str = "",
) -> FrechetResult:
    """Fréchet distance with its real-real floor and a half-sampling interval.

    Why not the bootstrap: rows drawn with replacement add the bias of the estimate a second time, so that bootstrap
    distances lie above the value, often all of them. Halves drawn WITHOUT replacement instead have just the spread
    around their own mean that the full estimate has around its expectation (half-sampling, McCarthy 1969; the
    delete-d jackknife with d = n / 2, Shao & Wu 1989), and the bias leaves with that mean. The interval is
    ``value - (quantiles of the half-sample distances - their mean)``, wider than need be where both sets are alike.

    It covers the EXPECTED distance at these sample sizes, not the distance at infinite size: the bias stays in it,
    as it stays in ``floor``. Rows count as independent: pass one volume a patient.

    Args:
        real: Features (n, d), n >= 4.
        synthetic: Features (m, d), m >= 4, from the same extractor.
        seed: Names the halves that are drawn.
        resamples: Half-samples behind the interval.
        confidence: Coverage of the interval, in (0, 1).
        fingerprint: ``Extractor.fingerprint`` of the features.

    Raises:
        InputError: Fewer than four rows, unlike d, values that are not finite, unusable settings.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(60, 4))
        >>> result = frechet_report(rows[:30], rows[30:] + 1, resamples=50, fingerprint="toy")
        >>> result.ci_low <= result.value <= result.ci_high and result.floor < result.value_at_floor_n
        True
    """
    real, synthetic = _checked(real, synthetic, least=4)
    if resamples < 2 or not 0 < confidence < 1:
        raise InputError(f"resamples={resamples} must be at least 2 and confidence={confidence} lie in (0, 1).")
    n, m = len(real), len(synthetic)
    between = _row_distance(real, synthetic)
    value = between(np.arange(n), np.arange(m))
    rng = numpy_generator("frechet interval", seed)
    n_floor = min(n // 2, m)
    # Many small factorisations: threads wait for each other longer than they work, 4 to 90 times on busy cores.
    with threadpool_limits(1, user_api="blas"):
        halves = [between(_draw(rng, n, n // 2), _draw(rng, m, m // 2)) for _ in range(resamples)]
        floor, value_at_floor_n = _floor(real, between, n_synthetic=m, n_floor=n_floor, seed=seed)
    tail = (1 - confidence) / 2
    low, high = value - (np.quantile(halves, [1 - tail, tail]) - np.mean(halves))
    return FrechetResult(
        value=value,
        # A mean outside its own quantiles (few, skewed resamples) must not push the value out; a distance is >= 0.
        ci_low=float(max(0.0, min(low, value))),
        ci_high=float(max(high, value)),
        floor=floor,
        value_at_floor_n=value_at_floor_n,
        n_floor=n_floor,
        n_real=n,
        n_synthetic=m,
        fingerprint=fingerprint,
    )


def compare(a: FrechetResult, b: FrechetResult) -> float:
    """Ratio of two distances, ``a.value / b.value``, refused unless they were measured alike.

    Raises:
        InputError: Another extractor, another number of rows, or a distance of zero below.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(60, 4))
        >>> near = frechet_report(rows[:30], rows[30:] + 1, resamples=2, fingerprint="toy")
        >>> far = frechet_report(rows[:30], rows[30:] + 9, resamples=2, fingerprint="toy")
        >>> compare(near, far) < 1
        True
    """
    for key in ("fingerprint", "n_real", "n_synthetic"):
        one, other = getattr(a, key), getattr(b, key)
        if one != other:
            raise InputError(
                f"The distances differ in {key} ({one} and {other}); measure both with one extractor and equal numbers."
            )
    if b.value == 0:
        raise InputError("The second distance is 0, so there is no ratio to it.")
    return a.value / b.value


def _checked(a: np.ndarray, b: np.ndarray, *, least: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for name, rows in (("first", a), ("second", b)):
        if rows.ndim != 2 or rows.shape[1] == 0 or len(rows) < least:
            raise InputError(f"The {name} features have shape {rows.shape}; needed are (n >= {least}, d >= 1).")
        if not np.isfinite(rows).all():
            raise InputError(f"The {name} features hold NaN or infinity in row {_first_bad(rows)}.")
    if a.shape[1] != b.shape[1]:
        raise InputError(f"The features have {a.shape[1]} and {b.shape[1]} columns; take both from one extractor.")
    return a, b


def _first_bad(rows: np.ndarray) -> int:
    return int(np.argmin(np.isfinite(rows).all(axis=1)))


def _draw(rng: np.random.Generator, n: int, size: int) -> Rows:
    return rng.permutation(n)[:size]


def _floor(real: np.ndarray, between: Distance, *, n_synthetic: int, n_floor: int, seed: int) -> tuple[float, float]:
    """Mean distances, at ``n_floor`` rows a side, real to other real rows and real to synthetic rows."""
    within = _row_distance(real, real)
    rng = numpy_generator("frechet floor", seed)
    floors, values = [], []
    for _ in range(FLOOR_SPLITS):
        order = rng.permutation(len(real))
        one, other = order[:n_floor], order[n_floor : 2 * n_floor]
        floors.append(within(one, other))
        values.append(between(one, _draw(rng, n_synthetic, n_floor)))
    return float(np.mean(floors)), float(np.mean(values))


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


def _row_distance(a: np.ndarray, b: np.ndarray) -> Distance:
    """The distance as a function of rows, with everything that has size d computed once.

    All that the distance needs of the rows are their inner products: choosing rows chooses rows and columns of the
    Gram matrices, and centring rows of features is centring rows and columns of ``a b^T``.
    """
    if max(len(a), len(b)) > 2 * a.shape[1]:  # even half the rows outnumber the features: short factors are quicker
        return lambda rows_a, rows_b: _direct(a[rows_a], b[rows_b])
    # The distance does not change when both sets move alike; small numbers lose fewer digits in the products.
    centre = np.concatenate([a, b]).mean(axis=0)
    a, b = a - centre, b - centre
    gram_a, gram_b, cross = a @ a.T, b @ b.T, a @ b.T

    def distance(rows_a: Rows, rows_b: Rows) -> float:
        aa, bb, ab = gram_a[np.ix_(rows_a, rows_a)], gram_b[np.ix_(rows_b, rows_b)], cross[np.ix_(rows_a, rows_b)]
        n, m = ab.shape
        shift = aa.mean() + bb.mean() - 2 * ab.mean()
        spread = (np.trace(aa) - n * aa.mean()) / (n - 1) + (np.trace(bb) - m * bb.mean()) / (m - 1)
        centred = ab - ab.mean(axis=0) - ab.mean(axis=1, keepdims=True) + ab.mean()
        overlap = svdvals(centred, overwrite_a=True, check_finite=False).sum() / np.sqrt((n - 1) * (m - 1))
        return max(0.0, float(shift + spread - 2 * overlap))

    return distance
