"""Class-balanced batches of real and synthetic subjects, independent of the number of workers and ranks."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import torchio as tio
from torch.utils.data import Sampler

from synthaug.augment.balance import Schedule, Strategy, tell_unused
from synthaug.augment.dealing import Dealing, checked_place, dealing_of
from synthaug.augment.loading import BatchTransform, CountingLoader, MixedSubjects
from synthaug.augment.plan import Draw, EpochPlan
from synthaug.augment.sets import EpochSets, found_volumes, require_same_volumes, volumes_hash
from synthaug.augment.source import Source, as_source
from synthaug.data.reading.manifest import class_counts
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator


class SyntheticSampler(Sampler[list[Draw]]):
    """Batch sampler with the same number of each class in every batch, including the last.

    The set of a class is its real subjects and as many synthetic ones as the strategy asks for. An epoch passes once
    over the largest set and repeats the smaller ones; without a source this is plain oversampling. The order is
    computed position by position, so that the cost of opening an epoch does not depend on the number of subjects.

    Each pass draws the next epoch, whether or not :meth:`set_epoch` is called.

    Args:
        subjects: Real training subjects, or a torchio data set of them, whose transform is drawn anew for each draw.
        source: Pool, its folder, or a live generator; None = real subjects only.
        batch_size: Subjects per batch on each rank, a multiple of the number of classes.
        sampling_strategy: As in imbalanced-learn; see :func:`synthaug.augment.balance.synthetic_counts`.
        synthetic_fraction: Synthetic share in [0, 1]; None = from the strategy. A number, a function of the epoch, or
            points (epoch, fraction) with linear interpolation, such as ``[(0, 1.0), (20, 0.0)]`` for synthetic first
            and real last. The length of an epoch depends on the fraction in mode "add", and is fixed in "replace".
        mode: "add": all real subjects, and synthetic ones. "replace": synthetic subjects take the place of real ones,
            others in each epoch. "synthetic": no real subjects.
        seed: Seed of every draw.
        rank: Rank of this process; None = from torch.distributed when a pass begins, else 0.
        ranks: Number of processes, likewise. They get disjoint parts of equal size of each epoch, also where the loader
            went through ``accelerate.prepare``.

    Raises:
        InputError: The batch size is no multiple of the classes, settings contradict each other, or a class is missing.

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
        self._place = checked_place(rank, ranks)
        if batch_size < 1 or batch_size % len(self.counts):
            raise InputError(f"batch_size={batch_size} must be a multiple of the {len(self.counts)} classes.")
        if self.source is None and (sampling_strategy, synthetic_fraction, mode) != ("auto", None, "add"):
            raise InputError(
                "sampling_strategy, synthetic_fraction and mode ask for synthetic subjects; pass a source beside them."
            )
        self.batch_size = batch_size
        self._first: int
        """Batches of the epoch that the next pass skips, because a resumed training has had them."""
        self._begun: bool
        """Whether a pass over the epoch has begun, so that the next pass draws the next epoch."""
        self._done: int | None
        """Batches of the epoch that the training has had; None = unknown, as another loader prefetches."""
        self._dealing: Dealing | None = None
        """Of the last pass."""
        self._left_out = 0
        """Batches that the last pass skipped."""
        self._hashed: tuple[dict[int, int], str | None] | None = None  # volumes per class, and the hash of their ids
        self._resumed: Mapping[str, Any] = {}
        """The state from which the next pass continues."""
        self._sets = EpochSets(
            self.counts,
            strategy=sampling_strategy,
            fraction=synthetic_fraction,
            mode=mode,
            synthetic=self.source is not None,
        )
        self._open_epoch(0)
        if self.source is not None and synthetic_fraction is None and not any(self.synthetic.values()):
            tell_unused(sampling_strategy)

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        dealing = dealing_of(self._place)
        return dealing.batches(self._length(dealing.ranks))

    @property
    def rank(self) -> int:
        """Current rank of this process."""
        return dealing_of(self._place).rank

    @property
    def ranks(self) -> int:
        """Current number of processes."""
        return dealing_of(self._place).ranks

    @property
    def sampler(self) -> Self:
        """Lightning and accelerate look here for ``set_epoch``."""
        return self

    @property
    def epoch(self) -> int:
        """Epoch of the latest pass, or of the first one."""
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
        """Choose the epoch of the next pass. It includes volumes that the source has gained since.

        Raises:
            InputError: The epoch is negative, its fraction is unusable, or a loaded state continues another epoch.
        """
        if epoch == self.epoch:
            self._begun = False
            self._done = None if self._done is None else self._first
            return
        if self._first and not self._begun:
            raise InputError(
                f"set_epoch({epoch}): the loaded state goes on in epoch {self.epoch} after batch {self._first}; begin "
                "the loop (and a prepared loader, with its own set_epoch) at that epoch."
            )
        self._open_epoch(epoch)

    def __iter__(self) -> Iterator[list[Draw]]:
        return self._pass(dealing_of(self._place))

    def _pass(self, dealing: Dealing) -> Iterator[list[Draw]]:
        """One pass. It begins with its first batch, because loaders with workers create two iterators."""
        if self._begun:
            self._open_epoch(self.epoch + 1)
        _require_same(self._resumed, {"ranks": dealing.ranks})
        first, self._first, self._resumed = self._first, 0, {}
        self._begun, self._done, self._dealing, self._left_out = True, None, dealing, first
        yield from self._batches(self._plan, dealing.numbers(first, self._length(dealing.ranks)))

    def _batches(self, plan: EpochPlan, numbers: range) -> Iterator[list[Draw]]:
        """Batches of the epoch by number."""
        return plan.batches(numbers)

    def _length(self, ranks: int) -> int:
        """Batches per epoch on each of ``ranks`` processes."""
        return math.ceil(self._plan.places / (self._plan.per_class * ranks))

    def counter(self) -> Callable[[int], None]:
        """A function that tells the sampler how many batches of the current pass the loader has returned."""
        plan, left_out = self._plan, self._left_out

        def count(batches: int) -> None:
            if self._plan is plan:  # no other pass has begun since
                self._done = left_out + batches

        return count

    @contextlib.contextmanager
    def undivided(self) -> Iterator[None]:
        """Give every process whole batches, for a training loop that splits them itself."""
        place, self._place = self._place, Dealing(0, 1)
        try:
            yield
        finally:
            self._place = place

    def state_dict(self, *, consumed: int | None = None) -> dict[str, Any]:
        """State of the pass in plain values, the same on every rank.

        :meth:`loader` counts the batches that it has returned, without those that its workers have prefetched.

        Args:
            consumed: Batches of this epoch used by the training on this rank; None = as counted by :meth:`loader`.

        Raises:
            InputError: Another loader, which may prefetch, is used without ``consumed``; or ``consumed`` is too large.
        """
        ranks = self._dealing.ranks if self._dealing and self._begun else dealing_of(self._place).ranks
        done = self._done if consumed is None else consumed
        if done is None:
            raise InputError(
                "The sampler does not know how many batches the training has had, because its loader may ask ahead; "
                "train on sampler.loader(), or pass state_dict(consumed=...)."
            )
        if not 0 <= done <= self._length(ranks):
            raise InputError(f"consumed={done} must lie in 0..{self._length(ranks)}, the batches of an epoch.")
        volumes = [share.volumes for share in self._plan.shares]
        told = {"epoch": self.epoch, "batch": done, "volumes": volumes, "ranks": ranks, "ids": self._ids()}
        return told | self._identity()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``: the next pass yields the remaining batches, later passes whole epochs.

        Raises:
            InputError: The state belongs to another sampler, or the source has lost or moved volumes since.
        """
        missing = {"epoch", "batch", "volumes", "ranks", *self._identity()} - state.keys()
        if missing:
            raise InputError(f"This is not the state of a sampler: {min(missing)!r} is missing.")
        self._open_epoch(int(state["epoch"]), volumes=state["volumes"])
        _require_same(state, self._identity() | ({"ranks": self._place.ranks} if self._place else {}))
        require_same_volumes(state.get("ids"), self._ids())
        batch, last = int(state["batch"]), self._length(state["ranks"])
        if not 0 <= batch <= last:
            raise InputError(f"The state was saved after batch {batch}, but its epoch has {last} batches.")
        self._first = self._done = batch
        self._begun = batch == last  # that epoch is over
        self._resumed = dict(state)

    def loader(
        self,
        *,
        num_workers: int = 0,
        transform: Callable[[tio.Subject], tio.Subject] | None = None,
        batch_transform: BatchTransform | None = None,
        **options: Any,
    ) -> tio.SubjectsLoader:
        """torchio's loader over these batches; it counts the batches that it returns.

        Real subjects get the keys of the convention that they lack. Keys that not every subject has after
        ``transform``, such as an age of real ones, are left out and named once in a warning.

        Args:
            num_workers: Worker processes; batches do not depend on their number.
            transform: Applied to every subject, real or synthetic.
            batch_transform: Applied to whole batches, after ``transform``, such as
                :class:`synthaug.data.voxels.batched.BatchedAugmentation`.
            **options: Passed to ``tio.SubjectsLoader``.

        Raises:
            InputError: Real and synthetic subjects do not fit together (:mod:`synthaug.augment.fit`).
        """
        dataset = MixedSubjects(self.subjects, self.source, transform, seed=self.seed, batch_transform=batch_transform)
        if self.mode != "synthetic":
            dataset.require_fit()
        # Without its own generator a loader advances the global one at each pass.
        options = {"generator": torch_generator("loader", self.seed)} | options
        return CountingLoader(dataset, batch_sampler=self, num_workers=num_workers, **options)

    def _open_epoch(self, epoch: int, *, volumes: Sequence[int] | None = None) -> None:
        if epoch < 0:
            raise InputError(f"epoch={epoch} must not be negative.")
        found = found_volumes(self.source, self.counts, recorded=volumes)
        shares = self._sets.shares(epoch, found, classes=[] if self.source is None else self.source.classes)
        self._plan = EpochPlan(self.seed, epoch, self.batch_size // len(self.counts), shares)
        self._first, self._done, self._begun, self._resumed = 0, 0, False, {}

    def _ids(self) -> str | None:
        """What names the volumes of this epoch; found once, as known volumes of an open pool keep their places."""
        volumes = {share.label: share.volumes for share in self._plan.shares}
        if self._hashed is None or self._hashed[0] != volumes:
            self._hashed = volumes, volumes_hash(self.source, volumes)
        return self._hashed[1]

    def _identity(self) -> dict[str, Any]:
        """Values that a saved state must share to give the same batches; lists by class survive JSON."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "subjects": list(self.counts.values()),
            "real": list(self.real.values()),
            "synthetic": list(self.synthetic.values()),
        }


def _require_same(state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """InputError for the first value in which a saved state differs from the present one."""
    for key, value in now.items():
        if key in state and state[key] != value:
            raise InputError(f"The state was saved with {key}={state[key]}, this sampler has {value}.")
