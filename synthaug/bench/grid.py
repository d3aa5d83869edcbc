"""A study's config becomes its cells; a cell's identity is the hash of what determines its result."""

from dataclasses import asdict, dataclass
from typing import Any

from synthaug.config import Config
from synthaug.files import content_hash


@dataclass(frozen=True)
class Cell:
    """One classifier to train and test."""

    regime: str
    """real, synthetic or mixed."""
    seed: int
    """Names the classifier's weights and batches."""
    synthetic_fraction: float | None
    """Share of the training set that is synthetic; None = none."""
    id: str
    """Hash of all that determines the result."""


def cells_of(config: Config, *, data_id: str, pool_id: str) -> list[Cell]:
    """The cells of a study, regime by regime for each seed, so that an unfinished study compares what it has.

    Args:
        config: The study.
        data_id: Hash of subjects, split and preprocessing.
        pool_id: Hash of the generator and the sampling.

    Example:
        >>> [(cell.regime, cell.seed) for cell in cells_of(Config(), data_id="d", pool_id="p")][:4]
        [('real', 0), ('synthetic', 0), ('mixed', 0), ('real', 1)]
    """
    fractions = {"real": None, "synthetic": 1.0, "mixed": config.study.synthetic_fraction}
    cells = []
    for seed in config.study.seeds:
        for regime in config.study.regimes:
            fraction = fractions[regime]
            identity: dict[str, Any] = {
                "regime": regime,
                "seed": seed,
                "fraction": fraction,
                "classifier": asdict(config.classifier),
                "data": data_id,
                "pool": None if fraction is None else pool_id,
            }
            cells.append(Cell(regime, seed, fraction, content_hash(identity)))
    return cells
