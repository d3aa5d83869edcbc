"""Synthetic volumes on disk: NIfTI files that any viewer opens, and one manifest that says how each was made."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
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
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.seeding import derive_seed, numpy_generator

HEADER = "pool.json"
MANIFEST = "manifest.jsonl"


def reports_by_class(subjects: Sequence[tio.Subject]) -> dict[int, list[str]]:
    """The reports of each class. Give it training subjects only: a prompt from a test report is a leak.

    Example:
        >>> reports_by_class([{"label": 1, "report": "b"}, {"label": 0, "report": "a"}])
        {0: ['a'], 1: ['b']}
    """
    labels = sorted({int(subject["label"]) for subject in subjects})
    return {label: [s["report"] for s in subjects if int(s["label"]) == label] for label in labels}


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
        return str(self.path)

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
            provenance=json.dumps(
                {**entry["recipe"], "class_probabilities": entry["class_probabilities"]}, sort_keys=True
            ),
        )

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
            InputError: No pool there.
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
            InputError: The folder holds another generator's pool, cannot be written, or a class has no report.
        """
        folder = usable_folder(Path(path))
        sampling = sampling or SamplingConfig()
        pipe.with_scheduler(sampling.scheduler)
        pipe.set_progress_bar_config(disable=True)
        header = {
            "format": 1,
            "images": pipe.config.images,
            "spacing_mm": pipe.config.spacing_mm,
            "shape": pipe.config.shape,
            "checkpoint": pipe.fingerprint,
            "trained_on_patients": pipe.record.get("patients", []),
        }
        _write_or_match_header(folder, header)
        found = {entry["id"] for entry in _read_entries(folder)}
        missing = []
        for plan in _plan(pipe, per_class, reports, seed=seed, sampling=sampling, override_class=override_class):
            if plan["id"] in found:
                if on_volume:
                    on_volume()
            else:
                missing.append(plan)
        for start in range(0, len(missing), sampling.micro_batch):
            batch = missing[start : start + sampling.micro_batch]
            _generate(pipe, folder, batch, sampling, override_class)
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
            recipe = {
                "checkpoint": pipe.fingerprint,
                "report": reports[label][order[index % len(order)]],
                "requested_class": label,
                "override_class": override_class,
                **asdict(sampling),
                "shape": list(pipe.config.shape),
                "spacing_mm": list(pipe.config.spacing_mm),
                "seed": derive_seed("volume", seed, label, index),
                "threads": torch.get_num_threads(),
                "device": pipe.device.type,
                "dtype": str(pipe.denoiser.dtype),
            }
            plans.append({"id": content_hash(recipe), "label": label, "index": index, "recipe": recipe})
    return plans


def _generate(pipe, folder: Path, batch: list[dict[str, Any]], sampling: SamplingConfig, override_class: bool) -> None:
    pipe.register_to_config(micro_batch=sampling.micro_batch)
    output = pipe(
        [plan["recipe"]["report"] for plan in batch],
        [plan["label"] for plan in batch] if override_class else None,
        seeds=[plan["recipe"]["seed"] for plan in batch],
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
    )
    if not torch.isfinite(output.volumes).all():
        raise InputError("The generator produced NaN; it is not trained well enough to fill a pool.")
    for row, plan in enumerate(batch):
        files, hashes = {}, {}
        for channel, name in enumerate(pipe.config.images):
            file = f"volumes/{plan['id']}_{name}.nii"
            hashes[name] = _write_volume(folder / file, output.volumes[row, channel].numpy(), pipe.config.spacing_mm)
            files[name] = file
        probabilities = output.class_probabilities
        entry = {
            **plan,
            "files": files,
            "sha256": hashes,
            "class_probabilities": None if probabilities is None else [round(p, 6) for p in probabilities[row].tolist()],
        }
        _append_line(folder / MANIFEST, json.dumps(entry, sort_keys=True))


def _write_volume(path: Path, volume: np.ndarray, spacing_mm: Sequence[float]) -> str:
    """Uncompressed float32 NIfTI, RAS, centred on the origin; returns its SHA-256."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.multiply(spacing_mm, np.subtract(volume.shape, 1)) / 2
    image = nibabel.Nifti1Image(volume.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)
        return file_hash(temporary)


def _append_line(path: Path, line: str) -> None:
    """One write of one line: lines of two builders never mix, and a torn last line is seen by its missing end."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        torn = path.stat().st_size and not path.read_bytes()[-1:] == b"\n"
        os.write(descriptor, (("\n" if torn else "") + line + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_entries(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of the manifest whose files exist; a volume that two builders made counts once."""
    path = folder / MANIFEST
    entries: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a kill: its volume is generated again
        if all(inside(folder, file).is_file() for file in entry["files"].values()):
            entries[entry["id"]] = entry
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
