"""Settings that no interval can have are refused wherever one is made, before anything is computed."""

import numpy as np
import pytest
import torch
import torchio as tio

import synthaug as sa
from synthaug.ground.errors import InputError
from synthaug.metrics.class_shown import class_shown
from synthaug.metrics.copies.diversity import pair_similarity
from synthaug.metrics.copies.membership import judge_attack
from synthaug.metrics.distances.estimates import distance_report
from synthaug.metrics.fidelity import class_fidelity, gland_volume_fidelity, swap_score
from synthaug.metrics.realism.judgement import judge_realism
from synthaug.metrics.volumes import VolumeSet
from synthaug.statistics.resampling import interval_of
from synthaug.statistics.shares import share_interval

DRAW = torch.Generator().manual_seed(0)
VOLUMES = [torch.rand(1, 8, 8, 8, generator=DRAW) for _ in range(16)]
CLASSED = VolumeSet.of([tio.Subject(t2w=tio.ScalarImage(tensor=each), label=k % 2) for k, each in enumerate(VOLUMES)])
ROWS = np.random.default_rng(0).normal(size=(40, 3))
MEMBER, PEOPLE = np.arange(8) < 4, list("abcdefgh")
STATED = np.array([20.0, 30, 40, 80])
MADE = ['{"requested_class": 0}', '{"requested_class": 1}']


def judged(**settings):
    return judge_attack("a", [np.arange(8.0)], [np.arange(8.0)], [MEMBER], [PEOPLE], **settings)


INTERVALS = {
    "compare_images": lambda **settings: sa.compare_images(VOLUMES[:8], VOLUMES[8:], **settings),
    "judge_realism": lambda **settings: judge_realism(VOLUMES[:8], VOLUMES[8:], **settings),
    "class_shown": lambda **settings: class_shown(CLASSED, CLASSED, CLASSED, **settings),
    "pair_similarity": lambda **settings: pair_similarity(VOLUMES, **settings),
    "distance_report": lambda **settings: distance_report(ROWS[:20], ROWS[20:], metrics=["fid"], **settings),
    "judge_attack": judged,
    "class_fidelity": lambda **settings: class_fidelity(MADE, np.eye(2), **settings),
    "swap_score": lambda **settings: swap_score(np.ones((2, 2, 2)), **settings),
    "gland_volume_fidelity": lambda **settings: gland_volume_fidelity(STATED, STATED[::-1], **settings),
    "interval_of": lambda **settings: interval_of(np.arange(9.0), **settings),
    "share_interval": lambda **settings: share_interval(1, 4, **settings),
}


@pytest.mark.parametrize("name", INTERVALS)
def test_a_coverage_lies_between_0_and_1(name):
    for confidence in (0, 1, 95, -0.1, float("nan")):
        with pytest.raises(InputError, match="confidence"):
            INTERVALS[name](confidence=confidence)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gland_volume_fidelity", {"resamples": 0}),
        ("judge_attack", {"resamples": 0}),
        ("distance_report", {"resamples": 1}),
        ("compare_images", {"pairs": -3}),
        ("compare_images", {"pairs": 1}),
        ("pair_similarity", {"pairs": -3}),
    ],
)
def test_too_few_draws_are_refused(name, settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        INTERVALS[name](**settings)


def test_no_deals_and_unlike_lists_are_refused():
    with pytest.raises(InputError, match="no deal"):
        judge_attack("a", [], [], [], [])
    with pytest.raises(InputError, match="Deal 0"):
        judge_attack("a", [np.arange(8.0)], [np.arange(8.0)], [MEMBER], [PEOPLE[:7]])


def test_an_infinite_volume_is_none_that_a_report_states():
    with pytest.raises(InputError, match="finite"):
        gland_volume_fidelity(np.array([*STATED, np.inf]), np.arange(5.0))


@pytest.mark.parametrize(("asked", "predicted"), [(-1, "null"), (0, "[0.2, 0.3, 0.5]"), (0, "[0.2]")])
def test_a_class_is_one_of_those_that_the_auditor_knows(asked, predicted):
    made = [f'{{"requested_class": {asked}, "class_probabilities": {predicted}}}'] * 2
    with pytest.raises(InputError, match="class"):
        class_fidelity(made, np.eye(2))


@pytest.mark.parametrize("other", [(2, 8, 8, 8), (1, 8, 8, 9)])
def test_sets_of_unlike_channels_or_shapes_are_refused(other):
    with pytest.raises(InputError, match="shape"):
        sa.compare_images(VOLUMES[:8], [torch.rand(other, generator=DRAW) for _ in range(8)])
