import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.augment.balance import fraction_at, kept_counts, synthetic_counts, target_weights
from synthaug.ground.errors import InputError

REAL = st.dictionaries(st.integers(0, 5), st.integers(1, 500), min_size=2)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("auto", {0: 0, 1: 20, 2: 25}),
        ("not majority", {0: 0, 1: 20, 2: 25}),
        ("all", {0: 0, 1: 20, 2: 25}),
        ("minority", {0: 0, 1: 0, 2: 25}),
        ("not minority", {0: 0, 1: 20, 2: 0}),
        ({1: 12}, {0: 0, 1: 2, 2: 0}),
        ({0: 40, 1: 40, 2: 40}, {0: 10, 1: 30, 2: 35}),
        ({}, {0: 0, 1: 0, 2: 0}),
        (lambda labels: {1: 2 * int((labels == 1).sum())}, {0: 0, 1: 10, 2: 0}),
    ],
)
def test_each_strategy_fills_the_classes_it_names(strategy, expected):
    assert synthetic_counts({0: 30, 1: 10, 2: 5}, sampling_strategy=strategy) == expected


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("minority", {0: 0, 1: 3, 2: 0}), ("not minority", {0: 0, 1: 0, 2: 3}), ("auto", {0: 0, 1: 3, 2: 3})],
)
def test_of_equally_small_classes_the_first_is_the_minority_as_in_imbalanced_learn(strategy, expected):
    assert synthetic_counts({0: 5, 1: 2, 2: 2}, sampling_strategy=strategy) == expected


def test_equal_classes_need_nothing():
    for strategy in ("auto", "all", "minority", "not majority"):
        assert synthetic_counts({0: 4, 1: 4}, sampling_strategy=strategy) == {0: 0, 1: 0}


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.5, {0: 30, 1: 50}),
        (0.25, {0: 10, 1: 30}),
        (0.9, {0: 270, 1: 290}),
        (1.0, {0: 30, 1: 30}),
        (0.01, {0: 1, 1: 21}),
    ],
)
def test_a_fraction_fills_all_classes_to_one_total(fraction, expected):
    assert synthetic_counts({0: 30, 1: 10}, synthetic_fraction=fraction) == expected


@given(real=REAL)
@settings(deadline=None)
def test_auto_makes_all_classes_equal(real):
    added = synthetic_counts(real)
    assert {real[label] + added[label] for label in real} == {max(real.values())}


@given(real=REAL, percent=st.integers(1, 99))
@settings(max_examples=200, deadline=None)
def test_the_synthetic_share_is_never_below_the_one_asked_for_and_not_one_volume_more(real, percent):
    added = synthetic_counts(real, synthetic_fraction=percent / 100)
    totals = {real[label] + added[label] for label in real}
    assert len(totals) == 1
    total = totals.pop()
    assert total == math.ceil(max(real.values()) * 100 / (100 - percent) - 1e-9)
    assert all(added[label] * 100 >= percent * total for label in real)


@pytest.mark.parametrize(("ratio", "added"), [(0.5, 5), (0.8, 14), (1.0, 20), (1, 20), (0.37, 1)])
def test_a_ratio_of_two_classes_is_minority_to_majority_rounded_down(ratio, added):
    assert synthetic_counts({0: 30, 1: 10}, sampling_strategy=ratio) == {0: 0, 1: added}
    assert synthetic_counts({0: 10, 1: 30}, sampling_strategy=ratio) == {0: added, 1: 0}


@given(counts=st.tuples(st.integers(1, 500), st.integers(1, 500)), percent=st.integers(1, 100))
@settings(deadline=None)
def test_a_ratio_is_reached_but_not_passed_or_refused_where_it_adds_nothing(counts, percent):
    low, high = sorted(counts)
    ratio = Fraction(percent, 100)
    try:
        (added,) = set(synthetic_counts({0: high, 1: low}, sampling_strategy=float(ratio)).values()) - {0}
    except InputError:
        assert low + 1 > high * ratio - Fraction(1, 10**6)
    else:
        assert low + added <= high * ratio + Fraction(1, 10**6) < low + added + 1 + Fraction(2, 10**6)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, Fraction])
def test_the_ratio_that_lacks_one_subject_adds_one_whatever_the_majority(kind):
    for majority in range(2, 501):
        for minority in {1, majority // 2, majority - 1}:
            ratio = Fraction(minority + 1, majority)
            ratio = ratio if kind is Fraction else kind(ratio.numerator / ratio.denominator)
            assert synthetic_counts({0: majority, 1: minority}, sampling_strategy=ratio) == {0: 0, 1: 1}


@pytest.mark.parametrize("kind", [float, np.float16, np.float32, lambda share: 1 - (1 - share)])
def test_a_fraction_means_what_it_is_written_as(kind):
    for percent in (10, 20, 30, 70, 90):
        share = kind(percent / 100)
        assert synthetic_counts({0: 70, 1: 30}, synthetic_fraction=share, mode="replace") == {
            0: -(-70 * percent // 100),
            1: -(-30 * percent // 100),
        }
    assert synthetic_counts({0: 9, 1: 9}, synthetic_fraction=kind(0.1)) == {0: 1, 1: 1}
    third = fraction_at([(0, 0.0), (3, 1.0)], 1)
    assert synthetic_counts({0: 300, 1: 3}, synthetic_fraction=third, mode="replace") == {0: 100, 1: 1}


def test_a_function_is_given_every_label_once_for_each_subject():
    seen = []
    synthetic_counts({0: 2, 1: 3}, sampling_strategy=lambda labels: seen.append(labels) or {})
    assert np.array_equal(seen[0], [0, 0, 1, 1, 1])


STRATEGIES = st.sampled_from(["auto", "minority", "not minority", "not majority", "all"])


@given(real=REAL, strategy=STRATEGIES)
@settings(deadline=None)
def test_a_named_strategy_never_passes_the_largest_class_and_takes_nothing_away(real, strategy):
    added = synthetic_counts(real, sampling_strategy=strategy)
    assert added.keys() == real.keys()
    assert all(added[label] >= 0 and real[label] + added[label] in (real[label], max(real.values())) for label in real)


@given(real=REAL, strategy=STRATEGIES)
@settings(deadline=None)
def test_synthetic_only_makes_the_totals_that_filling_would_make(real, strategy):
    added = synthetic_counts(real, sampling_strategy=strategy)
    alone = synthetic_counts(real, sampling_strategy=strategy, mode="synthetic")
    assert alone == {label: real[label] + added[label] for label in real}
    assert not any(kept_counts(real, alone, synthetic_fraction=None, mode="synthetic").values())


@given(real=REAL, percent=st.integers(0, 100))
@settings(deadline=None)
def test_replacing_keeps_each_total_and_is_never_below_the_share_asked_for_by_a_subject_or_more(real, percent):
    synthetic = synthetic_counts(real, synthetic_fraction=percent / 100, mode="replace")
    kept = kept_counts(real, synthetic, synthetic_fraction=percent / 100, mode="replace")
    for label, count in real.items():
        assert kept[label] + synthetic[label] == count
        assert kept[label] >= 0
        assert 0 <= synthetic[label] * 100 - percent * count < 100


@given(real=REAL)
@settings(deadline=None)
def test_adding_a_share_of_nothing_is_filling(real):
    assert synthetic_counts(real, synthetic_fraction=0.0) == synthetic_counts(real)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, [None] * 4),
        (0.3, [0.3] * 4),
        (lambda epoch: 1 / (1 + epoch), [1, 1 / 2, 1 / 3, 1 / 4]),
        ([(0, 1.0), (2, 0.0)], [1, 0.5, 0, 0]),
        ([(1, 0.2), (2, 0.6)], [0.2, 0.2, 0.6, 0.6]),
        ([(5, 0.25)], [0.25] * 4),
    ],
)
def test_a_schedule_gives_each_epoch_its_fraction(schedule, expected):
    assert [fraction_at(schedule, epoch) for epoch in range(4)] == expected


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ([], "rising order"),
        ([(3, 0.1), (3, 0.2)], "rising order"),
        ([(3, 0.1), (1, 0.2)], "rising order"),
        ([(0, 1.5), (1, 0.2)], r"\[0, 1\]"),
        ([0.1, 0.2], "points"),
        ("linear", "points"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(schedule, words):
    with pytest.raises(InputError, match=words):
        fraction_at(schedule, 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sampling_strategy": "majority"}, "unknown"),
        ({"sampling_strategy": {0: 29}}, "totals"),
        ({"sampling_strategy": {1: 30.5}}, "whole number"),
        ({"sampling_strategy": {7: 50}}, "name classes"),
        ({"sampling_strategy": [0, 1]}, "must be a name"),
        ({"sampling_strategy": lambda labels: {0: 29}}, "totals"),
        ({"sampling_strategy": lambda labels: None}, "must be a name"),
        ({"sampling_strategy": 0.0}, "ratio"),
        ({"sampling_strategy": 1.1}, "ratio"),
        ({"sampling_strategy": 0.33}, "larger ratio"),
        ({"mode": "mix"}, "mode"),
        ({"mode": "replace"}, "needs synthetic_fraction"),
        ({"mode": "synthetic", "synthetic_fraction": 0.5}, "no real subjects"),
        ({"mode": "replace", "synthetic_fraction": 0.5, "sampling_strategy": "minority"}, "beside"),
        ({"synthetic_fraction": 1.01}, r"\[0, 1\]"),
        ({"synthetic_fraction": -0.5}, r"\[0, 1\]"),
        ({"synthetic_fraction": float("nan")}, r"\[0, 1\]"),
        ({"synthetic_fraction": 0.5, "sampling_strategy": "minority"}, "beside"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        synthetic_counts({0: 30, 1: 10}, **settings)


def test_a_ratio_of_three_classes_is_refused():
    with pytest.raises(InputError, match="give a dictionary"):
        synthetic_counts({0: 30, 1: 10, 2: 5}, sampling_strategy=0.5)


@given(real=REAL, percent=st.integers(0, 100))
@settings(deadline=None)
def test_balance_weighs_each_class_by_what_it_lacks_or_says_that_p_cannot_reach_it(real, percent):
    p = percent / 100
    total, even = sum(real.values()), 1 / len(real)
    try:
        weights = target_weights("balance", real, p)
    except InputError:
        assert any((1 - p) * count / total > even for count in real.values())
    else:
        shares = [(1 - p) * count / total + p * weights[label] for label, count in real.items()]
        assert sum(weights.values()) == pytest.approx(1) or p == 0
        assert p == 0 or shares == pytest.approx([even] * len(real))
