"""Do drawn volumes follow their reports? Own person against others, and where the variation between volumes comes from.

A generator that follows would, from the report of somebody unseen, draw volumes that are nearer to that person's image
than to others'. A matrix of likenesses (n drawn, n real), rows and columns in one order, tells it in two ways.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.fidelity import swap_score

SMOOTHING_VOXELS = 1.0
RESAMPLES = 1000
"""Resamples behind an interval; a p-value has one permutation less."""
FOREGROUND = 0.1
"""Vesicles are brighter; around them all is 0."""
TRAITS = ("volume_ml", "brightness", "texture")


def rows_of(volumes: np.ndarray) -> np.ndarray:
    """Smoothed volumes (n, X, Y, Z) as rows (n, voxels)."""
    return np.stack([gaussian_filter(volume, SMOOTHING_VOXELS) for volume in volumes]).reshape(len(volumes), -1)


def likeness(drawn: np.ndarray, real: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Correlations (n, m) of rows, beyond the mean of the training images that all ``shared``."""

    def directions(rows: np.ndarray) -> np.ndarray:
        gaps = rows - shared
        gaps = gaps - gaps.mean(axis=1, keepdims=True)
        return gaps / np.linalg.norm(gaps, axis=1, keepdims=True)

    return directions(drawn) @ directions(real).T


def own_before_others(alike: np.ndarray) -> np.ndarray:
    """For each drawn row, the share of other people's images that it is less like than its own person's (n,).

    Example:
        >>> own_before_others(np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.3], [0.1, 0.2, 0.1]])).tolist()
        [1.0, 0.5, 0.25]
    """
    n, own = len(alike), np.diag(alike)[:, None]
    others = ~np.eye(n, dtype=bool)
    return ((alike < own) & others).sum(1) / (n - 1) + ((alike == own) & others).sum(1) / (2 * (n - 1))


def swapped_pairs(alike: np.ndarray) -> np.ndarray:
    """What :func:`synthaug.metrics.fidelity.swap_score` takes (pairs, 2, 2): every pair of people.

    It cannot be won by an image that everything is like, as ranks can be lost to one.
    """
    pairs = np.stack(np.triu_indices(len(alike), 1), axis=1)
    return alike[pairs[:, :, None], pairs[:, None, :]]


def own_share(folds: Sequence[np.ndarray]) -> float:
    """Mean over people of :func:`own_before_others`; 0.5 = the report does not matter."""
    return float(np.concatenate([own_before_others(alike) for alike in folds]).mean())


def swap_share(folds: Sequence[np.ndarray]) -> float:
    """Share of the pairs within a fold that agree better unswapped; 0.5 = the report does not matter."""
    return swap_score(np.concatenate([swapped_pairs(alike) for alike in folds])).share


MEASURES: dict[str, Callable[[Sequence[np.ndarray]], float]] = {
    "own_before_others": own_share,
    "unswapped_pairs": swap_share,
}


def judge_likeness(folds: Sequence[np.ndarray], *, resamples: int = RESAMPLES) -> dict[str, dict[str, float]]:
    """Each measure of the matrices of all folds: value, interval over people, permutation p, spread by chance.

    The interval is that of half-samples of people (as in :mod:`synthaug.metrics.distances.estimates`): a resample with
    replacement would compare people with themselves. The permutations deal each fold's people out anew to its drawn
    rows.
    """
    found = {}
    for name, measure in MEASURES.items():
        value, rng = measure(folds), numpy_generator("real reports", name)
        halves = [measure([_half(alike, rng) for alike in folds]) for _ in range(resamples)]
        dealt = [measure([alike[:, rng.permutation(len(alike))] for alike in folds]) for _ in range(resamples - 1)]
        reach = sum(abs(by_chance - 0.5) >= abs(value - 0.5) - 1e-12 for by_chance in dealt)
        high, low = value - (np.quantile(halves, [0.025, 0.975]) - np.mean(halves))
        found[name] = {
            "value": value,
            "low": float(max(low, 0.0)),
            "high": float(min(high, 1.0)),
            "p": (reach + 1) / resamples,
            "chance_deviation": float(np.std(dealt)),
        }
    return found


def _half(alike: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The matrix of half of the people."""
    rows = rng.permutation(len(alike))[: len(alike) // 2]
    return alike[np.ix_(rows, rows)]


def traits_of(volumes: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Of each volume (n, X, Y, Z): ml of vesicles, their mean brightness and its deviation between voxels (n, 3).

    Example:
        >>> volume = np.zeros((1, 10, 10, 10))
        >>> volume[0, :5] = 0.5
        >>> traits_of(volume, (1, 1, 2)).tolist()
        [[1.0, 0.5, 0.0]]
    """
    found = []
    for volume in volumes:
        inside = volume[volume > FOREGROUND]
        inside = inside if len(inside) else np.zeros(1)
        found.append([(volume > FOREGROUND).sum() * np.prod(spacing_mm) / 1000, inside.mean(), inside.std()])
    return np.array(found, dtype=float)


def follow_trait(
    drawn: np.ndarray, real: np.ndarray, folds: np.ndarray, name: str, *, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Correlation of ranks within folds between what is drawn from people's reports and their images (n,) each."""

    def ranked(values: np.ndarray) -> np.ndarray:
        ranks = np.zeros(len(values))
        for fold in np.unique(folds):
            inside = folds == fold
            ranks[inside] = rankdata(values[inside]) / inside.sum() - (inside.sum() + 1) / (2 * inside.sum())
        return ranks

    one, two, rng = ranked(drawn), ranked(real), numpy_generator("real reports", "trait", name)
    value = _correlation(one, two)
    rows = rng.integers(len(one), size=(resamples, len(one)))
    low, high = np.quantile([_correlation(one[row], two[row]) for row in rows], [0.025, 0.975])
    reach = 0
    for _ in range(resamples - 1):
        dealt = two.copy()
        for fold in np.unique(folds):
            dealt[folds == fold] = rng.permutation(two[folds == fold])
        reach += abs(_correlation(one, dealt)) >= abs(value) - 1e-12
    return {"value": value, "low": float(low), "high": float(high), "p": (reach + 1) / resamples}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two rows (n,); 0 where one of them is constant, since nothing follows then."""
    one, other = one - one.mean(), other - other.mean()
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / size) if size else 0.0


def shares_of_variance(volumes: np.ndarray) -> dict[str, float]:
    """How much of the variance between volumes (reports, seeds, voxels) is that of reports, of seeds, of neither.

    Two-way analysis of variance without repetition: the same seeds under every report. Components of variance, so that
    a report that says nothing has a share of 0 (or slightly below) however few reports and seeds there are.

    Example:
        >>> told = np.arange(4.0)[:, None, None] + np.zeros((4, 3, 1))
        >>> shares_of_variance(told)["report"]
        1.0
    """
    reports, seeds = volumes.shape[:2]
    whole, of_report, of_seed = volumes.mean((0, 1)), volumes.mean(1), volumes.mean(0)
    rest = volumes - of_report[:, None] - of_seed[None] + whole
    error = np.square(rest).sum() / ((reports - 1) * (seeds - 1))
    report = (seeds * np.square(of_report - whole).sum() / (reports - 1) - error) / seeds
    seed = (reports * np.square(of_seed - whole).sum() / (seeds - 1) - error) / reports
    total = report + seed + error
    return {"report": float(report / total), "seed": float(seed / total), "rest": float(error / total)}
