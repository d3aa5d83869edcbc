"""How many real and synthetic subjects of each class an epoch takes, and how many all epochs before it took."""

from collections.abc import Mapping, Sequence

from synthaug.augment.balance import Schedule, Strategy, fraction_at, kept_counts, synthetic_counts
from synthaug.augment.plan import ClassShare
from synthaug.augment.source import Source
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.ground.rationals import is_number
from synthaug.pool.pool import SyntheticPool

Counts = dict[int, int]


class EpochSets:
    """The sets of all epochs under one strategy.

    Args:
        counts: Real subjects of each class.
        strategy: As of :class:`synthaug.augment.sampler.SyntheticSampler`.
        fraction: Likewise.
        mode: Likewise.
        synthetic: Whether there is a source of synthetic subjects.
    """

    def __init__(
        self, counts: Counts, *, strategy: Strategy, fraction: Schedule | None, mode: str, synthetic: bool
    ) -> None:
        self.counts, self.strategy, self.fraction = counts, strategy, fraction
        self.mode, self.has_source = mode, synthetic
        self._taken = [(dict.fromkeys(counts, 0), dict.fromkeys(counts, 0))]

    def shares(self, epoch: int, volumes: Mapping[int, int], *, classes: Sequence[int]) -> tuple[ClassShare, ...]:
        """What each class takes in an epoch.

        Args:
            epoch: From 0.
            volumes: Synthetic volumes of each class.
            classes: Those that the source has, for the error.

        Raises:
            InputError: The source has no volumes of a class that needs them.
        """
        real, synthetic = self._of(epoch)
        first_real, first_synthetic = self._taken_before(epoch)
        shares = tuple(
            ClassShare(
                label,
                subjects=count,
                real=real[label],
                first_real=first_real[label],
                volumes=volumes[label],
                synthetic=synthetic[label],
                first_synthetic=first_synthetic[label],
            )
            for label, count in self.counts.items()
        )
        # Under a schedule every class comes to need volumes; better to say so now than in the middle of a training.
        scheduled = not (self.fraction is None or is_number(self.fraction))
        absent = [share.label for share in shares if not share.volumes and (share.synthetic or scheduled)]
        if absent and self.has_source:
            raise InputError(f"The source has no volumes of class {absent[0]}; it has classes {list(classes)}.")
        return shares

    def _of(self, epoch: int) -> tuple[Counts, Counts]:
        """(real, synthetic) subjects of each class in an epoch."""
        if not self.has_source:
            return self.counts, dict.fromkeys(self.counts, 0)
        fraction = fraction_at(self.fraction, epoch)
        synthetic = synthetic_counts(
            self.counts, sampling_strategy=self.strategy, synthetic_fraction=fraction, mode=self.mode
        )
        return kept_counts(self.counts, synthetic, synthetic_fraction=fraction, mode=self.mode), synthetic

    def _taken_before(self, epoch: int) -> tuple[Counts, Counts]:
        """(real, synthetic) subjects that all epochs before this one have taken."""
        while len(self._taken) <= epoch:
            before, sets = self._taken[-1], self._of(len(self._taken) - 1)
            real, synthetic = ({c: old[c] + new[c] for c in old} for old, new in zip(before, sets, strict=True))
            self._taken.append((real, synthetic))
        return self._taken[epoch]


def found_volumes(source: Source | None, counts: Counts, *, recorded: Sequence[int] | None) -> Counts:
    """Volumes of each class: as recorded in a saved state, for equal draws, or as in the source now.

    Raises:
        InputError: The source has lost volumes since the state was saved.
    """
    there = {} if source is None else source.counts
    found = {label: there.get(label, 0) for label in counts}
    wanted = dict(zip(counts, recorded or (), strict=False))
    for label, count in wanted.items():
        if count > found[label]:
            raise InputError(
                f"The state was saved with {count} volumes of class {label}, the source has {found[label]}."
            )
    return found | wanted


def volumes_hash(source: Source | None, volumes: Counts) -> str | None:
    """Hash of the ids of the first volumes of each class; None of a live generator, whose volumes stay."""
    if not isinstance(source, SyntheticPool):
        return None
    return content_hash([[entry["id"] for entry in source.entries(label)[:count]] for label, count in volumes.items()])


def require_same_volumes(recorded: str | None, found: str | None) -> None:
    """InputError unless a saved state that has a hash of volumes has the hash of those that are there now."""
    if recorded not in (None, found):
        raise InputError(
            "The source has other volumes at the places of the saved state: the pool grew, or lost copies to an audit. "
            "Begin the training anew, or go on with the pool as it was."
        )
