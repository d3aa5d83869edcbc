"""Settings of train, validation and test patients."""

from dataclasses import dataclass

from synthaug.config.checks import require


@dataclass
class SplitConfig:
    """Train, validation and test patients."""

    test: float = 0.3
    """Share of patients kept for the test."""
    val: float = 0.15
    """Share of patients that choose the epoch."""
    train: float = 1.0
    """Training patients that are used: a share in (0, 1], or, above 1, a number; smaller sets lie inside larger ones
    of the same seed, and the generator is trained on these patients too."""
    seed: int = 0
    """Another seed, another split."""
    folds: int = 0
    """Above 0: cross-validation by patient with so many folds, in place of ``test``; the axis {"split.fold": [0, 1,
    2]} of three folds tests every patient once."""
    fold: int = 0
    """The fold that is tested, from 0."""
    file: str | None = None
    """A saved split to use instead of drawing one."""
    site: str | None = None
    """Column of the manifest that names the hospital, for leave-one-site-out: the axis {"split.held_out": [A, B, C]}
    tests every site once, by classifiers of the others."""
    held_out: str | None = None
    """The site that is tested, in place of ``test``."""

    def __post_init__(self) -> None:
        tested, name = (1 / self.folds, f"1/split.folds={self.folds}") if self.folds else (self.test, "split.test")
        require(
            tested > 0 and self.val > 0 and tested + self.val < 1,
            f"{name}{'' if self.folds else f'={self.test}'} and split.val={self.val} must be positive and leave "
            "patients to train on.",
        )
        require(
            self.folds == 0 or (self.folds >= 2 and self.file is None),
            f"split.folds={self.folds} must be at least 2 (or 0, none), and stands in place of split.file.",
        )
        require(
            self.site is None or (self.folds == 0 and self.file is None),
            f"split.site={self.site} stands in place of split.folds and split.file.",
        )
        require(
            self.held_out is None or self.site is not None,
            f"split.held_out={self.held_out} needs split.site, the column that names the sites.",
        )
        require(
            0 <= self.fold < max(self.folds, 1),
            f"split.fold={self.fold} must lie in 0..{max(self.folds, 1) - 1}; split.folds={self.folds} says how many "
            "folds there are.",
        )
        require(
            0 < self.train <= 1 or (1 < self.train < 1e9 and float(self.train).is_integer()),
            f"split.train={self.train} must be a share in (0, 1] or a whole number of patients above 1.",
        )
