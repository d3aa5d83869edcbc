"""Distances between real and synthetic features, each with its real-real floor and its interval.

Estimates depend on the number of rows. Each is therefore reported with an interval and with its floor, the same metric
between two sets of real rows. Values of different sizes or extractors are never compared.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.distances.kernels import kid_of_rows, mmd_of_rows
from synthaug.metrics.distances.manifold import NEIGHBOURS, manifold_of_rows
from synthaug.metrics.frechet import frechet_of_rows
from synthaug.metrics.rows import Measure, Rows, checked_features
from synthaug.statistics.intervals import checked_confidence

FLOOR_SPLITS = 20
"""Random splits that the floor is averaged over."""


@dataclass(frozen=True)
class Family:
    """Metrics that are computed together."""

    meanings: Mapping[str, str]
    """Name and meaning of each of its values, in order."""
    of_rows: Callable[[np.ndarray, np.ndarray], Measure]
    """Real and synthetic features to the metrics as a function of rows."""
    least: int
    """Rows a side that it needs."""
    low: float
    """Smallest value there is."""
    high: float | tuple[float, ...] = np.inf
    """Largest value there is, of all or of each."""
    larger_is_better: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of its values, in order."""
        return tuple(self.meanings)


FAMILIES = (
    Family(
        {"fid": "Fréchet distance between Gaussians fitted to both feature sets; biased upwards for few volumes"},
        frechet_of_rows,
        least=2,
        low=0.0,
    ),
    Family(
        {"kid": "kernel distance between both feature sets; unbiased, may be negative"},
        kid_of_rows,
        least=2,
        low=-np.inf,
    ),
    Family(
        {"mmd": "maximum mean discrepancy between both feature sets"},
        mmd_of_rows,
        least=2,
        low=-np.inf,
    ),
    Family(
        {
            "precision": "share of synthetic volumes within the manifold of the real ones: fidelity",
            "recall": "share of real volumes within the manifold of the synthetic ones: diversity",
            "density": "density of real volumes around the synthetic ones; may exceed 1",
            "coverage": "share of real volumes with a synthetic one among their neighbours: diversity",
        },
        manifold_of_rows,
        least=NEIGHBOURS + 1,
        low=0.0,
        high=(1.0, 1.0, np.inf, 1.0),
        larger_is_better=True,
    ),
)
"""A new metric of features is a family here; tables, report and tracking take it from this list."""
METRICS = tuple(name for family in FAMILIES for name in family.names)
"""Every metric there is."""


@dataclass(frozen=True)
class DistanceResult:
    """A metric between real and synthetic features with all that is needed to read it."""

    metric: str
    """A name of ``METRICS``."""
    value: float
    """All real rows against all synthetic rows."""
    ci_low: float
    """Lower end of the interval around ``value``."""
    ci_high: float
    """Upper end of the interval around ``value``."""
    floor: float
    """Mean between two disjoint parts of the real rows, ``n_floor`` rows each: what perfection looks like."""
    value_at_floor_n: float
    """Mean between ``n_floor`` real and ``n_floor`` synthetic rows: to be held against ``floor``."""
    n_floor: int
    """Rows a side behind ``floor`` and ``value_at_floor_n``."""
    n_real: int
    """Real rows."""
    n_synthetic: int
    """Synthetic rows."""
    larger_is_better: bool
    """Whether it is a share (precision, recall, density, coverage) and not a distance."""
    fingerprint: str
    """Fingerprint of the extractor."""


def distance_report(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    metrics: Sequence[str] = METRICS,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    fingerprint: str = "",
) -> dict[str, DistanceResult]:
    """Image metrics with real-real floors and half-sampling intervals.

    The bootstrap is not used: rows drawn with replacement add the bias of the estimate a second time, so that bootstrap
    distances lie above the value. Halves drawn without replacement have the spread of the full estimate (half-sampling,
    McCarthy 1969; the delete-d jackknife with d = n / 2, Shao & Wu 1989). Their bias is removed with their mean. The
    interval is ``value - (quantiles of the half-sample distances - their mean)``, wider than need be where both sets
    are alike.

    It covers the expected value at these sample sizes, with its bias, as ``floor`` does. It does not cover the value at
    infinite size. Rows count as independent: pass one volume a patient.

    Args:
        real: Features (n, d), at least twice the rows that the metric itself needs.
        synthetic: Features (m, d) from the same extractor, likewise.
        metrics: Which of ``METRICS``.
        seed: Names the halves that are drawn: the same for every metric.
        resamples: Half-samples behind an interval.
        confidence: Coverage of the intervals, in (0, 1).
        fingerprint: ``Extractor.fingerprint`` of the features.

    Returns:
        One result a metric, by name.

    Raises:
        InputError: Too few rows, unlike d, values that are not finite, real rows all alike, two sets of the same rows,
            unusable settings.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(60, 4))
        >>> fid = distance_report(rows[:30], rows[30:] + 1, metrics=["fid"], resamples=50, fingerprint="toy")["fid"]
        >>> fid.ci_low <= fid.value <= fid.ci_high and fid.floor < fid.value_at_floor_n
        True
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise InputError(f"metrics={list(metrics)}: choose from {', '.join(METRICS)}.")
    checked_confidence(confidence)
    if resamples < 2:
        raise InputError(f"resamples={resamples} must be at least 2.")
    chosen = [family for family in FAMILIES if set(family.names) & set(metrics)]
    real, synthetic = checked_features(real, synthetic, least=2 * max(family.least for family in chosen))
    _refuse_degenerate(real, synthetic)
    found = {}
    for family in chosen:
        numbers = _numbers(family, real, synthetic, seed=seed, resamples=resamples, confidence=confidence)
        for index, name in enumerate(family.names):
            found[name] = DistanceResult(
                metric=name,
                n_floor=_floor_rows(real, synthetic),
                n_real=len(real),
                n_synthetic=len(synthetic),
                larger_is_better=family.larger_is_better,
                fingerprint=fingerprint,
                **{key: float(values[index]) for key, values in numbers.items()},
            )
    return {name: found[name] for name in metrics}


def metrics_for(rows: int) -> list[str]:
    """The metrics that so many rows a side are enough for, floor and interval included.

    Example:
        >>> metrics_for(4), metrics_for(12) == list(METRICS)
        (['fid', 'kid', 'mmd'], True)
    """
    return [name for family in FAMILIES if rows >= 2 * family.least for name in family.names]


def compare(a: DistanceResult, b: DistanceResult) -> float:
    """Ratio of two distances, ``a.value / b.value``, refused unless they were measured alike.

    Raises:
        InputError: Another metric, another extractor, another number of rows, or a distance of zero or less below.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(60, 4))
        >>> near, far = (distance_report(rows[:30], rows[30:] + shift, resamples=2)["fid"] for shift in (1, 9))
        >>> compare(near, far) < 1
        True
    """
    for key in ("metric", "fingerprint", "n_real", "n_synthetic"):
        one, other = getattr(a, key), getattr(b, key)
        if one != other:
            raise InputError(
                f"The distances differ in {key} ({one} and {other}); measure both with one extractor and equal numbers."
            )
    if b.value <= 0:
        raise InputError(f"The second value is {b.value:g}, so there is no ratio to it.")
    return a.value / b.value


def _refuse_degenerate(real: np.ndarray, synthetic: np.ndarray) -> None:
    """Sets whose figures would look like a result and say nothing."""
    if (real == real[0]).all():
        raise InputError(f"All {len(real)} real feature rows are alike: the real images do not vary.")
    if real.shape == synthetic.shape:
        one, other = (rows[np.lexsort(rows.T)] for rows in (real, synthetic))
        if np.array_equal(one, other):
            raise InputError("Real and synthetic features are the same rows: a set was compared with itself.")


def _numbers(
    family: Family, real: np.ndarray, synthetic: np.ndarray, *, seed: int, resamples: int, confidence: float
) -> dict[str, np.ndarray]:
    """Value, interval, floor and value at the floor's size: arrays over the family's metrics."""
    n, m = len(real), len(synthetic)
    between = family.of_rows(real, synthetic)
    value = between(np.arange(n), np.arange(m))
    rng = numpy_generator("frechet interval", seed)
    # Many small computations, in which threads would wait for each other longer than they work.
    with threadpool_limits(1, user_api="blas"):
        halves = np.stack([between(_draw(rng, n, n // 2), _draw(rng, m, m // 2)) for _ in range(resamples)])
        floor, value_at_floor_n = np.mean(list(_floor_pairs(family, real, synthetic, between, seed=seed)), axis=0)
    tail = (1 - confidence) / 2
    low, high = value - (np.quantile(halves, [1 - tail, tail], axis=0) - halves.mean(axis=0))
    return {
        "value": value,
        # A mean outside its own quantiles (few, skewed resamples) must not push the value out.
        "ci_low": np.clip(low, family.low, value),
        "ci_high": np.minimum(np.maximum(high, value), family.high),
        "floor": floor,
        "value_at_floor_n": value_at_floor_n,
    }


def _floor_rows(real: np.ndarray, synthetic: np.ndarray) -> int:
    """Rows a side behind the floor."""
    return min(len(real) // 2, len(synthetic))


def _floor_pairs(
    family: Family, real: np.ndarray, synthetic: np.ndarray, between: Measure, *, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(real to other real rows, real to synthetic rows), equally many a side, split by split."""
    within, size = family.of_rows(real, real), _floor_rows(real, synthetic)
    rng = numpy_generator("frechet floor", seed)
    for _ in range(FLOOR_SPLITS):
        order = rng.permutation(len(real))
        one, other = order[:size], order[size : 2 * size]
        yield within(one, other), between(one, _draw(rng, len(synthetic), size))


def _draw(rng: np.random.Generator, n: int, size: int) -> Rows:
    return rng.permutation(n)[:size]
