"""Classification metrics: numbers that can be counted by hand."""

import numpy as np
import pytest

from synthaug.ground.errors import InputError
from synthaug.metrics.classification import auroc, average_precision, classification_metrics


def binary(positive: list[float]) -> np.ndarray:
    return np.stack([1 - np.array(positive), positive], axis=1)


LABELS = np.array([0, 0, 0, 1, 1])
SCORES = binary([0.1, 0.4, 0.8, 0.6, 0.9])


def test_hand_counted():
    """At 0.5: two true negatives, one false positive, two true positives. Five of six pairs are in order."""
    metrics = classification_metrics(LABELS, SCORES)
    assert metrics == pytest.approx(
        {
            "accuracy": 4 / 5,
            "auroc": 5 / 6,
            "average_precision": (1 / 1 + 2 / 3) / 2,
            "sensitivity": 1.0,
            "specificity": 2 / 3,
            "f1": 4 / 5,
            "brier": (0.1**2 + 0.4**2 + 0.8**2 + 0.4**2 + 0.1**2) / 5,
            # Confidences 0.9 (twice, both right), 0.6 (twice, both right), 0.8 (wrong): one bin each.
            "ece": (2 * 0.1 + 2 * 0.4 + 0.8) / 5,
        }
    )
    assert all(type(value) is float for value in metrics.values())


def test_threshold_counts_from_its_own_value():
    assert classification_metrics(LABELS, SCORES, threshold=0.9)["sensitivity"] == 0.5
    assert classification_metrics(LABELS, SCORES, threshold=0.91)["f1"] == 0.0
    assert classification_metrics(LABELS, SCORES, threshold=0.0)["specificity"] == 0.0


def test_equal_scores_are_half_right():
    assert auroc(LABELS, binary([0.5] * 5)) == 0.5
    assert average_precision(LABELS, binary([0.5] * 5)) == 2 / 5


def test_three_classes():
    """Each class against the rest: class 0 is ranked perfectly, class 1 has 2 of 3 pairs, class 2 has 3 of 4."""
    probabilities = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.2, 0.45, 0.35], [0.5, 0.1, 0.4]])
    labels = np.array([0, 1, 2, 0])
    metrics = classification_metrics(labels, probabilities)
    assert metrics["accuracy"] == 3 / 4
    assert metrics["auroc"] == pytest.approx((4 / 4 + 2 / 3 + 2 / 3) / 3)
    assert metrics["average_precision"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    # Called 0, 1, 1, 0: class 2 is missed, class 1 is called once too often.
    assert metrics["sensitivity"] == pytest.approx((1 + 1 + 0) / 3)
    assert metrics["specificity"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert metrics["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    squares = (0.4**2 + 0.3**2 + 0.1**2) + (0.3**2 + 0.6**2 + 0.3**2) + (0.2**2 + 0.45**2 + 0.65**2)
    assert metrics["brier"] == pytest.approx((squares + 0.5**2 + 0.1**2 + 0.4**2) / 12)
    # Confidences 0.6 (right); 0.4 (right); 0.45 (wrong) and 0.5 (right) in one bin.
    assert metrics["ece"] == pytest.approx((0.4 + 0.6 + abs(0.45 + 0.5 - 1)) / 4)


def test_two_classes_are_not_averaged():
    """For two classes the mean over classes would change the average precision."""
    flipped = average_precision(1 - LABELS, SCORES[:, ::-1])
    assert average_precision(LABELS, SCORES) == pytest.approx(5 / 6)
    assert flipped != pytest.approx(5 / 6)


@pytest.mark.parametrize("metric", [classification_metrics, auroc, average_precision])
@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.zeros(5, dtype=int), SCORES, r"classes \[0\]"),
        (np.ones(5, dtype=int), SCORES, r"classes \[1\]"),
        (LABELS * 2, SCORES, r"classes \[0, 2\]"),
        (np.array([], dtype=int), np.zeros((0, 2)), r"classes \[\]"),
        (LABELS, np.c_[SCORES, np.zeros(5)], "columns for"),
        (LABELS[:4], SCORES, "do not fit"),
        (LABELS, SCORES[:, 1], "do not fit"),
        (LABELS, SCORES[:, 1:], "do not fit"),
        (LABELS, 2 * SCORES, "Row 0"),
        (LABELS, SCORES * [1, 0.9], "Row 0"),
        (LABELS, np.where(SCORES == 0.9, np.nan, SCORES), "Row 0"),
    ],
)
def test_unusable_input_is_named(metric, labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        metric(labels, probabilities)


def test_unusable_threshold_is_refused():
    with pytest.raises(InputError, match="threshold"):
        classification_metrics(LABELS, SCORES, threshold=1.5)
