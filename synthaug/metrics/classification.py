"""Classification metrics from class probabilities; they equal scikit-learn's."""

from collections.abc import Iterator

import numpy as np
from sklearn.metrics import brier_score_loss

from synthaug.ground.errors import InputError
from synthaug.statistics.bins import BINS, bin_of
from synthaug.statistics.ranks import RANK_STATISTICS
from synthaug.statistics.weighted import OF_COUNTS, Counts

SUM_TOLERANCE = 1e-3
"""How far from 1 the probabilities of a row may sum: float16 softmax rounds."""


def classification_metrics(
    labels: np.ndarray, probabilities: np.ndarray, *, threshold: float = 0.5
) -> dict[str, float]:
    """Every metric that the number of classes allows.

    Args:
        labels: Classes (n,), integers from 0.
        probabilities: Class probabilities (n, K), K >= 2; rows sum to 1.
        threshold: Binary only: class 1 is called where its probability is at least this.

    Returns:
        ``accuracy``, ``auroc``, ``average_precision``, ``sensitivity``, ``specificity``, ``f1``, ``brier`` (mean
        squared error of the probability, 0 to 1) and ``ece`` (:func:`calibration_error`). With more than two classes
        the most probable one is predicted. Accuracy and ece are over all rows; the other metrics are macro averages,
        one class against the rest.

    Raises:
        InputError: Labels that lack a class, or probabilities of the wrong shape, range or sum.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> metrics = classification_metrics(np.array([0, 0, 1, 1]), probabilities)
        >>> metrics["accuracy"], metrics["auroc"], metrics["specificity"]
        (0.75, 1.0, 0.5)
    """
    labels, probabilities = _checked(labels, probabilities)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold} must lie in [0, 1].")
    if probabilities.shape[1] == 2:
        truth, called = labels[:, None], (probabilities[:, 1:] >= threshold).astype(int)
        right = truth == called
    else:
        truth = np.eye(probabilities.shape[1], dtype=int)[labels]
        called = np.eye(probabilities.shape[1], dtype=int)[probabilities.argmax(axis=1)]
        right = (called * truth).any(axis=1)

    positives, hits, calls = truth.sum(axis=0), (truth * called).sum(axis=0), called.sum(axis=0)
    errors = np.square(probabilities[:, -truth.shape[1] :] - truth).sum(axis=0)
    counts = Counts(positives, len(truth) - positives, hits, calls - hits, errors, len(truth))
    return {
        "accuracy": float(right.mean()),
        **{name: _of_ranks(name, labels, probabilities) for name in RANK_STATISTICS},
        # Nothing called positive is F1 = 0, not undefined: 2 TP / (2 TP + FP + FN) with FN > 0.
        **{name: float(np.mean(statistic(counts))) for name, statistic in OF_COUNTS.items()},
        "brier": brier(labels, probabilities),
        "ece": calibration_error(labels, probabilities),
    }


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve; with more than two classes the mean over classes, each against the rest.

    Args:
        labels: Classes (n,), integers from 0.
        probabilities: Class probabilities (n, K), K >= 2.

    Raises:
        InputError: As ``classification_metrics``.

    Example:
        Of the four (negative, positive) pairs three are in order.

        >>> auroc(np.array([0, 1, 0, 1]), np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]]))
        0.75
    """
    return _of_ranks("auroc", *_checked(labels, probabilities))


def average_precision(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Average precision (the step-wise area under precision-recall); mean over classes where there are more than two.

    Args:
        labels: Classes (n,), integers from 0.
        probabilities: Class probabilities (n, K), K >= 2.

    Raises:
        InputError: As ``classification_metrics``.

    Example:
        The positives rank first and third: (1/1 + 2/3) / 2.

        >>> scores = np.array([0.1, 0.3, 0.4, 0.8])
        >>> round(average_precision(np.array([0, 1, 0, 1]), np.stack([1 - scores, scores], axis=1)), 4)
        0.8333
    """
    return _of_ranks("average_precision", *_checked(labels, probabilities))


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Brier score, 0 (best) to 1; with more than two classes the mean over classes, each against the rest.

    Args:
        labels: Classes (n,), integers from 0.
        probabilities: Class probabilities (n, K), K >= 2.

    Raises:
        InputError: As ``classification_metrics``.

    Example:
        >>> brier(np.array([0, 1]), np.array([[0.5, 0.5], [0.0, 1.0]]))
        0.125
    """
    columns = _one_against_rest(*_checked(labels, probabilities))
    # Sums may be off by rounding, which scikit-learn refuses above 1.
    return float(np.mean([brier_score_loss(member, np.clip(score, 0, 1)) for member, score in columns]))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: mean gap between confidence and accuracy (Guo et al. 2017, equation 3).

    Over ``BINS`` equal bins of the likeliest class's probability, each weighted by its share of rows.

    Args:
        labels: Classes (n,), integers from 0.
        probabilities: Class probabilities (n, K), K >= 2.

    Raises:
        InputError: As ``classification_metrics``.

    Example:
        Two rows of confidence 0.75, of which one is right: the gap is 0.25.

        >>> calibration_error(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.25]]))
        0.25
    """
    labels, probabilities = _checked(labels, probabilities)
    gaps = probabilities.max(axis=1) - (probabilities.argmax(axis=1) == labels)
    return float(np.abs(np.bincount(bin_of(probabilities.max(axis=1)), weights=gaps, minlength=BINS)).sum() / len(gaps))


def _of_ranks(name: str, labels: np.ndarray, probabilities: np.ndarray) -> float:
    statistic = RANK_STATISTICS[name]
    return float(np.mean([statistic.plain(*column) for column in _one_against_rest(labels, probabilities)]))


def _one_against_rest(labels: np.ndarray, probabilities: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Membership and score (n,): of class 1 alone for two classes, else of every class."""
    classes = probabilities.shape[1]
    for label in range(1, 2) if classes == 2 else range(classes):
        yield labels == label, probabilities[:, label]


def _checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or labels.shape != probabilities.shape[:1]:
        raise InputError(
            f"Labels {labels.shape} and probabilities {probabilities.shape} do not fit; needed: (n,) and (n, K >= 2)."
        )
    # Written so that NaN fails too: every comparison with NaN is false.
    in_range = ((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    sums_to_one = np.abs(probabilities.sum(axis=1) - 1) <= SUM_TOLERANCE
    bad = np.flatnonzero(~(in_range & sums_to_one))
    if len(bad):
        raise InputError(f"Row {bad[0]} is {probabilities[bad[0]]}, not probabilities that sum to 1: apply a softmax.")
    present, expected = np.unique(labels).tolist(), list(range(probabilities.shape[1]))
    if present != expected:
        raise InputError(f"The labels hold the classes {present}, the probabilities have columns for {expected}.")
    return labels.astype(int), probabilities
