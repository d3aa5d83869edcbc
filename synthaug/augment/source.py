"""Sources of synthetic subjects: a pool on disk or a live pipeline, with one interface."""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, Protocol, Self

import torchio as tio
from torch.utils.data import get_worker_info

from synthaug.config import SamplingConfig
from synthaug.data.reading.manifest import make_subject
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.told import Guidance, require_guidance, sampling_of
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.pool.pool import ONLY, WHOLE, SyntheticPool
from synthaug.pool.prompts import Prompts, as_prompts, describe, require_classes
from synthaug.pool.recipe import (
    common_recipe,
    draw_volumes,
    plan_volume,
    provenance_line,
    rounded_probabilities,
    volume_affine,
    with_sampling,
)

WITHOUT_END = 2**31
"""More volumes than anyone draws."""


class Source(Protocol):
    """Synthetic subjects addressed by (class, index)."""

    @property
    def images(self) -> list[str]: ...

    @property
    def preprocessing(self) -> Mapping[str, Any] | None:
        """Preprocessing of the generator's training images; None = unknown."""
        ...

    @property
    def address(self) -> str:
        """Address of this source for :func:`open_source`."""
        ...

    @property
    def classes(self) -> list[int]: ...

    @property
    def counts(self) -> dict[int, int]:
        """Distinct volumes per class; an index counts modulo this."""
        ...

    def subject(self, label: int, index: int) -> tio.Subject: ...


class LiveSource:
    """A source that generates on demand and ahead. Its subjects are those of a pool with the same settings.

    Subjects are generated in blocks of the micro-batch by one thread of the main process: the requested block, then the
    next ones of its class. Training and generation overlap. The number of blocks in memory is bounded.

    It belongs to one process, because CUDA does not survive a fork. A loader with workers is refused.

    Args:
        pipe: The generator, for this source alone.
        reports: Prompts, or reports by class; from training patients only.
        sampling: Scheduler, steps, guidance. None = those that the generator's card was measured with, or the defaults.
        seed: Seed of the noise.
        keep: Blocks kept in memory, without those generated ahead.
        ahead: Blocks generated ahead of the latest request; 0 = none.
        per_class: Distinct volumes per class; unlimited by default. A transform draws among all of them, hardly ever
            two of one block; a number such as 64 lets it use a block again.
        override_class: Condition on the requested class in place of the one predicted from the report.

    Raises:
        InputError: A class has no report, or a number is out of range.
    """

    def __init__(
        self,
        pipe: CCELLAPipeline,
        reports: Prompts | Mapping[int, Sequence[str]],
        *,
        sampling: SamplingConfig | None = None,
        seed: int = 0,
        keep: int = 8,
        ahead: int = 1,
        per_class: int = WITHOUT_END,
        override_class: bool = False,
    ) -> None:
        if keep < 1 or ahead < 0 or per_class < 1:
            raise InputError(f"keep={keep} and per_class={per_class} must be at least 1 and ahead={ahead} at least 0.")
        self.prompts = as_prompts(reports)
        require_classes(self.prompts, sorted(reports) if isinstance(reports, Mapping) else [])
        self.classes = self.prompts.classes
        if not self.classes:
            raise InputError("A live generator needs a report of every class; class 0 has none.")
        self.pipe = pipe
        self.sampling = sampling or sampling_of(pipe.record)
        self.seed, self.keep, self.ahead, self.per_class = seed, keep, ahead, per_class
        self.override_class = override_class
        require_guidance(pipe.record, Guidance.of(self.sampling), levels=pipe.autoencoder.levels, edm=pipe.edm)
        self._drawing = with_sampling(pipe, self.sampling)
        self._blocks: OrderedDict[tuple[int, int], Future[list[tio.Subject]]] = OrderedDict()
        self._waited_for: Counter[Future[list[tio.Subject]]] = Counter()
        """How many threads wait for a block; such a block is never called off."""
        self._closed = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="synthaug-live")
        self._process = os.getpid()
        identity = [pipe.fingerprint, describe(self.prompts), asdict(self.sampling), seed, per_class, override_class]
        self.address = f"live:{content_hash(identity)}"
        _LIVE.append(self)

    @property
    def images(self) -> list[str]:
        """Names of the images of a subject."""
        return self.pipe.config.images

    @property
    def preprocessing(self) -> Mapping[str, Any] | None:
        """Preprocessing of the generator's training images; None = unknown."""
        return self.pipe.record.get("preprocessing")

    @property
    def counts(self) -> dict[int, int]:
        """Distinct volumes per class."""
        return dict.fromkeys(self.classes, self.per_class)

    def subject(self, label: int, index: int) -> tio.Subject:
        """Subject ``index`` of a class; the same at every call.

        Raises:
            InputError: No report of the class, called in a worker of a loader, or closed.
        """
        if os.getpid() != self._process or get_worker_info() is not None:
            self._refuse_another_process()
        if label not in self.classes:
            raise InputError(f"The live generator has no report of class {label}; it has classes {self.classes}.")
        block, row = divmod(index % self.per_class, self.sampling.micro_batch)
        with self._lock:
            wanted = self._ordered(label, block)
            blocks = -(-self.per_class // self.sampling.micro_batch)
            for step in range(1, min(self.ahead + 1, blocks)):
                self._ordered(label, (block + step) % blocks)
            self._waited_for[wanted] += 1
            while len(self._blocks) > self.keep + self.ahead:
                oldest = self._blocks.popitem(last=False)[1]
                if not self._waited_for[oldest]:
                    oldest.cancel()
        try:
            return wanted.result()[row]
        except CancelledError:
            self._refuse_closed()
        finally:
            with self._lock:
                self._waited_for[wanted] -= 1
                self._waited_for += Counter()  # forgets those that nobody waits for

    def close(self) -> None:
        """Stop generating; waits for the block in progress."""
        with self._lock:
            self._closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)
        _LIVE[:] = [source for source in _LIVE if source is not self]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # networks, thread and blocks are shared by copies of a transform that holds this

    def __reduce__(self) -> NoReturn:
        self._refuse_another_process()

    @staticmethod
    def _refuse_another_process() -> NoReturn:
        raise InputError("A live generator stays in the main process: use num_workers=0, or build a SyntheticPool.")

    def _refuse_closed(self) -> NoReturn:
        raise InputError(f"{self.address}: this generator was closed; make its LiveSource again.")

    def _ordered(self, label: int, block: int) -> "Future[list[tio.Subject]]":
        """The block, requested from the thread if missing or failed; the least recently used is dropped first."""
        if self._closed:
            self._refuse_closed()
        key = (label, block)
        known = self._blocks.get(key)
        if known is None or (known.done() and known.exception()):
            self._blocks[key] = self._thread.submit(self._generate, label, block)
        self._blocks.move_to_end(key)
        return self._blocks[key]

    def _generate(self, label: int, block: int) -> list[tio.Subject]:
        size = self.sampling.micro_batch
        common = common_recipe(self._drawing, self.sampling, override_class=self.override_class)
        plans = [
            plan_volume(common, self.prompts, label=label, index=index, seed=self.seed)
            for index in range(block * size, (block + 1) * size)
        ]
        output = draw_volumes(self._drawing, self.sampling, plans)
        self.pipe.doubts.tell([label] * len(plans), output.class_probabilities, None)
        affine = volume_affine(output.volumes.shape[2:], self.pipe.config.spacing_mm)
        subjects = []
        for row, plan in enumerate(plans):
            images = {
                image: tio.ScalarImage(tensor=output.volumes[row, channel : channel + 1].clone(), affine=affine)
                for channel, image in enumerate(self.images)
            }
            subjects.append(
                make_subject(
                    images,
                    label=label,
                    subject_id=f"synthetic-{plan['id']}",
                    patient_id=f"synthetic-{plan['id']}",
                    report=plan["recipe"]["report"],
                    provenance=provenance_line(plan["recipe"], rounded_probabilities(output, row)),
                )
            )
        return subjects


_LIVE: list[LiveSource] = []
_POOLS: dict[str, SyntheticPool] = {}


def open_source(address: str) -> Source:
    """Source of an address: a pool on disk, all of it or a selection, or a live generator of this process."""
    if address.startswith("live:"):
        alive = [source for source in _LIVE if source.address == address]
        if not alive:
            raise InputError(f"{address}: this generator is not loaded here; make its LiveSource first, or use a pool.")
        return alive[-1]
    if address not in _POOLS:
        _POOLS[address] = _open_pool(address)
    return _POOLS[address]


def as_source(source: "Source | str | Path") -> Source:
    """Accept an open source, its address or the folder of a pool, and register it under its address.

    Raises:
        InputError: None of them, or no pool in that folder.
    """
    if isinstance(source, CCELLAPipeline):
        raise InputError("A pipeline alone has no prompts; pass LiveSource(pipe, reports) or a SyntheticPool.")
    if isinstance(source, str | Path) and not str(source).startswith("live:"):
        source = _open_pool(str(source))  # again, because a pool on disk may have grown
    if isinstance(source, str | Path):
        return open_source(str(source))
    if isinstance(source, SyntheticPool):
        _POOLS[source.address] = source
    return source


def place_of(address: str) -> str:
    """What messages say of an address, without the many ids of a selection."""
    return address.partition(ONLY)[0]


def _open_pool(address: str) -> SyntheticPool:
    """The pool of a folder, the whole of it, or a selection of its volumes, as the address says."""
    if address.endswith(WHOLE):
        return SyntheticPool.open(address.removesuffix(WHOLE), whole=True)
    folder, selected, ids = address.partition(ONLY)
    if not selected:
        return SyntheticPool.open(folder)
    wanted = set(ids.split(",")) - {""}
    pool = SyntheticPool.open(folder, whole=True).only(wanted)
    if len(pool) < len(wanted):
        raise InputError(f"{folder}: lacks {len(wanted) - len(pool)} of the {len(wanted)} volumes selected from it.")
    return pool
