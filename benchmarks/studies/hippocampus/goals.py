"""The study's goals, set before it was run, against its contrasts."""

from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.study.records import Contrast

BASELINE = "real classical"
"""Real data with classical augmentation, in class-balanced batches."""
GAIN, LOSS, SHORTFALL = 0.05, -0.01, -0.02
"""AUROC: least gain of mixed data at small sizes, worst loss at any, worst shortfall of synthetic data alone."""
SMALL = 32
"""Largest training set of which the gain is asked."""


def find_contrast(
    contrasts: Sequence[Contrast], regime: str, baseline: str, *, size: int, share: float | None = None
) -> Contrast | None:
    """The paired difference in AUROC of an arm to a baseline at a size; None = not run.

    Args:
        contrasts: Of the study.
        regime: Of the arm.
        baseline: Name of the baseline.
        size: Real people who trained.
        share: Of synthetic data; None = any.
    """
    for row in contrasts:
        wanted = (row.metric, row.arm.regime, row.baseline.series(), row.n_train) == ("auroc", regime, baseline, size)
        if wanted and share in (None, row.arm.fraction):
            return row
    return None


def judge_goals(contrasts: Sequence[Contrast], chosen: Mapping[int, float]) -> list[dict[str, Any]]:
    """A row for each goal and size: what was asked, what was found, whether it holds.

    Args:
        contrasts: Of the collected summary.
        chosen: By size, the synthetic share of mixed data that was chosen on validation.
    """
    rows = []
    for size, share in sorted(chosen.items()):
        mixed = find_contrast(contrasts, "mixed", BASELINE, size=size, share=share)
        alone = find_contrast(contrasts, "synthetic", BASELINE, size=size)
        if mixed and size <= SMALL:
            holds = mixed.difference.value >= GAIN and mixed.difference.low > 0
            rows.append(_row("gain", f"mixed gains {GAIN:+.2f}, interval above 0", mixed, holds))
        if mixed:
            holds = mixed.difference.value >= LOSS
            rows.append(_row("no loss", f"mixed never worse than {LOSS:+.2f}", mixed, holds))
        if alone:
            holds = alone.difference.value >= SHORTFALL
            rows.append(_row("alone", f"synthetic alone within {-SHORTFALL:.2f}", alone, holds))
    return rows


def _row(kind: str, goal: str, contrast: Contrast, holds: bool) -> dict[str, Any]:
    kept = ("contrast", "difference", "ci_low", "ci_high", "p_holm")
    told = contrast.to_json()
    return {
        "kind": kind,
        "people": contrast.n_train,
        "goal": goal,
        **{key: told[key] for key in kept},
        "holds": bool(holds),
    }
