"""The one reader: where a voxel is, and what a value is, or one clear error."""

import gzip
import logging

import nibabel
import numpy as np
import pytest
import torch
import torchio as tio

import synthaug as sa
from synthaug.data.reading.grids import displacement, refuse_apart, shared_field
from synthaug.data.reading.images import is_image, read_image, read_volume
from synthaug.data.reading.manifest import make_subject
from synthaug.ground.errors import InputError

VALUES = np.random.default_rng(0).integers(1, 900, (8, 6, 5)).astype(np.int16)
TILTED = np.array([[2.0, 0, 0, -10], [0, 0, -3.0, 20], [0, 2.5, 0, 5], [0, 0, 0, 1]])


def shifted(mm):
    """TILTED, moved along the first axis."""
    affine = TILTED.copy()
    affine[0, 3] += mm
    return affine


def write(path, values=VALUES, *, sform=TILTED, qform=TILTED, edit=None, kind=nibabel.Nifti1Image):
    """A file with these matrices (None = code 0), whose header ``edit`` may spoil."""
    image = kind(values, np.eye(4))
    image.set_sform(sform, code=int(sform is not None))
    image.set_qform(qform, code=int(qform is not None))
    content = image.to_bytes()
    if edit:  # of the bytes: nibabel writes no such header
        size = image.header_class.sizeof_hdr
        header = image.header_class(content[:size], check=False)
        edit(header)
        content = header.binaryblock + content[size:]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def place(path, **options):
    return read_volume(path, **options)[1]


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(
    ("matrices", "expected"),
    [
        ({}, TILTED),
        ({"qform": None}, TILTED),
        ({"sform": None}, TILTED),
        ({"sform": shifted(1.9)}, shifted(1.9)),  # less than a voxel apart: the sform counts
        ({"qform": shifted(1.9)}, TILTED),
    ],
)
def test_the_sform_counts_then_the_qform_and_nibabel_says_the_same(tmp_path, matrices, expected, kind):
    path = write(tmp_path / "a.nii.gz", kind=kind, **matrices)
    values, affine = read_volume(path)
    np.testing.assert_allclose(affine, expected, atol=1e-4)
    np.testing.assert_allclose(affine, nibabel.load(path).affine, atol=1e-5)
    assert torch.equal(values[0], torch.from_numpy(VALUES.astype(np.float32)))
    image = read_image(path)
    np.testing.assert_allclose(image.affine, expected, atol=1e-4)  # torchio's own reader takes the qform
    assert image.shape == (1, 8, 6, 5)


def test_matrices_that_disagree_are_told_or_refused_unless_one_is_chosen(tmp_path, caplog):
    near = write(tmp_path / "near.nii", qform=shifted(0.5))
    with caplog.at_level(logging.WARNING):
        read_image(near)
    assert len(caplog.records) == 1
    caplog.clear()
    read_image(write(tmp_path / "nearest.nii", qform=shifted(0.15)))
    assert not caplog.records
    far = write(tmp_path / "far.nii", qform=shifted(16))  # 8 voxels
    with pytest.raises(InputError, match=r"far\.nii: .* 8 voxels apart.*data\.affine=sform or data\.affine=qform"):
        read_image(far)
    np.testing.assert_allclose(place(far, affine="sform"), TILTED, atol=1e-5)
    np.testing.assert_allclose(place(far, affine="qform"), shifted(16), atol=1e-4)


def test_a_header_without_matrices_is_read_as_nibabel_reads_it_and_told(tmp_path, caplog):
    path = write(tmp_path / "a.nii", sform=None, qform=None, edit=cell("pixdim", (1, 2, 3), slice(1, 4)))
    with caplog.at_level(logging.WARNING):
        image = read_image(path)
    assert "neither sform nor qform" in caplog.records[0].getMessage()
    np.testing.assert_allclose(image.affine, nibabel.load(path).affine)


def test_lengths_in_metres_and_microns_become_millimetres(tmp_path):
    def metres(header):
        header.set_xyzt_units("meter")

    path = write(tmp_path / "a.nii", sform=np.diag([0.002, 0.002, 0.003, 1]), qform=None, edit=metres)
    np.testing.assert_allclose(place(path), np.diag([2.0, 2, 3, 1]), rtol=1e-6)


def cell(field, value, place=slice(None)):
    def edit(header):
        header[field][place] = value

    return edit


def rotate(header):
    header["quatern_b"] = header["quatern_c"] = 1.0  # longer than 1


def slip(header):
    header["srow_x"][1] = 1.5  # voxels lean


PLACELESS = {
    "NaN in the sform": ({"edit": cell("srow_y", np.nan, 1)}, "sform is not finite"),
    "infinite sform": ({"edit": cell("srow_y", np.inf, 3)}, "sform is not finite"),
    "a column of zeros": ({"edit": cell("srow_x", 0)}, "has voxels of"),
    "two equal rows": ({"sform": np.array([[1, 0, 1, 0], [1, 0, 1.001, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])}, "singular"),
    "sheared": ({"qform": None, "edit": slip}, "sheared"),
    "voxel of size 0": ({"sform": None, "edit": cell("pixdim", 0, 2)}, "qform is not finite, or made of voxel sizes"),
    "voxel of size NaN": ({"sform": None, "edit": cell("pixdim", np.nan, 2)}, "qform is not finite"),
    "negative voxel": ({"sform": None, "edit": cell("pixdim", -2, 2)}, "qform is not finite"),
    "no matrix and size 0": ({"sform": None, "qform": None, "edit": cell("pixdim", 0, 2)}, "pixdim is not finite"),
    "quaternion beyond 1": ({"sform": None, "edit": rotate}, "qform is not finite"),
    "handedness 7": ({"sform": None, "edit": cell("pixdim", 7, 0)}, "qform is not finite"),
    "a world far away": ({"qform": None, "edit": cell("srow_x", 1e30, 3)}, "mend the header"),
}


@pytest.mark.parametrize("name", PLACELESS)
def test_voxels_that_are_nowhere_are_refused(tmp_path, name):
    options, message = PLACELESS[name]
    with pytest.raises(InputError, match=message):
        read_image(write(tmp_path / "a.nii", **options))


def test_a_sform_counts_whatever_the_voxel_sizes_say(tmp_path, caplog):
    path = write(tmp_path / "a.nii", qform=None, edit=cell("pixdim", 0, slice(1, 4)))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(read_image(path).affine, TILTED)
    assert "pixdim" in caplog.records[0].getMessage()
    zero = write(tmp_path / "b.nii", sform=None, edit=cell("pixdim", 0, 0))
    np.testing.assert_allclose(place(zero), TILTED, atol=1e-5)  # handedness 0 means 1


def test_fields_of_view_that_do_not_meet_are_refused(tmp_path):
    cube = ((10, 10, 10), np.eye(4))

    def moved(mm, scale=1.0):
        affine = np.diag([scale, scale, scale, 1.0])
        affine[0, 3] = mm
        return ((10, 10, 10), affine)

    assert shared_field(cube, moved(4)) == pytest.approx(0.6, abs=0.05)
    assert shared_field(cube, moved(-5, scale=2)) == pytest.approx(1, abs=0.05)
    refuse_apart({"t2w": cube, "adc": moved(4)}, where="row 2")
    with pytest.raises(InputError, match="row 2: images 't2w' and 'adc' share"):
        refuse_apart({"t2w": cube, "adc": moved(6)}, where="row 2")
    write(tmp_path / "t2w.nii")
    write(tmp_path / "adc.nii", sform=shifted(300), qform=shifted(300))
    (tmp_path / "manifest.csv").write_text("subject_id,label,t2w,adc\na,0,t2w.nii,adc.nii\n", encoding="utf-8")
    with pytest.raises(InputError, match="share 0%"):
        sa.load_manifest(tmp_path / "manifest.csv", ["t2w", "adc"])
    apart = {
        name: tio.ScalarImage(tensor=torch.rand(1, 8, 8, 8), affine=moved(mm)[1])
        for name, mm in {"a": 0, "b": 9}.items()
    }
    subject = make_subject(apart, label=0, subject_id="s", patient_id="s")
    with pytest.raises(InputError, match="s: images 'a' and 'b' share"):
        sa.preprocess([subject], sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(8, 8, 8)), ["a", "b"])


def test_displacement_is_in_voxels_of_the_first():
    assert displacement(np.diag([2.0, 2, 2, 1]), np.diag([2.0, 2, 2, 1]) + np.eye(4, k=3) * 4, (5, 5, 5)) == 2
    assert not displacement(np.eye(4), np.full((4, 4), np.nan), (5, 5, 5)) <= 1


def colours(path):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), kind), np.eye(4)), path)


def steep(header):
    header["scl_slope"], header["scl_inter"] = 3e38, 0


def checksum(path):
    packed = bytearray(gzip.compress(write(path.with_name("b.nii")).read_bytes()))
    packed[-6] ^= 1  # of the stored CRC
    path.write_bytes(packed)


VALUELESS = {
    "colours": (colours, "RGB"),
    "complex": (lambda p: write(p, VALUES.astype(np.complex64)), "type complex64"),
    "3e38": (lambda p: write(p, VALUES * np.float32(3e35)), "beyond 1e"),
    "beyond float32": (lambda p: write(p, VALUES * 1e300), "beyond 1e"),
    "slope of 3e38": (lambda p: write(p, edit=steep), "beyond 1e"),
    "a header that promises too much": (lambda p: write(p, edit=cell("dim", 32767, slice(1, 4))), "promises"),
    "a wrong checksum": (checksum, "not a readable NIfTI file.*CRC"),
    "a folder": (lambda p: p.mkdir(), "cannot be read"),
}


@pytest.mark.parametrize("name", VALUELESS)
def test_values_that_mean_nothing_are_refused(tmp_path, name):
    spoil, message = VALUELESS[name]
    path = tmp_path / "a.nii.gz"
    spoil(path)
    with pytest.raises(InputError, match=message):
        read_image(path)


@pytest.mark.parametrize(("slope", "factor", "intercept"), [(0, 1, 0), (2, 2, 7), (np.nan, 1, 0)])
def test_slope_and_intercept_count_unless_the_slope_is_zero(tmp_path, slope, factor, intercept):
    def scale(header):
        header["scl_slope"], header["scl_inter"] = slope, 7

    path = write(tmp_path / "a.nii", edit=scale)
    assert torch.equal(read_volume(path)[0][0], torch.from_numpy(VALUES * np.float32(factor) + np.float32(intercept)))


def test_a_file_is_read_by_its_own_name_whatever_lies_beside_it(tmp_path):
    write(tmp_path / "a.nii", VALUES + 1)
    packed = write(tmp_path / "a.nii.gz")
    assert torch.equal(read_image(packed).data[0], torch.from_numpy(VALUES.astype(np.float32)))


@pytest.mark.parametrize("name", ["a.NII", "a.Nii.gz", "a.NII.GZ"])
def test_capitals_in_a_suffix_are_no_matter(tmp_path, name):
    plain = write(tmp_path / "plain.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(plain) if name.lower().endswith("gz") else plain)
    assert is_image(tmp_path / name)
    assert read_image(tmp_path / name).shape == (1, 8, 6, 5)
