"""Settings of the split into training, validation and test patients."""

from dataclasses import dataclass

from synthaug.config.checks import require


@dataclass
class SplitConfig:
    """Training, validation and test patients."""

    test: float = 0.3
    """Share of test patients."""
    val: float = 0.15
    """Share of validation patients, by whom the step of a training is chosen."""
    train: float = 1.0
    """Training patients to use: a share in (0, 1], or a number above 1. Smaller sets are nested in larger ones of the
    same seed. The generator is trained on the same patients."""
    seed: int = 0
    """Seed of the split."""
    folds: int = 0
    """Folds of a cross-validation by patient, in place of ``test``; 0: none. With three folds the axis {"split.fold":
    [0, 1, 2]} tests every patient once."""
    fold: int = 0
    """Index of the test fold, from 0."""
    file: str | None = None
    """Saved split, in place of a random one."""
    site: str | None = None
    """Manifest column of the site, for leave-one-site-out. The axis {"split.held_out": [A, B, C]} tests each site once,
    by classifiers trained on the others."""
    held_out: str | None = None
    """Test site, in place of ``test``."""

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
