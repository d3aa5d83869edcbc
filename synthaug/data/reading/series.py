"""DICOM series, MetaImage (.mha, .mhd) and NRRD through SimpleITK, placed as NIfTI places voxels: RAS, mm."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthaug.data.reading.grids import MOST_BORNE
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
MEND = "convert it to NIfTI by a program that knows the scanner's files, such as dcm2niix."


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
        InputError: No image, several series, slices without a position or not on one grid, no 3D volume, or colours.
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
    if len(names) == 1:  # several frames in one file, or a slice, which is refused by its shape
        slices = _frames_of(names[0], prefix)
        image = sitk.ReadImage(names[0])
    else:
        slices = [_slice_of(sitk, name, prefix) for name in names]
        _refuse_uneven(slices, prefix)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        image = reader.Execute()
    _refuse_misplaced(image, slices, prefix)
    return image


class _Slice(NamedTuple):
    """What a slice says of itself."""

    name: str
    position: tuple[float, ...]
    """ImagePositionPatient (3,), LPS mm."""
    orientation: tuple[float, ...]
    """ImageOrientationPatient (6,)."""


def _slice_of(sitk: Any, name: str, prefix: str) -> _Slice:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    reader.ReadImageInformation()
    short = os.path.basename(name)
    if not all(reader.HasMetaDataKey(key) for key in (POSITION, ORIENTATION)):
        raise InputError(f"{prefix}: {short} has no position in the patient, so the order of slices is a guess; {MEND}")
    position, turn = (tuple(map(float, reader.GetMetaData(key).split("\\"))) for key in (POSITION, ORIENTATION))
    return _Slice(short, position, turn)


def _frames_of(name: str, prefix: str) -> list[_Slice]:
    """The frames of an enhanced DICOM file, checked; none of another file.

    SimpleITK takes frames in their order in the file as one stack, all with the rescaling of the first.
    """
    import pydicom  # late, as SimpleITK

    try:
        told = pydicom.dcmread(name, stop_before_pixels=True, force=True)
        frames, shared = told.get("PerFrameFunctionalGroupsSequence"), told.get("SharedFunctionalGroupsSequence")

        def of(frame: Any, group: str, key: str) -> Any:
            found = frame.get(group) or (shared[0].get(group) if shared else None)
            return found[0].get(key) if found else None

        places = [of(each, "PlanePositionSequence", "ImagePositionPatient") for each in frames or ()]
        turns = [of(each, "PlaneOrientationSequence", "ImageOrientationPatient") for each in frames or ()]
        keys = ("RescaleSlope", "RescaleIntercept")
        scales = {tuple(of(each, "PixelValueTransformationSequence", key) for key in keys) for each in frames or ()}
    except Exception as error:  # each part of pydicom has its own
        raise InputError(f"{prefix}: its frames cannot be read ({error}); {MEND}") from error
    if not all(places) or not all(turns):
        raise InputError(f"{prefix}: some of its frames have no position in the patient; {MEND}")
    slices = [
        _Slice(f"frame {number}", tuple(map(float, place)), tuple(map(float, turn)))
        for number, (place, turn) in enumerate(zip(places, turns, strict=True), start=1)
    ]
    _refuse_uneven(slices, prefix)
    if len(scales) > 1:
        raise InputError(f"{prefix}: its frames have {len(scales)} rescale slopes or intercepts; {MEND}")
    return slices


def _refuse_uneven(slices: Sequence[_Slice], prefix: str) -> None:
    """InputError where slices lie at uneven distances or are turned against each other: one is missing, or twice there.

    SimpleITK would lay them out at the mean distance with a warning.
    """
    if len(slices) < 2:
        return
    turns = [each.orientation for each in slices]
    if np.abs(np.ptp(turns, axis=0)).max() > 1e-3:
        raise InputError(f"{prefix}: the slices of its series are turned against each other; keep those of one stack.")
    normal = np.cross(turns[0][:3], turns[0][3:])
    gaps = np.diff(np.array([each.position for each in slices]) @ normal)
    usual = float(np.median(gaps))
    wrong = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[wrong] - usual) > UNEVEN * abs(usual) or usual == 0:
        one, other = slices[wrong].name, slices[wrong + 1].name
        raise InputError(
            f"{prefix}: slices {one} and {other} lie {gaps[wrong]:.3g} mm apart and the others {usual:.3g} mm. A slice "
            "is missing or stands twice, or there are several stacks, as of time points or b-values; keep one."
        )


def _refuse_misplaced(image: Any, slices: Sequence[_Slice], prefix: str) -> None:
    """InputError where slices lie elsewhere than on the rectangular grid on which SimpleITK lays them."""
    if not slices:
        return
    places = np.array([[*each.position, 1.0] for each in slices]).T
    index = (np.linalg.inv(_affine_of(image)) @ places)[:3]
    index[2] -= np.arange(len(slices))
    apart = float(np.linalg.norm(index, axis=0).max())
    if not apart <= MOST_BORNE:
        raise InputError(
            f"{prefix}: its slices lie up to {apart:.3g} voxels off a rectangular grid, as with a tilted gantry; "
            "resample it to a rectangular grid first."
        )
