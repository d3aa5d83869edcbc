"""Synthetic volumes on disk: NIfTI files that any viewer opens, and one manifest that says how each was made."""

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import nibabel
import numpy as np
import torch
import torchio as tio

from synthaug.config import SamplingConfig
from synthaug.data.manifest import make_subject
from synthaug.errors import InputError
from synthaug.files import atomic_path, content_hash, file_hash, inside, read_json, usable_folder, write_json
from synthaug.generate.pipeline import CCELLAOutput, CCELLAPipeline
from synthaug.seeding import derive_seed, numpy_generator

HEADER = "pool.json"
MANIFEST = "manifest.jsonl"
ENTRY_KEYS = {"id", "label", "index", "recipe", "files", "sha256", "class_probabilities"}


def reports_by_class(subjects: Sequence[tio.Subject]) -> dict[int, list[str]]:
    """The reports of each class. Give it training subjects only: a prompt from a test report is a leak.

    Example:
        >>> reports_by_class([{"label": 1, "report": "b"}, {"label": 0, "report": "a"}])
        {0: ['a'], 1: ['b']}
    """
    labels = sorted({int(subject["label"]) for subject in subjects})
    return {label: [s["report"] for s in subjects if int(s["label"]) == label] for label in labels}


def with_sampling(pipe: CCELLAPipeline, sampling: SamplingConfig) -> CCELLAPipeline:
    """The same networks under the scheduler and micro-batch of ``sampling``; ``pipe`` itself stays as it is."""
    drawing = copy.copy(pipe).with_scheduler(sampling.scheduler)
    drawing.register_to_config(micro_batch=sampling.micro_batch)
    drawing.set_progress_bar_config(disable=True)
    return drawing


def volume_recipe(
    pipe: CCELLAPipeline, sampling: SamplingConfig, *, report: str, label: int, seed: int, override_class: bool
) -> dict[str, Any]:
    """Everything that a volume's bytes depend on, and the class that it was asked for."""
    return {
        "checkpoint": pipe.fingerprint,
        "report": report,
        "requested_class": label,
        "override_class": override_class,
        **asdict(sampling),
        "shape": list(pipe.config.shape),
        "spacing_mm": list(pipe.config.spacing_mm),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "device": pipe.device.type,
        "dtype": str(pipe.denoiser.dtype),
    }


def provenance_line(recipe: Mapping[str, Any], class_probabilities: Sequence[float] | None) -> str:
    """A subject's provenance: one line of JSON."""
    return json.dumps({**recipe, "class_probabilities": class_probabilities}, sort_keys=True)


def rounded_probabilities(output: CCELLAOutput, row: int) -> list[float] | None:
    """The class probabilities of one volume of a pipeline's output, as they are recorded."""
    if output.class_probabilities is None:
        return None
    return [round(probability, 6) for probability in output.class_probabilities[row].tolist()]


def volume_affine(shape: Sequence[int], spacing_mm: Sequence[float]) -> np.ndarray:
    """RAS, centred on the origin.

    Example:
        >>> volume_affine((3, 3, 5), (1, 1, 2))[:3, 3].tolist()
        [-1.0, -1.0, -4.0]
    """
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.multiply(spacing_mm, np.subtract(shape, 1)) / 2
    return affine


class SyntheticPool:
    """Synthetic subjects of each class, addressed by (class, index).

    Build one with :meth:`build`, open one with :meth:`open`. Files are written whole and then listed in an append-only
    manifest, so that a killed build continues where it was.
    """

    def __init__(self, path: Path, header: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        self.path = path
        self.header = header
        self._by_class: dict[int, list[dict[str, Any]]] = {}
        for entry in sorted(entries, key=lambda entry: (entry["label"], entry["index"])):
            self._by_class.setdefault(entry["label"], []).append(entry)

    @property
    def images(self) -> list[str]:
        """Names of the images of a subject."""
        return self.header["images"]

    @property
    def counts(self) -> dict[int, int]:
        """Volumes of each class."""
        return {label: len(entries) for label, entries in self._by_class.items()}

    @property
    def classes(self) -> list[int]:
        """Classes that the pool has volumes of."""
        return sorted(self._by_class)

    @property
    def address(self) -> str:
        """What reopens this source: its folder."""
        return str(self.path.resolve())

    def __len__(self) -> int:
        return sum(self.counts.values())

    def entries(self, label: int) -> list[dict[str, Any]]:
        """What the manifest says of each volume of a class."""
        return list(self._by_class.get(label, []))

    def subject(self, label: int, index: int) -> tio.Subject:
        """Volume ``index`` (modulo the class's count) as a subject; the file is read when its data is used."""
        entries = self._by_class.get(label)
        if not entries:
            raise InputError(f"{self.path}: the pool has no volume of class {label}; it has {self.counts}.")
        entry = entries[index % len(entries)]
        return make_subject(
            {name: tio.ScalarImage(inside(self.path, file)) for name, file in entry["files"].items()},
            label=label,
            subject_id=f"synthetic-{entry['id']}",
            patient_id=f"synthetic-{entry['id']}",
            report=entry["recipe"]["report"],
            provenance=provenance_line(entry["recipe"], entry["class_probabilities"]),
        )

    def subjects(self) -> Iterator[tio.Subject]:
        """Every volume once, class by class."""
        return (self.subject(label, index) for label, count in self.counts.items() for index in range(count))

    def verify(self) -> None:
        """InputError that names the first volume whose bytes are not those that were written."""
        for entries in self._by_class.values():
            for entry in entries:
                for name, file in entry["files"].items():
                    path = inside(self.path, file)
                    if not path.is_file() or file_hash(path) != entry["sha256"][name]:
                        raise InputError(f"{path}: missing or altered since it was generated; delete it and rebuild.")

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a pool that was built before.

        Raises:
            InputError: No pool there, or its manifest cannot be used.
        """
        folder = Path(path)
        if not (folder / HEADER).is_file():
            raise InputError(f"{folder}: no synthetic pool there ({HEADER} is missing).")
        return cls(folder, read_json(folder / HEADER), _read_entries(folder))

    @classmethod
    def build(
        cls,
        pipe: CCELLAPipeline,
        path: str | Path,
        *,
        per_class: Mapping[int, int],
        reports: Mapping[int, Sequence[str]],
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        override_class: bool = False,
        on_volume: Callable[[], None] | None = None,
    ) -> Self:
        """Generate what is missing and open the pool.

        Args:
            pipe: The generator.
            path: Folder of the pool, new or begun by the same generator.
            per_class: Volumes of each class.
            reports: Prompts of each class, from training patients only.
            seed: Names the prompts and the noise.
            sampling: Scheduler, steps, guidance.
            override_class: Condition on the requested class in place of the one predicted from the report.
            on_volume: Called for each volume, new or found.

        Raises:
            InputError: The folder holds a pool of another generator, seed or sampling, cannot be written, or a class
                has no report.
        """
        folder = usable_folder(Path(path))
        sampling = sampling or SamplingConfig()
        header = {
            "format": 2,
            "images": pipe.config.images,
            "spacing_mm": pipe.config.spacing_mm,
            "shape": pipe.config.shape,
            "checkpoint": pipe.fingerprint,
            "trained_on_patients": pipe.record.get("patients", []),
            "seed": seed,
            "sampling": asdict(sampling),
            "override_class": override_class,
        }
        _write_or_match_header(folder, header)
        found = {entry["id"] for entry in _read_entries(folder)}
        missing: list[dict[str, Any]] = []
        for plan in _plan(pipe, per_class, reports, seed=seed, sampling=sampling, override_class=override_class):
            if plan["id"] in found:
                if on_volume:
                    on_volume()
            else:
                missing.append(plan)
        drawing = with_sampling(pipe, sampling)
        for start in range(0, len(missing), sampling.micro_batch):
            batch = missing[start : start + sampling.micro_batch]
            _generate(drawing, folder, batch, sampling, override_class)
            for _ in batch:
                if on_volume:
                    on_volume()
        return cls.open(folder)


def _plan(pipe, per_class, reports, *, seed, sampling, override_class) -> list[dict[str, Any]]:
    """Each volume's label, index, recipe and id; the id is the hash of the recipe."""
    plans = []
    for label, count in sorted(per_class.items()):
        if not reports.get(label):
            raise InputError(f"No report of class {label} to prompt the generator with.")
        # Each report is used once before any is used twice.
        order = numpy_generator("prompts", seed, label).permutation(len(reports[label]))
        for index in range(count):
            recipe = volume_recipe(
                pipe,
                sampling,
                report=reports[label][order[index % len(order)]],
                label=label,
                seed=derive_seed("volume", seed, label, index),
                override_class=override_class,
            )
            plans.append({"id": content_hash(recipe), "label": label, "index": index, "recipe": recipe})
    return plans


def _generate(pipe, folder: Path, batch: list[dict[str, Any]], sampling: SamplingConfig, override_class: bool) -> None:
    output = pipe(
        [plan["recipe"]["report"] for plan in batch],
        [plan["label"] for plan in batch] if override_class else None,
        seeds=[plan["recipe"]["seed"] for plan in batch],
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
    )
    for row, plan in enumerate(batch):
        files, hashes = {}, {}
        for channel, name in enumerate(pipe.config.images):
            file = f"volumes/{plan['id']}_{name}.nii"
            hashes[name] = _write_volume(folder / file, output.volumes[row, channel].numpy(), pipe.config.spacing_mm)
            files[name] = file
        probabilities = rounded_probabilities(output, row)
        entry = {**plan, "files": files, "sha256": hashes, "class_probabilities": probabilities}
        _append_line(folder / MANIFEST, json.dumps(entry, sort_keys=True))


def _write_volume(path: Path, volume: np.ndarray, spacing_mm: Sequence[float]) -> str:
    """Uncompressed float32 NIfTI, RAS, centred on the origin; returns its SHA-256."""
    image = nibabel.Nifti1Image(volume.astype(np.float32), volume_affine(volume.shape, spacing_mm))
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)
        return file_hash(temporary)


def _append_line(path: Path, line: str) -> None:
    """One write of one line: lines of two builders never mix, and a torn last line is seen by its missing end."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (("\n" if torn else "") + line + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_entries(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of the manifest whose files exist; of two volumes in one place (class, index), the later counts.

    Two stand in one place when two builders made it, or when a killed build went on with other prompts or threads.
    """
    path = folder / MANIFEST
    entries: dict[tuple[int, int], dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a kill: its volume is generated again
        if not isinstance(entry, dict) or not entry.keys() >= ENTRY_KEYS:
            raise InputError(f"{path}, line {number}: is not an entry of a pool; delete the line and rebuild.")
        if all(inside(folder, file).is_file() for file in entry["files"].values()):
            entries[entry["label"], entry["index"]] = entry
    return list(entries.values())


def _write_or_match_header(folder: Path, header: dict[str, Any]) -> None:
    path = folder / HEADER
    if not path.is_file():
        write_json(path, header)
        return
    known = read_json(path)
    for key, value in header.items():
        if known.get(key) != value:
            raise InputError(f"{folder}: this pool was built with another {key}; choose another folder.")
