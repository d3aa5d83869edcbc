"""Membership inference: can it be told from a generator, or from what it draws, whom it was trained on?

An attack gives each candidate a score, higher = more likely a member. It is evaluated by AUROC (0.5 = chance) and by
the true positive rate at a false positive rate of 1 %. Reference: Carlini et al., "Membership inference attacks from
first principles" (2022). The control is the same attack on a generator trained on neither members nor others. Its AUROC
should be 0.5; a deviation comes from the choice of the groups and is no leak.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from synthaug.ground.errors import InputError
from synthaug.statistics.intervals import Interval, checked_confidence, draw_weights
from synthaug.statistics.resampling import interval_of

FALSE_ALARMS = 0.01
"""Share of others that may be called members where the share of members found is told."""


@dataclass(frozen=True)
class AttackResult:
    """What an attack reaches on one generator, and on one that saw neither group."""

    attack: str
    auroc: Interval
    """Of members against others; 0.5 = chance."""
    found: Interval
    """Share of members above the threshold that one other in a hundred passes; below 100 others none passes it."""
    control_auroc: Interval
    """Of the same attack on the generator that saw neither group."""
    control_found: Interval
    """Likewise."""
    leak: Interval
    """AUROC beyond that of the control, on the same people."""
    n_members: int
    """Volumes of members."""
    n_others: int
    """Volumes of others."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def judge_attack(
    attack: str,
    scores: Sequence[np.ndarray],
    control: Sequence[np.ndarray],
    members: Sequence[np.ndarray],
    people: Sequence[Sequence[str]],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> AttackResult:
    """Judge an attack over one or several deals of people into members and others.

    Args:
        attack: Its name.
        scores: Of each candidate of a deal (n,), one array a deal; higher = more likely a member.
        control: The same attack on the generator that saw neither members nor others.
        members: Whether each candidate is a member (n,), bool.
        people: Person of each candidate; a person's volumes, in all deals, are resampled together.
        resamples: Bootstrap resamples of people behind an interval.
        confidence: Coverage of the intervals, in (0, 1).
        seed: Names the resamples.

    Raises:
        InputError: There is no deal, or one lacks members or others, has lists of unlike lengths or a score that is
            not finite; or unusable settings.

    Example:
        >>> member, people = np.arange(20) < 10, [str(number) for number in range(20)]
        >>> telling, blind = np.where(member, 1.0, 0.0) + np.arange(20) / 100, np.arange(20) % 5 * 1.0
        >>> result = judge_attack("loss", [telling], [blind], [member], [people])
        >>> result.auroc.value, result.control_auroc.value, result.leak.low > 0
        (1.0, 0.5, True)
    """
    checked_confidence(confidence)
    if not len(members):
        raise InputError("There is no deal of people to judge an attack on.")
    for number, deal in enumerate(zip(scores, control, members, people, strict=True)):
        if len({len(each) for each in deal}) > 1:
            raise InputError(f"Deal {number} has {[len(each) for each in deal]} scores, controls, members and people.")
    flags = np.concatenate([np.asarray(each, dtype=bool) for each in members])
    # One draw of people for all deals: whoever is in several of them is one person.
    names = [person for each in people for person in each]
    drawn, _ = draw_weights(names, flags.astype(int), n_repeats=1, resamples=resamples, seed=seed)
    weights = np.split(drawn, np.cumsum([len(each) for each in members])[:-1], axis=1)
    target, blind = (
        _mean_of_deals([_resampled(*deal) for deal in zip(each, members, weights, strict=True)])
        for each in (scores, control)
    )
    return AttackResult(
        attack,
        auroc=_interval(target[0], confidence),
        found=_interval(target[1], confidence),
        control_auroc=_interval(blind[0], confidence),
        control_found=_interval(blind[1], confidence),
        leak=_interval(target[0] - blind[0], confidence),
        n_members=int(flags.sum()),
        n_others=int((~flags).sum()),
    )


def nearest_scores(candidates: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Minus the distance of each candidate (n, d) to the nearest of the drawn volumes (m, d): (n,).

    Example:
        >>> nearest_scores(np.array([[0.0], [3.0]]), np.array([[1.0], [9.0]])).tolist()
        [-1.0, -2.0]
    """
    return -cdist(candidates, drawn).min(axis=1)


def shadow_scores(losses: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio of each candidate's loss, as a member against not (Carlini et al. 2022, with one variance).

    Args:
        losses: Of the attacked generator on each candidate (n,).
        shadows: Of generators of one's own (k, n).
        inside: Whether a shadow was trained on a candidate (k, n).

    Returns:
        (n,). Where no shadow saw a candidate, or each did, the mean shift of the other candidates stands in.

    Raises:
        InputError: The shadows all saw everybody, or nobody.

    Example:
        >>> losses, shadows = np.array([0.1, 0.9]), np.array([[0.1, 1.0], [0.9, 0.2]])
        >>> shadow_scores(losses, shadows, np.array([[True, False], [False, True]])) > 0
        array([ True, False])
    """
    inside = np.asarray(inside, dtype=bool)
    if inside.all() or not inside.any():
        raise InputError("Shadow generators must each have seen some candidates and not the others.")
    seen, unseen = (_mean_where(shadows, kept) for kept in (inside, ~inside))
    shift = np.nanmean(unseen - seen) if np.isfinite(unseen - seen).any() else np.nanmean(unseen) - np.nanmean(seen)
    seen = np.where(np.isnan(seen), unseen - shift, seen)
    unseen = np.where(np.isnan(unseen), seen + shift, unseen)
    spread = np.where(inside, shadows - seen, shadows - unseen).std() + 1e-12
    return ((losses - unseen) ** 2 - (losses - seen) ** 2) / (2 * spread**2)


def _mean_where(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Mean of each column over the rows that are kept; NaN = none is."""
    count = kept.sum(axis=0)
    return np.where(count > 0, (values * kept).sum(axis=0) / np.maximum(count, 1), np.nan)


def _mean_of_deals(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean (2, 1 + R) over the deals of which a resample holds members and others; NaN = none is."""
    stacked = np.stack(values)
    return _mean_where(np.nan_to_num(stacked), np.isfinite(stacked))


def _resampled(scores: np.ndarray, members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC and share found in each resample, of which ``weights`` (1 + R, n) hold each candidate so often.

    Returns:
        (2, 1 + R), NaN where a resample lacks members or others.
    """
    scores, members = np.asarray(scores, dtype=np.float64), np.asarray(members, dtype=bool)
    if members.all() or not members.any():
        raise InputError("An attack is judged on members and on others; one of the groups is empty.")
    if not np.isfinite(scores).all():
        raise InputError(f"Candidate {int(np.flatnonzero(~np.isfinite(scores))[0])} has a score that is not finite.")
    ours, theirs = weights[:, members].astype(np.float64), weights[:, ~members].astype(np.float64)
    won = (np.sign(scores[members][:, None] - scores[~members]) + 1) / 2
    n_ours, n_theirs = (np.where(each.any(axis=1), each.sum(axis=1), np.nan) for each in (ours, theirs))
    auroc = np.sum((ours @ won) * theirs, axis=1) / (n_ours * n_theirs)
    order = np.argsort(-scores[~members])
    passed = np.cumsum(theirs[:, order], axis=1)
    # The score of the first other that would be one false alarm too many.
    first = (passed > np.floor(FALSE_ALARMS * passed[:, -1:])).argmax(axis=1)
    above = scores[members] > scores[~members][order][first][:, None]
    return np.stack([auroc, np.where(np.isfinite(auroc), np.sum(ours * above, axis=1) / n_ours, np.nan)])


def _interval(draws: np.ndarray, confidence: float) -> Interval:
    """The percentile interval of draws (1 + R,), whose first is the value; it always holds the value."""
    found = interval_of(draws, confidence=confidence)
    return Interval(found.value, min(found.low, found.value), max(found.high, found.value))
