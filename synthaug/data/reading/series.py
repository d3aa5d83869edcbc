"""DICOM series, MetaImage (.mha, .mhd) and NRRD through SimpleITK, placed as NIfTI places voxels: RAS, mm."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.ground.errors import InputError

READERS = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO"}
"""What of SimpleITK reads a file of one volume, by its suffix; of itself it knows no suffix in capitals."""
SUFFIXES = tuple(READERS)
MAGIC = b"DICM"
"""Stands at byte 128 of a DICOM file, whatever its name."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNEVEN = 0.02
"""Distances between neighbouring slices may differ by this share of the usual one."""
SERIES, POSITION, ORIENTATION = "0020|000e", "0020|0032", "0020|0037"
"""DICOM's SeriesInstanceUID, ImagePositionPatient and ImageOrientationPatient."""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == MAGIC
    except OSError:
        return False


def is_series(path: Path) -> bool:
    """Whether :func:`read_series` reads it: a folder with a DICOM file, one such file, or a file by its suffix."""
    if os.path.isdir(path):
        return any(is_dicom(each) for each in sorted(path.iterdir()) if each.is_file())
    name = path.name.lower()
    return name.endswith(SUFFIXES) or (not name.endswith((".nii", ".nii.gz")) and is_dicom(path))


def series_in(folder: Path, *, prefix: str = "") -> list[Sequence[str]]:
    """The files of each DICOM series of a folder, in the order of its slices.

    Raises:
        InputError: A DICOM file there is damaged; the first that cannot be read is named.
    """
    import SimpleITK as sitk  # late: most folders have none

    find = sitk.ImageSeriesReader
    try:
        return [find.GetGDCMSeriesFileNames(str(folder), each) for each in find.GetGDCMSeriesIDs(str(folder))]
    except RuntimeError as error:
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and is_dicom(path)]
        bad = next((path.name for path in files if not _has_readable_header(sitk, path)), "one of them")
        raise InputError(f"{prefix or folder}: its DICOM files cannot be read as series; take {bad} out.") from error


def _has_readable_header(sitk: Any, path: Path) -> bool:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return False
    return True


def read_series(path: Path, *, prefix: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values (X, Y, Z) and the affine (4, 4) to RAS mm.

    Args:
        path: Folder of one DICOM series, one file of it (whose series is read from its folder), or a .mha, .mhd or
            .nrrd file.
        prefix: File or row, for errors.

    Raises:
        InputError: No image, several series, slices at uneven distances, no 3D volume, or colours.
    """
    import SimpleITK as sitk  # late: most manifests have none

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what it warns of is refused below
    try:
        if os.path.isdir(path) or is_dicom(path):
            image = _read_dicom(sitk, path, prefix)
        else:
            reader = sitk.ImageFileReader()
            reader.SetImageIO(READERS[path.suffix.lower()])
            reader.SetFileName(str(path))
            image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{prefix}: not a readable image ({reason}).") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{prefix}: holds colours (RGB); save one real number a voxel, such as a magnitude.")
    values = np.transpose(sitk.GetArrayFromImage(image))
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3 or min(values.shape) < 2:
        raise InputError(f"{prefix}: shape {values.shape} is not one 3D volume.")
    return values, LPS_TO_RAS @ _affine_of(image)


def _affine_of(image: Any) -> NDArray[np.float64]:
    """From voxel index to LPS mm."""
    size = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(image.GetDirection(), (size, size)) * image.GetSpacing())[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return affine


def _read_dicom(sitk: Any, path: Path, prefix: str) -> Any:
    folder = path if os.path.isdir(path) else path.parent
    known = series_in(folder, prefix=prefix)
    if os.path.isdir(path):
        if len(known) != 1:
            files = [os.path.basename(each[0]) for each in known]
            told = f"{len(known)} DICOM series, beginning with {', '.join(files[:4])}" if known else "no DICOM series"
            raise InputError(f"{prefix}: holds {told}; name the folder of one, or one file of the one that is meant.")
        names = known[0]
    else:
        names = next((each for each in known if path.name in map(os.path.basename, each)), [str(path)])
    if len(names) == 1:
        return sitk.ReadImage(names[0])  # several frames in one file, or a slice, which is refused by its shape
    _refuse_uneven(sitk, names, prefix)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    return reader.Execute()


def _refuse_uneven(sitk: Any, names: Sequence[str], prefix: str) -> None:
    """InputError where slices lie at uneven distances or are turned against each other: one is missing, or twice there.

    SimpleITK would lay them out at the mean distance with a warning.
    """
    places, turns = [], []
    for name in names:
        reader = sitk.ImageFileReader()
        reader.SetFileName(name)
        reader.ReadImageInformation()
        if not all(reader.HasMetaDataKey(key) for key in (POSITION, ORIENTATION)):
            return
        places.append([float(part) for part in reader.GetMetaData(POSITION).split("\\")])
        turns.append([float(part) for part in reader.GetMetaData(ORIENTATION).split("\\")])
    if np.abs(np.ptp(turns, axis=0)).max() > 1e-3:
        raise InputError(f"{prefix}: the slices of its series are turned against each other; keep those of one stack.")
    normal = np.cross(turns[0][:3], turns[0][3:])
    gaps = np.abs(np.diff(np.array(places) @ normal))
    usual = float(np.median(gaps))
    wrong = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[wrong] - usual) > UNEVEN * usual:
        one, other = (os.path.basename(names[place]) for place in (wrong, wrong + 1))
        raise InputError(
            f"{prefix}: slices {one} and {other} lie {gaps[wrong]:.3g} mm apart and the others {usual:.3g} mm; a slice "
            "is missing or stands twice."
        )
