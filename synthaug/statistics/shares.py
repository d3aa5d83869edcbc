"""Intervals of shares of independent cases."""

from scipy import stats

from synthaug.statistics.intervals import Interval


def share_interval(hits: int, n: int, *, confidence: float) -> Interval:
    """A share with Wilson's interval (1927), which has a width at 0 and 1 too, where a bootstrap has none.

    Args:
        hits: Cases that count.
        n: All cases, at least 1; independent of each other.
        confidence: Coverage, in (0, 1).

    Example:
        >>> interval = share_interval(10, 10, confidence=0.95)
        >>> interval.value, round(interval.low, 3), interval.high
        (1.0, 0.722, 1.0)
    """
    low, high = stats.binomtest(hits, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(value=hits / n, low=float(low), high=float(high))
