"""Which difference in AUROC a study can show: at a coverage, with a power, one comparison of two classifiers."""

import math
from statistics import NormalDist

POWER = 0.8
"""Chance with which a true difference of the size that is told comes out clear."""


def is_small(p: float, *, alpha: float) -> bool:
    """Whether a p is at most ``alpha``, which 1 - confidence is but for rounding.

    Example:
        >>> 0.1 <= 1 - 0.9, is_small(0.1, alpha=1 - 0.9)
        (False, True)
    """
    return p <= alpha + 1e-9


def standard_error(positives: int, negatives: int, *, auroc: float) -> float:
    """Of one AUROC, by Hanley and McNeil (1982)."""
    first, second = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (positives - 1) * (first - auroc**2) + (negatives - 1) * (second - auroc**2)
    return math.sqrt(variance / (positives * negatives))


def planned_difference(
    positives: int, negatives: int, *, auroc: float = 0.75, correlation: float = 0.5, confidence: float = 0.95
) -> float:
    """Smallest difference between two AUROCs on the same test patients that a study of this size is likely to show.

    Args:
        positives: Test patients of one class.
        negatives: Of the other.
        auroc: Of the better understood classifier.
        correlation: Of the two AUROCs' errors.
        confidence: Coverage of the interval that shall leave out 0.

    Example:
        >>> round(planned_difference(50, 50), 3), round(planned_difference(500, 500), 3)
        (0.137, 0.043)
    """
    return _reach(confidence) * standard_error(positives, negatives, auroc=auroc) * math.sqrt(2 * (1 - correlation))


def seen_difference(low: float, high: float, *, confidence: float) -> float:
    """The same from an interval that a study found, by its width.

    Example:
        >>> round(seen_difference(-0.1, 0.1, confidence=0.95), 3)
        0.143
    """
    return _reach(confidence) * (high - low) / (2 * NormalDist().inv_cdf((1 + confidence) / 2))


def _reach(confidence: float) -> float:
    """Standard errors between no difference and one that comes out clear with ``POWER``."""
    return NormalDist().inv_cdf((1 + confidence) / 2) + NormalDist().inv_cdf(POWER)
