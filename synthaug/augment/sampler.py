"""Batches of real and synthetic subjects, exactly balanced, the same for any number of workers and ranks."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torchio as tio
from torch.utils.data import Dataset, Sampler

from synthaug.augment.balance import synthetic_counts
from synthaug.augment.source import Source, as_source
from synthaug.data.manifest import class_counts
from synthaug.errors import InputError
from synthaug.seeding import derive_seed, numpy_generator, torch_generator


class Draw(NamedTuple):
    """One place in one batch."""

    epoch: int
    slot: int
    """Place in the epoch, over all ranks; with the epoch it names the random state of the transform."""
    synthetic: bool
    label: int
    member: int
    """Which real subject of the class, or which volume of the source."""


class MixedSubjects(Dataset):
    """Turns a draw into a subject and applies the transform with that draw's own random state."""

    def __init__(
        self,
        subjects: Sequence[tio.Subject],
        source: Source | None,
        transform: Callable[[tio.Subject], tio.Subject] | None,
        *,
        seed: int,
    ) -> None:
        self.by_class: dict[int, list[tio.Subject]] = {}
        for subject in subjects:
            self.by_class.setdefault(int(subject["label"]), []).append(subject)
        self.source = source
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return sum(len(subjects) for subjects in self.by_class.values())

    def __getitem__(self, draw: Draw) -> tio.Subject:
        if draw.synthetic:
            assert self.source is not None  # the sampler draws synthetic subjects only where it has a source
            subject = self.source.subject(draw.label, draw.member)
        else:
            subject = self.by_class[draw.label][draw.member]
        subject = copy.deepcopy(subject)  # a transform with copy=False must not reach the original
        subject.load()  # torchio collates the keys of the first subject, and a volume not read yet has no data
        if self.transform is None:
            return subject
        with torch.random.fork_rng(devices=[]):
            # The CPU's generator only: torch.manual_seed would also reset the GPU's, which the fork does not restore.
            torch.default_generator.manual_seed(derive_seed("transform", self.seed, draw.epoch, draw.slot))
            return self.transform(subject)


class SyntheticSampler(Sampler[list[Draw]]):
    """A batch sampler: every batch holds the same number of each class.

    Each class's set is its real subjects and as many synthetic ones as the strategy says. An epoch passes the
    largest set once; smaller sets are repeated (oversampled), so that without a source this is plain oversampling.

    Args:
        subjects: Real training subjects.
        source: Pool, its folder, or a live generator; None = real subjects only.
        batch_size: Subjects a batch on each rank, a multiple of the number of classes.
        sampling_strategy: See :func:`synthaug.augment.balance.synthetic_counts`.
        synthetic_fraction: Share of the largest class that is synthetic; 1 = synthetic only; None = fill only.
        seed: Names every draw.
        rank: This process.
        ranks: Number of processes; each epoch is dealt out among them, disjoint and equal.

    Raises:
        InputError: The batch size does not divide, or the source lacks a class.

    Example:
        >>> subjects = [{"label": label} for label in (0, 0, 0, 1)]
        >>> sampler = SyntheticSampler(subjects, None, batch_size=2)
        >>> [sorted(draw.label for draw in batch) for batch in sampler]
        [[0, 1], [0, 1], [0, 1]]
    """

    def __init__(
        self,
        subjects: Sequence[tio.Subject],
        source: Source | str | None,
        *,
        batch_size: int,
        sampling_strategy: str | Mapping[int, int] = "auto",
        synthetic_fraction: float | None = None,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.subjects = subjects
        self.source = None if source is None else as_source(source)
        self.real = class_counts(subjects)
        self.seed, self.rank, self.ranks, self.epoch = seed, rank, ranks, 0
        if batch_size < 1 or batch_size % len(self.real):
            raise InputError(f"batch_size={batch_size} must be a multiple of the {len(self.real)} classes.")
        if not 0 <= rank < ranks:
            raise InputError(f"rank={rank} must lie in 0..{ranks - 1}.")
        self.per_class = batch_size // len(self.real)
        self.synthetic = dict.fromkeys(self.real, 0)
        if self.source is not None:
            self.synthetic = synthetic_counts(
                self.real, sampling_strategy=sampling_strategy, synthetic_fraction=synthetic_fraction
            )
            absent = [c for c, count in self.synthetic.items() if count and c not in self.source.classes]
            if absent:
                raise InputError(
                    f"The source has no volumes of class {absent[0]}; it has classes {self.source.classes}."
                )
        if synthetic_fraction == 1 and self.source is not None:
            self.real = dict.fromkeys(self.real, 0)

    def __len__(self) -> int:
        """Batches an epoch on this rank."""
        largest = max(self.real[label] + self.synthetic[label] for label in self.real)
        return math.ceil(largest / (self.per_class * self.ranks))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        columns = [self._class_order(label) for label in sorted(self.real)]
        for batch in range(self.rank, len(self) * self.ranks, self.ranks):
            span = range(batch * self.per_class, (batch + 1) * self.per_class)
            picked = [column[place] for place in span for column in columns]
            first = batch * len(picked)
            yield [Draw(self.epoch, first + offset, *draw) for offset, draw in enumerate(picked)]

    def _class_order(self, label: int) -> list[tuple[bool, int, int]]:
        """A class's (synthetic, label, index) for every place of the epoch, over all ranks."""
        generator = numpy_generator("order", self.seed, self.epoch, label)
        # Epochs walk on through the source, so that all of a larger pool is seen in time.
        start = self.epoch * self.synthetic[label]
        members = [(False, label, index) for index in range(self.real[label])]
        members += [(True, label, start + index) for index in range(self.synthetic[label])]
        places = len(self) * self.ranks * self.per_class
        order: list[tuple[bool, int, int]] = []
        while len(order) < places:
            order += [members[index] for index in generator.permutation(len(members))]
        return order[:places]

    def loader(
        self,
        *,
        num_workers: int = 0,
        transform: Callable[[tio.Subject], tio.Subject] | None = None,
        **options: Any,
    ) -> tio.SubjectsLoader:
        """torchio's own loader over these batches.

        Args:
            num_workers: Worker processes; the batches do not depend on it.
            transform: Applied to every subject, real or synthetic.
            **options: Passed to ``tio.SubjectsLoader``.
        """
        dataset = MixedSubjects(self.subjects, self.source, transform, seed=self.seed)
        # Without a generator of its own, a loader moves the global one at each pass.
        options = {"generator": torch_generator("loader", self.seed)} | options
        return tio.SubjectsLoader(dataset, batch_sampler=self, num_workers=num_workers, **options)
