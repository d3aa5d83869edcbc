"""The bins of confidence that calibration is measured over."""

import numpy as np

BINS = 10
"""Bins of the calibration error."""


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Which of the ``BINS`` bins (a, b] of [0, 1] each confidence falls into.

    Example:
        >>> bin_of(np.array([0.0, 0.1, 0.11, 1.0])).tolist()
        [0, 0, 1, 9]
    """
    return np.clip(np.ceil(np.round(confidence * BINS, 9)).astype(int) - 1, 0, BINS - 1)
