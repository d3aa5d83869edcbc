"""Synthetic subjects per class, and the class of a replacement: pure functions of class counts.

``sampling_strategy`` is that of imbalanced-learn for over-sampling (Lemaître et al. 2017, JMLR 18(17)).
"""

import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np

from synthaug.data.reading.manifest import class_index
from synthaug.ground.errors import InputError
from synthaug.ground.rationals import exact, is_number

Strategy = str | float | Mapping[int, int] | Callable[[np.ndarray], Mapping[int, int]]
"""A name, the ratio minority / majority of two classes, each class's total, or a function labels -> totals."""
Schedule = float | Callable[[int], float] | Sequence[tuple[int, float]]
"""A number, a function epoch -> number, or points (epoch, number) with linear interpolation."""
MODES = ("add", "replace", "synthetic")


def synthetic_counts(
    real: Mapping[int, int],
    *,
    sampling_strategy: Strategy = "auto",
    synthetic_fraction: float | None = None,
    mode: str = "add",
) -> dict[int, int]:
    """Number of synthetic subjects of each class in one epoch.

    Args:
        real: Real subjects of each class.
        sampling_strategy: As in imbalanced-learn. "auto", "not majority" and "all" fill every class to the largest.
            "minority" fills the smallest class only, "not minority" all but the smallest; of equally small classes the
            first counts. A number in (0, 1]: the ratio minority / majority after filling, for two classes. A
            dictionary: the total of each class after filling; other classes stay. A function: labels -> dictionary.
        synthetic_fraction: Synthetic share in [0, 1]; None = from the strategy. In mode "add": the share of the largest
            class, and the others are filled to the same total. At 1 no real subjects remain. In mode "replace": the
            share of every class.
        mode: "add": all real subjects stay. "replace": synthetic subjects take the place of real ones, and the total of
            each class stays. "synthetic": the totals of the strategy, of synthetic subjects alone.

    Returns:
        {class: synthetic subjects}; with "auto" and mode "add" real + synthetic is equal for every class.

    Raises:
        InputError: An unknown strategy or mode, a total below the real count, a fraction outside [0, 1], or settings
            that contradict each other.

    Example:
        >>> synthetic_counts({0: 30, 1: 10})
        {0: 0, 1: 20}
        >>> synthetic_counts({0: 30, 1: 10}, sampling_strategy=0.5)
        {0: 0, 1: 5}
        >>> synthetic_counts({0: 30, 1: 10}, synthetic_fraction=0.5)
        {0: 30, 1: 50}
        >>> synthetic_counts({0: 30, 1: 10}, synthetic_fraction=0.5, mode="replace")
        {0: 15, 1: 5}
        >>> synthetic_counts({0: 30, 1: 10}, mode="synthetic")
        {0: 30, 1: 30}
    """
    _check_mode(mode, synthetic_fraction)
    if synthetic_fraction is None or mode == "synthetic":
        fill = _fill_counts(real, sampling_strategy)
        return {label: fill[label] + (real[label] if mode == "synthetic" else 0) for label in real}
    if sampling_strategy != "auto":
        raise InputError("synthetic_fraction fills every class; leave sampling_strategy at 'auto' beside it.")
    if not 0 <= synthetic_fraction <= 1:
        raise InputError(f"synthetic_fraction={synthetic_fraction} must lie in [0, 1].")
    share = exact(synthetic_fraction)
    if mode == "replace":
        return {label: math.ceil(share * count) for label, count in real.items()}
    largest = max(real.values())
    if share == 1:
        return dict.fromkeys(real, largest)
    total = math.ceil(largest / (1 - share))
    return {label: total - count for label, count in real.items()}


def kept_counts(
    real: Mapping[int, int], synthetic: Mapping[int, int], *, synthetic_fraction: float | None, mode: str
) -> dict[int, int]:
    """Number of real subjects of each class in an epoch, given the counts of :func:`synthetic_counts`.

    Example:
        >>> kept_counts({0: 30, 1: 10}, {0: 15, 1: 5}, synthetic_fraction=0.5, mode="replace")
        {0: 15, 1: 5}
    """
    if mode == "synthetic" or (synthetic_fraction is not None and exact(synthetic_fraction) == 1):
        return dict.fromkeys(real, 0)
    return {label: count - (synthetic[label] if mode == "replace" else 0) for label, count in real.items()}


def fraction_at(schedule: Schedule | None, epoch: int) -> float | None:
    """Synthetic fraction of an epoch, for curricula from synthetic to real or the reverse.

    Args:
        schedule: A number; a function of the epoch; or points (epoch, fraction) in ascending order, with linear
            interpolation and constant extrapolation. None = None.
        epoch: From 0.

    Raises:
        InputError: The points are no pairs in ascending order.

    Example:
        >>> [fraction_at([(0, 1.0), (4, 0.0)], epoch) for epoch in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """
    if schedule is None or isinstance(schedule, int | float) or is_number(schedule):
        return schedule
    if callable(schedule):
        fraction = schedule(epoch)
        if not is_number(fraction):
            raise InputError(f"synthetic_fraction gives {fraction!r} for epoch {epoch}, which is no number.")
        return fraction
    if isinstance(schedule, str) or not all(isinstance(point, Sequence) and len(point) == 2 for point in schedule):
        raise InputError(f"synthetic_fraction={schedule!r} must be a number, a function or points (epoch, fraction).")
    epochs = [point[0] for point in schedule]
    if not epochs or any(later <= earlier for earlier, later in itertools.pairwise(epochs)):
        raise InputError(f"synthetic_fraction={list(schedule)} must hold points in rising order of the epoch.")
    if not all(0 <= point[1] <= 1 for point in schedule):
        raise InputError(f"synthetic_fraction={list(schedule)} must hold fractions in [0, 1].")
    return float(_between([(exact(at), exact(fraction)) for at, fraction in schedule], epoch))


def target_weights(
    target: str | Mapping[int, float], class_counts: Mapping[int, int] | None, p: float
) -> dict[int, float] | None:
    """Class weights of a replacement; None = the class of the subject.

    Args:
        target: "same", "balance" (so that, replacing with probability ``p``, the expected share of every class is
            equal), or {class: weight}.
        class_counts: Subjects of each class in the training set, for "balance".
        p: Probability that a subject is replaced.

    Raises:
        InputError: The target cannot be read, or ``p`` is too small to balance the classes.

    Example:
        >>> target_weights("balance", {0: 30, 1: 10}, 0.5)
        {0: 0.25, 1: 0.75}
    """
    if target == "same":
        return None
    if isinstance(target, Mapping):
        if not all(0 <= weight < math.inf for weight in target.values()) or sum(target.values()) <= 0:
            raise InputError(f"target={dict(target)} must give classes weights that are not negative and not all 0.")
        return {class_index(label): float(weight) for label, weight in target.items()}
    if target != "balance":
        raise InputError(f"target={target!r} is unknown; use 'same', 'balance' or {{class: weight}}.")
    if not class_counts:
        raise InputError("target='balance' needs class_counts, the subjects of each class in the training set.")
    if min(class_counts.values()) < 0 or not any(class_counts.values()):
        raise InputError(f"class_counts={dict(class_counts)} must not be negative, nor all 0.")
    # A class with share s ends with (1-p)s + p*w; equal shares 1/K need w = (1/K - (1-p)s)/p, never negative.
    total, classes = sum(class_counts.values()), len(class_counts)
    least = 1 - total / (classes * max(class_counts.values()))
    if 0 < p < least - 1e-9:
        raise InputError(f"p={p} is too small to balance {dict(class_counts)}; p must be at least {least:.3f}.")
    needed = {int(c): max(0.0, 1 / classes - (1 - p) * count / total) for c, count in class_counts.items()}
    sum_needed = sum(needed.values())
    if sum_needed == 0:  # p = 0: nothing is ever drawn
        return dict.fromkeys(needed, 1.0)
    return {label: weight / sum_needed for label, weight in needed.items()}


def require_classes(classes: Sequence[int], weights: Mapping[int, float] | None) -> None:
    """InputError unless a source of these classes has every class with a weight above 0.

    Example:
        >>> require_classes([0, 1], {1: 1.0, 2: 0.0})
    """
    absent = sorted({label for label, weight in (weights or {}).items() if weight > 0} - set(classes))
    if absent:
        raise InputError(f"The source has no volumes of class {absent[0]}; it has classes {classes}.")


def _fill_counts(real: Mapping[int, int], strategy: Strategy) -> dict[int, int]:
    """Subjects to add to each class, as imbalanced-learn reckons them for over-sampling."""
    largest = max(real.values())
    if isinstance(strategy, str):
        smallest = min(sorted(real), key=lambda label: real[label])
        named = {
            "minority": {smallest},
            "not minority": set(real) - {smallest},
            **{name: set(real) for name in ("auto", "not majority", "all")},
        }
        if strategy not in named:
            raise InputError(
                f"sampling_strategy={strategy!r} is unknown; use {', '.join(map(repr, named))}, a ratio, a dictionary "
                "or a function."
            )
        return {label: largest - count if label in named[strategy] else 0 for label, count in real.items()}
    if isinstance(strategy, int | float) or is_number(strategy):
        return _ratio_counts(real, strategy)
    totals = strategy(np.repeat(sorted(real), [real[c] for c in sorted(real)])) if callable(strategy) else strategy
    if not isinstance(totals, Mapping):
        raise InputError(f"sampling_strategy={totals!r} must be a name, a ratio, a dictionary or a function.")
    short = {label for label, total in totals.items() if total < real.get(label, 0)}
    if short or set(totals) - set(real):
        raise InputError(f"sampling_strategy={dict(totals)} must name classes and totals >= {dict(real)}.")
    parts = [label for label, total in totals.items() if total != int(total)]
    if parts:
        raise InputError(f"sampling_strategy={dict(totals)} must give class {parts[0]} a whole number of subjects.")
    return {label: int(totals.get(label, count)) - count for label, count in real.items()}


def _ratio_counts(real: Mapping[int, int], ratio: float) -> dict[int, int]:
    if len(real) != 2:
        raise InputError(
            f"sampling_strategy={ratio} is a ratio of two classes, but there are {len(real)}; give a dictionary."
        )
    if not 0 < ratio <= 1:
        raise InputError(f"sampling_strategy={ratio} must lie in (0, 1], the ratio minority / majority.")
    majority = max(sorted(real), key=lambda label: real[label])
    fill = {
        label: math.floor(real[majority] * exact(ratio) - count) for label, count in real.items() if label != majority
    }
    if min(fill.values()) <= 0:
        raise InputError(f"sampling_strategy={ratio} adds nothing to {dict(real)}; give a larger ratio.")
    return {label: fill.get(label, 0) for label in real}


def _check_mode(mode: str, synthetic_fraction: float | None) -> None:
    if mode not in MODES:
        raise InputError(f"mode={mode!r} is unknown; use {', '.join(map(repr, MODES))}.")
    if mode == "replace" and synthetic_fraction is None:
        raise InputError("mode='replace' needs synthetic_fraction, the share of each class to replace.")
    if mode == "synthetic" and synthetic_fraction not in (None, 1):
        raise InputError(f"mode='synthetic' has no real subjects; leave out synthetic_fraction={synthetic_fraction}.")


def _between(points: Sequence[tuple[Fraction, Fraction]], at: int) -> Fraction:
    """Straight lines between points; the ends' values outside."""
    before = [point for point in points if point[0] <= at]
    after = [point for point in points if point[0] > at]
    if not before or not after:
        return (before[-1] if before else after[0])[1]
    (left, low), (right, high) = before[-1], after[0]
    return low + (high - low) * (at - left) / (right - left)


def tell_unused(strategy: Strategy) -> None:
    """Say that a strategy leaves no room for synthetic subjects."""
    logging.getLogger(__name__).warning(
        "Every class has as many real subjects as sampling_strategy=%r asks for, so that no synthetic subject is "
        "drawn; give synthetic_fraction, such as 0.5.",
        strategy,
    )
