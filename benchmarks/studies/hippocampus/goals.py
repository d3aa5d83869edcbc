"""The study's goals, set before it was run, against its contrasts."""

from collections.abc import Mapping, Sequence
from typing import Any

BASELINE = "real classical"
"""Real data with classical augmentation, in class-balanced batches."""
GAIN, LOSS, SHORTFALL = 0.05, -0.01, -0.02
"""AUROC: least gain of mixed data at small sizes, worst loss at any, worst shortfall of synthetic data alone."""
SMALL = 32
"""Largest training set of which the gain is asked."""

Contrast = Mapping[str, Any]


def find_contrast(contrasts: Sequence[Contrast], arm: str, baseline: str, *, size: int) -> Contrast | None:
    """The paired difference in AUROC of an arm to a baseline at a size; None = not run.

    Example:
        >>> row = {"contrast": "mixed 0.5 train 16 - real classical train 16", "metric": "auroc", "difference": 0.1}
        >>> find_contrast([row], "mixed 0.5", "real classical", size=16)["difference"]
        0.1
    """
    wanted = f"{arm} train {size} - {baseline} train {size}"
    return next((row for row in contrasts if row["contrast"] == wanted and row["metric"] == "auroc"), None)


def judge_goals(contrasts: Sequence[Contrast], chosen: Mapping[int, float]) -> list[dict[str, Any]]:
    """A row for each goal and size: what was asked, what was found, whether it holds.

    Args:
        contrasts: Of the collected summary.
        chosen: By size, the synthetic share of mixed data that was chosen on validation.
    """
    rows = []
    for size, share in sorted(chosen.items()):
        mixed = find_contrast(contrasts, f"mixed {share:g}", BASELINE, size=size)
        alone = find_contrast(contrasts, "synthetic", BASELINE, size=size)
        if mixed and size <= SMALL:
            holds = mixed["difference"] >= GAIN and mixed["ci_low"] > 0
            rows.append(_row(f"mixed gains {GAIN:+.2f}, interval above 0", mixed, holds))
        if mixed:
            rows.append(_row(f"mixed never worse than {LOSS:+.2f}", mixed, mixed["difference"] >= LOSS))
        if alone:
            rows.append(_row(f"synthetic alone within {-SHORTFALL:.2f}", alone, alone["difference"] >= SHORTFALL))
    return rows


def _row(goal: str, contrast: Contrast, holds: bool) -> dict[str, Any]:
    kept = ("contrast", "difference", "ci_low", "ci_high", "p_holm")
    return {"goal": goal, **{key: contrast[key] for key in kept}, "holds": bool(holds)}
