"""Where synthetic subjects come from: a pool on disk or a live pipeline, behind one interface."""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torchio as tio

from synthaug.augment.pool import SyntheticPool
from synthaug.config import SamplingConfig
from synthaug.data.manifest import make_subject
from synthaug.errors import InputError
from synthaug.files import content_hash
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.seeding import derive_seed


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
    """

    def __init__(
        self,
        pipe: CCELLAPipeline,
        reports: Mapping[int, Sequence[str]],
        *,
        sampling: SamplingConfig | None = None,
        seed: int = 0,
        keep: int = 8,
    ) -> None:
        empty = [label for label, texts in reports.items() if not texts]
        if empty or not reports:
            raise InputError(f"A live generator needs a report of every class; class {empty[0] if empty else 0} has none.")
        self.pipe = pipe
        self.reports = {label: list(texts) for label, texts in reports.items()}
        self.sampling = sampling or SamplingConfig()
        self.seed = seed
        self.keep = keep
        self._blocks: OrderedDict[tuple[int, int], list[tio.Subject]] = OrderedDict()
        identity = [pipe.fingerprint, self.reports, asdict(self.sampling), seed]
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

    def subject(self, label: int, index: int) -> tio.Subject:
        """Subject ``index`` of a class; the same whenever it is asked for."""
        size = self.pipe.config.micro_batch
        key = (label, index // size)
        if key not in self._blocks:
            self._blocks[key] = self._generate(label, range(key[1] * size, (key[1] + 1) * size))
            while len(self._blocks) > self.keep:
                self._blocks.popitem(last=False)
        return self._blocks[key][index % size]

    def _generate(self, label: int, indices: range) -> list[tio.Subject]:
        self.pipe.with_scheduler(self.sampling.scheduler)
        self.pipe.set_progress_bar_config(disable=True)
        prompts = [self.reports[label][index % len(self.reports[label])] for index in indices]
        seeds = [derive_seed("live", self.seed, label, index) for index in indices]
        output = self.pipe(
            prompts, seeds=seeds, num_inference_steps=self.sampling.steps, guidance_scale=self.sampling.guidance
        )
        affine = tio.ScalarImage(
            tensor=output.volumes[0, :1], affine=[[*row] for row in _affine(self.pipe.config.spacing_mm)]
        ).affine
        subjects = []
        for row, index in enumerate(indices):
            recipe = {"checkpoint": self.pipe.fingerprint, "report": prompts[row], "seed": seeds[row]}
            recipe |= {"requested_class": label, **asdict(self.sampling)}
            name = f"synthetic-live-{label}-{index}"
            images = {
                image: tio.ScalarImage(tensor=output.volumes[row, channel : channel + 1], affine=affine)
                for channel, image in enumerate(self.images)
            }
            subjects.append(
                make_subject(
                    images,
                    label=label,
                    subject_id=name,
                    patient_id=name,
                    report=prompts[row],
                    provenance=json.dumps(recipe, sort_keys=True),
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
    """Accept an open source or the folder of a pool."""
    return open_source(str(source)) if isinstance(source, str | Path) else source
