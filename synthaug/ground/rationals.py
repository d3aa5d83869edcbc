"""Floats as the fractions that were meant by them, so that counting does not depend on their last bits."""

import math
from fractions import Fraction
from numbers import Rational, Real
from typing import Any, TypeGuard

import numpy as np

ROUNDINGS = 4
"""Units in the last place by which a float may miss what was meant: a few roundings on its way here."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a real number of any kind, NumPy's included."""
    return isinstance(value, Real)


def exact(number: float | Fraction) -> Fraction:
    """The simplest fraction that a number stands for.

    Args:
        number: Finite; a float of any width, or a rational number, which is taken as it is.

    Example:
        >>> exact(0.1), exact(1 - 0.9), exact(np.float32(2 / 3)), exact(0.5)
        (Fraction(1, 10), Fraction(1, 10), Fraction(2, 3), Fraction(1, 2))
    """
    if isinstance(number, Rational):
        return Fraction(int(number.numerator), int(number.denominator))
    kind = type(number) if isinstance(number, np.floating) else np.float64
    value = Fraction(float(number))
    margin = abs(value) * Fraction(float(np.finfo(kind).eps)) * ROUNDINGS
    found = _simplest(abs(value) - margin, abs(value) + margin)
    return found if value >= 0 else -found


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of smallest denominator in [low, high], by its continued fraction."""
    whole = math.floor(low)
    if whole == low:
        return Fraction(whole)
    if whole + 1 <= high:
        return Fraction(whole + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))
