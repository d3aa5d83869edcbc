"""Where synthetic subjects come from: a pool on disk or a live pipeline, behind one interface."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torchio as tio

from synthaug.augment.pool import (
    SyntheticPool,
    provenance_line,
    rounded_probabilities,
    volume_affine,
    volume_recipe,
    with_sampling,
)
from synthaug.config import SamplingConfig
from synthaug.data.manifest import make_subject
from synthaug.errors import InputError
from synthaug.files import content_hash
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.seeding import derive_seed

WITHOUT_END = 2**31
"""More volumes than anyone draws."""


class Source(Protocol):
    """Synthetic subjects addressed by (class, index)."""

    @property
    def images(self) -> list[str]: ...

    @property
    def address(self) -> str:
        """What :func:`open_source` turns back into this source."""
        ...

    @property
    def classes(self) -> list[int]: ...

    @property
    def counts(self) -> dict[int, int]:
        """How many volumes of each class differ; an index counts modulo this."""
        ...

    def subject(self, label: int, index: int) -> tio.Subject: ...


class LiveSource:
    """Generates when asked. Subjects come in blocks of the pipeline's micro-batch; the last blocks are kept.

    Use it in the main process (``num_workers=0``): CUDA does not survive a fork.

    Args:
        pipe: The generator.
        reports: Prompts of each class, from training patients only.
        sampling: Scheduler, steps, guidance.
        seed: Names the noise.
        keep: Blocks kept in memory.
        per_class: Different volumes of each class; the default is without end.

    Raises:
        InputError: A class has no report.
    """

    def __init__(
        self,
        pipe: CCELLAPipeline,
        reports: Mapping[int, Sequence[str]],
        *,
        sampling: SamplingConfig | None = None,
        seed: int = 0,
        keep: int = 8,
        per_class: int = WITHOUT_END,
    ) -> None:
        empty = [label for label, texts in reports.items() if not texts]
        if empty or not reports:
            raise InputError(
                f"A live generator needs a report of every class; class {empty[0] if empty else 0} has none."
            )
        self.pipe = pipe
        self.reports = {label: list(texts) for label, texts in reports.items()}
        self.sampling = sampling or SamplingConfig()
        self.seed = seed
        self.keep = keep
        self.per_class = per_class
        self._drawing = with_sampling(pipe, self.sampling)
        self._blocks: OrderedDict[tuple[int, int], list[tio.Subject]] = OrderedDict()
        identity = [pipe.fingerprint, self.reports, asdict(self.sampling), seed, per_class]
        self.address = f"live:{content_hash(identity)}"
        _LIVE[self.address] = self

    @property
    def images(self) -> list[str]:
        """Names of the images of a subject."""
        return self.pipe.config.images

    @property
    def classes(self) -> list[int]:
        """Classes that can be asked for."""
        return sorted(self.reports)

    @property
    def counts(self) -> dict[int, int]:
        """Different volumes of each class."""
        return dict.fromkeys(self.classes, self.per_class)

    def subject(self, label: int, index: int) -> tio.Subject:
        """Subject ``index`` of a class; the same whenever it is asked for."""
        if label not in self.reports:
            raise InputError(f"The live generator has no report of class {label}; it has classes {self.classes}.")
        size = self.sampling.micro_batch
        index %= self.per_class
        key = (label, index // size)
        if key not in self._blocks:
            self._blocks[key] = self._generate(label, range(key[1] * size, (key[1] + 1) * size))
            while len(self._blocks) > self.keep:
                self._blocks.popitem(last=False)
        return self._blocks[key][index % size]

    def _generate(self, label: int, indices: range) -> list[tio.Subject]:
        prompts = [self.reports[label][index % len(self.reports[label])] for index in indices]
        seeds = [derive_seed("live", self.seed, label, index) for index in indices]
        output = self._drawing(
            prompts, seeds=seeds, num_inference_steps=self.sampling.steps, guidance_scale=self.sampling.guidance
        )
        affine = volume_affine(output.volumes.shape[2:], self.pipe.config.spacing_mm)
        subjects = []
        for row, index in enumerate(indices):
            recipe = volume_recipe(
                self.pipe, self.sampling, report=prompts[row], label=label, seed=seeds[row], override_class=False
            )
            name = f"synthetic-live-{label}-{index}"
            images = {
                image: tio.ScalarImage(tensor=output.volumes[row, channel : channel + 1].clone(), affine=affine)
                for channel, image in enumerate(self.images)
            }
            subjects.append(
                make_subject(
                    images,
                    label=label,
                    subject_id=name,
                    patient_id=name,
                    report=prompts[row],
                    provenance=provenance_line(recipe, rounded_probabilities(output, row)),
                )
            )
        return subjects


_LIVE: dict[str, LiveSource] = {}
_POOLS: dict[str, SyntheticPool] = {}


def open_source(address: str) -> Source:
    """The source behind an address: a pool's folder, or a live generator made in this process."""
    if address.startswith("live:"):
        if address not in _LIVE:
            raise InputError(f"{address}: this generator is not loaded here; make its LiveSource first, or use a pool.")
        return _LIVE[address]
    if address not in _POOLS:
        _POOLS[address] = SyntheticPool.open(address)
    return _POOLS[address]


def as_source(source: "Source | str | Path") -> Source:
    """Accept an open source or the folder of a pool, and remember it under its address.

    Raises:
        InputError: Neither, or no pool in that folder.
    """
    if isinstance(source, CCELLAPipeline):
        raise InputError("A pipeline alone has no prompts; pass LiveSource(pipe, reports) or a SyntheticPool.")
    if isinstance(source, str | Path) and not str(source).startswith("live:"):
        source = SyntheticPool.open(source)  # anew, because a pool on disk may have grown
    if isinstance(source, str | Path):
        return open_source(str(source))
    if isinstance(source, SyntheticPool):
        _POOLS[source.address] = source
    return source
