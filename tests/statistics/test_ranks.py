"""Statistics of ranks: forms for swaps equal the weighted one, and a new statistic is one record."""

import importlib
import multiprocessing
import sys

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from synthaug.statistics.ranks import RANK_STATISTICS, WeighedSwaps, WeightedRanks

ALARMS = 0.2
"""Share of false alarms of the statistic that is added."""
PATIENTS = np.arange(40) % 8
"""Patient of each row."""


def sensitivity_at_alarms(ranks: WeightedRanks) -> np.ndarray:
    """Best sensitivity of a threshold with at most ``ALARMS`` false alarms among the negatives."""
    negatives = ranks.total - ranks.positives
    allowed = ranks.down_to - ranks.hits_so_far <= ALARMS * negatives
    return np.where(allowed, ranks.hits_so_far, 0).max(axis=0) / ranks.positives


def by_scikit_learn(labels, scores, weights=None):
    alarms, sensitivity, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    return sensitivity[alarms <= ALARMS].max()


def rows(seed, *, n=40):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    ours, theirs = (softmax(rng.normal(size=(n, 2)).round(1) + gain * np.eye(2)[labels], axis=1) for gain in (1, 0))
    return labels, ours, theirs, rng


@pytest.mark.parametrize("name", RANK_STATISTICS)
@pytest.mark.parametrize("seed", range(5))
def test_a_faster_form_for_swaps_is_the_one_by_weights(name, seed):
    labels, ours, theirs, rng = rows(seed)
    order = np.stack([rankdata(scores[:, 1]) for scores in (ours, theirs)])
    swapped = rng.integers(2, size=(len(labels), 50)).astype(np.uint8)
    statistic = RANK_STATISTICS[name]
    found, expected = (
        swaps.differences(swaps.terms @ (1.0 - 2 * swapped), swapped)
        for swaps in (
            statistic.swaps(labels == 1, order),
            WeighedSwaps.of(statistic.weighted, labels == 1, order),
        )
    )
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_a_statistic_of_ranks_is_one_record():
    """What CONTRIBUTING says of adding one: cells, resamples, p-values and the report's columns then have it."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply(measured_with_one_more)
    labels, ours, theirs, rng = rows(0)
    weights = rng.integers(1, 3, size=(7, len(labels)))
    assert found["names"][:4] == ("accuracy", "auroc", "average_precision", "sensitivity_at_alarms")
    assert found["of a cell"] == found["of the report"] == found["names"]
    assert found["plain"] == pytest.approx(by_scikit_learn(labels, ours[:, 1]))
    assert found["weighted"] == pytest.approx([by_scikit_learn(labels, ours[:, 1], each) for each in weights])
    # All swaps of eight patients, one by one.
    ranks, differences = [rankdata(scores[:, 1]) for scores in (ours, theirs)], []
    for number in range(2**8):
        swapped = (number >> PATIENTS & 1).astype(bool)
        first, second = np.where(swapped, *ranks[::-1]), np.where(swapped, *ranks)
        differences.append(by_scikit_learn(labels, first) - by_scikit_learn(labels, second))
    below, above = (np.mean(np.array(differences) * side <= differences[0] * side + 1e-9) for side in (1, -1))
    assert found["p"] == pytest.approx(min(2 * min(below, above), 1))


def measured_with_one_more():
    """Everything above ``statistics.ranks`` is imported anew once the record is there."""
    for name in [each for each in sys.modules if each.startswith("synthaug")]:
        del sys.modules[name]
    ranks = importlib.import_module("synthaug.statistics.ranks")
    ranks.RANK_STATISTICS["sensitivity_at_alarms"] = ranks.RankStatistic(sensitivity_at_alarms)
    names = ("metrics.classification", "statistics.weighted", "statistics.resampling", "report.page")
    classification, weighted, resampling, page = (importlib.import_module(f"synthaug.{name}") for name in names)
    labels, ours, theirs, rng = rows(0)
    plain = classification.classification_metrics(labels, ours)
    place = weighted.STATISTICS.index("sensitivity_at_alarms")
    p_values = resampling.paired_permutation(
        patient_ids=PATIENTS.tolist(), labels=labels, scores=[ours], baseline=[theirs], resamples=1000
    )
    return {
        "names": weighted.STATISTICS,
        "of a cell": tuple(plain),
        "of the report": page.STATISTICS,
        "plain": plain["sensitivity_at_alarms"],
        "weighted": weighted.weighted_statistics(labels, ours, rng.integers(1, 3, size=(7, len(labels))))[:, place],
        "p": p_values["sensitivity_at_alarms"],
    }
