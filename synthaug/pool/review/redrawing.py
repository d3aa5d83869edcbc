"""Drawing volumes of a pool anew: are they what their generator makes of their recipes?"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthaug.config import SamplingConfig
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.errors import InputError
from synthaug.ground.files import inside
from synthaug.pool.building.machine import computing_threads, precision_of, threads_of
from synthaug.pool.consistency import require_own_recipe
from synthaug.pool.ledger import Entry, read_volume, write_volume
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.recipe import draw_volumes, volume_affine, with_sampling


@dataclass(frozen=True)
class Redrawn:
    """One volume that was drawn anew."""

    id: str
    same_bytes: bool
    """Whether all of its files came out as they are in the pool."""
    difference: float
    """Largest difference of a voxel, on the scale of the volumes, [0, 1]."""


def redraw(pool: SyntheticPool, pipe: CCELLAPipeline, *, count: int | None = None) -> list[Redrawn]:
    """Draw volumes of a pool anew, from their recipes, and compare them with its files.

    Bytes are the same on the same kind of processor with the same versions; elsewhere voxels differ by roundings.

    Args:
        pool: The pool; its files are only read.
        pipe: The generator that drew it, on the same kind of device.
        count: How many volumes, spread evenly over the pool; None = all.

    Raises:
        InputError: As :func:`require_redrawable`, or a volume has another recipe than its own.
    """
    require_redrawable(pool, pipe, count=count)
    entries = [entry for label in pool.classes for entry in pool.entries(label)]
    rows = np.unique(np.linspace(0, len(entries) - 1, min(count or len(entries), len(entries))).round().astype(int))
    chosen = [entries[row] for row in rows]
    for entry in chosen:
        require_own_recipe(entry, source=pool.path)
    sampling = SamplingConfig(**pool.header["sampling"])
    redrawn = []
    with computing_threads(threads_of(pool.path)), tempfile.TemporaryDirectory() as scratch:
        drawing = with_sampling(pipe, sampling, precision=precision_of(pool.path, pipe))
        for start in range(0, len(chosen), sampling.micro_batch):
            part = chosen[start : start + sampling.micro_batch]
            for entry, volume in zip(part, draw_volumes(drawing, sampling, part).volumes.numpy(), strict=True):
                redrawn.append(_compared(pool, entry, volume, Path(scratch) / "drawn.nii"))
    return redrawn


def require_redrawable(pool: SyntheticPool, pipe: CCELLAPipeline, *, count: int | None = None) -> None:
    """Look whether :func:`redraw` can be asked this, before a volume is read.

    Raises:
        InputError: The pool was adopted, the generator, the device or the data type is another one, or ``count`` is
            below 1.
    """
    header = pool.header
    if "sampling" not in header:
        raise InputError(f"{pool.path}: was adopted, not drawn by a generator; its volumes cannot be drawn anew.")
    own = {"checkpoint": pipe.fingerprint, "device": pipe.device.type, "dtype": str(pipe.denoiser.dtype)}
    for name, value in own.items():
        if header[name] != value:
            raise InputError(
                f"{pool.path}: was drawn with {name} {header[name]}, and the generator has {value}; give the one that "
                "drew it, in the same place."
            )
    if count is not None and count < 1:
        raise InputError(f"redraw={count} must be at least 1.")


def _compared(pool: SyntheticPool, entry: Entry, volume: np.ndarray, scratch: Path) -> Redrawn:
    """A volume (C, X, Y, Z) beside the files of its entry, by the bytes of the files that it would be."""
    affine = volume_affine(volume.shape[1:], pool.header["spacing_mm"])
    hashes, difference = {}, 0.0
    for name, image in zip(entry["files"], volume, strict=True):
        stored, _ = read_volume(inside(pool.path, entry["files"][name]), entry["sha256"][name])
        hashes[name] = write_volume(scratch, image, affine)
        difference = max(difference, float(np.abs(stored[0].numpy() - image).max()))
    return Redrawn(entry["id"], hashes == entry["sha256"], difference)
