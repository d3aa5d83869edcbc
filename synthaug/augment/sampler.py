"""Batches of real and synthetic subjects, exactly balanced, the same for any number of workers and ranks."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import torchio as tio
from torch.utils.data import Sampler

from synthaug.augment.balance import Schedule, Strategy
from synthaug.augment.dealing import Dealing, checked_place, dealing_of
from synthaug.augment.loading import BatchTransform, CountingLoader, MixedSubjects
from synthaug.augment.plan import Draw, EpochPlan
from synthaug.augment.sets import EpochSets
from synthaug.augment.source import Source, as_source
from synthaug.data.reading.manifest import class_counts
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator


class SyntheticSampler(Sampler[list[Draw]]):
    """A batch sampler: every batch holds the same number of each class, the last one too.

    Each class's set is its real subjects and as many synthetic ones as the strategy says. An epoch passes the
    largest set once; smaller sets are repeated (oversampled), so that without a source this is plain oversampling.
    The order is computed place by place, so that opening an epoch costs the same for ten subjects and ten million.

    Each pass draws the next epoch, whether or not a loop calls :meth:`set_epoch`.

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
        rank: This process; None = as torch.distributed says when a pass begins, else 0.
        ranks: Number of processes, likewise; each epoch is dealt out among them, disjoint and equal. A loader that
            went through ``accelerate.prepare`` deals the same batches itself.

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
        self._place = checked_place(rank, ranks)
        if batch_size < 1 or batch_size % len(self.counts):
            raise InputError(f"batch_size={batch_size} must be a multiple of the {len(self.counts)} classes.")
        if self.source is None and (sampling_strategy, synthetic_fraction, mode) != ("auto", None, "add"):
            raise InputError(
                "sampling_strategy, synthetic_fraction and mode ask for synthetic subjects; pass a source beside them."
            )
        self.batch_size = batch_size
        self._first: int
        """Batches of the epoch that the next pass leaves out, because a resumed training has had them."""
        self._begun: bool
        """Whether a pass has drawn from the epoch, so that the next one draws the epoch after it."""
        self._done: int | None
        """Batches of the epoch that the training has had; None = not known, another's loader asks ahead."""
        self._dealing: Dealing | None = None
        """Of the last pass."""
        self._left_out = 0
        """Batches that the last pass left out."""
        self._resumed: Mapping[str, Any] = {}
        """The state that the next pass goes on from."""
        self._sets = EpochSets(
            self.counts,
            strategy=sampling_strategy,
            fraction=synthetic_fraction,
            mode=mode,
            synthetic=self.source is not None,
        )
        self._open_epoch(0)

    def __len__(self) -> int:
        """Batches an epoch on this rank."""
        dealing = dealing_of(self._place)
        return dealing.batches(self._length(dealing.ranks))

    @property
    def rank(self) -> int:
        """This process, as of now."""
        return dealing_of(self._place).rank

    @property
    def ranks(self) -> int:
        """Processes that share out an epoch, as of now."""
        return dealing_of(self._place).ranks

    @property
    def sampler(self) -> Self:
        """Where Lightning and accelerate look for ``set_epoch``."""
        return self

    @property
    def epoch(self) -> int:
        """The epoch of the pass that was begun last, or that the next pass draws where none was."""
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
            InputError: The epoch is negative, its fraction cannot be used, or a saved state goes on in another one.
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
        """One pass. It begins when the first batch is asked for: loaders with workers ask twice for the iterator."""
        if self._begun:
            self._open_epoch(self.epoch + 1)
        _require_same(self._resumed, {"ranks": dealing.ranks})
        first, self._first, self._resumed = self._first, 0, {}
        self._begun, self._done, self._dealing, self._left_out = True, None, dealing, first
        yield from self._batches(self._plan, dealing.numbers(first, self._length(dealing.ranks)))

    def _batches(self, plan: EpochPlan, numbers: range) -> Iterator[list[Draw]]:
        """The batches of the epoch with these numbers."""
        return plan.batches(numbers)

    def _length(self, ranks: int) -> int:
        """Batches an epoch on each of so many ranks."""
        return math.ceil(self._plan.places / (self._plan.per_class * ranks))

    def counter(self) -> Callable[[int], None]:
        """Tells the sampler how many batches of the pass just begun have been handed over."""
        plan, left_out = self._plan, self._left_out

        def count(batches: int) -> None:
            if self._plan is plan:  # no other pass has begun since
                self._done = left_out + batches

        return count

    @contextlib.contextmanager
    def undivided(self) -> Iterator[None]:
        """Whole batches in every process, for a training loop that gives each its share of them."""
        place, self._place = self._place, Dealing(0, 1)
        try:
            yield
        finally:
            self._place = place

    def state_dict(self, *, consumed: int | None = None) -> dict[str, Any]:
        """Where the pass stands, in plain values; the same on every rank.

        A pass through :meth:`loader` counts the batches that the loader has handed over, not those that its workers
        have begun.

        Args:
            consumed: Batches of this epoch that the training has had on this rank; None = as :meth:`loader` counted.

        Raises:
            InputError: The pass goes through another loader, which may have asked for batches ahead, and ``consumed``
                does not say how many the training has had; or there are not so many.
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
        return {"epoch": self.epoch, "batch": done, "volumes": volumes, "ranks": ranks, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken: the next pass yields the batches that were left, later passes whole epochs.

        Raises:
            InputError: The state is that of another sampler, or the source has lost volumes since.
        """
        missing = {"epoch", "batch", "volumes", "ranks", *self._identity()} - state.keys()
        if missing:
            raise InputError(f"This is not the state of a sampler: {min(missing)!r} is missing.")
        self._open_epoch(int(state["epoch"]), volumes=state["volumes"])
        _require_same(state, self._identity() | ({"ranks": self._place.ranks} if self._place else {}))
        self._first = self._done = int(state["batch"])
        self._begun = self._first == self._length(state["ranks"])  # that epoch is over
        self._resumed = dict(state)

    def loader(
        self,
        *,
        num_workers: int = 0,
        transform: Callable[[tio.Subject], tio.Subject] | None = None,
        batch_transform: BatchTransform | None = None,
        **options: Any,
    ) -> tio.SubjectsLoader:
        """torchio's own loader over these batches; it tells the sampler what it has handed over.

        Args:
            num_workers: Worker processes; the batches do not depend on it.
            transform: Applied to every subject, real or synthetic.
            batch_transform: Applied to all subjects of a batch together, after ``transform``, such as
                :class:`synthaug.data.voxels.batched.BatchedAugmentation`, which is many times quicker.
            **options: Passed to ``tio.SubjectsLoader``.

        Raises:
            InputError: Real and synthetic subjects do not fit together (:mod:`synthaug.augment.fit`).
        """
        dataset = MixedSubjects(self.subjects, self.source, transform, seed=self.seed, batch_transform=batch_transform)
        if self.mode != "synthetic":
            dataset.require_fit()
        # Without a generator of its own, a loader moves the global one at each pass.
        options = {"generator": torch_generator("loader", self.seed)} | options
        return CountingLoader(dataset, batch_sampler=self, num_workers=num_workers, **options)

    def _open_epoch(self, epoch: int, *, volumes: Sequence[int] | None = None) -> None:
        if epoch < 0:
            raise InputError(f"epoch={epoch} must not be negative.")
        found = self._found_volumes(volumes)
        shares = self._sets.shares(epoch, found, classes=[] if self.source is None else self.source.classes)
        self._plan = EpochPlan(self.seed, epoch, self.batch_size // len(self.counts), shares)
        self._first, self._done, self._begun, self._resumed = 0, 0, False, {}

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

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a saved state to mean the same batches; lists by class outlive JSON."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "subjects": list(self.counts.values()),
            "real": list(self.real.values()),
            "synthetic": list(self.synthetic.values()),
        }


def _require_same(state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """InputError that names the first value of a saved state that is another one now."""
    for key, value in now.items():
        if key in state and state[key] != value:
            raise InputError(f"The state was saved with {key}={state[key]}, this sampler has {value}.")
