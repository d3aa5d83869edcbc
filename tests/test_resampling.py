"""Statistics of all resamples at once: equal to scikit-learn's, one by one, and p-values that can be counted."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    recall_score,
    roc_auc_score,
)

from synthaug.errors import InputError
from synthaug.metrics.classification import auroc, average_precision, classification_metrics
from synthaug.metrics.intervals import paired_difference, patient_bootstrap
from synthaug.metrics.resampling import (
    STATISTICS,
    correct_holm,
    draw_weights,
    interval_of,
    paired_permutation_p,
    statistic_draws,
    weighted_statistic,
)


def cohort(seed, *, n=30, classes=2, digits=1):
    """Labels with every class, and probabilities rounded so that many are equal."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=n - classes)])
    probabilities = softmax(rng.normal(size=(n, classes)).round(digits) + np.eye(classes)[labels], axis=1)
    return labels, probabilities, rng


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(0, 1))
def test_unit_weights_are_the_metrics_of_scikit_learn(seed, classes, digits):
    labels, probabilities, _ = cohort(seed, classes=classes, digits=digits)
    expected = classification_metrics(labels, probabilities)
    assert tuple(expected) == STATISTICS
    ones = np.ones((1, len(labels)))
    for name, value in expected.items():
        [found] = weighted_statistic(name, labels=labels, probabilities=probabilities, weights=ones)
        assert found == pytest.approx(value, abs=1e-9), name


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_weights_are_scikit_learns_sample_weights(seed):
    labels, probabilities, rng = cohort(seed)
    weights = rng.integers(0, 3, size=(4, len(labels)))
    weights[:, :2] = 1  # both classes stay
    scores, called = probabilities[:, 1], probabilities[:, 1] >= 0.5
    references = {
        "accuracy": lambda w: accuracy_score(labels, called, sample_weight=w),
        "auroc": lambda w: roc_auc_score(labels, scores, sample_weight=w),
        "average_precision": lambda w: average_precision_score(labels, scores, sample_weight=w),
        "sensitivity": lambda w: recall_score(labels, called, sample_weight=w),
        "specificity": lambda w: recall_score(labels, called, pos_label=0, sample_weight=w),
        "f1": lambda w: f1_score(labels, called, sample_weight=w, zero_division=0),
        "brier": lambda w: brier_score_loss(labels, scores, sample_weight=w),
    }
    for name, reference in references.items():
        found = weighted_statistic(name, labels=labels, probabilities=probabilities, weights=weights)
        np.testing.assert_allclose(found, [reference(w) for w in weights], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("classes", [2, 3])
def test_many_sets_of_probabilities_at_once_are_each_by_itself(name, classes):
    sets = [cohort(seed, classes=classes)[1] for seed in range(3)]
    labels, ones = cohort(0, classes=classes)[0], np.ones((1, 30))
    together = weighted_statistic(name, labels=labels, probabilities=np.stack(sets), weights=ones)
    alone = [weighted_statistic(name, labels=labels, probabilities=each, weights=ones)[0] for each in sets]
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_a_weight_is_a_repeated_row():
    labels, probabilities, rng = cohort(1)
    weights = rng.integers(1, 4, size=30)
    repeated = np.repeat(np.arange(30), weights)
    expected = classification_metrics(labels[repeated], probabilities[repeated])
    for name in STATISTICS:
        [found] = weighted_statistic(name, labels=labels, probabilities=probabilities, weights=weights[None])
        assert found == pytest.approx(expected[name], abs=1e-9), name


@pytest.mark.parametrize(("name", "statistic"), [("auroc", auroc), ("average_precision", average_precision)])
def test_intervals_are_those_of_the_bootstrap_one_by_one(name, statistic):
    labels, first, _ = cohort(3)
    scores = [first, cohort(4)[1]]
    baseline = [cohort(5)[1], cohort(6)[1]]
    patient_ids = [f"p{row // 2}" for row in range(30)]
    weights, repeats = draw_weights(patient_ids, labels, n_repeats=2, resamples=60)
    known = {"patient_ids": patient_ids, "labels": labels, "resamples": 60}
    ours, theirs = (
        statistic_draws(name, labels=labels, scores=each, weights=weights, repeats=repeats)
        for each in (scores, baseline)
    )
    for draws, expected in (
        (ours, patient_bootstrap(statistic, **known, arrays=scores)),
        (ours - theirs, paired_difference(statistic, **known, arrays=scores, baseline=baseline)),
    ):
        found = interval_of(draws, confidence=0.95)
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_rows_that_a_training_was_not_tested_on_do_not_count():
    """Split 0 tests rows 0 to 3 and is right, split 1 tests rows 2 to 5 and errs on one of four."""
    labels = np.array([0, 1, 0, 1, 0, 1])
    right, wrong = np.eye(2)[labels], np.eye(2)[[0, 1, 0, 1, 0, 0]]
    right[4:], wrong[:2] = np.nan, np.nan
    every = np.ones((1, 6))
    options = {"labels": labels, "scores": [right, wrong], "weights": every}
    assert statistic_draws("accuracy", **options, repeats=np.ones((1, 2))) == [(1 + 0.75) / 2]
    assert statistic_draws("accuracy", **options, repeats=np.array([[0, 2]])) == [0.75]
    first_half = np.array([[1, 1, 0, 0, 0, 0]])  # the second training has none of these
    assert statistic_draws("auroc", **options | {"weights": first_half}, repeats=np.ones((1, 2))) == [1.0]
    none = np.array([[1, 0, 1, 0, 1, 0]])
    assert np.isnan(statistic_draws("auroc", **options | {"weights": none}, repeats=np.ones((1, 2)))).all()


def test_an_interval_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="class is missing"):
        interval_of(np.array([0.5, np.nan, np.nan, 0.5]), confidence=0.9)
    with pytest.raises(InputError, match="class is missing"):
        interval_of(np.array([np.nan, 0.5]), confidence=0.9)
    with pytest.raises(InputError, match="confidence=1"):
        interval_of(np.array([0.5, 0.5]), confidence=1)


# --- permutation


def accuracy(labels, probabilities):
    return np.mean(probabilities.argmax(1) == labels)


def squared_error(labels, probabilities):
    return np.mean((probabilities[:, 1] - labels) ** 2)


def area(labels, probabilities):
    return roc_auc_score(labels, probabilities[:, 1])


@pytest.mark.parametrize(("name", "statistic"), [("accuracy", accuracy), ("brier", squared_error), ("auroc", area)])
@pytest.mark.parametrize("seed", range(3))
def test_p_counts_every_swap_of_whole_patients(name, statistic, seed):
    """By hand: all 32 swaps of five patients (two rows each), averaged over two trainings."""
    rng = np.random.default_rng(seed)
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1, 0, 1])
    ours, theirs = (
        [softmax(rng.normal(size=(10, 2)) + gain * np.eye(2)[labels], axis=1) for _ in range(2)] for gain in (1, 0)
    )

    def difference(swaps):
        rows = np.repeat(swaps, 2)[:, None]
        swapped = rankdata if name == "auroc" else lambda scores, axis: scores
        sets = [(swapped(a, axis=0), swapped(b, axis=0)) for a, b in zip(ours, theirs, strict=True)]
        pairs = [(np.where(rows, b, a), np.where(rows, a, b)) for a, b in sets]
        return np.mean([statistic(labels, first) - statistic(labels, second) for first, second in pairs])

    differences = [abs(difference(swaps)) for swaps in product([False, True], repeat=5)]
    expected = np.mean([each >= differences[0] - 1e-12 for each in differences])
    found = paired_permutation_p(
        name, patient_ids=list("aabbccddee"), labels=labels, scores=ours, baseline=theirs, resamples=1000
    )
    assert found == pytest.approx(expected)


def test_p_is_one_for_equal_predictions_and_another_scale_is_no_difference():
    labels, probabilities, _ = cohort(0, digits=6)  # no equals, which rounding could set apart
    squeezed = 0.5 + (probabilities - 0.5) / 10
    patient_ids = list(map(str, range(30)))
    for name, other in (("accuracy", probabilities), ("auroc", squeezed), ("average_precision", squeezed)):
        found = paired_permutation_p(
            name, patient_ids=patient_ids, labels=labels, scores=[probabilities], baseline=[other], resamples=99
        )
        assert found == 1.0


def test_p_of_a_clear_difference_is_the_smallest_there_is_and_its_seed_names_the_swaps():
    labels = np.arange(40) % 2
    right, chance = np.eye(2)[labels] * 0.8 + 0.1, cohort(0, n=40)[1]
    options = {"patient_ids": list(map(str, range(40))), "labels": labels, "resamples": 199}
    found = paired_permutation_p("auroc", **options, scores=[right], baseline=[1 - right])
    assert found == pytest.approx(2 / 200)  # scipy counts the observed once on each side
    first, again, other = (
        paired_permutation_p("brier", **options, scores=[right * 0.1 + chance * 0.9], baseline=[chance], seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert other == pytest.approx(first, abs=0.15)


def test_p_is_uniform_where_there_is_no_difference():
    """Two classifiers with the same skill: of 200 p-values about a tenth lies below 0.1."""
    below = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.arange(30) % 2
        scores, baseline = (softmax(rng.normal(size=(30, 2)) + np.eye(2)[labels], axis=1) for _ in range(2))
        below += (
            paired_permutation_p(
                "auroc",
                patient_ids=list(map(str, range(30))),
                labels=labels,
                scores=[scores],
                baseline=[baseline],
                resamples=99,
            )
            <= 0.1
        )
    assert 8 <= below <= 34


def test_holm_is_monotone_and_never_above_bonferroni():
    p_values = [0.04, 0.001, 0.2, 0.013]
    assert correct_holm(p_values) == pytest.approx([0.08, 0.004, 0.2, 0.039])
    assert correct_holm([0.9, 0.8]) == [1.0, 1.0]
    assert correct_holm([]) == []
