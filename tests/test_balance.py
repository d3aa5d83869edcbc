import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.augment.balance import synthetic_counts
from synthaug.errors import InputError

REAL = st.dictionaries(st.integers(0, 5), st.integers(1, 500), min_size=2)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("auto", {0: 0, 1: 20, 2: 25}),
        ("not majority", {0: 0, 1: 20, 2: 25}),
        ("all", {0: 0, 1: 20, 2: 25}),
        ("minority", {0: 0, 1: 0, 2: 25}),
        ({1: 12}, {0: 0, 1: 2, 2: 0}),
        ({0: 40, 1: 40, 2: 40}, {0: 10, 1: 30, 2: 35}),
        ({}, {0: 0, 1: 0, 2: 0}),
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
def test_auto_makes_all_classes_equal(real):
    added = synthetic_counts(real)
    assert {real[label] + added[label] for label in real} == {max(real.values())}


@given(real=REAL, percent=st.integers(1, 99))
@settings(max_examples=200)
def test_the_synthetic_share_is_never_below_the_one_asked_for_and_not_one_volume_more(real, percent):
    added = synthetic_counts(real, synthetic_fraction=percent / 100)
    totals = {real[label] + added[label] for label in real}
    assert len(totals) == 1
    total = totals.pop()
    assert total == math.ceil(max(real.values()) * 100 / (100 - percent) - 1e-9)
    assert all(added[label] * 100 >= percent * total for label in real)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sampling_strategy": "majority"}, "unknown"),
        ({"sampling_strategy": {0: 29}}, "totals"),
        ({"sampling_strategy": {7: 50}}, "name classes"),
        ({"synthetic_fraction": 0.0}, r"\(0, 1\]"),
        ({"synthetic_fraction": 1.01}, r"\(0, 1\]"),
        ({"synthetic_fraction": -0.5}, r"\(0, 1\]"),
        ({"synthetic_fraction": float("nan")}, r"\(0, 1\]"),
        ({"synthetic_fraction": 0.5, "sampling_strategy": "minority"}, "beside"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        synthetic_counts({0: 30, 1: 10}, **settings)
