"""Does a generator draw what it was asked for? Classes, report against report, and the gland volume in the report."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from monai.networks.nets import SegResNetDS
from scipy import stats

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed, numpy_generator
from synthaug.models.extractors.taps import measure_glands_ml
from synthaug.statistics.intervals import checked_confidence
from synthaug.statistics.shares import wilson_ends

Draw = Callable[[Sequence[str], Sequence[int]], torch.Tensor]
"""Reports and seeds, one each a volume, to volumes (B, C, X, Y, Z): a generator."""
Agreement = Callable[[torch.Tensor, str], float]
"""A volume (C, X, Y, Z) and a report to how well they agree; larger is better, any scale."""

PAIRS_AT_ONCE = 4
"""Pairs that are drawn together: their eight volumes fill the micro-batch that generators compute at by default."""
VOLUME = re.compile(
    r"\b(?:gland|prostate|prostatic|volume)\b[^.;\n]{0,60}?(?<![\d.])(?<!\d,)(\d+(?:[.,]\d+)?)\s*"
    r"(?:ml|cc|cm3|cm\^3|cm³)(?![\w/])",
    re.IGNORECASE,
)
"""A number in millilitres, with a decimal point or comma, soon after the word that says what it is the volume of."""


@dataclass(frozen=True)
class ClassFidelity:
    """Which classes were asked for, predicted from the report, and seen by an auditor."""

    tables: dict[str, list[list[int]]]
    """Counts (K, K) by name, "requested against audited": rows are the first, columns the second."""
    agreement: dict[str, tuple[float, float, float]]
    """Share on the diagonal of each table with its Wilson interval: (share, low, high)."""
    n: int
    """Volumes."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def class_fidelity(provenances: Sequence[str], audited: np.ndarray, *, confidence: float = 0.95) -> ClassFidelity:
    """Confusion tables of requested, predicted and audited class.

    Args:
        provenances: ``subject["provenance"]`` of each synthetic volume: its requested class and, where the generator
            predicts one from the report, the class probabilities.
        audited: Class probabilities (n, K) from a classifier that was trained on real images alone.
        confidence: Coverage of the intervals, in (0, 1).

    Returns:
        "requested against audited"; with predictions also "requested against predicted", "predicted against audited".

    Raises:
        InputError: A provenance is empty or lacks the class, or the numbers of volumes or classes do not fit.

    Example:
        >>> asked = ['{"requested_class": 0, "class_probabilities": null}', '{"requested_class": 1}']
        >>> class_fidelity(asked, np.array([[0.9, 0.1], [0.8, 0.2]])).tables
        {'requested against audited': [[1, 0], [1, 0]]}
    """
    audited = np.asarray(audited, dtype=np.float64)
    if audited.ndim != 2 or not len(audited) or len(audited) != len(provenances) or not np.isfinite(audited).all():
        raise InputError(
            f"{len(provenances)} provenances and audited probabilities {audited.shape} do not fit: n and (n, K)."
        )
    records = [_record(line, place) for place, line in enumerate(provenances)]
    classes = {"requested": np.array([record["requested_class"] for record in records], dtype=int)}
    predicted = [record.get("class_probabilities") for record in records]
    if all(predicted):
        classes["predicted"] = np.array([int(np.argmax(each)) for each in predicted if each])
    elif any(predicted):
        place = [bool(each) for each in predicted].index(False)
        raise InputError(
            f"Volume {place} has no predicted class, others have: audit one generator's volumes at a time."
        )
    if odd := {len(each) for each in predicted if each} - {audited.shape[1]}:
        raise InputError(f"A volume has {odd.pop()} class probabilities, the auditor {audited.shape[1]} classes.")
    classes["audited"] = audited.argmax(axis=1)
    return _tabulate(classes, audited.shape[1], confidence)


@dataclass(frozen=True)
class SwapScore:
    """Whether images change towards what their report says; 0.5 = the report does not matter."""

    share: float
    """Of pairs in which both images together agree better with their own reports than with each other's."""
    ci_low: float
    """Lower end of the Wilson interval."""
    ci_high: float
    """Upper end of the Wilson interval."""
    margin: float
    """Mean of (agreement with the own report - agreement with the other), in the scorer's units."""
    pairs: int
    """Pairs of reports."""


def swap_score(agreements: np.ndarray, *, confidence: float = 0.95) -> SwapScore:
    """Text-image score of images that differ in nothing but their report (after Thrush et al. 2022, "Winoground").

    Args:
        agreements: (n, 2, 2): [pair, image, report], from :func:`swap_agreements`.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        InputError: Another shape, no pair, or values that are not finite.

    Example:
        The first pair is drawn as asked, the second the other way round, the third alike.

        >>> own, other = [[1, 0], [0, 1]], [[0, 1], [1, 0]]
        >>> swap_score(np.array([own, other, np.ones((2, 2))])).share
        0.5
    """
    agreements = np.asarray(agreements, dtype=np.float64)
    if agreements.ndim != 3 or agreements.shape[1:] != (2, 2) or not len(agreements):
        raise InputError(f"The agreements have shape {agreements.shape}; needed is (pairs, 2 images, 2 reports).")
    if not np.isfinite(agreements).all():
        raise InputError("An agreement is not finite, so the pair cannot be judged.")
    # Image against image under one report first: where the report changes nothing, that is 0 without rounding, a tie.
    gain = (agreements[:, 0, 0] - agreements[:, 1, 0] + (agreements[:, 1, 1] - agreements[:, 0, 1])) / 2
    share = float((np.sign(gain) + 1).mean() / 2)  # a tie counts half
    low, high = wilson_ends(share, len(gain), confidence=confidence)
    return SwapScore(share=share, ci_low=low, ci_high=high, margin=float(gain.mean()), pairs=len(gain))


def swap_agreements(
    draw: Draw, pairs: Sequence[tuple[str, str]], agreement: Agreement, *, seed: int = 0, at_once: int = PAIRS_AT_ONCE
) -> np.ndarray:
    """Draw each pair of reports from the same noise and score both images against both reports.

    Args:
        draw: The generator, as ``lambda reports, seeds: pipe(reports, seeds=seeds).volumes``.
        pairs: Reports that say unlike things, from training patients or a writer.
        agreement: The scorer, such as :func:`gland_agreement`.
        seed: Names the noise.
        at_once: Pairs drawn together.

    Returns:
        (n, 2, 2): [pair, image, report].

    Raises:
        InputError: A pair of equal reports.
    """
    for place, pair in enumerate(pairs):
        if pair[0] == pair[1]:
            raise InputError(f"Pair {place} holds one report twice, so that there is nothing to swap.")
    scores = np.zeros((len(pairs), 2, 2))
    for start in range(0, len(pairs), at_once):
        part = range(start, min(start + at_once, len(pairs)))
        seeds = [derive_seed("swap", seed, place) for place in part for _ in range(2)]
        volumes = draw([report for place in part for report in pairs[place]], seeds)
        for row, volume in enumerate(volumes):
            place, image = start + row // 2, row % 2
            scores[place, image] = [agreement(volume, report) for report in pairs[place]]
    return scores


def gland_agreement(spacing_mm: Sequence[float], *, network: SegResNetDS | None = None) -> Agreement:
    """Scorer for prostates: minus the |log ratio| of the gland that taps outlines to the volume that the report states.

    Args:
        spacing_mm: Voxel size of the volumes.
        network: Outlines the gland; None = that of the installed wheel.
    """

    def agreement(volume: torch.Tensor, report: str) -> float:
        stated = stated_volume_ml(report)
        if stated is None:
            raise InputError(f"The report {report[:60]!r} states no gland volume to compare with.")
        [seen] = measure_glands_ml([volume], spacing_mm, network=network)
        measured = max(float(seen), 1.0)  # no gland: as wrong as 1 ml
        return -abs(float(np.log(measured / stated)))

    return agreement


def stated_volume_ml(report: str) -> float | None:
    """The gland volume that a report states in ml, cc or cm3; None = none. Where it states several, the first.

    Example:
        >>> stated_volume_ml("PSA 7.1 ng/ml. Estimated gland volume of 27 cc."), stated_volume_ml("Lesion of 0.5 cc.")
        (27.0, None)
    """
    found = VOLUME.search(report)
    stated = float(found.group(1).replace(",", ".")) if found else 0.0
    return stated if stated > 0 else None


@dataclass(frozen=True)
class VolumeFidelity:
    """Stated against measured gland volumes; intervals resample the volumes."""

    n: int
    """Volumes whose report states one."""
    spearman: float
    """Rank correlation, -1 to 1."""
    spearman_interval: tuple[float, float]
    """Its percentile interval."""
    median_error_ml: float
    """Median of |measured - stated|."""
    median_error_interval_ml: tuple[float, float]
    """Its percentile interval."""
    median_bias_ml: float
    """Median of measured - stated."""


def gland_volume_fidelity(
    stated_ml: np.ndarray, measured_ml: np.ndarray, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> VolumeFidelity:
    """How well the glands in images follow the volumes that their reports state.

    Args:
        stated_ml: (n,), from :func:`stated_volume_ml`; NaN = the report states none, and is left out.
        measured_ml: (n,), from :func:`synthaug.models.extractors.taps.measure_glands_ml`.
        confidence: Coverage of the intervals, in (0, 1).
        resamples: Bootstrap resamples behind an interval.
        seed: Names the resamples.

    Raises:
        InputError: Unlike lengths, infinite values, fewer than four stated volumes, all stated or all measured alike,
            or unusable settings.

    Example:
        >>> found = gland_volume_fidelity(np.array([20.0, 30, 40, 80]), np.array([25.0, 28, 50, 70]))
        >>> found.spearman, found.median_error_ml, found.median_bias_ml
        (1.0, 7.5, 1.5)
    """
    stated, measured = (np.asarray(each, dtype=np.float64) for each in (stated_ml, measured_ml))
    if stated.ndim != 1 or stated.shape != measured.shape or not np.isfinite(measured).all():
        raise InputError(f"Stated {stated.shape} and measured volumes {measured.shape} do not fit: one each a volume.")
    checked_confidence(confidence)
    if resamples < 1 or np.isinf(stated).any():
        raise InputError(f"resamples={resamples} must be at least 1, and stated volumes finite, or NaN for none.")
    known = np.isfinite(stated)
    stated, measured = stated[known], measured[known]
    if len(stated) < 4:
        raise InputError(f"{len(stated)} reports state a gland volume; a correlation needs at least 4.")
    for name, values in (("stated", stated), ("measured", measured)):
        if np.ptp(values) == 0:
            raise InputError(f"All {name} gland volumes are {values[0]:g} ml, so that nothing can follow.")
    rng, tail = numpy_generator("gland volumes", seed), (1 - confidence) / 2
    rows = rng.integers(len(stated), size=(resamples, len(stated)))
    # A resample of one volume alone has no ranks: NaN, passed over by the quantiles.
    ranks = [_spearman(stated[row], measured[row]) for row in rows]
    errors = np.median(np.abs(measured - stated)[rows], axis=1)
    spearman_low, spearman_high = np.nanquantile(ranks, [tail, 1 - tail])
    error_low, error_high = np.quantile(errors, [tail, 1 - tail])
    return VolumeFidelity(
        n=len(stated),
        spearman=_spearman(stated, measured),
        spearman_interval=(float(spearman_low), float(spearman_high)),
        median_error_ml=float(np.median(np.abs(measured - stated))),
        median_error_interval_ml=(float(error_low), float(error_high)),
        median_bias_ml=float(np.median(measured - stated)),
    )


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def _tabulate(classes: dict[str, np.ndarray], k: int, confidence: float) -> ClassFidelity:
    tables, agreement = {}, {}
    for one, other in (("requested", "predicted"), ("requested", "audited"), ("predicted", "audited")):
        if one not in classes or other not in classes:
            continue
        name, table = f"{one} against {other}", np.zeros((k, k), dtype=int)
        if not np.isin([*classes[one], *classes[other]], np.arange(k)).all():
            raise InputError(f"A class of {name} lies beyond the {k} that the auditor knows.")
        np.add.at(table, (classes[one], classes[other]), 1)
        share = float(np.trace(table) / table.sum())
        ends = wilson_ends(share, int(table.sum()), confidence=confidence)
        tables[name], agreement[name] = table.tolist(), (share, *ends)
    return ClassFidelity(tables=tables, agreement=agreement, n=len(classes["audited"]))


def _record(line: str, place: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("requested_class"), int):
        raise InputError(
            f"Volume {place} has no provenance with a requested class: only synthetic volumes can be audited."
        )
    return record
