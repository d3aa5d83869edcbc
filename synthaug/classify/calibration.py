"""Temperature scaling: one parameter that calibrates confidence and changes no decision."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from synthaug.ground.errors import InputError

LIMITS = (0.1, 10.0)
"""Bounds of the temperature: few validation patients, all predicted correctly, would give 0."""
SMALLEST = np.finfo(np.float64).tiny
"""Lower bound of probabilities before the logarithm: a larger one would cut the logits of a sure classifier."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T that minimises the cross-entropy of softmax(logits / T) (Guo et al. 2017, section 4.2).

    Args:
        logits: (n, K), of validation subjects.
        labels: Classes (n,), integers from 0.

    Returns:
        T in ``LIMITS``; above 1 for an overconfident classifier.

    Raises:
        InputError: Unlike lengths, no rows, values that are not finite, or a label that is none of the K classes.

    Example:
        Three of four are right, so that a confidence of 3/4 is honest: log 3 = 4 / T.

        >>> logits = np.array([[0.0, 4.0], [0.0, 4.0], [0.0, 4.0], [0.0, 4.0]])
        >>> round(fit_temperature(logits, np.array([1, 1, 1, 0])), 3), round(float(4 / np.log(3)), 3)
        (3.641, 3.641)
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels) or not np.isfinite(logits).all():
        raise InputError(f"Logits {logits.shape} and labels {labels.shape} must be finite (n, K) and (n,), n >= 1.")
    if len(odd := np.flatnonzero(~np.isin(labels, np.arange(logits.shape[1])))):
        raise InputError(
            f"Label {odd[0]} is {labels[odd[0]]}; the logits are of the classes 0 to {logits.shape[1] - 1}."
        )
    found = minimize_scalar(
        lambda log_temperature: _cross_entropy(logits, labels, np.exp(log_temperature)),
        bounds=np.log(LIMITS),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def calibrated_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Cross-entropy at the best temperature, which measures discrimination without calibration.

    A classifier of synthetic volumes becomes overconfident on real ones: its plain loss rises while its ranking still
    improves. Not finite where a logit is not.

    Args:
        logits: (n, K).
        labels: Classes (n,), integers from 0.

    Raises:
        InputError: As :func:`fit_temperature`.

    Example:
        >>> logits, labels = np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 1.0]]), np.array([1, 0, 0])
        >>> round(calibrated_loss(logits, labels), 4) == round(calibrated_loss(4 * logits, labels), 4)
        True
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if not np.isfinite(logits).all():
        return float("nan")
    return _cross_entropy(logits, labels, fit_temperature(logits, labels))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels.astype(int)].mean())


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, K) as softmax(logits / temperature) would have given them.

    Example:
        >>> apply_temperature(np.array([[0.1, 0.9]]), 2.0).round(2).tolist()  # odds 9 become odds 3
        [[0.25, 0.75]]
    """
    return softmax(np.log(np.clip(probabilities, SMALLEST, None)) / temperature, axis=1)
