import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from synthaug.augment.order import shuffled_members
from synthaug.ground.seeding import derive_seed

SEEDS = st.integers(0, 2**63 - 1)


@given(size=st.integers(1, 300), laps=st.integers(1, 4), seed=SEEDS)
@settings(max_examples=100, deadline=None)
def test_every_lap_holds_every_member_once(size, laps, seed):
    order = shuffled_members(np.arange(size * laps), size=size, seed=seed)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order.reshape(laps, size)), np.tile(np.arange(size), (laps, 1)))


@given(size=st.integers(1, 10**12), seed=SEEDS, places=st.lists(st.integers(0, 10**15), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_place_has_its_member_whatever_is_asked_for_beside_it(size, seed, places):
    together = shuffled_members(np.array(places), size=size, seed=seed)
    alone = [int(shuffled_members(np.array([place]), size=size, seed=seed)[0]) for place in places]
    assert together.tolist() == alone
    assert all(0 <= member < size for member in alone)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("over", ["laps", "seeds"])
def test_every_order_of_a_small_set_is_equally_likely(size, over):
    repeats = 1500
    if over == "laps":
        orders = shuffled_members(np.arange(size * repeats), size=size, seed=derive_seed("laps")).reshape(repeats, size)
    else:
        seeds = (derive_seed("seeds", repeat) for repeat in range(repeats))
        orders = np.stack([shuffled_members(np.arange(size), size=size, seed=seed) for seed in seeds])
    seen = Counter(map(tuple, orders.tolist()))
    assert len(seen) == math.factorial(size)
    assert chisquare(list(seen.values())).pvalue > 1e-4


def test_neighbours_in_a_large_set_do_not_stay_neighbours():
    order = shuffled_members(np.arange(20000), size=10**7, seed=3)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(order, np.arange(20000))[0, 1]) < 0.03
    assert len(np.unique(order)) == 20000


def test_orders_do_not_change_between_versions():
    assert shuffled_members(np.arange(12), size=6, seed=1).tolist() == [0, 5, 4, 1, 2, 3, 5, 2, 1, 3, 4, 0]
    assert shuffled_members(np.array([0, 10**9]), size=10**7, seed=1).tolist() == [4938773, 9495385]
