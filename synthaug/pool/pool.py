"""Synthetic volumes on disk: NIfTI files that any viewer opens, and one manifest that says how each was made."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torchio as tio

from synthaug.config import LabelPolicy, PreprocessConfig, SamplingConfig
from synthaug.data.reading.manifest import make_subject
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash, inside
from synthaug.pool.building.builder import fill
from synthaug.pool.building.order import Order
from synthaug.pool.consistency import (
    altered_files,
    read_entries,
    read_header,
    require_own_recipe,
    require_preprocessing,
)
from synthaug.pool.ledger import HEADER, MANIFEST, Entry, checked_image, class_read, place
from synthaug.pool.prompts import Prompts, as_prompts
from synthaug.pool.prompts import reports_by_class as reports_by_class
from synthaug.pool.recipe import provenance_line
from synthaug.pool.verdicts import dropped_among

__all__ = ["HEADER", "MANIFEST", "SyntheticPool", "reports_by_class"]


class SyntheticPool:
    """Synthetic subjects of each class, addressed by (class, index).

    Build one with :meth:`build`, open one with :meth:`open`. Files are written whole and then listed in an append-only
    manifest, so that a killed build continues where it was and a reader may look in at any time.

    What is checked when: opening reads header and manifest, no volume, and refuses what contradicts itself
    (:mod:`synthaug.pool.consistency`). Reading a subject's data compares the SHA-256 of the bytes read, so a missing,
    truncated or altered volume is refused with its name. :meth:`verify` reads them all and names every bad one.

    Volumes that ``synthaug pool audit --drop`` found to be copies of training patients stay on disk and are left out
    here; a pool that has grown since is refused until it is audited again.
    """

    def __init__(self, path: Path, header: dict[str, Any], entries: Sequence[Entry], *, whole: bool = False) -> None:
        self.path = path
        self.header = header
        self._whole = whole
        self._chosen = False
        """Whether it holds some volumes only, and takes up no others."""
        self._places: set[tuple[int, int, int]] = set()
        self._turned_down: list[Entry] = []
        self._dropped: list[Entry] = []
        self._by_class: dict[int, list[Entry]] = {}
        self._add(entries)

    def _add(self, entries: Sequence[Entry]) -> None:
        """Append what is new, in the order of places, so that what was there before keeps its index."""
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
        """Take up what a builder, in this or another process, has added since; returns the number of new volumes.

        A volume keeps its (class, index) in this object; new ones come after it. Call it between epochs.

        Raises:
            InputError: Copies are left out of the pool, and its audit does not know the new volumes.
        """
        if self._chosen:
            return 0
        before = len(self)
        self._add(read_entries(self.path, self.header))
        return len(self) - before

    @property
    def images(self) -> list[str]:
        """Names of the images of a subject."""
        return self.header["images"]

    @property
    def preprocessing(self) -> Mapping[str, Any] | None:
        """What the generator's training images went through; None = not known, as of released generators."""
        return self.header.get("preprocessing")

    @property
    def counts(self) -> dict[int, int]:
        """Volumes of each class."""
        return {label: len(entries) for label, entries in sorted(self._by_class.items())}

    @property
    def classes(self) -> list[int]:
        """Classes that the pool has volumes of."""
        return sorted(self._by_class)

    @property
    def dropped(self) -> int:
        """Volumes that are left out as copies of training patients."""
        return len(self._dropped)

    @property
    def address(self) -> str:
        """What reopens this source: its folder; chosen volumes are known in this process alone."""
        return str(self.path.resolve()) + (f"#{self.identity}" if self._chosen else "")

    @property
    def identity(self) -> str:
        """Hash of the ids of all volumes."""
        return content_hash([[entry["id"] for entry in self.entries(label)] for label in self.classes])

    def summary(self) -> dict[str, dict[int, int]]:
        """By class: places ``requested``, volumes ``generated`` and ``turned_down``; ``kept`` by final class."""
        every = [
            *self._turned_down,
            *self._dropped,
            *(entry for entries in self._by_class.values() for entry in entries),
        ]
        requested = Counter(label for label, _ in {place(entry)[:2] for entry in every})
        generated = Counter(place(entry)[0] for entry in every)
        turned_down = Counter(place(entry)[0] for entry in self._turned_down)
        counts = {"requested": requested, "generated": generated, "turned_down": turned_down}
        return {name: dict(sorted(count.items())) for name, count in counts.items()} | {"kept": self.counts}

    def doubts(self) -> dict[str, int]:
        """Volumes whose report was read as another class than the requested one (``contradicts``), and those whose
        report is unlike those of the generator's training (``unlike``; counted where the generator knows them)."""
        every = [entry for entries in self._by_class.values() for entry in entries]
        return {
            "contradicts": sum(class_read(entry) not in (None, place(entry)[0]) for entry in every),
            "unlike": sum(bool(entry.get("unlike")) for entry in every),
        }

    def __len__(self) -> int:
        return sum(self.counts.values())

    def entries(self, label: int) -> list[Entry]:
        """What the manifest says of each volume of a class."""
        return list(self._by_class.get(label, []))

    def subject(self, label: int, index: int) -> tio.Subject:
        """Volume ``index`` (modulo the class's count) as a subject; the file is read when its data is used."""
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
        """The pool with nothing but the volumes of these ids, in their order; what is added later is not taken up."""
        kept = [entry for entries in self._by_class.values() for entry in entries if entry["id"] in ids]
        pool = type(self)(self.path, self.header, kept, whole=True)
        pool._chosen = True
        return pool

    def bad_files(self) -> list[Path]:
        """Every file that is missing, truncated or altered since it was generated."""
        return altered_files(self.path, [entry for label in self.classes for entry in self._by_class[label]])

    def verify(self) -> None:
        """InputError that names every volume whose bytes or recipe are not those that were written."""
        for label in self.classes:
            for entry in self._by_class[label]:
                require_own_recipe(entry, source=self.path)
        bad = self.bad_files()
        if bad:
            names = ", ".join(path.name for path in bad)
            raise InputError(
                f"{self.path}: {len(bad)} of {len(self)} volumes missing or altered since they were generated "
                f"({names}); delete them and build the pool again."
            )

    @classmethod
    def open(cls, path: str | Path, *, preprocessing: PreprocessConfig | None = None, whole: bool = False) -> Self:
        """Open a pool that was built before, or that is being built.

        Args:
            path: Its folder.
            preprocessing: What real volumes go through here; a pool born under another one is refused.
            whole: With the copies that an audit left out, as that audit itself needs it.

        Raises:
            InputError: No pool there, its manifest cannot be used, its preprocessing is another, or copies are left
                out of it and it has grown since.
        """
        folder = Path(path)
        if not (folder / HEADER).is_file():
            raise InputError(f"{folder}: no synthetic pool there ({HEADER} is missing).")
        header = read_header(folder)
        pool = cls(folder, header, read_entries(folder, header), whole=whole)
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
        """Generate what is missing and open the pool.

        Several builders may work in one folder at once, in several processes or machines that share a file system
        with ``flock``: each volume is claimed before it is made, and the pool is that of one builder, byte for byte.

        Args:
            pipe: The generator.
            path: Folder of the pool, new or begun by the same generator.
            per_class: Volumes of each class.
            reports: Where the prompts come from (:mod:`synthaug.pool.prompts`), or the reports of each class as
                bare texts; from training patients only. The bench refuses bare texts, whose patients are not known.
            seed: Names the prompts and the noise.
            sampling: Scheduler, steps, guidance.
            override_class: Condition on the requested class in place of the one predicted from the report.
            labels: Which class a volume is listed under: the requested one; the one that the generator predicts from
                its report; or "agreed": the requested one, and a volume with another predicted class is turned down
                and made anew from another report.
            attempts: Volumes made at most for a place of an "agreed" pool; then it stays empty (:meth:`summary`).
            threads: Threads to compute with, on which the bytes depend; None = those of the pool, or of torch.
            shard: (k, n): only part k of n, k from 0; the parts are disjoint and make up the whole.
            on_volume: Called for each volume, new or found.

        Raises:
            InputError: The folder holds a pool made in another way, cannot be written, is full, or a class has no
                report.
        """
        order = Order(
            per_class=dict(per_class),
            prompts=as_prompts(reports),
            seed=seed,
            sampling=sampling or SamplingConfig(),
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
        """As :meth:`build`, with what the pool is to hold as one value."""
        fill(pipe, path, order, shard=shard, on_volume=on_volume)
        return cls.open(path)
