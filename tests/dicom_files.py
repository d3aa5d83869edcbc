"""A small image, as DICOM series and other files."""

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

VALUES = np.random.default_rng(0).integers(0, 400, (12, 10, 6)).astype(np.int16)
AFFINE = np.array([[0.8, 0.1, 0.0, -20.0], [-0.08, 1.0, 0.0, 30.0], [0.0, 0.0, 3.0, -7.0], [0, 0, 0, 1.0]])
AFFINE[:3, :3] = np.linalg.qr(AFFINE[:3, :3])[0] * [0.8, 1.0, 3.0]


def as_itk(values=VALUES, affine=AFFINE):
    """The image as SimpleITK holds it: LPS, axes reversed in memory."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose()))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def write_series(folder, values=VALUES, *, uid="1.2.3.4", skip=(), first="slice"):
    """A DICOM file a slice; the names' order is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    image, count = as_itk(values), values.shape[2]
    turned = np.reshape(image.GetDirection(), (3, 3))
    for number in (each for each in range(count) if each not in skip):
        plane = image[:, :, number]
        place = image.TransformIndexToPhysicalPoint((0, 0, number))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"{uid}.{number + 1}",
            "0008|0060": "MR",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0020|0013": str(number),
            "0020|0032": "\\".join(f"{each:.6f}" for each in place),
            "0020|0037": "\\".join(f"{each:.8f}" for each in [*turned[:, 0], *turned[:, 1]]),
        }
        for key, value in tags.items():
            plane.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{first}-{count - number:02d}.dcm"))
        writer.Execute(plane)
    return folder


STRAIGHT = (1, 0, 0, 0, 1, 0)
PLANE = np.arange(1, 31, dtype="<u2").reshape(6, 5)


def write_frames(path, places, *, turns=None, slopes=None):
    """An enhanced DICOM file: frame n holds PLANE + n, voxels of 0.75 x 0.5 mm, told to lie 4 mm apart."""
    data, shared = _dicom(EnhancedMRImageStorage, np.stack([PLANE + n for n in range(len(places))])), Dataset()
    shared.PixelMeasuresSequence = [_with(PixelSpacing=[0.5, 0.75], SliceThickness=4, SpacingBetweenSlices=4)]
    data.NumberOfFrames, data.SharedFunctionalGroupsSequence = len(places), [shared]
    frames = []
    for n, place in enumerate(places):
        frame = _with(PlaneOrientationSequence=[_with(ImageOrientationPatient=[*(turns or [STRAIGHT] * 9)[n]])])
        if place is not None:
            frame.PlanePositionSequence = [_with(ImagePositionPatient=[*place])]
        if slopes:
            scale = _with(RescaleSlope=slopes[n], RescaleIntercept=0, RescaleType="US")
            frame.PixelValueTransformationSequence = [scale]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    data.save_as(path, enforce_file_format=True)
    return path


def write_slices(folder, places):
    """A series of one file a place, of PLANE + n."""
    folder.mkdir()
    for n, place in enumerate(places):
        data = _dicom(MRImageStorage, PLANE + n)
        data.SeriesInstanceUID, data.InstanceNumber, data.PixelSpacing = "1.2.3.4", n + 1, [0.5, 0.75]
        if place is not None:
            data.ImagePositionPatient, data.ImageOrientationPatient = [*place], [*STRAIGHT]
        data.save_as(folder / f"{n}.dcm", enforce_file_format=True)
    return folder


def _with(**tags):
    found = Dataset()
    for name, value in tags.items():
        setattr(found, name, value)
    return found


def _dicom(kind, values):
    data = _with(SOPClassUID=kind, SOPInstanceUID=generate_uid(), Modality="MR", StudyInstanceUID="1.2.3")
    data.SeriesInstanceUID, (data.Rows, data.Columns) = generate_uid(), values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelData = np.ascontiguousarray(values, dtype="<u2").tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data
