"""Batches as the training set is: what the class-weighted baseline and the plain one train on."""

import math
from collections.abc import Iterator
from typing import Any

from synthaug.augment.sampler import Draw, SyntheticSampler
from synthaug.ground.seeding import numpy_generator


class ShuffledSampler(SyntheticSampler):
    """The set of a ``SyntheticSampler``, its classes as frequent as they are there; nothing is repeated in an epoch.

    Arguments and errors as of ``SyntheticSampler``.

    Example:
        >>> subjects = [{"label": label} for label in (0, 0, 0, 1)]
        >>> sampler = ShuffledSampler(subjects, None, batch_size=2)
        >>> sorted(draw.label for batch in sampler for draw in batch)
        [0, 0, 0, 1]
    """

    def __init__(self, *arguments: Any, batch_size: int, **options: Any) -> None:
        super().__init__(*arguments, batch_size=batch_size, **options)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Batches an epoch on this rank."""
        return math.ceil(sum([*self.real.values(), *self.synthetic.values()]) / (self.batch_size * self.ranks))

    def __iter__(self) -> Iterator[list[Draw]]:
        members = [(False, label, index) for label in sorted(self.real) for index in range(self.real[label])]
        for label in sorted(self.synthetic):
            # Epochs walk on through the source and round, as in SyntheticSampler.
            start = self.epoch * self.synthetic[label]
            volumes = 1 if self.source is None else max(self.source.counts.get(label, 0), 1)
            members += [(True, label, (start + index) % volumes) for index in range(self.synthetic[label])]
        generator = numpy_generator("shuffled order", self.seed, self.epoch)
        order: list[int] = []
        while len(order) < len(self) * self.ranks * self.batch_size:  # the last batch is full too
            order += generator.permutation(len(members)).tolist()
        for batch in range(self.rank, len(self) * self.ranks, self.ranks):
            slots = range(batch * self.batch_size, (batch + 1) * self.batch_size)
            yield [Draw(self.epoch, slot, *members[order[slot]]) for slot in slots]
