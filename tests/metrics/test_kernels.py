"""Kernel distances: hand counts, MONAI's own estimate in the kernel's explicit features, no bias, subsets."""

import numpy as np
import pytest
import torch
from monai.metrics import MMDMetric

from synthaug.ground.errors import InputError
from synthaug.metrics.distances.kernels import kid, kid_of_rows, mmd, mmd_of_rows


def test_kid_counted_by_hand():
    # (x y + 1)^3 of 0, 1 against 1, 2. Within: (0, 1) -> 1; (1, 2) -> 27. Across: 1, 1, 8, 27 -> mean 37 / 4.
    assert kid(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])) == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_mmd_counted_by_hand():
    # The real rows lie 2 apart, so that k = exp(-squared distance / 8). Within: 4 -> e^-0.5; 16 -> e^-2.
    expected = np.exp(-0.5) + np.exp(-2) - 2 * (1 + np.exp(-0.5) + np.exp(-2) + np.exp(-0.5)) / 4
    assert mmd(np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]])) == pytest.approx(expected)


def test_kid_is_monais_estimate_in_the_explicit_features_of_the_kernel():
    """(x.y / d + 1)^3 is the inner product of threefold tensor products of (x / sqrt d, 1)."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 3)), rng.normal(0.5, 1.3, size=(9, 3))

    def explicit(rows: torch.Tensor) -> torch.Tensor:
        extended = torch.cat([rows / rows.shape[1] ** 0.5, torch.ones(len(rows), 1)], dim=1)
        return torch.einsum("ni,nj,nk->nijk", extended, extended, extended).flatten(1)

    tensors = (torch.from_numpy(rows).float() for rows in (a, b))
    assert kid(a, b) == pytest.approx(MMDMetric(y_mapping=explicit)(*tensors).item(), rel=1e-4)


@pytest.mark.parametrize("distance", [kid, mmd])
def test_equal_distributions_give_zero_on_average_however_few_the_rows(distance):
    rng = np.random.default_rng(0)
    values = [distance(rng.normal(size=(6, 8)), rng.normal(size=(9, 8))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


@pytest.mark.parametrize("distance", [kid, mmd])
def test_the_farther_the_larger(distance):
    rng = np.random.default_rng(0)
    real = rng.normal(size=(40, 8))
    values = [distance(real, rng.normal(size=(40, 8)) + shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)


def test_subsets_average_to_the_value_of_all_rows():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 6)), rng.normal(0.4, 1, size=(40, 6))
    assert kid(a, b, subsets=300, subset_size=20) == pytest.approx(kid(a, b), rel=0.1)
    assert kid(a, b, subsets=2, subset_size=40) == pytest.approx(kid(a, b))
    assert kid(a, b, subsets=3, subset_size=9, seed=1) == kid(a, b, subsets=3, subset_size=9, seed=1)
    with pytest.raises(InputError, match="subset_size=41"):
        kid(a, b, subsets=3, subset_size=41)


def test_chosen_rows():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 4)), rng.normal(size=(12, 4))
    rows_a, rows_b = np.array([0, 2, 5]), np.array([1, 3, 4, 11])
    assert kid_of_rows(a, b)(rows_a, rows_b)[0] == pytest.approx(kid(a[rows_a], b[rows_b]))
    # The width stays that of all real rows, however few are chosen.
    of_some = mmd_of_rows(a, b)(rows_a, rows_b)[0]
    assert of_some == pytest.approx(mmd_of_rows(a, b[rows_b])(rows_a, np.arange(4))[0])
    assert of_some != pytest.approx(mmd(a[rows_a], b[rows_b]))


def test_real_rows_alike_have_no_scale():
    with pytest.raises(InputError, match="no scale"):
        mmd(np.ones((5, 2)), np.zeros((5, 2)))
