"""Drawn places become subjects: the data set behind a batch sampler, and the loader that counts what it hands over."""

import contextlib
import copy
import functools
import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torchio as tio
from monai.transforms import Randomizable
from torch.utils.data import Dataset

from synthaug.augment.fit import (
    Look,
    label_like,
    require_alike,
    require_mixture,
    require_names,
    require_preprocessing,
    voxels_like,
)
from synthaug.augment.plan import Draw
from synthaug.augment.source import Source, as_source, place_of
from synthaug.augment.transform import UNKNOWN, add_unknown
from synthaug.data.reading.manifest import class_index
from synthaug.ground.errors import InputError
from synthaug.ground.forks import in_forked_children
from synthaug.ground.seeding import derive_seed
from synthaug.pool.pool import SyntheticPool

if TYPE_CHECKING:
    from synthaug.augment.sampler import SyntheticSampler

logger = logging.getLogger(__name__)

BatchTransform = Callable[[Sequence[tio.Subject], Sequence[int]], list[tio.Subject]]
"""Changes the subjects of a batch, which are copies, together; a seed each names what is drawn for it."""

_GLOBAL_GENERATOR = threading.RLock()
"""Held while a transform draws from the global generator: workers may be threads, as in MONAI's ThreadDataLoader."""
in_forked_children(_GLOBAL_GENERATOR._at_fork_reinit)  # type: ignore[attr-defined]


HEADERS = 512
"""Real subjects whose headers are compared with the first one's before the first batch: about a second where they are
files."""


class MixedSubjects(Dataset):
    """Turns a draw into a subject and applies the transform with that draw's own random state.

    It holds for whatever draws from the global generators of torch, NumPy and Python, or is a MONAI ``Randomizable``
    that the transform holds, as ``torchio.MonaiAdapter`` does.
    """

    total_dataset_length = 0
    """For accelerate: every batch is full, so ``gather_for_metrics`` has nothing to cut off the last one."""

    def __init__(
        self,
        subjects: Sequence[tio.Subject],
        source: Source | None,
        transform: Callable[[tio.Subject], tio.Subject] | None,
        *,
        seed: int,
        batch_transform: BatchTransform | None = None,
    ) -> None:
        # A torchio data set would read and transform each subject here, once for the whole training.
        self.own = _Seeded(getattr(subjects, "_transform", None))
        """Transform of the data set that the real subjects come from; drawn each time that one of them is."""
        self.by_class: dict[int, list[tio.Subject]] = {}
        for subject in subjects.dry_iter() if hasattr(subjects, "dry_iter") else subjects:
            self.by_class.setdefault(class_index(subject["label"]), []).append(subject)
        self.source = source
        self.transform = _Seeded(transform)
        self.batch_transform = batch_transform
        self.seed = seed
        self.keys: frozenset[str] | None = None
        """Keys of every subject of a batch; None = those that it has."""
        self.like: dict[str, Any] = {}
        """Label, and an empty tensor for each image, whose type, dtype and device synthetic subjects get."""

    def __len__(self) -> int:
        return sum(len(subjects) for subjects in self.by_class.values())

    def require_fit(self) -> None:
        """Settle the keys of a batch; a pair of subjects is read and transformed.

        Raises:
            InputError: Real and synthetic subjects do not fit together.
        """
        if self.source is None or not self.source.counts:  # of an empty pool nothing is drawn
            return
        if not all(isinstance(each[0], tio.Subject) for each in self.by_class.values()):
            return
        source = place_of(self.source.address)
        everyone = [subject for subjects in self.by_class.values() for subject in subjects]
        require_preprocessing(self.source.preprocessing, everyone, source=source)
        real, synthetic = (
            Draw(0, 0, kind, min(labels), 0) for kind, labels in ((False, self.by_class), (True, self.source.counts))
        )
        before = self._whole(real)
        images = before.get_images_dict(intensity_only=False)
        self.like = {"label": before["label"], **{name: image.data.new_empty(0) for name, image in images.items()}}
        after = before if self.transform.is_none else self[real]
        made = self[synthetic]
        require_mixture(after, made, before=before, source=source)
        self._settle_keys(everyone, {*after}, {*made})
        if self.transform.is_none and self.own.is_none:
            for subject in everyone[:HEADERS]:
                images = subject.get_images_dict(intensity_only=False)
                require_names(images, after.get_images_dict(intensity_only=False), source=source)
                for name, image in images.items():
                    require_alike(Look.of(image), Look.of(after[name]), name=name, source=source)

    def _settle_keys(self, everyone: Sequence[tio.Subject], real: set[str], synthetic: set[str]) -> None:
        """Keep the keys that every subject has; torchio collates those of a batch's first one."""
        kinds = {frozenset({*subject, *UNKNOWN}) for subject in everyone}
        of_some = frozenset.union(*kinds) - frozenset.intersection(*kinds)
        self.keys = frozenset(real & synthetic - of_some)
        left_out = sorted((real | synthetic | of_some) - self.keys)
        if left_out:
            logger.warning(
                "Not every real and synthetic subject has %s: left out of the batches.", ", ".join(map(repr, left_out))
            )

    def _whole(self, draw: Draw) -> tio.Subject:
        """The subject of a draw, read, as a copy: a transform with copy=False must not reach the original."""
        subject = copy.deepcopy(self._synthetic(draw) if draw.synthetic else self.by_class[draw.label][draw.member])
        if not draw.synthetic:
            subject = self.own(subject, seed=derive_seed("data set", self.seed, draw.epoch, draw.slot))
            if self.source is not None:
                add_unknown(subject)
        subject.load()  # torchio collates the keys of the first subject, and a volume not read yet has no data
        for key in self.like.keys() & subject.keys() if draw.synthetic else ():
            if key == "label":
                subject[key] = label_like(self.like[key], subject[key])
            else:
                subject[key].set_data(voxels_like(self.like[key], subject[key].data))
        subject.update_attributes()
        return subject

    def __getitem__(self, draw: Draw) -> tio.Subject:
        subject = self.transform(self._whole(draw), seed=derive_seed("transform", self.seed, draw.epoch, draw.slot))
        for key in () if self.keys is None else {*subject} - self.keys:
            del subject[key]
            vars(subject).pop(key, None)  # torchio keeps the keys as attributes too
        return subject

    def __getitems__(self, draws: Sequence[Draw]) -> list[tio.Subject]:
        """What torch's loader asks for: a batch at once."""
        subjects = [self[draw] for draw in draws]
        if self.batch_transform is None:
            return subjects
        seeds = [derive_seed("batch transform", self.seed, draw.epoch, draw.slot) for draw in draws]
        return self.batch_transform(subjects, seeds)

    def _synthetic(self, draw: Draw) -> tio.Subject:
        assert self.source is not None  # the sampler draws synthetic subjects only where it has a source
        if draw.member >= self.source.counts.get(draw.label, 0):  # it has grown since this worker started
            if isinstance(self.source, SyntheticPool):
                self.source.refresh()  # as the main process does: volumes that are known keep their places
            else:
                self.source = as_source(self.source.address)
            if draw.member >= self.source.counts.get(draw.label, 0):
                raise InputError(
                    f"{place_of(self.source.address)}: has lost volumes of class {draw.label} while it was read; "
                    "rebuild it."
                )
        return self.source.subject(draw.label, draw.member)


class _Seeded:
    """A transform whose draws a seed names; None changes nothing."""

    def __init__(self, transform: Callable[[tio.Subject], tio.Subject] | None) -> None:
        self.transform = transform
        self.randomizables = _randomizables_in(transform)

    @property
    def is_none(self) -> bool:
        return self.transform is None

    def __call__(self, subject: tio.Subject, *, seed: int) -> tio.Subject:
        if self.transform is None:
            return subject
        with _GLOBAL_GENERATOR, _seeded(seed, self.randomizables):
            return self.transform(subject)


@contextlib.contextmanager
def _seeded(seed: int, randomizables: Sequence[Randomizable]) -> Iterator[None]:
    """Seed every generator that a transform may draw from; the global ones are restored afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # what transforms draw from
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator only: torch.manual_seed would also reset the GPU's, which the fork does not restore.
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        for place, each in enumerate(randomizables):
            each.set_random_state(derive_seed("randomizable", seed, place) % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _randomizables_in(transform: Any) -> list[Randomizable]:
    """MONAI's random transforms, which hold their own states, in a transform; in an order that copies of it share."""
    found: list[Randomizable] = []
    seen: set[int] = set()
    waiting = [transform]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | torch.nn.Module):
            continue
        seen.add(id(each))
        if isinstance(each, Randomizable):
            found.append(each)
        if isinstance(each, Mapping):
            waiting += [*each.keys(), *each.values()]  # torchio's OneOf has transforms as keys
        elif isinstance(each, list | tuple):
            waiting += each
        elif isinstance(each, functools.partial):
            waiting += [each.func, each.args, each.keywords]
        elif callable(each):
            closed = [cell.cell_contents for cell in getattr(each, "__closure__", None) or ()]
            waiting += [*getattr(each, "__dict__", {}).values(), getattr(each, "__self__", None), *closed]
    return found


class CountingLoader(tio.SubjectsLoader):
    """Tells the sampler which batches it has handed over, whatever its workers have asked for ahead.

    ``state_dict`` and ``load_state_dict`` are the sampler's: Lightning saves and restores loaders that have them.
    """

    batch_sampler: "SyntheticSampler"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        sampler = self.batch_sampler
        for number, batch in enumerate(super().__iter__(), start=1):
            if number == 1:
                counter = sampler.counter()
            counter(number)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the pass stands; see :meth:`SyntheticSampler.state_dict`."""
        return self.batch_sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken; see :meth:`SyntheticSampler.load_state_dict`."""
        self.batch_sampler.load_state_dict(state)
