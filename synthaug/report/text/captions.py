"""Texts of the report: alternative texts of figures, meanings of metrics, and notes on the statistics."""

from collections.abc import Sequence

import numpy as np

from synthaug.config import MetricsConfig
from synthaug.metrics.distances.estimates import FAMILIES
from synthaug.report.figures.curves import reliability
from synthaug.report.volumes.slices import Samples, nearest_shown
from synthaug.study.records import CellRecord, ImageComparison, Summary
from synthaug.study.summary.arms import arms_of

MOST_TOLD = 12
"""Largest number of values that an alternative text lists; of more it gives the extremes and the number."""
MEANINGS = {
    "realism_statistics": "by texture statistics (spectrum, histogram, neighbourhoods, steps)",
    "realism_cnn": "by a 3D network",
    "ms_ssim": "structural similarity of pairs within a set (1 = identical)",
    **{name: meaning for family in FAMILIES for name, meaning in family.meanings.items()},
}
"""Short description of each image metric."""


def effect_alt(summary: Summary, alpha: float) -> str:
    """Text in place of the effect figure."""
    rows = summary.in_metric("auroc")
    if not rows:
        return "No differences: the study has nothing to compare."
    told = [
        f"{row.arm.label} minus {row.baseline.label} {row.difference.words('+')}, corrected p {row.p_holm:.2g}"
        for row in rows
    ]
    clear = [row.difference.value for row in rows if row.is_clear(alpha)]
    counted = (
        f"{len(rows)} paired differences in AUROC, {sum(value > 0 for value in clear)} clearly above zero, "
        f"{sum(value < 0 for value in clear)} clearly below."
    )
    return f"{counted} {_listed(told, [row.difference.value for row in rows])}"


def auroc_alt(summary: Summary) -> str:
    """Text in place of the figure of every arm's AUROC."""
    found = {arm.label: arm.metrics["auroc"] for arm in summary.arms}
    told = [f"{label} {auroc.words()}" for label, auroc in found.items()]
    return f"Test AUROC of {len(found)} arms. {_listed(told, [auroc.value for auroc in found.values()])}"


def learning_alt(summary: Summary) -> str:
    """Text in place of the learning curves."""
    arms = sorted(summary.arms, key=lambda arm: arm.n_train)
    told = [f"{arm.label}, {arm.n_train} patients: {arm.metrics['auroc'].words()}" for arm in arms]
    sizes = ", ".join(str(size) for size in sorted({arm.n_train for arm in arms}))
    listed = _listed(told, [arm.metrics["auroc"].value for arm in arms])
    return f"Test AUROC against the number of real training patients ({sizes}). {listed}"


def curves_alt(name: str, metric: str, summary: Summary) -> str:
    """Text in place of ROC or precision-recall curves: the areas under them."""
    areas = {arm.label: arm.metrics[metric].value for arm in summary.arms}
    told = [f"{label} {area:.3f}" for label, area in areas.items()]
    return f"{name} curves, mean over trainings. Areas: {_listed(told, list(areas.values()))}"


def reliability_alt(records: Sequence[CellRecord], *, calibrated: bool) -> str:
    """Text in place of a reliability diagram: the calibration error of each arm."""
    errors = {arm.label: reliability(arm.records, calibrated=calibrated).error for arm in arms_of(records)}
    told = [f"{label} {error:.3f}" for label, error in errors.items()]
    when = "after" if calibrated else "before"
    return f"Reliability {when} temperature scaling. Calibration errors: {_listed(told, list(errors.values()))}"


def training_alt(records: Sequence[CellRecord]) -> str:
    """Text in place of the training curves."""
    told, means = [], []
    for arm in arms_of(records):
        means.append(float(np.mean([record.chosen_step for record in arm.records])))
        told.append(f"{arm.label} step {means[-1]:.0f}")
    return f"Validation loss by optimiser step, mean over trainings. Chosen on average: {_listed(told, means)}"


def slices_alt(samples: Samples, label: int, name: str) -> str:
    """Text in place of the slices of a class."""
    found = nearest_shown(samples, label)
    words = f"Middle slices, {name}: held-out real volumes, and synthetic ones below"
    if not found:
        return f"{words}."
    alike = ", ".join(f"{row['correlation']:.2f}" for row in found)
    copies = sum(row["copy"] for row in found)
    return (
        f"{words}, each above the training volume most like it; their correlations are {alike}; "
        f"{copies} of {len(found)} are called copies."
    )


def copy_verdict(copies: ImageComparison) -> str:
    """Conclusion from the share of copies and its interval.

    Example:
        >>> from synthaug.study.records import Estimate
        >>> copy_verdict(ImageComparison("copies", Estimate(0.02, 0.0, 0.08), more={"false_alarms": 0.05}))
        'The share of copies is within the false-alarm rate.'
    """
    share, chance = copies.estimate, copies.more["false_alarms"]
    if share.low > chance:
        return "The generator copies training patients: the share of copies exceeds the false-alarm rate."
    if share.value > chance:
        return "The share of copies is above the false-alarm rate, but its interval includes it."
    if share.value == 0:
        return "No copies were found."
    return "The share of copies is within the false-alarm rate."


def footnotes(summary: Summary, records: Sequence[CellRecord], config: MetricsConfig) -> list[str]:
    """What the statistics of a study cover, and what they do not."""
    percent = f"{100 * config.confidence:g} %"
    notes = [
        f"Intervals: {percent} percentile intervals of {config.bootstrap} bootstrap resamples; that of the calibration "
        f"error is laid around its value. {_resampled(summary)}",
        "The intervals of two arms do not show whether they differ, because both were tested on the same patients. "
        "The paired differences do.",
    ]
    if any(arm.n_train_synthetic for arm in summary.arms):
        notes.append(
            "A generator is trained once per training set. Intervals do not include the variation of training it again "
            "or of drawing other volumes."
        )
    family = len(summary.in_metric("auroc"))
    if family:
        notes.append(
            f"p: two-sided permutation test with {summary.permutations} random swaps of the two classifiers' "
            "predictions per patient (all swaps for few patients). Trainings are taken as fixed."
        )
        notes.append(
            f"Holm: p-values are adjusted over the {family} comparison{'s' * (family > 1)} of each metric, at a "
            f"family-wise error rate of {100 - 100 * config.confidence:.2g} %. Metrics are not adjusted for one "
            f"another: AUROC is that of the verdict. Intervals are not adjusted. {summary.p_limit}".rstrip()
        )
        notes.append(
            f"Clear: the interval excludes zero and the adjusted p is at most {1 - config.confidence:.2g}; its marker "
            "is filled."
        )
    classes = records[0].classes
    if classes > 2:
        notes.append(
            f"{classes} classes: accuracy and ece are over all patients. Other metrics and curves are averages over "
            "classes against the rest (macro one-vs-rest)."
        )
    return notes


def _resampled(summary: Summary) -> str:
    """Sources of variation that the resamples cover."""
    seeds = max(len(arm.seeds) for arm in summary.arms)
    repeats = max(arm.repeats for arm in summary.arms)
    if repeats == 1:
        return "They cover the test patients only: with one seed and one split the variation of training is unknown."
    splits = " and splits" if repeats > seeds else ""
    return (
        "They cover the test patients, resampled as wholes and stratified by class, and the "
        f"{repeats} trainings (seeds{splits}) of an arm."
    )


def _listed(told: Sequence[str], values: Sequence[float]) -> str:
    """All of them, or the ends."""
    if len(told) <= MOST_TOLD:
        return "; ".join(told) + "."
    low, high = int(np.argmin(values)), int(np.argmax(values))
    return f"From {told[low]} to {told[high]}; all {len(told)} are in the tables."
