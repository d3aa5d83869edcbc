"""ROC, precision-recall and reliability curves of an arm: those of its trainings, averaged."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from synthaug.classify.calibration import apply_temperature
from synthaug.statistics.bins import BINS, bin_of
from synthaug.study.records import CellRecord

GRID = np.linspace(0, 1, 401)
"""Where curves are averaged."""


class Reliability(NamedTuple):
    """How often predictions of each confidence are right; arrays over the bins that hold any."""

    confidence: np.ndarray
    """Mean probability of the likeliest class."""
    right: np.ndarray
    """Share of these predictions that are right."""
    share: np.ndarray
    """Share of all predictions that fall into the bin."""
    counts: np.ndarray
    """Predictions in each of all ``BINS`` bins, of a training on average."""

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017, equation 3) of all trainings' predictions together."""
        return float((self.share * np.abs(self.confidence - self.right)).sum())


def mean_roc(records: Sequence[CellRecord]) -> np.ndarray:
    """True positive rate at each false positive rate of ``GRID``, averaged over trainings (Fawcett 2006, section 8.1).

    With more than two classes it is also averaged over the classes, each against the rest.

    Example:
        >>> from synthaug.study.records import Prediction
        >>> told = ((0, .1), (0, .6), (1, .5), (1, .9))
        >>> rows = tuple(Prediction("", "", label, (1 - p, p)) for label, p in told)
        >>> curve = mean_roc([CellRecord("real", 0, predictions=rows)])
        >>> float(curve[0]), float(curve[200]), float(curve[-1])  # at 0, 1/2 and 1
        (0.5, 1.0, 1.0)
    """

    def curve(members: np.ndarray, scores: np.ndarray) -> np.ndarray:
        false_rate, true_rate, _ = roc_curve(members, scores)
        return np.interp(GRID, false_rate, true_rate)

    return _mean(records, curve)


def mean_precision(records: Sequence[CellRecord]) -> np.ndarray:
    """Precision at each recall of ``GRID``, averaged as in :func:`mean_roc`.

    Between thresholds a curve keeps the precision of the next higher recall, as average precision counts it: its mean
    height is the average precision.

    Example:
        >>> from synthaug.study.records import Prediction
        >>> told = ((0, .1), (0, .6), (1, .5), (1, .9))
        >>> rows = tuple(Prediction("", "", label, (1 - p, p)) for label, p in told)
        >>> curve = mean_precision([CellRecord("real", 0, predictions=rows)])
        >>> float(curve[1]), round(float(curve[-1]), 3)
        (1.0, 0.667)
    """

    def curve(members: np.ndarray, scores: np.ndarray) -> np.ndarray:
        precision, recall, _ = precision_recall_curve(members, scores)
        precision, recall = precision[::-1], recall[::-1]  # recall rises; the first point is (0, 1), no threshold
        asked = np.maximum(GRID, GRID[1]) - 1e-9  # no threshold has recall 0: it takes the precision beside it
        return precision[np.minimum(np.searchsorted(recall, asked), len(recall) - 1)]

    return _mean(records, curve)


def reliability(records: Sequence[CellRecord], *, calibrated: bool) -> Reliability:
    """Confidence against its truth in the bins of the calibration error, over all trainings of an arm.

    Args:
        records: Of one arm.
        calibrated: Each training's probabilities after its own temperature.

    Example:
        >>> from synthaug.study.records import Prediction
        >>> rows = tuple(Prediction("", "", label, (0.25, 0.75)) for label in (0, 1))
        >>> reliability([CellRecord("real", 0, predictions=rows)], calibrated=False).error
        0.25
    """
    confidence, right = [], []
    for record in records:
        labels, probabilities = _arrays(record)
        if calibrated:
            probabilities = apply_temperature(probabilities, record.temperature)
        confidence.append(probabilities.max(axis=1))
        right.append(probabilities.argmax(axis=1) == labels)
    values, hits = np.concatenate(confidence), np.concatenate(right)
    bins = bin_of(values)
    counts = np.bincount(bins, minlength=BINS)
    held = counts > 0
    sure, correct = (np.bincount(bins, weights=each, minlength=BINS)[held] / counts[held] for each in (values, hits))
    return Reliability(sure, correct, counts[held] / counts.sum(), counts / len(records))


def prevalence(records: Sequence[CellRecord]) -> float:
    """Share of the positive class among the test subjects, with more classes the mean over them: the precision of
    chance.

    Example:
        >>> from synthaug.study.records import Prediction
        >>> rows = tuple(Prediction("", "", label, (0.5, 0.5)) for label in (0, 0, 0, 1))
        >>> prevalence([CellRecord("real", 0, predictions=rows)])
        0.25
    """
    shares = []
    for record in records:
        labels, probabilities = _arrays(record)
        shares.append(float((labels == 1).mean()) if probabilities.shape[1] == 2 else 1 / probabilities.shape[1])
    return float(np.mean(shares))


def confusion(records: Sequence[CellRecord]) -> np.ndarray:
    """Test subjects by class (rows) and likeliest class (columns), of a training on average.

    Example:
        >>> from synthaug.study.records import Prediction
        >>> rows = tuple(Prediction("", "", label, (0.3, 0.7)) for label in (0, 1))
        >>> confusion([CellRecord("real", 0, predictions=rows)]).tolist()
        [[0.0, 1.0], [0.0, 1.0]]
    """
    counts = np.zeros((records[0].classes,) * 2)
    for record in records:
        labels, probabilities = _arrays(record)
        np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts / len(records)


def _mean(records: Sequence[CellRecord], curve: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    curves = []
    for record in records:
        labels, probabilities = _arrays(record)
        classes = probabilities.shape[1]
        curves += [
            curve(labels == label, probabilities[:, label]) for label in (range(classes) if classes > 2 else [1])
        ]
    return np.mean(curves, axis=0)


def _arrays(record: CellRecord) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, K)."""
    rows = record.predictions
    return np.array([row.label for row in rows]), np.array([row.probabilities for row in rows], dtype=float)
