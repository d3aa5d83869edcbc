"""The study of the default generator: bands and slopes as by hand, samplers of like cost."""

from functools import partial

import pytest
import torch
from conftest import TINY_PREPROCESSING

from synthaug.config import Config
from synthaug.data.splits import Split


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/generator")


def test_each_pattern_lies_in_its_band(script):
    bands = script("calibration").bands
    signs = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1)
    whole = signs.expand(2, 1, 8, 8, 8)
    assert bands(whole) == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    places = torch.arange(8)
    chequered = (-1.0) ** (places[:, None, None] + places[:, None] + places)
    assert bands(signs * chequered) == pytest.approx([0.0, 0.0, 1.0], abs=1e-3)
    assert bands(2 * whole)[0] == pytest.approx(2.0)


def test_a_denoiser_that_halves_has_a_slope_of_two(script):
    slope = script("calibration").slope
    latents = torch.randn(6, 1, 2, 2, 2) + 5
    assert slope(latents, latents / 2 + 3) == pytest.approx(2.0)


def test_slopes_are_told_of_every_level(script, tiny_cascade, tiny_subjects):
    calibration = script("calibration")
    config = Config(preprocess=TINY_PREPROCESSING)
    found = calibration.slopes(tiny_cascade, config, Split(tiny_subjects, [], []))
    assert [(each["level"], each["sigma"]) for each in found] == [
        (level, sigma) for level in range(2) for sigma in calibration.SIGMAS
    ]
    # Hardly any noise: D has only to keep what it is given.
    assert found[0]["slope"] == pytest.approx(1.0, abs=0.05)


def test_samplers_of_a_budget_cost_alike(script):
    samplers = script("samplers")
    for evaluations, group in samplers.BUDGETS.items():
        assert len(set(group)) == len(group)
        for each in group:
            assert each.steps * (2 if each.scheduler == "heun" else 1) == evaluations
