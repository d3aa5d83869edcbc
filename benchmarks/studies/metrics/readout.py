"""Features that know the class better than a network of so few volumes: sizes that a ridge regression reads.

It is linear in the smoothed voxels and trained on the classifier's own people (``trained.py``), of whom the table
measures nobody. How it is made is chosen among those people alone, by what a regression without a person reads of them.
Smoothing, penalty and mirroring come first, by the AUROC of the class. Which sizes are the features comes second, by
how often the swap moves precision and recall the right way.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cohorts import Cohort, Remembering, Sample, name_of
from monai.networks.layers import GaussianFilter
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from swaps import DEALS, share_of_balls, swap_often
from thirds import classings
from torch import nn
from trained import deal_people

from synthaug.ground.files import content_hash
from synthaug.metrics.distances.manifold import NEIGHBOURS

SIZES = {
    "volume": ("volume_mm3",),
    "parts": ("anterior_mm3", "posterior_mm3"),
    "volume and parts": ("volume_mm3", "anterior_mm3", "posterior_mm3"),
}
"""What the features may be: columns of the manifest."""
SMOOTHING_VOXELS, PENALTIES = (0.5, 1.0, 2.0), (10.0, 30.0, 100.0, 300.0, 1000.0)
FOLDS = 5


@dataclass(frozen=True)
class Recipe:
    """How a regression is made."""

    smoothing_voxels: float
    penalty: float
    mirrored: bool
    """Whether each volume trains it a second time, left for right."""


class ReadOut(nn.Module):
    """Sizes, in deviations from their mean, as a linear function of smoothed voxels: (B, 1, X, Y, Z) to (B, sizes)."""

    def __init__(self, regression: Ridge, smoothing_voxels: float) -> None:
        super().__init__()
        self.smooth = GaussianFilter(3, smoothing_voxels)
        weights = np.atleast_2d(regression.coef_)  # scikit-learn drops the axis of a single size
        self.linear = nn.Linear(weights.shape[1], len(weights))
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(weights))
            self.linear.bias.copy_(torch.from_numpy(np.atleast_1d(regression.intercept_)))

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Of volumes in [0, 1]."""
        return self.linear(self.smooth(volumes).flatten(1))


def readout_extractor(
    cohort: Cohort,
    everyone: Sample,
    *,
    data: Path,
    seed: int,
    penalties: Sequence[float] = PENALTIES,
    deals: int = DEALS,
) -> tuple[Remembering, Sample, list[dict[str, Any]]]:
    """The chosen regression, the people it has never seen, and a row for each way to make it that was tried.

    Of a volume that it was trained on the extractor tells what the regression without that person's fold reads.
    """
    split = deal_people(everyone, cohort.preprocess.spacing_mm, seed=seed)
    others = everyone.at(np.sort([subject["place"] for subject in (*split.train, *split.val)]))
    sizes = {name: standard_sizes(data / cohort.name, others, columns) for name, columns in SIZES.items()}
    recipe, rows = choose_recipe(others, sizes["volume"], seed=seed, penalties=penalties)
    spanned = span(others, recipe.smoothing_voxels)
    tried = {name: read_apart(others, spanned, each, recipe, seed=seed) for name, each in sizes.items()}
    extractors = {
        name: Remembering(
            f"read-out of {name}, trained on {len(others.labels)} other volumes",
            fit(others, sizes[name], recipe),
            content_hash(cohort.preprocess),
            known=dict(zip(map(name_of, others.volumes), read, strict=True)),
        )
        for name, read in tried.items()
    }
    ways = classings(cohort, others, data)
    shares = {name: _mean_share(cohort, ways, extractor, deals) for name, extractor in extractors.items()}
    best = max(shares, key=lambda name: shares[name])
    rows += [
        _row(name, recipe, tried[name], sizes[name], others, share=share, chosen=name == best)
        for name, share in shares.items()
    ]
    return extractors[best], everyone.at([subject["place"] for subject in split.test]), rows


def standard_sizes(folder: Path, sample: Sample, columns: Sequence[str]) -> np.ndarray:
    """Sizes (n, columns) in deviations from their mean."""
    found = pd.read_csv(folder / "manifest.csv")[list(columns)].to_numpy(float)[sample.places]
    return (found - found.mean(axis=0)) / found.std(axis=0)


def choose_recipe(
    others: Sample, sizes: np.ndarray, *, seed: int, penalties: Sequence[float] = PENALTIES
) -> tuple[Recipe, list[dict[str, Any]]]:
    """The recipe by which the read volume tells the classes best, and a row for each."""
    recipes, rows = [], []
    for smoothing in SMOOTHING_VOXELS:
        spanned = span(others, smoothing)
        for penalty, mirrored in product(penalties, (False, True)):
            recipes.append(Recipe(smoothing, penalty, mirrored))
            read = read_apart(others, spanned, sizes, recipes[-1], seed=seed)
            rows.append(_row("volume", recipes[-1], read, sizes, others))
    best = max(range(len(rows)), key=lambda place: rows[place]["auroc"])
    rows[best]["chosen"] = True
    return recipes[best], rows


def read_apart(others: Sample, spanned: np.ndarray, sizes: np.ndarray, recipe: Recipe, *, seed: int) -> np.ndarray:
    """What regressions trained without a fold of the people read of that fold (n, sizes)."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    read, n = np.empty_like(sizes), len(sizes)
    for train, test in folds.split(sizes, others.labels, others.people):
        rows = np.concatenate([train, train + n]) if recipe.mirrored else train
        regression = Ridge(alpha=recipe.penalty).fit(spanned[rows], sizes[rows % n])
        read[test] = regression.predict(spanned[test]).reshape(-1, sizes.shape[1])
    return read


def span(sample: Sample, smoothing_voxels: float) -> np.ndarray:
    """The smoothed volumes, and below them their mirror images, in coordinates of the space that they span (2n, 2n).

    Turned like this they are as far from one another as before, so that a ridge regression reads the same of them, and
    a hundred times quicker.
    """
    return np.linalg.qr(_voxels(sample, smoothing_voxels, mirrored=True).T.astype(float), mode="r").T


def fit(sample: Sample, sizes: np.ndarray, recipe: Recipe) -> ReadOut:
    """The regression of sizes (n, k) on a sample's smoothed voxels."""
    voxels = _voxels(sample, recipe.smoothing_voxels, mirrored=recipe.mirrored)
    regression = Ridge(alpha=recipe.penalty).fit(voxels, np.tile(sizes, (len(voxels) // len(sizes), 1)))
    return ReadOut(regression, recipe.smoothing_voxels).eval()


def _voxels(sample: Sample, smoothing_voxels: float, *, mirrored: bool) -> np.ndarray:
    volumes = torch.stack(sample.volumes)
    if mirrored:
        volumes = torch.cat([volumes, volumes.flip(2)])
    return GaussianFilter(3, smoothing_voxels)(volumes).flatten(1).numpy()


def _mean_share(cohort: Cohort, ways: dict[str, Sample], extractor: Remembering, deals: int) -> float:
    """How often the swap moves precision and recall the right way, at the published k, over all ways to class."""
    found = [
        swap_often(cohort, part, extractor, classes=name, k=NEIGHBOURS, deals=deals) for name, part in ways.items()
    ]
    return float(np.mean([share_of_balls(rows) for rows in found]))


def _row(
    name: str, recipe: Recipe, read: np.ndarray, sizes: np.ndarray, others: Sample, *, share=np.nan, chosen=False
) -> dict[str, Any]:
    """Correlation and AUROC are those of the first size; the smaller, the likelier class 1."""
    return {
        "features": name,
        **asdict(recipe),
        "correlation": float(np.corrcoef(read[:, 0], sizes[:, 0])[0, 1]),
        "auroc": float(roc_auc_score(others.labels, -read[:, 0])),
        "share": share,
        "chosen": chosen,
    }
