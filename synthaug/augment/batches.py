"""Batches as the training set is: what the class-weighted baseline and the plain one train on."""

import math
from collections.abc import Iterator
from typing import Any

from synthaug.augment.plan import Draw, EpochPlan
from synthaug.augment.sampler import SyntheticSampler
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

    def _length(self, ranks: int) -> int:
        return math.ceil(sum([*self.real.values(), *self.synthetic.values()]) / (self.batch_size * ranks))

    def _batches(self, plan: EpochPlan, numbers: range) -> Iterator[list[Draw]]:
        members = [
            (synthetic, share.label, member)
            for synthetic in (False, True)
            for share in plan.shares
            for member in share.every(synthetic=synthetic, seed=plan.seed)
        ]
        generator = numpy_generator("shuffled order", plan.seed, plan.epoch)
        order: list[int] = []
        while len(order) < numbers.stop * self.batch_size:  # the last batch is full too
            order += generator.permutation(len(members)).tolist()
        for batch in numbers:
            slots = range(batch * self.batch_size, (batch + 1) * self.batch_size)
            yield [Draw(plan.epoch, slot, *members[order[slot]]) for slot in slots]
