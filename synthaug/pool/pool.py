"""A pool of synthetic volumes on disk: NIfTI files and a manifest with the recipe of each."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torchio as tio

from synthaug.config import LabelPolicy, PreprocessConfig, SamplingConfig
from synthaug.data.reading.manifest import make_subject
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.told import sampling_of
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash, inside
from synthaug.pool.building.builder import fill
from synthaug.pool.building.order import Order
from synthaug.pool.consistency import (
    altered_files,
    counts_among,
    doubts_among,
    read_entries,
    read_header,
    require_own_recipe,
    require_preprocessing,
    unlisted_files,
)
from synthaug.pool.index import LEAST, Index, read_index, write_index
from synthaug.pool.ledger import HEADER, MANIFEST, Entry, checked_image, place
from synthaug.pool.prompts import Prompts, as_prompts, reports_by_class
from synthaug.pool.recipe import provenance_line
from synthaug.pool.verdicts import AUDIT, dropped_among

__all__ = ["HEADER", "MANIFEST", "SyntheticPool", "reports_by_class"]
WHOLE, ONLY = "//#whole", "//#only="  # after the folder of an address: no resolved path holds two slashes


class SyntheticPool:
    """Synthetic subjects, addressed by (class, index).

    :meth:`build` makes a pool and :meth:`open` reads one. Volumes are written atomically and then listed in an
    append-only manifest: a killed build continues, and a pool can be read while it grows.

    Opening reads header and manifest and refuses contradictions (:mod:`synthaug.pool.consistency`). Reading a volume
    verifies its SHA-256, and refuses a missing, truncated or altered file. :meth:`verify` reads all volumes.

    Copies of training patients found by ``synthaug pool audit --drop`` stay on disk and are excluded here. A pool that
    has grown since its audit is refused until it is audited again.
    """

    def __init__(self, path: Path, header: dict[str, Any], entries: Sequence[Entry], *, whole: bool = False) -> None:
        self.path, self.header = path, header
        self._whole, self._chosen = whole, False  # with dropped copies; whether it is a fixed selection
        self._places: set[tuple[int, int, int]] = set()
        self._turned_down: list[Entry] = []
        self._dropped: list[Entry] = []
        self._by_class: dict[int, list[Entry]] = {}
        self._index: Index | None = None  # where the lists above are read entry by entry
        self._add(entries)

    def _add(self, entries: Sequence[Entry]) -> None:
        """Append new entries in canonical order; known ones keep their index."""
        copies = set() if self._whole else dropped_among(self.path, entries)
        for entry in sorted(entries, key=place):
            if place(entry) in self._places:
                continue
            self._places.add(place(entry))
            if entry["label"] is None:
                self._turned_down.append(entry)
            elif entry["id"] in copies:
                self._dropped.append(entry)
            else:
                self._by_class.setdefault(entry["label"], []).append(entry)

    def refresh(self) -> int:
        """Read volumes that builders have added since; returns their number.

        Known volumes keep their (class, index), until the pool is opened anew. To be called between epochs.

        Raises:
            InputError: The pool excludes copies, and its audit does not cover the new volumes.
        """
        if self._chosen or (self._index and self._index.is_current()):
            return 0
        before = len(self)
        if self._index:
            self._read_whole()
        self._add(read_entries(self.path, self.header))
        return len(self) - before

    def _read_whole(self) -> None:
        """Hold every entry after all, in the order that the index gave them."""
        self._index = None
        self._by_class = {label: list(entries) for label, entries in self._by_class.items()}
        self._turned_down = list(self._turned_down)
        self._places = {place(entry) for entry in (*self._kept, *self._turned_down)}

    def write_index(self) -> None:
        """Make a large pool open quickly from now on; a small one, or one that lacks dropped copies, stays as it is."""
        if self._index is None and not self._dropped and len(self) >= LEAST:
            write_index(self.path, {**self._by_class, None: self._turned_down}, self.identity)

    @property
    def images(self) -> list[str]:
        """Names of the images of a subject."""
        return self.header["images"]

    @property
    def preprocessing(self) -> Mapping[str, Any] | None:
        """Preprocessing of the generator's training images; None = unknown, as for released generators."""
        return self.header.get("preprocessing")

    @property
    def counts(self) -> dict[int, int]:
        """Volumes of each class."""
        return {label: len(entries) for label, entries in sorted(self._by_class.items())}

    @property
    def classes(self) -> list[int]:
        """Classes with volumes."""
        return sorted(self._by_class)

    @property
    def dropped(self) -> int:
        """Number of volumes excluded as copies of training patients."""
        return len(self._dropped)

    @property
    def address(self) -> str:
        """Address of this source: its folder, and which of its volumes where they are not those that ``open`` gives."""
        selection = ONLY + ",".join(entry["id"] for entry in self._kept) if self._chosen else WHOLE * self._whole
        return f"{self.path.resolve()}{selection}"

    @property
    def identity(self) -> str:
        """Hash of the ids of all volumes."""
        if self._index:
            return self._index.identity
        return content_hash([[entry["id"] for entry in self.entries(label)] for label in self.classes])

    def summary(self) -> dict[str, dict[int, int]]:
        """Counts by class: ``requested``, ``generated``, ``turned_down``; and ``kept`` by final class."""
        return {**counts_among([*self._dropped, *self._kept], self._turned_down), "kept": self.counts}

    def doubts(self) -> dict[str, int]:
        """Counts of volumes by doubt. ``contradicts``: another class was predicted from the report than requested.
        ``unlike``: the report is unlike the training reports, where the generator knows them."""
        return doubts_among([*self._kept])

    @property
    def _kept(self) -> Iterator[Entry]:
        return (entry for label in self.classes for entry in self._by_class[label])

    def __len__(self) -> int:
        return sum(self.counts.values())

    def entries(self, label: int) -> list[Entry]:
        """Manifest entries of a class."""
        return list(self._by_class.get(label, []))

    def subject(self, label: int, index: int) -> tio.Subject:
        """Volume ``index`` (modulo the count of the class) as a subject; its file is read when its data is used."""
        entries = self._by_class.get(label)
        if not entries:
            raise InputError(f"{self.path}: the pool has no volume of class {label}; it has {self.counts}.")
        entry = entries[index % len(entries)]
        require_own_recipe(entry, source=self.path)
        files = {name: inside(self.path, file) for name, file in entry["files"].items()}
        return make_subject(
            {name: checked_image(path, entry["sha256"][name]) for name, path in files.items()},
            label=label,
            subject_id=f"synthetic-{entry['id']}",
            patient_id=f"synthetic-{entry['id']}",
            report=entry["recipe"]["report"],
            provenance=provenance_line(entry["recipe"], entry["class_probabilities"]),
        )

    def subjects(self) -> Iterator[tio.Subject]:
        """Every volume once, class by class."""
        return (self.subject(label, index) for label, count in self.counts.items() for index in range(count))

    def only(self, ids: Collection[str]) -> Self:
        """A fixed selection: the volumes of these ids, in the order of the pool."""
        pool = type(self)(self.path, self.header, [each for each in self._kept if each["id"] in ids], whole=True)
        pool._chosen = True
        return pool

    def bad_files(self) -> list[Path]:
        """Files that are missing, truncated or altered."""
        return altered_files(self.path, [*self._kept])

    def unlisted_files(self) -> tuple[list[Path], list[Path]]:
        """Files of volumes without a line in the manifest; and those that a builder is at, or was killed at."""
        return unlisted_files(self.path, [*self._kept, *self._dropped])

    def verify(self) -> None:
        """InputError naming every volume whose bytes or recipe have changed."""
        if self._index:
            read_entries(self.path, self.header)  # for what contradicts itself, which an index passes over
        for entry in self._kept:
            require_own_recipe(entry, source=self.path)
        if bad := self.bad_files():
            volumes = {path.name.partition("_")[0] for path in bad}  # of which each may have several files
            raise InputError(
                f"{self.path}: {len(volumes)} of {len(self)} volumes missing or altered since they were generated "
                f"({', '.join(path.name for path in bad)}); delete them and build the pool again."
            )

    @classmethod
    def open(cls, path: str | Path, *, preprocessing: PreprocessConfig | None = None, whole: bool = False) -> Self:
        """Open a pool, finished or growing.

        Args:
            path: Its folder.
            preprocessing: Preprocessing of the real volumes; a pool of another one is refused.
            whole: Include the copies that an audit excluded.

        Raises:
            InputError: There is no pool, its manifest is unusable, its preprocessing differs, or it has grown since the
                audit that excluded copies.
        """
        folder = Path(path)
        if not (folder / HEADER).is_file():
            raise InputError(f"{folder}: no synthetic pool there ({HEADER} is missing).")
        header = read_header(folder)
        index = None if (folder / AUDIT).is_file() else read_index(folder)
        pool = cls(folder, header, [] if index else read_entries(folder, header), whole=whole)
        if index:  # whose sequences read an entry when it is asked for
            pool._index, pool._by_class, pool._turned_down = index, {**index.by_class}, index.turned_down  # type: ignore
        if preprocessing is not None:
            require_preprocessing(pool.header, preprocessing, source=str(pool.path))
        return pool

    @classmethod
    def build(
        cls,
        pipe: CCELLAPipeline,
        path: str | Path,
        *,
        per_class: Mapping[int, int],
        reports: Prompts | Mapping[int, Sequence[str]],
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        override_class: bool = False,
        labels: LabelPolicy = "requested",
        attempts: int = 4,
        threads: int | None = None,
        shard: tuple[int, int] | None = None,
        on_volume: Callable[[], None] | None = None,
    ) -> Self:
        """Generate the missing volumes and open the pool.

        Several builders may share a folder, also from several machines on a file system with ``flock``. Each volume is
        claimed before it is generated, and the result equals that of one builder byte for byte.

        Args:
            pipe: The generator.
            path: Folder of the pool: new, or begun with the same generator.
            per_class: Volumes per class.
            reports: Prompts (:mod:`synthaug.pool.prompts`), or plain texts by class; from training patients only.
                Studies refuse plain texts, whose patients are unknown.
            seed: Seed of prompts and noise.
            sampling: Scheduler, steps, guidance. None = those that the generator's card was measured with, or defaults.
            override_class: Condition on the requested class in place of the one predicted from the report.
            labels: Class label of a volume: the requested class, or the class predicted from its report. "agreed":
                where the two differ, the volume is rejected and drawn again from another report.
            attempts: Attempts per volume of an "agreed" pool; then its place stays empty (:meth:`summary`).
            threads: Threads, on which the bytes depend; None = those of the pool so far, or of torch.
            shard: (k, n): part k of n only, k from 0. The parts are disjoint and complete.
            on_volume: Called for each volume, new or found.

        Raises:
            InputError: The folder holds another pool, cannot be written, the disk is full, or a class has no report.
        """
        order = Order(
            per_class=dict(per_class),
            prompts=as_prompts(reports),
            seed=seed,
            sampling=sampling or sampling_of(pipe.record),
            override_class=override_class,
            labels=labels,
            attempts=attempts,
            threads=threads,
        )
        return cls.fill(pipe, path, order, shard=shard, on_volume=on_volume)

    @classmethod
    def fill(
        cls,
        pipe: CCELLAPipeline,
        path: str | Path,
        order: Order,
        *,
        shard: tuple[int, int] | None = None,
        on_volume: Callable[[], None] | None = None,
    ) -> Self:
        """As :meth:`build`, with the contents of the pool as one value."""
        fill(pipe, path, order, shard=shard, on_volume=on_volume)
        pool = cls.open(path)
        pool.write_index()
        return pool
