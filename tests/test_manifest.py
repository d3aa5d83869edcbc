"""Manifests: what is read, and one clear error for each thing that cannot be used."""

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

import synthaug as sa
from synthaug.data.manifest import CONVENTION, class_counts
from synthaug.errors import InputError

SHARED = Path(os.environ.get("SYNTHAUG_DATA", Path(__file__).parents[2] / "shared" / "data"))


def write_image(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4) if affine is None else affine), path)


@pytest.fixture
def folder(tmp_path):
    """Four subjects of three patients, two classes."""
    rng = np.random.default_rng(0)
    lines = ["subject_id,patient_id,t2w,label,report"]
    for number, (patient, label) in enumerate([("p0", 0), ("p1", 1), ("p1", 1), ("p2", 0)]):
        write_image(tmp_path / f"images/{number}.nii.gz", rng.random((6, 5, 4)))
        lines.append(f'{number:03d},{patient},images/{number}.nii.gz,{label},"Finding {number}, left."')
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def read(folder, **options):
    return sa.load_manifest(folder / "manifest.csv", ["t2w"], report="report", **options)


def test_subjects_follow_the_convention_in_file_order(folder):
    subjects = read(folder)
    assert [subject["subject_id"] for subject in subjects] == ["000", "001", "002", "003"]
    assert set(subjects[1].keys()) == {"t2w", *CONVENTION}
    assert subjects[1]["patient_id"] == "p1"
    assert subjects[1]["label"] == 1
    assert subjects[1]["report"] == "Finding 1, left."
    assert subjects[1]["synthetic"] is False
    assert subjects[1]["provenance"] == ""
    assert subjects[1]["t2w"].shape == (1, 6, 5, 4)


def test_without_patient_column_each_subject_is_a_patient(folder):
    assert [s["patient_id"] for s in read(folder, patient="absent")] == ["000", "001", "002", "003"]


def test_a_row_without_a_class_is_refused_or_left_out_as_one_says(folder):
    text = (folder / "manifest.csv").read_text().replace("images/1.nii.gz,1", "images/1.nii.gz,")
    (folder / "manifest.csv").write_text(text)
    with pytest.raises(InputError, match=r"row 3: label is empty; .* data\.unlabelled=leave_out"):
        read(folder)
    assert [subject["subject_id"] for subject in read(folder, unlabelled="leave_out")] == ["000", "002", "003"]


def test_reports_are_written_from_the_row(folder):
    subjects = sa.load_manifest(folder / "manifest.csv", ["t2w"], write_report=lambda row: f"class {row['label']}")
    assert subjects[2]["report"] == "class 1"


def test_class_counts_want_two_classes_without_gaps():
    assert class_counts([{"label": 1}, {"label": 0}, {"label": 1}]) == {0: 1, 1: 2}
    with pytest.raises(InputError, match="two classes"):
        class_counts([{"label": 1}, {"label": 1}])
    with pytest.raises(InputError, match="without gaps"):
        class_counts([{"label": 0}, {"label": 2}])


def rewrite(folder, old, new):
    path = folder / "manifest.csv"
    path.write_text(path.read_text().replace(old, new))


def break_image(change):
    def apply(folder):
        change(folder / "images/1.nii.gz")

    return apply


def corrupt(path):
    path.write_bytes(gzip.compress(b"not an image"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def fill(value, shape=(6, 5, 4)):
    def change(path):
        write_image(path, np.full(shape, value, dtype=np.float32))

    return change


def one_nan(path):
    array = np.random.default_rng(0).random((6, 5, 4))
    array[0, 0, 0] = np.nan
    write_image(path, array)


def two_dimensional(path):
    write_image(path, np.random.default_rng(0).random((6, 5)))


def zero_size(path):
    write_image(path, np.zeros((6, 0, 4)))


def four_dimensional(path):
    write_image(path, np.random.default_rng(0).random((6, 5, 4, 2)))


BROKEN = {
    "missing column": (lambda f: rewrite(f, "t2w", "t1w"), "no column 't2w'.*t1w"),
    "missing file": (lambda f: (f / "images/1.nii.gz").unlink(), "row 3: 1.nii.gz: no such file"),
    "corrupt image": (break_image(corrupt), "row 3: 1.nii.gz: not a readable NIfTI"),
    "truncated image": (break_image(truncate), "row 3: 1.nii.gz: not a readable NIfTI"),
    "2D image": (break_image(two_dimensional), r"row 3: 1.nii.gz: shape \(6, 5\) is not one 3D volume"),
    "4D image": (break_image(four_dimensional), "is not one 3D volume"),
    "NaN": (break_image(one_nan), "row 3: 1.nii.gz: holds NaN"),
    "zero size": (break_image(zero_size), "row 3: 1.nii.gz: has zero size"),
    "constant": (break_image(fill(7.0)), "row 3: 1.nii.gz: every voxel is 7"),
    "duplicate subject": (lambda f: rewrite(f, "002,", "001,"), "row 4: subject '001' stands twice"),
    "label not a class": (lambda f: rewrite(f, ",1,", ",yes,"), "row 3: label is 'yes'"),
    "negative label": (lambda f: rewrite(f, ",1,", ",-1,"), "row 3: label is '-1'"),
    "path out of the folder": (lambda f: rewrite(f, "images/1", "../1"), "leads out of"),
    "no rows": (lambda f: (f / "manifest.csv").write_text("subject_id,t2w,label,report\n"), "has no rows"),
    "empty file": (lambda f: (f / "manifest.csv").write_text(""), "not a readable CSV"),
    "no manifest": (lambda f: (f / "manifest.csv").unlink(), "no such manifest"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_input_is_refused_by_name(folder, name):
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(InputError, match=message):
        read(folder)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data folder is not here; set SYNTHAUG_DATA")
def test_real_studies_are_read_and_a_missing_label_is_named():
    assert class_counts(sa.load_manifest(SHARED / "hippocampus/manifest.csv", ["t1"])) == {0: 130, 1: 130}
    with pytest.raises(InputError, match="row 13: label is empty"):
        sa.load_manifest(SHARED / "prostatex/manifest.csv", ["t2w", "adc", "hbv"])
