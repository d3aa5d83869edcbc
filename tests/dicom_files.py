"""A small image, as DICOM series and other files."""

import numpy as np
import SimpleITK as sitk

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
