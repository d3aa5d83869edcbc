"""The one reader of images: NIfTI and what else nibabel reads, DICOM series, MetaImage and NRRD.

One rule for voxels' places and values.
"""

import contextlib
import copy
import gzip
import hashlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray

from synthaug.data.reading import series
from synthaug.data.reading.grids import AffineChoice, Grid, world_affine
from synthaug.data.reading.remarks import Remarks
from synthaug.ground.errors import InputError
from synthaug.ground.files import read_bytes

SUFFIXES = (".nii", ".nii.gz", *series.SUFFIXES)
"""Names of image files end so, in capitals or not."""
LARGEST = 1e18
"""Larger values overflow float32 in sums of squares; no scanner writes them."""


def is_image(path: Path) -> bool:
    """Whether a file is named as an image.

    Example:
        >>> is_image(Path("t2.Nii.GZ")), is_image(Path("t2.json"))
        (True, False)
    """
    return path.name.lower().endswith(SUFFIXES)


def read_image(path: Path, *, where: str = "", affine: AffineChoice | None = None) -> tio.ScalarImage:
    """Open an image, checked as :func:`open_image` does; what is worth saying of it is logged."""
    remarks = Remarks()
    image, _ = open_image(path, where=where, affine=affine, remarks=remarks)
    remarks.say(logging.getLogger(__name__))
    return image


def open_image(
    path: Path, *, where: str, affine: AffineChoice | None, remarks: Remarks
) -> tuple[tio.ScalarImage, Grid]:
    """Open an image and make sure that it holds a usable single-channel volume.

    Args:
        path: The file, or the folder of a DICOM series.
        where: Table and row that name it, for errors; "" = its path.
        affine: Which matrix counts where sform and qform disagree: :func:`synthaug.data.reading.grids.world_affine`.
        remarks: Collects what is worth saying.

    Returns:
        The image, which reads its values by :func:`read_volume` when they are used, and its grid.

    Raises:
        InputError: Missing, unreadable, no 3D volume of real numbers, empty, constant, without finite float32 values,
            or without a position in the world.
    """
    prefix = f"{where}: {path.name}" if where else str(path)
    values, placed, told = _read(path, prefix=prefix, affine=affine)
    if values.min() == values.max():
        raise InputError(f"{prefix}: every voxel is {values.flat[0]:g}; a constant image shows nothing.")
    for remark in told:
        remarks.add(prefix, remark)
    reader = VolumeReader(affine, voxel_hash(torch.from_numpy(values)[None], placed))
    return tio.ScalarImage(path, reader=reader), (values.shape, placed)


@dataclass(frozen=True)
class VolumeReader:
    """Reads an image by :func:`read_volume` when its voxels are used."""

    affine: AffineChoice | None
    content: str
    """Hash of its voxels and affine when it was opened."""

    def __call__(self, path: str | Path) -> tuple[torch.Tensor, NDArray[np.float64]]:
        return read_volume(path, affine=self.affine)


def content_of(image: tio.ScalarImage) -> str:
    """Hash of the voxels and the affine of an image; one that :func:`open_image` opened is not read for it."""
    if image.get(tio.DATA) is None and isinstance(image.reader, VolumeReader):
        return image.reader.content
    read = copy.copy(image)  # so that a file's voxels are not kept
    return voxel_hash(read.data, read.affine)


def voxel_hash(voxels: torch.Tensor, affine: NDArray[np.float64]) -> str:
    """SHA-256 of the shape, type and bytes of voxels and of their affine, in hex.

    Example:
        >>> voxel_hash(torch.ones(1, 2, 2, 2), np.eye(4)) == voxel_hash(torch.ones(1, 2, 2, 2), 2 * np.eye(4))
        False
    """
    digest = hashlib.sha256()
    for array in (voxels.numpy(), np.asarray(affine, dtype=np.float64)):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_volume(path: str | Path, *, affine: AffineChoice | None = None) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Values (1, X, Y, Z) float32 and the affine (4, 4) of an image file; InputError if it cannot be used."""
    values, placed, _ = _read(Path(path), prefix=str(path), affine=affine)
    return torch.from_numpy(values)[None], placed


def _read(
    path: Path, *, prefix: str, affine: AffineChoice | None
) -> tuple[NDArray[np.float32], NDArray[np.float64], list[str]]:
    if series.is_series(path):
        voxels, placed = series.read_series(path, prefix=prefix)
        return _as_float32(voxels, prefix), placed, []
    content = read_bytes(path, named=prefix)
    with _named(prefix):
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)  # to its end, so that a wrong checksum shows
        kind = _nifti_of(content, path)
        if kind is None:
            image: Any = nibabel.load(path)
            header = image.header
        else:
            # As it stands in the file: an image's own header has voxel sizes mended without a word.
            header = kind.header_class(content[: kind.header_class.sizeof_hdr], check=False)
        shape = tuple(int(side) for side in header.get_data_shape())
        dtype = header.get_data_dtype()
    if 0 in shape:
        raise InputError(f"{prefix}: has zero size {shape}.")
    if len(shape) < 3 or min(shape[:3]) < 2 or any(side != 1 for side in shape[3:]):
        raise InputError(f"{prefix}: shape {shape} is not one 3D volume.")
    if dtype.fields or dtype.kind not in "iuf":
        found = "colours (RGB)" if dtype.fields else f"numbers of type {dtype}"
        raise InputError(f"{prefix}: holds {found}; save one real number a voxel, such as a magnitude.")
    if kind is not None:
        _refuse_short(content, header, prefix=prefix)
    remarks: list[str] = []
    if kind is None:
        placed = np.asarray(image.affine, dtype=np.float64)
    else:
        placed, remarks = world_affine(header, shape[:3], choice=affine, prefix=prefix)
    with _named(prefix):
        voxels = np.asanyarray((image if kind is None else kind.from_bytes(content)).dataobj).reshape(shape[:3])
    return _as_float32(voxels, prefix), placed, remarks


def _refuse_short(content: bytes, header: Any, *, prefix: str) -> None:
    """InputError where a header promises more voxels than the file has: nibabel makes room for all of them first."""
    with _named(prefix):
        sides = [int(side) for side in header.get_data_shape()]
        promised = int(header["vox_offset"]) + math.prod(sides) * header.get_data_dtype().itemsize
    if promised > len(content):
        raise InputError(
            f"{prefix}: not a readable NIfTI file (its header promises {promised} bytes, and it has {len(content)})."
        )


def _nifti_of(content: bytes, path: Path) -> Any:
    """NIfTI-1 or NIfTI-2 in one file; None for what nibabel reads otherwise."""
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        if kind.header_class.may_contain_header(content[:1024]) and path.suffix.lower() not in (".hdr", ".img"):
            return kind
    return None


def _as_float32(voxels: NDArray[Any], prefix: str) -> NDArray[np.float32]:
    if not np.isfinite(voxels).all():
        raise InputError(f"{prefix}: holds NaN or infinite values.")
    if max(abs(float(voxels.min())), abs(float(voxels.max()))) > LARGEST:
        raise InputError(f"{prefix}: holds values beyond {LARGEST:g}; mend them, or the header's slope and intercept.")
    return np.ascontiguousarray(voxels, dtype=np.float32)


@contextlib.contextmanager
def _named(prefix: str) -> Iterator[None]:
    """InputError in place of what nibabel, gzip and zlib raise for a damaged file, each its own."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{prefix}: not a readable NIfTI file ({type(error).__name__}: {error}).") from error
