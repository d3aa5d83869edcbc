"""Export of a pool: NIfTI with a manifest CSV, or CCELLA's folders with a datalist JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd

from synthaug.config.pool import Layout
from synthaug.data.reading.manifest import PROVENANCE_COLUMN
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_folder, inside, write_json
from synthaug.pool.ledger import Entry, read_volume
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.recipe import provenance_line

DATALIST = "datalist.json"
SEQUENCES = {"t2w": ("axt2", 962), "hbv": ("b1600", 117), "b1600": ("b1600", 117), "adc": ("adc", 3000)}
"""Image name to CCELLA's name and the intensity that 1 becomes (Grabke et al., arXiv 2506.10230 and 2507.06384)."""


def export_pool(pool: SyntheticPool, folder: str | Path, *, layout: Layout = "manifest") -> Path:
    """Write all volumes of a pool to a new folder, atomically; every volume is verified.

    Args:
        pool: The pool.
        folder: New or empty.
        layout: "manifest": float32 NIfTI in ``images/`` and ``manifest.csv``, which
            :func:`~synthaug.data.reading.manifest.load_manifest` reads back to the same subjects, provenance included.
            "ccella": a folder a case with int16 volumes ``axt2``, ``b1600``, ``adc`` on the pool's grid, and
            ``datalist.json`` with CCELLA's keys.

    Returns:
        The manifest or the datalist.

    Raises:
        InputError: The pool has no volumes, or classes or images that CCELLA does not know. The folder holds something
            or cannot be written. A volume was altered.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: is not empty; choose a new folder for the export.")
    if not len(pool):
        raise InputError(f"{pool.path}: the pool has no volumes to export; build it first.")
    if layout == "ccella":
        _require_ccella(pool)
    try:
        with atomic_folder(target) as temporary:
            name = _write_manifest(pool, temporary) if layout == "manifest" else _write_datalist(pool, temporary)
    except OSError as error:
        raise InputError(f"{target}: cannot write there ({error.strerror}); make room or choose another.") from error
    return target / name


def _write_manifest(pool: SyntheticPool, folder: Path) -> str:
    rows = []
    (folder / "images").mkdir()
    for label, entry in _entries(pool):
        name = f"synthetic-{entry['id']}"
        row = {"subject_id": name, "patient_id": name}
        for image, file in entry["files"].items():
            tensor, affine = read_volume(inside(pool.path, file), entry["sha256"][image])
            row[image] = f"images/{name}_{image}.nii"
            _save(folder / row[image], tensor[0].numpy(), affine)
        provenance = provenance_line(entry["recipe"], entry["class_probabilities"])
        rows.append({**row, "label": label, "report": entry["recipe"]["report"], PROVENANCE_COLUMN: provenance})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return "manifest.csv"


def _write_datalist(pool: SyntheticPool, folder: Path) -> str:
    cases = []
    for label, entry in _entries(pool):
        (folder / entry["id"]).mkdir()
        case: dict[str, Any] = {
            "dataset": "synthaug",
            "folder": entry["id"],
            "pirads": [int(label == 0), int(label == 1)],
            "spacing": list(pool.header["spacing_mm"]),
            "text": entry["recipe"]["report"],
            "text_isnull": int(not entry["recipe"]["report"]),
        }
        for image, file in entry["files"].items():
            tensor, affine = read_volume(inside(pool.path, file), entry["sha256"][image])
            name, one = SEQUENCES[image]
            case[name] = f"{entry['id']}/{name}.nii.gz"
            _save(folder / case[name], np.rint(tensor[0].numpy() * one).astype(np.int16), affine)
        cases.append(case)
    write_json(folder / DATALIST, cases)
    return DATALIST


def _entries(pool: SyntheticPool) -> Iterator[tuple[int, Entry]]:
    return ((label, entry) for label in pool.classes for entry in pool.entries(label))


def _save(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _require_ccella(pool: SyntheticPool) -> None:
    unknown = [name for name in pool.images if name not in SEQUENCES]
    if unknown:
        raise InputError(f"{pool.path}: CCELLA has no image {unknown[0]!r}; it has {', '.join(SEQUENCES)}.")
    if not set(pool.classes) <= {0, 1}:
        raise InputError(f"{pool.path}: CCELLA has classes 0 and 1 only, not {pool.classes}.")
