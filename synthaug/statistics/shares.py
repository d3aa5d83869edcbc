"""Intervals of shares of independent cases."""

import numpy as np
from scipy import stats

from synthaug.statistics.intervals import Interval, checked_confidence


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
    checked_confidence(confidence)
    low, high = stats.binomtest(hits, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(value=hits / n, low=float(low), high=float(high))


def wilson_ends(share: float, n: int, *, confidence: float) -> tuple[float, float]:
    """Ends of Wilson's interval of a share that need be no whole count, as where ties count half.

    Example:
        >>> [round(end, 3) for end in wilson_ends(0.5, 4, confidence=0.95)]
        [0.15, 0.85]
    """
    z = float(stats.norm.ppf((1 + checked_confidence(confidence)) / 2))
    middle, reach = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return float((middle - reach) / scale), float((middle + reach) / scale)
