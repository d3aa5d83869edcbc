"""The classification metrics with a weight a row, for thousands of weightings at once.

They are scikit-learn's (``metrics.classification``) with its ``sample_weight``. Order and contribution of the rows are
computed once for all weightings. A weighting then costs one matrix product and two cumulative sums.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthaug.statistics.bins import BINS, bin_of
from synthaug.statistics.ranks import RANK_STATISTICS, ClassOrder, rank_statistics


@dataclass(frozen=True)
class Counts:
    """Sums over rows for each class against the rest: (K, R) under R weightings, or what broadcasts to it."""

    positives: np.ndarray
    """Rows of the class."""
    negatives: np.ndarray
    """Other rows."""
    hits: np.ndarray
    """Rows of the class that are called so."""
    alarms: np.ndarray
    """Other rows that are called so."""
    errors: np.ndarray
    """Squared errors of the class's probability."""
    total: np.ndarray | int
    """Rows."""


OF_COUNTS: dict[str, Callable[[Counts], np.ndarray]] = {
    "sensitivity": lambda counts: counts.hits / counts.positives,
    "specificity": lambda counts: (counts.negatives - counts.alarms) / counts.negatives,
    "f1": lambda counts: 2 * counts.hits / (counts.hits + counts.alarms + counts.positives),
    "brier": lambda counts: counts.errors / counts.total,
}
"""Statistics of a class, averaged over classes. A new one is a line here: cells, intervals, p-values, report and
tracking take it from this list."""
STATISTICS = ("accuracy", *RANK_STATISTICS, *OF_COUNTS, "ece")
"""In the order of tables."""
BLOCK = 2**17
"""Weights gone through at a time: as many as a core's cache holds."""


def weighted_statistics(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Every statistic with rows weighted, for many weightings.

    Args:
        labels: Classes (n,).
        probabilities: (n, K).
        weights: (R, n), of any number type.

    Returns:
        (R, len(STATISTICS)), of the meaning that ``classification_metrics`` gives them; NaN where the weighted rows
        lack a class. What is needed beside it does not grow with R.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
        >>> weighted_statistics(np.array([0, 0, 1]), scores, np.array([[1, 1, 1], [2, 0, 1]]))[:, 0].round(3).tolist()
        [0.667, 1.0]
    """
    rows = ScoredRows.of(labels, probabilities)
    size = max(BLOCK // max(len(labels), 1), 1)
    blocks = [rows.measure(weights[start : start + size]) for start in range(0, len(weights), size)]
    return np.concatenate(blocks) if blocks else np.empty((0, len(STATISTICS)))


def called_classes(probabilities: np.ndarray) -> np.ndarray:
    """The class that each row of probabilities (n, K) is called: of two classes the second from a half on."""
    return probabilities.argmax(axis=1) if probabilities.shape[1] > 2 else (probabilities[:, 1] >= 0.5).astype(int)


def calibration_gaps(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Confidence less success of each row, in the line of its bin (BINS, n)."""
    confidence, likeliest = probabilities.max(axis=1), probabilities.argmax(axis=1)
    return (confidence - (likeliest == labels)) * (bin_of(confidence) == np.arange(BINS)[:, None])


@dataclass(frozen=True)
class ScoredRows:
    """Rows with class probabilities, made ready for many weightings."""

    sums: np.ndarray
    """What each row adds to each sum (rows of :meth:`measure`'s product, n)."""
    orders: list[ClassOrder]
    """Of the class 1 of two, or of each class."""

    @classmethod
    def of(cls, labels: np.ndarray, probabilities: np.ndarray) -> "ScoredRows":
        """Of classes (n,) and probabilities (n, K)."""
        classes = probabilities.shape[1]
        called = called_classes(probabilities)
        sums, orders = (
            [np.ones((1, len(labels))), (called == labels)[None], calibration_gaps(labels, probabilities)],
            [],
        )
        for label in range(1, 2) if classes == 2 else range(classes):
            member, calls = labels == label, called == label
            errors = (probabilities[:, label] - member) ** 2
            sums.append(np.stack([member, member & calls, ~member & calls, errors]))
            orders.append(ClassOrder.of(member, probabilities[:, label]))
        return cls(np.concatenate(sums).astype(float), orders)

    def measure(self, weights: np.ndarray) -> np.ndarray:
        """``STATISTICS`` (R, S) under weights (R, n)."""
        columns = np.ascontiguousarray(weights.T, dtype=float)
        total, right, *rest = self.sums @ columns
        gaps, of_classes = np.stack(rest[:BINS]), np.stack(rest[BINS:]).reshape(len(self.orders), 4, -1)
        positives, hits, alarms, errors = of_classes.swapaxes(0, 1)
        negatives = total - positives
        counts = Counts(positives, negatives, hits, alarms, errors, total)
        with np.errstate(invalid="ignore", divide="ignore"):
            ranked = np.stack([rank_statistics(order, columns) for order in self.orders], axis=1)
            of_class = dict(zip(RANK_STATISTICS, ranked, strict=True))
            of_class |= {name: statistic(counts) for name, statistic in OF_COUNTS.items()}
            found = {name: values.mean(axis=0) for name, values in of_class.items()}
            found |= {"accuracy": right / total, "ece": np.abs(gaps).sum(axis=0) / total}
        whole = (positives > 0).all(axis=0) & (negatives > 0).all(axis=0)
        return np.where(whole[:, None], np.stack([found[name] for name in STATISTICS], axis=1), np.nan)
