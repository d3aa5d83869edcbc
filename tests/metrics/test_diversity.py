"""MS-SSIM of pairs: MONAI's own figure, scales that fit, pairs that share nothing."""

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric

from synthaug.ground.errors import InputError
from synthaug.metrics.copies.diversity import fitting_scales, ms_ssim, pair_similarity


def noise(n: int, shape=(1, 16, 16, 8), seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=draw) for _ in range(n)]


def test_equals_monai():
    a, b = (torch.stack(noise(3, (1, 24, 24, 16), seed)) for seed in (0, 1))
    a = 0.7 * a + 0.3 * b
    metric = MultiScaleSSIMMetric(spatial_dims=3, kernel_size=7, weights=(0.0448 / 0.3304, 0.2856 / 0.3304))
    np.testing.assert_allclose(ms_ssim(a, b), metric(a, b).flatten().numpy(), rtol=1e-5)


@pytest.mark.parametrize("sides", [(5, 9, 9), (11, 11, 11), (32, 32, 16), (20, 40, 40)])
def test_the_chosen_scales_run_on_volumes_of_those_sides(sides):
    volume = torch.rand(1, 1, *sides)
    assert ms_ssim(volume, volume) == pytest.approx(1)


def test_large_volumes_are_measured_as_published():
    assert fitting_scales((176, 176, 176)) == (5, 11)


def test_sides_below_the_narrowest_window_are_refused():
    with pytest.raises(InputError, match="sides of at least 5"):
        fitting_scales((4, 32, 32))


def test_pairs_share_no_volume():
    read: list[int] = []

    class Watched(list):
        def __getitem__(self, place):
            read.append(place)
            return super().__getitem__(place)

    result = pair_similarity(Watched(noise(9)), pairs=100)
    assert result.pairs == 4
    seen = read[: 2 * result.pairs]
    assert len(set(seen)) == len(seen)


def test_an_interval_of_few_pairs_stays_within_what_can_be():
    found = pair_similarity(noise(8), pairs=2)  # of unlike volumes, so that the lower end would lie below 0
    assert 0 == found.ci_low < found.value < found.ci_high <= 1


def test_copies_are_less_diverse_and_sets_are_compared_with_each_other():
    different, copies = noise(8), noise(1) * 8
    assert pair_similarity(copies).value == pytest.approx(1)
    assert pair_similarity(different).value < 0.3
    assert pair_similarity(different, copies).pairs == 8
    assert pair_similarity(different, noise(3, seed=5)).pairs == 3
    assert pair_similarity(different, seed=1) == pair_similarity(different, seed=1, batch_size=1)
    with pytest.raises(InputError, match="1 pairs"):
        pair_similarity(noise(3))
    with pytest.raises(InputError, match="cannot be paired"):
        pair_similarity(noise(4), noise(4, (1, 16, 16, 9)))
