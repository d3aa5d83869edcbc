"""Membership inference: attacks are judged right, and only where there is something to tell."""

import numpy as np
import pytest

from synthaug.ground.errors import InputError
from synthaug.metrics.copies.membership import judge_attack, nearest_scores, shadow_scores

MEMBER = np.arange(400) < 200
PEOPLE = [f"p{number // 2}" for number in range(400)]


def scores_of(shift: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=400) + shift * MEMBER


def test_figures_are_those_that_can_be_counted_by_hand():
    members = np.array([True, True, True, True, False, False, False, False])
    scores = np.array([4.0, 3.0, 1.0, 0.0, 2.0, 0.5, 0.5, -1.0])
    found = judge_attack("a", [scores], [-scores], [members], [list("abcdefgh")])
    assert found.auroc.value == (4 + 4 + 3 + 1) / 16
    assert found.control_auroc.value == 1 - found.auroc.value
    assert found.found.value == 2 / 4  # none of four others may pass
    assert found.leak.value == pytest.approx(2 * found.auroc.value - 1)
    assert (found.n_members, found.n_others) == (4, 4)


def test_one_other_in_a_hundred_may_pass_the_threshold():
    members = np.arange(300) < 100
    scores = np.where(members, 5.0, 0.0)
    scores[[100, 101]] = 10.0  # two of two hundred
    people = [str(number) for number in range(300)]
    assert judge_attack("a", [scores], [scores], [members], [people]).found.value == 1
    scores[102] = 10.0
    assert judge_attack("a", [scores], [scores], [members], [people]).found.value == 0


def test_an_attack_that_tells_is_told_from_one_that_cannot():
    telling = judge_attack("a", [scores_of(1.0, 0)], [scores_of(0.0, 1)], [MEMBER], [PEOPLE])
    assert telling.leak.low > 0
    assert telling.control_auroc.low < 0.5 < telling.control_auroc.high
    assert telling.auroc.low < telling.auroc.value < telling.auroc.high
    blind = judge_attack("a", [scores_of(0.0, 2)], [scores_of(0.0, 1)], [MEMBER], [PEOPLE])
    assert blind.leak.low < 0 < blind.leak.high


def test_more_deals_give_narrower_intervals():
    def width(deals):
        scores = [scores_of(0.5, seed) for seed in range(deals)]
        found = judge_attack("a", scores, scores, [MEMBER] * deals, [PEOPLE] * deals).auroc
        return found.high - found.low

    assert width(4) < 0.7 * width(1)


def test_a_person_in_several_deals_is_one_person():
    def judged(deals):
        return judge_attack(
            "a", [scores_of(0.5, 0)] * deals, [scores_of(0.0, 1)] * deals, [MEMBER] * deals, [PEOPLE] * deals
        )

    once, often = judged(1), judged(4)
    assert (often.auroc.low, often.leak.high) == pytest.approx((once.auroc.low, once.leak.high))
    assert (often.auroc.high, often.found.low) == pytest.approx((once.auroc.high, once.found.low))


def test_people_who_change_sides_between_few_deals_have_an_interval():
    member, people = np.array([True, True, True, False, False, False]), [list("abcdef")] * 2
    scores = np.array([3.0, 2.0, 1.0, 2.5, 0.5, 0.0])
    found = judge_attack("a", [scores, scores], [scores, scores], [member, ~member], people).auroc
    assert found.low <= found.value == 0.5 <= found.high


def test_volumes_of_one_person_do_not_count_as_two_people():
    one, each = ([str(number // size) for number in range(400)] for size in (4, 1))
    scores = np.repeat(np.random.default_rng(0).normal(size=100), 4) + 0.5 * MEMBER

    def width(people):
        found = judge_attack("a", [scores], [scores], [MEMBER], [people]).auroc
        return found.high - found.low

    assert width(one) > 1.5 * width(each)


def test_shadows_take_out_how_hard_a_candidate_is():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=400) * 5
    inside = rng.random((6, 400)) < 0.5
    shadows = hard - 0.5 * inside + 0.2 * rng.normal(size=(6, 400))
    losses = hard - 0.5 * MEMBER + 0.2 * rng.normal(size=400)
    told = judge_attack("a", [shadow_scores(losses, shadows, inside)], [-losses], [MEMBER], [PEOPLE])
    assert told.auroc.value > 0.85
    assert told.control_auroc.value < 0.6  # the loss alone says how hard, not whether known
    one_sided = inside.copy()
    one_sided[:, 0] = True
    assert np.isfinite(shadow_scores(losses, shadows, one_sided)).all()


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(InputError, match="one of the groups is empty"):
        judge_attack("a", [np.ones(3)], [np.ones(3)], [np.ones(3, bool)], [list("abc")])
    scores = np.array([0.0, np.nan, 1.0])
    with pytest.raises(InputError, match="Candidate 1 has a score"):
        judge_attack("a", [scores], [scores], [np.array([True, False, False])], [list("abc")])
    with pytest.raises(InputError, match="seen some candidates"):
        shadow_scores(np.ones(2), np.ones((2, 2)), np.ones((2, 2), bool))


def test_the_nearest_drawn_volume_counts():
    drawn = np.random.default_rng(0).normal(size=(20, 5))
    scores = nearest_scores(np.concatenate([drawn[:3] + 0.01, drawn[:3] + 1]), drawn)
    assert scores[:3].min() > scores[3:].max()
