"""Statistics of all resamples at once: equal to scikit-learn's, one by one, and p-values that can be counted."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import permutation_test, rankdata
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    recall_score,
    roc_auc_score,
)

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.classification import auroc, average_precision, classification_metrics
from synthaug.statistics.intervals import paired_difference, patient_bootstrap
from synthaug.statistics.resampling import (
    Resamples,
    average_trainings,
    centred_interval_of,
    correct_holm,
    draw_swaps,
    interval_of,
    paired_permutation,
)
from synthaug.statistics.swaps import swapped_differences
from synthaug.statistics.weighted import BLOCK, STATISTICS, weighted_statistics


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
    [found] = weighted_statistics(labels, probabilities, np.ones((1, len(labels))))
    assert found.tolist() == pytest.approx(list(expected.values()), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(0, 1))
def test_areas_are_those_of_scikit_learn(seed, classes, digits):
    labels, probabilities, _ = cohort(seed, classes=classes, digits=digits)
    members, scores = np.eye(classes)[labels], probabilities
    if classes == 2:
        members, scores = labels, probabilities[:, 1]
    assert auroc(labels, probabilities) == pytest.approx(roc_auc_score(members, scores), abs=1e-12)
    assert average_precision(labels, probabilities) == pytest.approx(
        average_precision_score(members, scores), abs=1e-12
    )


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
    found = weighted_statistics(labels, probabilities, weights)
    for name, reference in references.items():
        column = found[:, STATISTICS.index(name)]
        np.testing.assert_allclose(column, [reference(w) for w in weights], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("classes", [2, 3])
def test_many_weightings_go_through_in_blocks_and_are_each_by_itself(classes):
    labels, probabilities, rng = cohort(0, n=3000, classes=classes)
    weights = rng.integers(0, 3, size=(BLOCK // 3000 + 5, 3000))
    together = weighted_statistics(labels, probabilities, weights)
    alone = [weighted_statistics(labels, probabilities, weights[[row]])[0] for row in (0, -1)]
    np.testing.assert_allclose(together[[0, -1]], alone, atol=1e-12)
    assert weighted_statistics(labels, probabilities, weights[:0]).shape == (0, len(STATISTICS))


def test_rows_that_lack_a_class_have_no_statistic():
    labels, probabilities, _ = cohort(0, classes=3)
    weights = np.stack([labels != label for label in range(3)] + [np.ones(30, dtype=bool)])
    assert np.isnan(weighted_statistics(labels, probabilities, weights)).all(axis=1).tolist() == [True] * 3 + [False]


def test_a_weight_is_a_repeated_row():
    labels, probabilities, rng = cohort(1)
    weights = rng.integers(1, 4, size=30)
    repeated = np.repeat(np.arange(30), weights)
    expected = classification_metrics(labels[repeated], probabilities[repeated])
    [found] = weighted_statistics(labels, probabilities, weights[None])
    assert dict(zip(STATISTICS, found, strict=True)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("name", "statistic"), [("auroc", auroc), ("average_precision", average_precision)])
def test_intervals_are_those_of_the_bootstrap_one_by_one(name, statistic):
    labels, first, _ = cohort(3)
    scores = [first, cohort(4)[1]]
    baseline = [cohort(5)[1], cohort(6)[1]]
    patient_ids = [f"p{row // 2}" for row in range(30)]
    known = {"patient_ids": patient_ids, "labels": labels, "resamples": 60}
    resamples = Resamples(60)
    ours, theirs = (
        resamples.draws(patient_ids, labels, each)[:, STATISTICS.index(name)] for each in (scores, baseline)
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
    patient_ids = list("abcdef")
    assert Resamples(1).draws(patient_ids, labels, [right, wrong])[0, 0] == (1 + 0.75) / 2
    values = np.array([[[1.0], [np.nan], [np.nan]], [[0.75], [0.75], [np.nan]]])
    found = average_trainings(values, np.array([[1, 2], [2, 1], [1, 1]]))[:, 0]
    assert found[:2] == pytest.approx([(1 + 2 * 0.75) / 3, 0.75])  # the second lacks a class for the first training
    assert np.isnan(found[2])


def test_a_training_is_measured_once_and_alone_as_beside_others():
    labels, first, _ = cohort(3)
    sets, patient_ids = [first, cohort(4)[1]], list(map(str, range(30)))
    expected = Resamples(20).draws(patient_ids, labels, sets)
    resamples = Resamples(20)
    resamples.draws(patient_ids, labels, sets[::-1])
    for known in resamples.measured.values():
        known += 1  # shows below that nothing is measured again
    found = resamples.draws(patient_ids, labels, sets)
    assert len(resamples.measured) == 2
    np.testing.assert_allclose(found, expected + 1)


def test_the_interval_of_a_biased_statistic_is_laid_around_its_value():
    draws = np.array([0.1, 0.3, 0.4, 0.5])
    found = centred_interval_of(draws, confidence=0.5, least=0, most=1)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.05, 0.15))
    wide = centred_interval_of(np.array([0.1, *np.linspace(0, 1, 50)]), confidence=0.95, least=0, most=0.2)
    assert (wide.low, wide.high) == (0, 0.2)
    skewed = np.array([0.1, 0.2, *[0.3] * 9, 0.9])  # whose quantiles lie on one side of their mean
    found = centred_interval_of(skewed, confidence=0.2, least=0, most=1)
    assert found.low <= found.value <= found.high


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
    found = paired_permutation(
        patient_ids=list("aabbccddee"), labels=labels, scores=ours, baseline=theirs, resamples=1000
    )
    assert found[name] == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(0, 6))
def test_swapped_differences_are_those_of_weighted_rows(seed, classes, digits):
    """A swap keeps one of a row's two predictions: a weighting of both classifiers' rows, one under the other."""
    labels, ours, rng = cohort(seed, classes=classes, digits=digits)
    theirs, twice = cohort(seed + 1, classes=classes, digits=digits)[1], np.tile(labels, 2)
    patient_of = np.unique(rng.integers(20, size=30), return_inverse=True)[1]
    bits = rng.integers(2, size=(patient_of.max() + 1, 21)).astype(np.uint8)
    swapped = np.vstack([np.zeros(30, dtype=np.uint8), bits[patient_of].T])
    weights = np.hstack([1 - swapped, swapped]), np.hstack([swapped, 1 - swapped])
    ranks = np.concatenate([rankdata(scores, axis=0) / 60 for scores in (ours, theirs)])
    by_value, by_rank = (
        weighted_statistics(twice, scores, weights[0]) - weighted_statistics(twice, scores, weights[1])
        for scores in (np.concatenate([ours, theirs]), ranks)
    )
    of_order = [STATISTICS.index(name) for name in ("auroc", "average_precision")]
    by_value[:, of_order] = by_rank[:, of_order]
    packed = np.packbits(bits, axis=1)
    found = swapped_differences(labels, ours, theirs, swaps=packed, count=21, patient_of=patient_of)
    np.testing.assert_allclose(found, by_value, atol=1e-13)


def test_a_training_whose_test_rows_lack_a_class_does_not_count():
    labels, first, _ = cohort(0, n=40)
    second, patient_ids = cohort(1, n=40)[1], list(map(str, range(40)))
    options = {"patient_ids": patient_ids, "labels": labels, "resamples": 199}
    expected = paired_permutation(**options, scores=[first], baseline=[second])
    negatives = [np.where(labels[:, None] == 0, scores, np.nan) for scores in (second, first)]
    found = paired_permutation(**options, scores=[first, negatives[0]], baseline=[second, negatives[1]])
    assert found == expected
    with pytest.raises(InputError):
        paired_permutation(**options, scores=negatives[:1], baseline=negatives[1:])


def test_a_row_that_only_one_side_was_tested_on_is_refused():
    labels, probabilities, _ = cohort(2, n=12)
    patients = [str(row) for row in range(12)]
    cut = np.where(np.arange(12)[:, None] == 5, np.nan, 1 - probabilities)
    for ours, theirs in ((probabilities, cut), (cut, probabilities)):
        with pytest.raises(InputError, match="row 5"):
            paired_permutation(
                patient_ids=patients, labels=labels, scores=[ours], baseline=[theirs], resamples=19, seed=1
            )
    whole = paired_permutation(
        patient_ids=patients, labels=labels, scores=[probabilities], baseline=[1 - probabilities], resamples=19, seed=1
    )
    assert min(whole.values()) >= 2 / 20


def test_p_is_one_for_equal_predictions_and_another_scale_is_no_difference():
    labels, probabilities, _ = cohort(0, digits=6)  # no equals, which rounding could set apart
    squeezed = 0.5 + (probabilities - 0.5) / 10
    patient_ids = list(map(str, range(30)))
    for name, other in (("accuracy", probabilities), ("auroc", squeezed), ("average_precision", squeezed)):
        found = paired_permutation(
            patient_ids=patient_ids, labels=labels, scores=[probabilities], baseline=[other], resamples=99
        )
        assert found[name] == 1.0


def test_swaps_and_p_are_those_of_scipy():
    labels, first, _ = cohort(0, n=40)
    second, patients = cohort(1, n=40)[1], np.arange(40)

    def gain(mine, others, axis):
        swapped = np.moveaxis(mine, axis, -1)[..., None] >= 40
        pair = np.where(swapped, second, first), np.where(swapped, first, second)
        errors = [((each[..., 1] - labels) ** 2).mean(axis=-1) for each in pair]
        return errors[0] - errors[1]

    expected = permutation_test(
        (patients, patients + 40),
        gain,
        permutation_type="samples",
        vectorized=True,
        n_resamples=1500,
        batch=1000,
        rng=numpy_generator("paired permutation", 0),
    )
    found = paired_permutation(
        patient_ids=[f"{number:02d}" for number in patients],
        labels=labels,
        scores=[first],
        baseline=[second],
        resamples=1500,
    )
    assert found["brier"] == expected.pvalue
    assert draw_swaps(40, 1500).shape == (40, 250)  # two blocks of a thousand, of which 1500 count
    assert np.unpackbits(draw_swaps(3, 8), axis=1).sum(axis=1).tolist() == [4, 4, 4]  # all eight


def test_differences_that_rounding_sets_apart_are_as_large():
    """One classifier is right about 21 patients more, the other about 20: whichever swap gives a share of 1/600 more is
    as large, though 390/600 - 389/600 and 380/600 - 379/600 are not one number."""
    labels = np.arange(600) % 2
    gains = np.repeat([1, -1, 0], [21, 20, 559])
    ours, theirs = (np.eye(2)[np.where(gains == lost, 1 - labels, labels)] for lost in (-1, 1))
    patient_ids = [f"{number:03d}" for number in range(600)]
    options = {"patient_ids": patient_ids, "labels": labels, "scores": [ours], "baseline": [theirs], "resamples": 499}
    swapped = np.unpackbits(draw_swaps(600, 499), axis=1, count=499).T
    differences = np.where(swapped, -gains, gains).sum(axis=1)
    fewest = min((differences <= 1).sum(), (differences >= 1).sum())
    assert paired_permutation(**options)["accuracy"] == min(2 * (1 + fewest) / 500, 1)


def test_p_of_a_clear_difference_is_the_smallest_there_is_and_its_seed_names_the_swaps():
    labels = np.arange(40) % 2
    right, chance = np.eye(2)[labels] * 0.8 + 0.1, cohort(0, n=40)[1]
    options = {"patient_ids": list(map(str, range(40))), "labels": labels, "resamples": 199}
    found = paired_permutation(**options, scores=[right], baseline=[1 - right])
    assert found["auroc"] == pytest.approx(2 / 200)  # scipy counts the observed once on each side
    first, again, other = (
        paired_permutation(**options, scores=[right * 0.1 + chance * 0.9], baseline=[chance], seed=seed)["brier"]
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
            paired_permutation(
                patient_ids=list(map(str, range(30))),
                labels=labels,
                scores=[scores],
                baseline=[baseline],
                resamples=99,
            )["auroc"]
            <= 0.1
        )
    assert 8 <= below <= 34


def test_holm_is_monotone_and_never_above_bonferroni():
    p_values = [0.04, 0.001, 0.2, 0.013]
    assert correct_holm(p_values) == pytest.approx([0.08, 0.004, 0.2, 0.039])
    assert correct_holm([0.9, 0.8]) == [1.0, 1.0]
    assert correct_holm([]) == []


@pytest.mark.parametrize("labels", [[1, 1, 2, 2], [0, 0, 2, 2], [-1, -1, 0, 0], ["0", "0", "1", "1"]])
def test_labels_that_are_none_of_the_classes_are_refused(labels):
    """Numbered from 1, the second class counted as not the first: AUROC 0 in place of 1."""
    scores, people = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]]), list("abcd")
    with pytest.raises(InputError, match="classes 0 to 1"):
        Resamples(10).draws(people, np.array(labels), [scores])
    with pytest.raises(InputError, match="classes 0 to 1"):
        paired_permutation(
            patient_ids=people, labels=np.array(labels), scores=[scores], baseline=[scores], resamples=10
        )
