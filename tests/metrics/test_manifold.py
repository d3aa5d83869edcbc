"""Precision, recall, density, coverage: hand counts, the authors' own code, and what each is for."""

import numpy as np
import pytest
from prdc import compute_prdc

from synthaug.ground.errors import InputError
from synthaug.metrics.distances.estimates import distance_report
from synthaug.metrics.distances.manifold import manifold_of_rows, precision_recall_density_coverage


def test_counted_by_hand():
    # Real 0, 1, 2, 3: balls of radius 1, open. Synthetic 2.5 (in the balls of 2 and 3), 3.5 (of 3), 4.5, 5.5.
    line = np.arange(4.0)[:, None]
    assert precision_recall_density_coverage(line, line + 2.5, k=1).tolist() == [0.5, 0.5, 0.75, 0.5]


@pytest.mark.parametrize("sizes", [(30, 20, 4), (20, 40, 50)])
@pytest.mark.parametrize("k", [1, 5])
def test_equals_the_authors_code(sizes, k):
    n, m, d = sizes
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(n, d)), rng.normal(0.3, 0.9, size=(m, d))
    theirs = compute_prdc(real, synthetic, nearest_k=k)
    ours = precision_recall_density_coverage(real, synthetic, k=k)
    assert ours == pytest.approx([theirs[name] for name in ("precision", "recall", "density", "coverage")])


def test_each_figure_sees_its_own_fault():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(0, 1, size=(100, 4)), rng.normal(30, 1, size=(100, 4))])
    good = np.concatenate([rng.normal(0, 1, size=(100, 4)), rng.normal(30, 1, size=(100, 4))])
    one_mode, far = rng.normal(0, 1, size=(200, 4)), rng.normal(-60, 1, size=(200, 4))
    assert (precision_recall_density_coverage(real, good) > 0.85).all()
    precision, recall, density, coverage = precision_recall_density_coverage(real, one_mode)
    assert precision > 0.85  # all of it looks real,
    assert density > 0.85
    assert recall < 0.55  # but half of the patients are missing
    assert coverage < 0.55
    assert (precision_recall_density_coverage(real, far) == 0).all()


def test_chosen_rows_equal_the_figures_of_those_rows():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 4)), rng.normal(size=(30, 4))
    rows_a, rows_b = np.arange(0, 20, 2), np.arange(5, 30, 3)
    expected = precision_recall_density_coverage(a[rows_a], b[rows_b])
    assert manifold_of_rows(a, b)(rows_a, rows_b) == pytest.approx(expected)


def test_too_few_rows_for_the_neighbour():
    with pytest.raises(InputError, match="n >= 6"):
        precision_recall_density_coverage(np.zeros((5, 2)), np.zeros((9, 2)))


def test_intervals_of_shares_end_at_one():
    rng = np.random.default_rng(0)
    real, wide = rng.normal(size=(24, 3)), 1.3 * rng.normal(size=(24, 3))
    found = distance_report(real, wide, metrics=["precision", "recall", "density", "coverage"], resamples=40)
    for name in ("precision", "recall", "coverage"):
        assert 0 <= found[name].ci_low <= found[name].value <= found[name].ci_high <= 1
    assert found["precision"].ci_high == 1.0  # uncut it would be 1.11
