"""Batches of real and synthetic subjects, exactly balanced, the same for any number of workers and ranks."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torchio as tio
from torch import distributed
from torch.utils.data import Dataset, Sampler

from synthaug.augment.balance import Schedule, Strategy, fraction_at, kept_counts, synthetic_counts
from synthaug.augment.plan import ClassShare, Draw, EpochPlan
from synthaug.augment.source import Source, as_source
from synthaug.data.manifest import class_counts
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed, torch_generator


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
        subject = self._synthetic(draw) if draw.synthetic else self.by_class[draw.label][draw.member]
        subject = copy.deepcopy(subject)  # a transform with copy=False must not reach the original
        subject.load()  # torchio collates the keys of the first subject, and a volume not read yet has no data
        if self.transform is None:
            return subject
        with torch.random.fork_rng(devices=[]):
            # The CPU's generator only: torch.manual_seed would also reset the GPU's, which the fork does not restore.
            torch.default_generator.manual_seed(derive_seed("transform", self.seed, draw.epoch, draw.slot))
            return self.transform(subject)

    def _synthetic(self, draw: Draw) -> tio.Subject:
        assert self.source is not None  # the sampler draws synthetic subjects only where it has a source
        if draw.member >= self.source.counts.get(draw.label, 0):  # it has grown since this worker started
            self.source = as_source(self.source.address)
            if draw.member >= self.source.counts.get(draw.label, 0):
                raise InputError(
                    f"{self.source.address}: has lost volumes of class {draw.label} while it was read; rebuild it."
                )
        return self.source.subject(draw.label, draw.member)


class SyntheticSampler(Sampler[list[Draw]]):
    """A batch sampler: every batch holds the same number of each class, the last one too.

    Each class's set is its real subjects and as many synthetic ones as the strategy says. An epoch passes the
    largest set once; smaller sets are repeated (oversampled), so that without a source this is plain oversampling.
    The order is computed place by place, so that opening an epoch costs the same for ten subjects and ten million.

    Args:
        subjects: Real training subjects.
        source: Pool, its folder, or a live generator; None = real subjects only.
        batch_size: Subjects a batch on each rank, a multiple of the number of classes: anything else cannot be
            balanced in every batch.
        sampling_strategy: As in imbalanced-learn; see :func:`synthaug.augment.balance.synthetic_counts`.
        synthetic_fraction: Share in [0, 1]; None = as the strategy says. A number for all epochs, a function of the
            epoch, or points (epoch, fraction) with straight lines between them, such as ``[(0, 1.0), (20, 0.0)]``
            for synthetic first and real last. In mode "add" an epoch's length follows the fraction; in mode "replace"
            all epochs have one length.
        mode: "add" (all real subjects and synthetic ones beside them), "replace" (synthetic ones in the place of real
            ones, each epoch of others) or "synthetic" (no real ones).
        seed: Names every draw.
        rank: This process; None = as torch.distributed says where it is initialised, else 0.
        ranks: Number of processes, likewise; each epoch is dealt out among them, disjoint and equal.

    Raises:
        InputError: The batch size does not divide, settings contradict each other, or the source lacks a class.

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
        sampling_strategy: Strategy = "auto",
        synthetic_fraction: Schedule | None = None,
        mode: str = "add",
        seed: int = 0,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        self.subjects = subjects
        self.source = None if source is None else as_source(source)
        self.counts = class_counts(subjects)
        self.seed, self.mode = seed, mode
        self.sampling_strategy, self.synthetic_fraction = sampling_strategy, synthetic_fraction
        self.rank, self.ranks = _place_among_ranks(rank, ranks)
        if batch_size < 1 or batch_size % len(self.counts):
            raise InputError(f"batch_size={batch_size} must be a multiple of the {len(self.counts)} classes.")
        if self.source is None and (sampling_strategy, synthetic_fraction, mode) != ("auto", None, "add"):
            raise InputError(
                "sampling_strategy, synthetic_fraction and mode ask for synthetic subjects; pass a source beside them."
            )
        self.batch_size = batch_size
        self._first: int
        """Batches of the epoch that the next pass leaves out, because a resumed training has had them."""
        self._done: int
        """Batches of the epoch that have been handed over."""
        self._taken = [(dict.fromkeys(self.counts, 0), dict.fromkeys(self.counts, 0))]
        self._open_epoch(0)

    def __len__(self) -> int:
        """Batches an epoch on this rank."""
        return math.ceil(self._plan.places / (self._plan.per_class * self.ranks))

    @property
    def epoch(self) -> int:
        """The epoch that the next pass draws."""
        return self._plan.epoch

    @property
    def real(self) -> dict[int, int]:
        """Real subjects of each class in this epoch."""
        return {share.label: share.real for share in self._plan.shares}

    @property
    def synthetic(self) -> dict[int, int]:
        """Synthetic subjects of each class in this epoch."""
        return {share.label: share.synthetic for share in self._plan.shares}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass draws; volumes that the source has gained since then take part.

        Raises:
            InputError: The epoch is negative, or its fraction cannot be used.
        """
        if epoch != self.epoch:
            self._open_epoch(epoch)

    def __iter__(self) -> Iterator[list[Draw]]:
        plan, first = self._plan, self._first
        numbers = range(first * self.ranks + self.rank, len(self) * self.ranks, self.ranks)
        self._done = first
        return self._counted(plan.batches(numbers))

    def _counted(self, batches: Iterator[list[Draw]]) -> Iterator[list[Draw]]:
        self._first = 0  # not before the first batch is asked for: a loader with workers asks twice for the iterator
        for batch in batches:
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the pass stands, in plain values; the same on every rank.

        A pass through :meth:`loader` counts the batches that the loader has handed over, not those that its workers
        have begun.
        """
        return {"epoch": self.epoch, "batch": self._done, "volumes": self._volumes(), **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken: the next pass yields the batches that were left, later passes whole epochs.

        Raises:
            InputError: The state is that of another sampler, or the source has lost volumes since.
        """
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise InputError(f"This is not the state of a sampler: {min(missing)!r} is missing.")
        self._open_epoch(int(state["epoch"]), volumes=state["volumes"])
        for key, value in self._identity().items():
            if state[key] != value:
                raise InputError(f"The state was saved with {key}={state[key]}, this sampler has {value}.")
        self._first = int(state["batch"])
        self._done = self._first

    def loader(
        self,
        *,
        num_workers: int = 0,
        transform: Callable[[tio.Subject], tio.Subject] | None = None,
        **options: Any,
    ) -> tio.SubjectsLoader:
        """torchio's own loader over these batches; it tells the sampler what it has handed over.

        Args:
            num_workers: Worker processes; the batches do not depend on it.
            transform: Applied to every subject, real or synthetic.
            **options: Passed to ``tio.SubjectsLoader``.
        """
        dataset = MixedSubjects(self.subjects, self.source, transform, seed=self.seed)
        # Without a generator of its own, a loader moves the global one at each pass.
        options = {"generator": torch_generator("loader", self.seed)} | options
        return _CountingLoader(dataset, batch_sampler=self, num_workers=num_workers, **options)

    def _open_epoch(self, epoch: int, *, volumes: Sequence[int] | None = None) -> None:
        if epoch < 0:
            raise InputError(f"epoch={epoch} must not be negative.")
        real, synthetic = self._sets(epoch)
        first_real, first_synthetic = self._taken_before(epoch)
        found = self._found_volumes(volumes)
        shares = [
            ClassShare(
                label,
                subjects=count,
                real=real[label],
                first_real=first_real[label],
                volumes=found[label],
                synthetic=synthetic[label],
                first_synthetic=first_synthetic[label],
            )
            for label, count in self.counts.items()
        ]
        # Under a schedule every class comes to need volumes; better to say so now than in the middle of a training.
        scheduled = not isinstance(self.synthetic_fraction, int | float | None)
        absent = [share.label for share in shares if not share.volumes and (share.synthetic or scheduled)]
        if absent and self.source is not None:
            raise InputError(f"The source has no volumes of class {absent[0]}; it has classes {self.source.classes}.")
        self._plan = EpochPlan(self.seed, epoch, self.batch_size // len(self.counts), tuple(shares))
        self._first, self._done = 0, 0

    def _sets(self, epoch: int) -> tuple[dict[int, int], dict[int, int]]:
        """(real, synthetic) subjects of each class in an epoch."""
        if self.source is None:
            return self.counts, dict.fromkeys(self.counts, 0)
        fraction = fraction_at(self.synthetic_fraction, epoch)
        synthetic = synthetic_counts(
            self.counts, sampling_strategy=self.sampling_strategy, synthetic_fraction=fraction, mode=self.mode
        )
        return kept_counts(self.counts, synthetic, synthetic_fraction=fraction, mode=self.mode), synthetic

    def _taken_before(self, epoch: int) -> tuple[dict[int, int], dict[int, int]]:
        """(real, synthetic) subjects that all epochs before this one have taken."""
        while len(self._taken) <= epoch:
            before, sets = self._taken[-1], self._sets(len(self._taken) - 1)
            real, synthetic = ({c: old[c] + new[c] for c in old} for old, new in zip(before, sets, strict=True))
            self._taken.append((real, synthetic))
        return self._taken[epoch]

    def _found_volumes(self, recorded: Sequence[int] | None) -> dict[int, int]:
        """Volumes of each class: those of a saved state, so that the same draws follow, or those that there are."""
        counts = {} if self.source is None else self.source.counts
        found = {label: counts.get(label, 0) for label in self.counts}
        if recorded is None:
            return found
        wanted = dict(zip(self.counts, recorded, strict=False))
        for label, count in wanted.items():
            if count > found[label]:
                raise InputError(
                    f"The state was saved with {count} volumes of class {label}, the source has {found[label]}."
                )
        return found | wanted

    def _volumes(self) -> list[int]:
        return [share.volumes for share in self._plan.shares]

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a saved state to mean the same batches; lists by class outlive JSON."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "ranks": self.ranks,
            "subjects": list(self.counts.values()),
            "real": list(self.real.values()),
            "synthetic": list(self.synthetic.values()),
        }


class _CountingLoader(tio.SubjectsLoader):
    """Sets the sampler's count to the batches handed over, whatever the workers have asked for ahead."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        sampler = self.batch_sampler
        handed_over = sampler._first
        for batch in super().__iter__():
            handed_over += 1
            sampler._done = handed_over
            yield batch


def _place_among_ranks(rank: int | None, ranks: int | None) -> tuple[int, int]:
    if (rank is None) != (ranks is None):
        raise InputError(f"rank={rank} and ranks={ranks} go together; give both or neither.")
    if rank is None or ranks is None:
        running = distributed.is_available() and distributed.is_initialized()
        return (distributed.get_rank(), distributed.get_world_size()) if running else (0, 1)
    if not 0 <= rank < ranks:
        raise InputError(f"rank={rank} must lie in 0..{ranks - 1}.")
    return rank, ranks
