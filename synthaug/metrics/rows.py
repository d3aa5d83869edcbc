"""What every image metric starts from: checked feature rows, and the form in which it is computed on some of them."""

from collections.abc import Callable

import numpy as np

from synthaug.ground.errors import InputError

Rows = np.ndarray
"""Row numbers, int."""
Measure = Callable[[Rows, Rows], np.ndarray]
"""The values of a metric between some rows of one set and some rows of another; what all rows share is computed once.
A metric with several figures (precision, recall, ...) gives one value each."""


def checked_features(a: np.ndarray, b: np.ndarray, *, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sets in float64.

    Raises:
        InputError: Fewer than ``least`` rows, unlike columns, or values that are not finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for name, rows in (("first", a), ("second", b)):
        if rows.ndim != 2 or rows.shape[1] == 0 or len(rows) < least:
            raise InputError(f"The {name} features have shape {rows.shape}; needed are (n >= {least}, d >= 1).")
        if not np.isfinite(rows).all():
            raise InputError(f"The {name} features hold NaN or infinity in row {_first_bad(rows)}.")
    if a.shape[1] != b.shape[1]:
        raise InputError(f"The features have {a.shape[1]} and {b.shape[1]} columns; take both from one extractor.")
    return a, b


def _first_bad(rows: np.ndarray) -> int:
    return int(np.argmin(np.isfinite(rows).all(axis=1)))
