"""Which subject stands where in an epoch: a pure function of the place, so that an epoch of any size opens at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from synthaug.augment.order import shuffled_members
from synthaug.ground.seeding import derive_seed

DRAWS_AT_ONCE = 4096
"""Places reckoned in one go: enough to make NumPy's overhead small, little enough to be done in milliseconds."""


class Draw(NamedTuple):
    """One place in one batch."""

    epoch: int
    slot: int
    """Place in the epoch, over all ranks; with the epoch it names the random state of the transform."""
    synthetic: bool
    label: int
    member: int
    """Which real subject of the class, or which volume of the source."""


@dataclass(frozen=True)
class ClassShare:
    """What one class brings to one epoch."""

    label: int
    subjects: int
    """Real subjects that there are."""
    real: int
    """Real subjects of this epoch; where they are fewer, the epochs take turns through all of them."""
    first_real: int
    """Real subjects that the epochs before have taken."""
    volumes: int
    """Volumes of the source that there are."""
    synthetic: int
    """Synthetic subjects of this epoch; the epochs walk on through the source, so that all of it is seen in time."""
    first_synthetic: int
    """Synthetic subjects that the epochs before have taken."""

    def members(self, places: np.ndarray, *, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(synthetic or not, member) at each place of the class's endless order in this epoch."""
        order = shuffled_members(
            places, size=self.real + self.synthetic, seed=derive_seed("order", seed, epoch, self.label)
        )
        return self._at(order, seed=seed)

    def every(self, *, synthetic: bool, seed: int) -> list[int]:
        """The members of this epoch, each once: the real ones or the synthetic ones."""
        first, count = (self.real, self.synthetic) if synthetic else (0, self.real)
        return self._at(np.arange(first, first + count), seed=seed)[1].tolist()

    def _at(self, order: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(synthetic or not, member) of places in the set of this epoch, where the real ones come first."""
        subjects = (self.first_real + order) % self.subjects
        if self.real < self.subjects:  # neighbours in a list are often alike, so the turns do not follow the list
            subjects = shuffled_members(subjects, size=self.subjects, seed=derive_seed("turns", seed, self.label))
        volumes = (self.first_synthetic + order - self.real) % max(self.volumes, 1)
        synthetic = order >= self.real
        return synthetic, np.where(synthetic, volumes, subjects)


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one epoch over all ranks, each with ``per_class`` subjects of every class.

    Each class's set is passed in random order again and again until the largest set has been passed once.

    Example:
        >>> share = ClassShare(0, subjects=2, real=2, first_real=0, volumes=0, synthetic=0, first_synthetic=0)
        >>> plan = EpochPlan(seed=0, epoch=0, per_class=2, shares=(share,))
        >>> [sorted(draw.member for draw in batch) for batch in plan.batches(range(2))]
        [[0, 1], [0, 1]]
    """

    seed: int
    epoch: int
    per_class: int
    shares: tuple[ClassShare, ...]

    @property
    def places(self) -> int:
        """Places of each class until the largest set has been passed once."""
        return max(share.real + share.synthetic for share in self.shares)

    def batches(self, numbers: range) -> Iterator[list[Draw]]:
        """The batches with these numbers; any of them costs the same, the last as the first."""
        size = self.per_class * len(self.shares)
        step = max(1, DRAWS_AT_ONCE // size)
        for start in range(0, len(numbers), step):
            block = np.asarray(numbers[start : start + step])
            places = block[:, None] * self.per_class + np.arange(self.per_class)
            found = [share.members(places, seed=self.seed, epoch=self.epoch) for share in self.shares]
            # Class by class at each place: (batches, per_class, classes), then flat.
            synthetic, members = (
                np.stack(parts, axis=-1).reshape(len(block), size) for parts in zip(*found, strict=True)
            )
            labels = [share.label for share in self.shares] * self.per_class
            for row, number in enumerate(block.tolist()):
                slots = range(number * size, (number + 1) * size)
                picked = zip(slots, synthetic[row].tolist(), labels, members[row].tolist(), strict=True)
                yield [Draw(self.epoch, *draw) for draw in picked]
