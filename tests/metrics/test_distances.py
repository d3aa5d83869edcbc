"""Fréchet distance: against hand counts, against the matrix square root, and its floor and interval."""

import dataclasses

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.fid import FIDMetric
from scipy.linalg import sqrtm

from synthaug.ground.errors import InputError
from synthaug.metrics.distances.estimates import DistanceResult, compare, distance_report
from synthaug.metrics.frechet import frechet, frechet_of_rows

SIZES = [(12, 9, 3), (9, 12, 40), (30, 8, 20), (5, 60, 20)]
"""(n, m, d): more rows than features, fewer, and one of each."""


def sets(n: int, m: int, d: int, *, seed: int = 0, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) / np.sqrt(d)
    return rng.normal(size=(n, d)) @ mixing, rng.normal(shift, 1.5, size=(m, d))


def frechet_report(a: np.ndarray, b: np.ndarray, **settings) -> DistanceResult:
    return distance_report(a, b, metrics=["fid"], **settings)["fid"]


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    """The formula as written, with the matrix square root."""
    cov_a, cov_b = (np.cov(rows, rowvar=False).reshape(rows.shape[1], -1) for rows in (a, b))
    shift = a.mean(axis=0) - b.mean(axis=0)
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(sqrtm(cov_a @ cov_b)).real)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([[0], [2]], [[0], [2]], 0.0),
        ([[0], [2]], [[5], [7]], 25.0),  # equal variances 2: only the means, 1 and 6
        ([[0], [1], [2]], [[2], [4], [6]], 10.0),  # means 1, 4; deviations 1, 2
        ([[3], [3]], [[1], [2], [3]], 2.0),  # no variance against 1; means 3, 2
        ([[-1, 0], [1, 0]], [[0, -1], [0, 1]], 4.0),  # variance 2 along unlike axes: nothing overlaps
        ([[-1, -1], [1, 1]], [[-2, -2], [2, 2]], 4.0),  # one line: deviations 2 and 4 along it
    ],
)
def test_hand_counted(a, b, expected):
    assert frechet(np.array(a), np.array(b)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_matrix_square_root(size):
    a, b = sets(*size)
    # The square root of a singular matrix is good to about the root of machine precision.
    assert frechet(a, b) == pytest.approx(textbook(a, b), rel=1e-5)


@pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 18), reason="MONAI 1.6 calls sqrtm as scipy < 1.18 has it"
)
def test_equals_monai():
    a, b = sets(60, 50, 6)
    assert frechet(a, b) == pytest.approx(float(FIDMetric()(torch.from_numpy(b), torch.from_numpy(a))), rel=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_chosen_rows_equal_the_distance_of_those_rows(size):
    a, b = sets(*size)
    rows_a, rows_b = np.array([0, 2, 3, 4]), np.array([1, 5, 7, 0, 7])
    assert frechet_of_rows(a, b)(rows_a, rows_b)[0] == pytest.approx(frechet(a[rows_a], b[rows_b]), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 12),
    m=st.integers(2, 12),
    d=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    move=st.floats(-1e3, 1e3),
)
def test_is_a_distance_that_moves_with_both_sets(n, m, d, seed, move):
    a, b = sets(n, m, d, seed=seed)
    value = frechet(a, b)
    assert value >= 0
    assert frechet(b, a) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert frechet(a + move, b + move) == pytest.approx(value, rel=1e-6, abs=1e-6)
    assert 0 <= frechet(a, a) < 1e-9 * (1 + np.var(a, axis=0).sum())
    assert frechet(a, a + move) == pytest.approx(d * move**2, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 3)), np.zeros((2, 3)), "first features have shape"),
        (np.zeros((2, 3)), np.zeros(3), "second features have shape"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "first features have shape"),
        (np.zeros((2, 3)), np.zeros((2, 4)), "3 and 4 columns"),
        (np.zeros((2, 1)), np.array([[0.0], [np.nan]]), "second features hold NaN or infinity in row 1"),
        (np.array([[np.inf], [0.0]]), np.zeros((2, 1)), "first features hold NaN or infinity in row 0"),
    ],
)
def test_unusable_features_are_named(a, b, message):
    with pytest.raises(InputError, match=message):
        frechet(a, b)


@pytest.mark.parametrize("size", [(20, 20, 4), (21, 9, 50), (9, 21, 50), (4, 4, 2)])
@pytest.mark.parametrize("resamples", [2, 100])
def test_report_holds_its_value(size, resamples):
    a, b = sets(*size)
    result = frechet_report(a, b, seed=1, resamples=resamples, confidence=0.9, fingerprint="toy")
    assert 0 <= result.ci_low <= result.value <= result.ci_high
    assert result.value == pytest.approx(frechet(a, b), rel=1e-9)
    assert (result.n_real, result.n_synthetic) == size[:2]
    assert result.n_floor == min(size[0] // 2, size[1])
    assert frechet_report(a, b, seed=1, resamples=resamples, confidence=0.9, fingerprint="toy") == result
    assert frechet_report(a, b, seed=2, resamples=resamples, confidence=0.9, fingerprint="toy") != result


def test_equal_distributions_stand_at_the_floor():
    """The value alone looks large; held against the floor at equal size it says that nothing differs."""
    rng = np.random.default_rng(0)
    alike = frechet_report(rng.normal(size=(60, 100)), rng.normal(size=(60, 100)), resamples=2)
    assert alike.value > 30
    assert alike.value_at_floor_n == pytest.approx(alike.floor, rel=0.1)
    apart = frechet_report(rng.normal(size=(60, 100)), rng.normal(1, 1, size=(60, 100)), resamples=2)
    assert apart.value_at_floor_n > 1.4 * apart.floor


def test_interval_covers_the_expected_distance():
    """Of 60 intervals at 90 %, fewer than 47 would hold the expectation once in 1,000 suites if coverage were 90 %."""
    rng = np.random.default_rng(0)
    scales = np.linspace(0.5, 1.5, 30)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(20, 30)) * scales, rng.normal(0.3, 1.2, size=(20, 30)) * scales

    expected = np.mean([frechet(*draw()) for _ in range(300)])
    results = [frechet_report(*draw(), resamples=60, confidence=0.9) for _ in range(60)]
    assert sum(result.ci_low <= expected <= result.ci_high for result in results) >= 47
    # And not by being boundless: the intervals are of the size of the spread of the values (3.3 deviations at 90 %).
    widths = [result.ci_high - result.ci_low for result in results]
    assert np.mean(widths) < 2 * 3.3 * np.std([result.value for result in results])


def test_compare():
    a, b = sets(8, 8, 3)
    near, far = (frechet_report(a, b + shift, resamples=2, fingerprint="toy") for shift in (0, 5))
    assert compare(near, far) == near.value / far.value
    for change in ({"fingerprint": "other"}, {"n_real": 9}, {"n_synthetic": 9}):
        with pytest.raises(InputError, match=next(iter(change))):
            compare(near, dataclasses.replace(far, **change))
    with pytest.raises(InputError, match="no ratio"):
        compare(near, dataclasses.replace(far, value=0.0))


@pytest.mark.parametrize("change", [{"resamples": 1}, {"confidence": 0.0}, {"confidence": 1.0}])
def test_unusable_settings_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        frechet_report(*sets(8, 8, 3), **change)


def test_report_needs_two_rows_in_each_half():
    with pytest.raises(InputError, match="n >= 4"):
        frechet_report(*sets(3, 8, 3))


def test_a_set_against_itself_is_refused_whatever_the_order():
    a, _ = sets(12, 12, 3)
    for same in (a, a[::-1]):
        with pytest.raises(InputError, match="compared with itself"):
            frechet_report(a, same)
    assert frechet_report(a, np.concatenate([a[:-1], a[-1:] + 1e-6]), resamples=2).value < 1e-6


def test_real_rows_that_do_not_vary_are_refused():
    with pytest.raises(InputError, match="All 9 real feature rows are alike"):
        frechet_report(np.ones((9, 2)), sets(9, 9, 2)[1])
