"""The words of the report: what figures show, said in numbers, and what its statistics do and do not say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from synthaug.config import MetricsConfig
from synthaug.report.curves import reliability
from synthaug.report.forest import auroc_contrasts, is_clear
from synthaug.report.slices import Samples, nearest_shown
from synthaug.study.arms import Record, arms_of

MOST_TOLD = 12
"""Values that a figure's text lists; of more it gives the ends and the number."""
MEANINGS = {
    "fid": "Fréchet distance between the Gaussians through both sets of features; biased upwards by few volumes",
    "kid": "kernel distance between both sets of features; not biased by few volumes, may fall below 0",
    "mmd": "kernel distance (maximum mean discrepancy) between both sets of features",
    "precision": "share of synthetic volumes that lie among the real ones: do they look real?",
    "recall": "share of real volumes that lie among the synthetic ones: are all kinds of patients there?",
    "density": "how densely real volumes lie around the synthetic ones; may exceed 1",
    "coverage": "share of real volumes with a synthetic one nearby: are all kinds of patients there?",
}
"""A short word on each image metric."""


def effect_alt(summary: Mapping[str, Any], alpha: float) -> str:
    """Text in place of the effect figure."""
    rows = auroc_contrasts(summary)
    if not rows:
        return "No differences: the study has nothing to compare."
    told = [
        f"{row['contrast'].replace(' - ', ' minus ')} {_ends(row, 'difference', '+')}, corrected p {row['p_holm']:.2g}"
        for row in rows
    ]
    clear = [row["difference"] for row in rows if is_clear(row, alpha)]
    counted = (
        f"{len(rows)} paired differences in AUROC, {sum(value > 0 for value in clear)} clearly above zero, "
        f"{sum(value < 0 for value in clear)} clearly below."
    )
    return f"{counted} {_listed(told, [row['difference'] for row in rows])}"


def auroc_alt(summary: Mapping[str, Any]) -> str:
    """Text in place of the figure of every arm's AUROC."""
    rows = summary["regimes"]
    told = [f"{row['regime']} {_ends(row['auroc'], 'value')}" for row in rows]
    return f"Test AUROC of {len(rows)} arms. {_listed(told, [row['auroc']['value'] for row in rows])}"


def learning_alt(summary: Mapping[str, Any]) -> str:
    """Text in place of the learning curves."""
    rows = sorted(summary["regimes"], key=lambda row: row["n_train"])
    told = [f"{row['regime']}, {row['n_train']} patients: {_ends(row['auroc'], 'value')}" for row in rows]
    sizes = ", ".join(str(size) for size in sorted({row["n_train"] for row in rows}))
    listed = _listed(told, [row["auroc"]["value"] for row in rows])
    return f"Test AUROC against the number of real training patients ({sizes}). {listed}"


def curves_alt(name: str, metric: str, summary: Mapping[str, Any]) -> str:
    """Text in place of ROC or precision-recall curves: the areas under them."""
    rows = summary["regimes"]
    told = [f"{row['regime']} {row[metric]['value']:.3f}" for row in rows]
    return f"{name} curves, mean over trainings. Areas: {_listed(told, [row[metric]['value'] for row in rows])}"


def reliability_alt(records: Sequence[Record], *, calibrated: bool) -> str:
    """Text in place of a reliability diagram: the calibration error of each arm."""
    errors = {arm.label: reliability(arm.records, calibrated=calibrated).error for arm in arms_of(records)}
    told = [f"{label} {error:.3f}" for label, error in errors.items()]
    when = "after" if calibrated else "before"
    return f"Reliability {when} temperature scaling. Calibration errors: {_listed(told, list(errors.values()))}"


def training_alt(records: Sequence[Record]) -> str:
    """Text in place of the training curves."""
    told, means = [], []
    for arm in arms_of(records):
        means.append(float(np.mean([record["chosen_step"] for record in arm.records])))
        told.append(f"{arm.label} step {means[-1]:.0f}")
    return f"Validation loss by optimiser step, mean over trainings. Chosen on average: {_listed(told, means)}"


def slices_alt(samples: Samples, label: int) -> str:
    """Text in place of the slices of a class."""
    found = nearest_shown(samples, label)
    words = f"Middle slices of class {label}: held-out real volumes, and synthetic ones below"
    if not found:
        return f"{words}."
    alike = ", ".join(f"{row['correlation']:.2f}" for row in found)
    copies = sum(row["copy"] for row in found)
    return (
        f"{words}, each above the training volume most like it; their correlations are {alike}; "
        f"{copies} of {len(found)} are called copies."
    )


def copy_verdict(row: Mapping[str, Any]) -> str:
    """What the share of copies says, no bolder than its interval.

    Example:
        >>> copy_verdict({"value": 0.02, "ci_low": 0.0, "ci_high": 0.08, "false_alarms": 0.05})
        'No more copies than chance would call among unseen patients.'
    """
    if row["ci_low"] > row["false_alarms"]:
        return "The generator copies training patients: more of its volumes are called copies than chance explains."
    if row["value"] > row["false_alarms"]:
        return "More volumes are called copies than unseen patients would be, but the interval allows for chance."
    if row["value"] == 0:
        return "No copies were found."
    return "No more copies than chance would call among unseen patients."


def footnotes(summary: Mapping[str, Any], records: Sequence[Record], config: MetricsConfig) -> list[str]:
    """What the statistics of a study cover, and what they do not."""
    percent = f"{100 * config.confidence:g} %"
    notes = [
        f"Intervals: {percent} percentile intervals of {config.bootstrap} bootstrap resamples. {_resampled(summary)}",
        "The intervals of two arms do not tell whether these differ, because both were tested on the same patients: "
        "read the paired differences.",
    ]
    if any(regime["n_train_synthetic"] for regime in summary["regimes"]):
        notes.append(
            "A generator is trained once for each training set, so that no interval covers what another training of "
            "it, or another draw of its volumes, would have given."
        )
    family = len(auroc_contrasts(summary))
    if family:
        notes.append(
            f"p: share of {summary['permutations']} random swaps of two classifiers' predictions, patient by patient, "
            "that give a difference as large (all swaps, where there are few patients). It takes the trainings as they "
            "are."
        )
        notes.append(
            f"Holm: p is corrected over the {family} comparison{'s' * (family > 1)} of each metric: without any true "
            f"difference, a corrected p ≤ {1 - config.confidence:.2g} appears anywhere among them in at most "
            f"{100 - 100 * config.confidence:.2g} % of studies. Metrics are not corrected for one another: AUROC is "
            f"the one that the verdict is about. Intervals are not corrected. {summary['p_limit']}".rstrip()
        )
        notes.append(
            f"Clear: the interval leaves out zero and the corrected p is at most {1 - config.confidence:.2g}; its "
            "marker is filled."
        )
    classes = len(records[0]["predictions"][0]["probabilities"])
    if classes > 2:
        notes.append(
            f"{classes} classes: accuracy and ece are over all; every other metric, and every curve, is the mean over "
            "classes, each against the rest (macro one-vs-rest)."
        )
    return notes


def _resampled(summary: Mapping[str, Any]) -> str:
    """What the resamples vary, and what they could not."""
    seeds = max(len(regime["seeds"]) for regime in summary["regimes"])
    repeats = max(regime["repeats"] for regime in summary["regimes"])
    if repeats == 1:
        return "They vary the test patients only: with one seed and one split nothing is known of training again."
    splits = " and splits" if repeats > seeds else ""
    return (
        "They vary the test patients, whole patients within their classes, and the "
        f"{repeats} trainings (seeds{splits}) of an arm."
    )


def _ends(row: Mapping[str, Any], key: str, sign: str = "") -> str:
    return f"{row[key]:{sign}.3f} ({row['ci_low']:{sign}.3f} to {row['ci_high']:{sign}.3f})"


def _listed(told: Sequence[str], values: Sequence[float]) -> str:
    """All of them, or the ends."""
    if len(told) <= MOST_TOLD:
        return "; ".join(told) + "."
    low, high = int(np.argmin(values)), int(np.argmax(values))
    return f"From {told[low]} to {told[high]}; all {len(told)} stand in the tables."
