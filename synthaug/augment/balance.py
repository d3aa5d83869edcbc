"""How many synthetic subjects each class gets: one pure function, with imbalanced-learn's words."""

import math
from collections.abc import Mapping

from synthaug.errors import InputError


def synthetic_counts(
    real: Mapping[int, int],
    *,
    sampling_strategy: str | Mapping[int, int] = "auto",
    synthetic_fraction: float | None = None,
) -> dict[int, int]:
    """Synthetic subjects to add to each class.

    Args:
        real: Real subjects of each class.
        sampling_strategy: "auto" or "not majority" fills every class up to the largest, "minority" only the smallest,
            "all" is "auto" for classes that are filled; a dictionary gives each class's total after filling.
        synthetic_fraction: Share in (0, 1] of the largest class that is synthetic; the other classes are filled to
            the same total. None = fill only.

    Returns:
        {class: synthetic subjects}; with "auto" real + synthetic is equal for every class. At fraction 1 the real
        subjects are replaced: as many synthetic ones as the largest class has real ones.

    Raises:
        InputError: An unknown strategy, a total below the real count, a fraction outside (0, 1], or a fraction beside
            a strategy other than "auto".

    Example:
        >>> synthetic_counts({0: 30, 1: 10})
        {0: 0, 1: 20}
        >>> synthetic_counts({0: 30, 1: 10}, synthetic_fraction=0.5)
        {0: 30, 1: 50}
        >>> synthetic_counts({0: 30, 1: 10}, synthetic_fraction=1.0)
        {0: 30, 1: 30}
    """
    largest = max(real.values())
    if synthetic_fraction is not None:
        if not 0 < synthetic_fraction <= 1:
            raise InputError(f"synthetic_fraction={synthetic_fraction} must lie in (0, 1].")
        if sampling_strategy != "auto":
            raise InputError("synthetic_fraction fills every class; leave sampling_strategy at 'auto' beside it.")
        if synthetic_fraction == 1:
            return dict.fromkeys(real, largest)
        total = math.ceil(round(largest / (1 - synthetic_fraction), 9))
        return {label: total - count for label, count in real.items()}
    if isinstance(sampling_strategy, Mapping):
        short = {label: total for label, total in sampling_strategy.items() if total < real.get(label, 0)}
        if short or set(sampling_strategy) - set(real):
            raise InputError(
                f"sampling_strategy={dict(sampling_strategy)} must name classes and totals >= {dict(real)}."
            )
        return {label: sampling_strategy.get(label, count) - count for label, count in real.items()}
    if sampling_strategy in ("auto", "not majority", "all"):
        return {label: largest - count for label, count in real.items()}
    if sampling_strategy == "minority":
        smallest = min(real.values())
        return {label: largest - count if count == smallest else 0 for label, count in real.items()}
    raise InputError(
        f"sampling_strategy={sampling_strategy!r} is unknown; use 'auto', 'not majority', 'minority', 'all' or a dict."
    )
