"""What hospitals have: DICOM series, MetaImage and NRRD lie where the same image lies as NIfTI."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import AFFINE, PLANE, STRAIGHT, VALUES, as_itk, write_frames, write_series, write_slices

from synthaug.config import DataConfig
from synthaug.data.reading.folders import draft_manifest
from synthaug.data.reading.images import read_volume
from synthaug.data.reading.manifest import load_manifest
from synthaug.ground.errors import InputError


def same_place(path, accuracy=1e-4):
    values, affine = read_volume(path)
    corner = np.array([0, 0, 0, 1.0])
    if not np.allclose(affine, AFFINE, atol=accuracy):  # the stack may be counted from its other end
        values, corner = values.flip(3), np.array([0, 0, VALUES.shape[2] - 1, 1.0])
    assert np.array_equal(values[0].numpy(), VALUES)
    assert np.allclose(affine @ corner, AFFINE[:, 3], atol=1e-3)
    return True


def test_a_series_lies_where_its_nifti_lies_by_folder_and_by_one_file(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VALUES, AFFINE), tmp_path / "a.nii")
    folder = write_series(tmp_path / "series")
    assert same_place(tmp_path / "a.nii")
    assert same_place(folder)
    assert same_place(folder / "slice-02.dcm")
    (folder / "slice-02.dcm").rename(folder / "IM2")  # scanners' files often have no suffix
    assert same_place(folder / "IM2")


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "A.MHA"])
def test_other_formats_lie_where_the_nifti_lies(name, tmp_path):
    sitk.WriteImage(as_itk(), str(tmp_path / name.lower()))
    (tmp_path / name.lower()).rename(tmp_path / name)
    assert same_place(tmp_path / name)


def test_a_missing_slice_and_two_series_in_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="slice-0"):
        read_volume(write_series(tmp_path / "gap", skip=(3,)))
    both = write_series(tmp_path / "both")
    write_series(both, VALUES[::-1], uid="1.2.3.5", first="other")
    with pytest.raises(InputError, match="2 DICOM series"):
        read_volume(both)
    assert same_place(both / "slice-01.dcm")
    with pytest.raises(InputError, match="one 3D volume"):
        read_volume(write_series(tmp_path / "one", VALUES[:, :, :1]) / "slice-01.dcm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        read_volume(tmp_path / "empty")
    (tmp_path / "bad.nrrd").write_bytes(b"x" * 300)
    with pytest.raises(InputError, match=r"bad\.nrrd"):
        read_volume(tmp_path / "bad.nrrd")


def test_image_columns_take_folders_and_files_of_any_kind(tmp_path):
    write_series(tmp_path / "p0")
    write_series(tmp_path / "p1", VALUES[::-1], uid="1.2.3.5")
    sitk.WriteImage(as_itk(VALUES[:, ::-1]), str(tmp_path / "p2.nrrd"))
    rows = ["subject_id;t2w;label", "p0;p0;0", "p1;p1/slice-01.dcm;1", "p2;p2.nrrd;1"]
    (tmp_path / "manifest.csv").write_text("\ufeffsep=;\n" + "\n".join(rows), encoding="utf-8")
    subjects = load_manifest(tmp_path / "manifest.csv", images=["t2w"])
    assert [subject["t2w"].shape for subject in subjects] == [(1, *VALUES.shape)] * 3
    assert [subject["label"] for subject in subjects] == [0, 1, 1]
    (tmp_path / "manifest.csv").write_text("\n".join(rows).replace(";", "\t"), encoding="utf-8")
    assert len(load_manifest(tmp_path / "manifest.csv", images=["t2w"])) == 3
    (tmp_path / "manifest.csv").write_text("\n".join(rows).replace("1;p1/", "1;no/"), encoding="utf-8")
    with pytest.raises(InputError, match="row 3"):
        load_manifest(tmp_path / "manifest.csv", images=["t2w"])


def test_classes_may_have_names_in_a_stated_order(tmp_path):
    for number in range(3):
        sitk.WriteImage(as_itk(np.roll(VALUES, number, 0)), str(tmp_path / f"{number}.mha"))
    manifest = tmp_path / "manifest.csv"
    rows = ["subject_id,t2w,label", "a,0.mha,benign", "b,1.mha,malignant", "c,2.mha,benign"]
    manifest.write_text("\n".join(rows), encoding="utf-8")
    subjects = load_manifest(manifest, images=["t2w"], classes=["malignant", "benign"])
    assert [subject["label"] for subject in subjects] == [1, 0, 1]
    with pytest.raises(InputError, match=r"row 3: label is 'malignant'.*data\.classes"):
        load_manifest(manifest, images=["t2w"], classes=["benign", "Malignant"])
    with pytest.raises(InputError, match=r"row 2: label is 'benign'.*data\.classes"):
        load_manifest(manifest, images=["t2w"])
    manifest.write_text("\n".join(rows).replace("benign", "[0|2]"), encoding="utf-8")
    with pytest.raises(InputError, match="one class"):
        load_manifest(manifest, images=["t2w"])
    for names in (["one"], ["one", "one"]):
        with pytest.raises(InputError, match=r"data\.classes"):
            DataConfig(classes=names)


OTHERS = Path(pydicom.__file__).parent / "data/test_files"
"""Files that scanners and programs of many makers have written, which come with pydicom."""


def test_a_series_of_another_maker_lies_where_pydicom_finds_it():
    folder = OTHERS / "dicomdirtests/98892001/CT5N"
    values, affine = read_volume(folder)
    assert values.shape == (1, 16, 16, 5)
    for file in map(pydicom.dcmread, folder.iterdir()):
        place = np.array([-1, -1, 1, 1]) * [*file.ImagePositionPatient, 1]
        column, row, number, _ = np.linalg.inv(affine) @ place
        assert np.allclose([column, row, number], [0, 0, round(number)], atol=0.02)
        plane = file.pixel_array * float(file.get("RescaleSlope", 1)) + float(file.get("RescaleIntercept", 0))
        assert np.allclose(values[0, :, :, round(number)].T, plane)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("98892003/MR700", "turned against each other"), ("98892001/CT2N", "turned"), ("77654033/CT2", "mm apart")],
)
def test_localisers_and_gaps_of_other_makers_are_refused(name, reason):
    with pytest.raises(InputError, match=reason):
        read_volume(OTHERS / "dicomdirtests" / name)


def test_a_damaged_file_between_others_is_named_and_is_no_accident(tmp_path):
    folder = write_series(tmp_path / "series")
    shutil.copy(OTHERS / "SC_rgb_jpeg_dcmd.dcm", folder / "z.dcm")
    assert same_place(folder / "slice-01.dcm")
    with pytest.raises(InputError):
        draft_manifest(OTHERS)
    with pytest.raises(InputError):
        read_volume(OTHERS)


ABOVE = [(0, 0, 4 * n) for n in range(6)]
TURNED = (0, 1, 0, 0, 0, 1)


@pytest.mark.parametrize("places", [ABOVE, ABOVE[::-1]])
def test_frames_of_an_enhanced_file_lie_where_each_says(places, tmp_path):
    values, affine = read_volume(write_frames(tmp_path / "a.dcm", places, slopes=[1] * 6))
    for number, place in enumerate(places):
        assert np.allclose(affine @ [0, 0, number, 1], [*place, 1])
        assert np.array_equal(values[0, :, :, number].T, PLANE + number)


@pytest.mark.parametrize(
    ("places", "told", "reason"),
    [
        (ABOVE[:3] + ABOVE[4:], {}, "frame 3 and frame 4 lie 8 mm"),
        (ABOVE[:3] * 2, {}, "stacks"),
        ([place for place in ABOVE[:3] for _ in range(2)], {}, "stacks"),
        ([(0, 0, 0)] * 4, {}, "stacks"),
        (ABOVE[:4], {"turns": [STRAIGHT] * 2 + [TURNED] * 2}, "turned"),
        (ABOVE[:2], {"slopes": [1, 2]}, "rescale"),
        ([*ABOVE[:2], None], {}, "no position"),
        ([(0, n, 4 * n) for n in range(4)], {}, "grid"),
    ],
)
def test_an_enhanced_file_that_is_not_one_even_stack_is_refused(places, told, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        read_volume(write_frames(tmp_path / "a.dcm", places, **told))


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([(0, 0, 0)] * 4, "time points"),
        ([(0, n, 4 * n) for n in range(4)], "grid"),
        ([None] * 3, "no position"),
        ([*ABOVE[:3], None], "no position"),
    ],
)
def test_slices_of_one_place_without_a_place_or_of_a_tilted_gantry_are_refused(places, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        read_volume(write_slices(tmp_path / "a", places))
