"""What so few people can show: the smallest true effects that a test of level 5 % finds in four of five repetitions.

    python benchmarks/studies/real_reports/detectable.py

Areas under ROC curves by Hanley & McNeil (1982), paired ones by the same authors (1983).
"""

import json

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

LEVEL, POWER = 0.05, 0.8
REACH = float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER))
"""Standard errors between nothing and the smallest effect that is found so often: 2.8."""
CORRELATION = 0.5
"""Between the areas of two readers on the same people; no more than a usual value."""


def auroc_error(area: float, positives: int, negatives: int) -> float:
    """Standard error of an area under the ROC curve.

    Example:
        At chance its square is that of the rank sum, (n + m + 1) / (12 n m).

        >>> round(auroc_error(0.5, 8, 37) ** 2 * 12 * 8 * 37)
        46
    """
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (one - area**2) + (negatives - 1) * (two - area**2)
    return float(np.sqrt(max(spread, 0.0) / (positives * negatives)))


def least_auroc(positives: int, negatives: int) -> float:
    """The smallest true area that is told from 0.5 with the power.

    Example:
        >>> least_auroc(100, 100) < least_auroc(8, 37) < 1
        True
    """
    null = norm.ppf(1 - LEVEL / 2) * auroc_error(0.5, positives, negatives)

    def missing(area: float) -> float:
        return area - 0.5 - null - norm.ppf(POWER) * auroc_error(area, positives, negatives)

    return float(brentq(missing, 0.5, 1.0))


def least_difference(base: float, positives: int, negatives: int) -> float:
    """The smallest true difference between two readers' areas about ``base``, read on the same people."""
    return REACH * auroc_error(base, positives, negatives) * float(np.sqrt(2 * (1 - CORRELATION)))


def people_needed(base: float, gap: float, share: float) -> int:
    """People, of whom ``share`` are positive, on whom a difference ``gap`` between two readers is found.

    Example:
        >>> people_needed(0.8, 0.05, 0.5) > 2 * people_needed(0.8, 0.1, 0.5)
        True
    """
    n = 4
    while least_difference(base, max(round(share * n), 1), n - max(round(share * n), 1)) > gap:
        n = n + max(1, n // 100)
    return n


def detectable(positives: int, n: int) -> dict[str, float]:
    """All of it, for a finding that ``positives`` of ``n`` people have."""
    negatives = n - positives
    return {
        "positives": positives,
        "n": n,
        "least_auroc": least_auroc(positives, negatives),
        "least_difference_at_0.8": least_difference(0.8, positives, negatives),
        "people_for_0.1_at_0.8": people_needed(0.8, 0.1, positives / n),
        "people_for_0.05_at_0.8": people_needed(0.8, 0.05, positives / n),
    }


if __name__ == "__main__":
    print(json.dumps({"EPE": detectable(23, 45), "SVI": detectable(8, 45)}, indent=2))
