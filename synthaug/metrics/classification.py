"""Classification metrics from class probabilities, computed by scikit-learn."""

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    recall_score,
    roc_auc_score,
)

from synthaug.errors import InputError

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
        ``accuracy``, ``auroc``, ``average_precision``; for two classes also ``sensitivity``, ``specificity``, ``f1``
        and ``brier`` (mean squared error of the probability of class 1, 0 to 1). With more than two classes, accuracy
        is that of the likeliest class; auroc and average precision are means over classes, each against the rest.

    Raises:
        InputError: Labels that lack a class, or probabilities of the wrong shape, range or sum.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> metrics = classification_metrics(np.array([0, 0, 1, 1]), probabilities)
        >>> metrics["accuracy"], metrics["auroc"], metrics["specificity"]
        (0.75, 1.0, 0.5)
    """
    labels, probabilities = _checked(labels, probabilities)
    result = {"auroc": auroc(labels, probabilities), "average_precision": average_precision(labels, probabilities)}
    if probabilities.shape[1] > 2:
        return {"accuracy": float(accuracy_score(labels, probabilities.argmax(axis=1))), **result}
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold} must lie in [0, 1].")
    positive = probabilities[:, 1]
    called = (positive >= threshold).astype(int)
    return {
        "accuracy": float(accuracy_score(labels, called)),
        **result,
        "sensitivity": float(recall_score(labels, called, pos_label=1)),
        "specificity": float(recall_score(labels, called, pos_label=0)),
        # Nothing called positive is F1 = 0, not undefined: 2 TP / (2 TP + FP + FN) with FN > 0.
        "f1": float(f1_score(labels, called, zero_division=0)),
        "brier": float(brier_score_loss(labels, positive)),
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
    return float(roc_auc_score(*_one_against_rest(*_checked(labels, probabilities)), average="macro"))


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
    return float(average_precision_score(*_one_against_rest(*_checked(labels, probabilities)), average="macro"))


def _one_against_rest(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Membership and score: of class 1 alone (n,) for two classes, else of every class (n, K)."""
    classes = probabilities.shape[1]
    if classes == 2:
        return labels, probabilities[:, 1]
    return np.eye(classes, dtype=int)[labels], probabilities


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
