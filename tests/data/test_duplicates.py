"""One image under two names is found by its voxels, whatever file they stand in."""

import logging
import time

import nibabel
import numpy as np
import pytest
import torch
import torchio as tio

from synthaug.config import PreprocessConfig
from synthaug.data.duplicates import image_hash, refuse_duplicate_images
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.images import read_image
from synthaug.data.reading.manifest import make_subject
from synthaug.data.splits import Split
from synthaug.ground.errors import InputError

CONFIG = PreprocessConfig(spacing_mm=(1.0, 1.0, 1.0), shape=(8, 8, 8))


def volume(seed):
    return np.random.default_rng(seed).integers(0, 900, (10, 9, 8)).astype(np.int16)


def save(path, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def subject(name, path, *, patient=None):
    return make_subject({"t2w": read_image(path)}, label=0, subject_id=name, patient_id=patient or name)


def check(train=(), val=(), test=()):
    refuse_duplicate_images(Split(*(preprocess(part, CONFIG, ["t2w"]) for part in (train, val, test))), ["t2w"])


@pytest.fixture
def original(tmp_path):
    return subject("a", save(tmp_path / "a.nii", volume(0)))


def as_compressed(folder):
    return save(folder / "b.nii.gz", volume(0))


def as_float(folder):
    return save(folder / "b.nii", volume(0).astype(np.float32))


def as_other_orientation(folder):
    return save(folder / "b.nii", volume(0)[::-1].copy(), np.diag([-1.0, 1.0, 1.0, 1.0]))


def in_other_units(folder):
    return save(folder / "b.nii", volume(0) * 4)


@pytest.mark.parametrize("copied", [as_compressed, as_float, as_other_orientation, in_other_units])
@pytest.mark.parametrize("part", ["val", "test"])
def test_the_same_voxels_in_another_file_of_another_part_are_refused(original, tmp_path, copied, part):
    twin = subject("b", copied(tmp_path))
    expected = rf"^Subject 'b' \({part}\) has the same image as subject 'a' \(train\), voxel by voxel.*; give both"
    with pytest.raises(InputError, match=expected):
        check(train=[original], **{part: [twin]})
    with pytest.raises(InputError, match=r"'b' \(test\).*'a' \(val\)"):
        check(val=[original], test=[twin])


def test_one_patient_may_stand_twice_and_unlike_images_pass(original, tmp_path, caplog):
    again = subject("b", as_compressed(tmp_path), patient="a")
    other = volume(0)
    other[4, 4, 4] += 1  # one voxel, one unit
    check(train=[original, again], test=[subject("c", save(tmp_path / "c.nii", other))])
    assert not caplog.records


def test_two_patients_of_one_part_are_told_of_in_one_line(original, tmp_path, caplog):
    twins = [subject(name, as_compressed(tmp_path)) for name in ("b", "c")]
    with caplog.at_level(logging.WARNING):
        check(train=[original, *twins])
    [record] = caplog.records
    assert record.getMessage().startswith("Subjects 'a' and 'b' (train, and 1 other pairs) have the same image")
    assert "\n" not in record.getMessage()


def test_any_of_several_images_tells():
    shared, own, theirs = (tio.ScalarImage(tensor=torch.rand(1, 4, 4, 4)) for _ in range(3))
    one, two = (
        make_subject({"t2w": first, "adc": second}, label=0, subject_id=name, patient_id=name)
        for name, first, second in (("a", shared, own), ("b", theirs, shared))
    )
    with pytest.raises(InputError, match=r"'b'.*'a'"):
        refuse_duplicate_images(Split([one], [], [two]), ["t2w", "adc"])
    refuse_duplicate_images(Split([one], [], [two]), ["t2w"])


def test_hashes_follow_voxels_and_shape():
    values = torch.arange(8.0)
    assert image_hash(values.view(1, 2, 2, 2)) != image_hash(values.view(1, 4, 2, 1))
    assert image_hash(torch.zeros(1, 2)) == image_hash(-torch.zeros(1, 2))


def test_a_volume_costs_milliseconds():
    """256 x 256 x 32 voxels; generous, because tests share their machine."""
    large = torch.rand(1, 256, 256, 32)
    started = time.process_time()
    image_hash(large)
    assert time.process_time() - started < 0.5
