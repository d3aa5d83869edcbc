"""A pool as others read it: manifest CSV, CCELLA's layout, montage."""

import json

import nibabel
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from small_pool import PER_CLASS, build_pool

from synthaug.data.reading.manifest import load_manifest
from synthaug.ground.errors import InputError
from synthaug.pool.export import export_pool
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.review.montage import save_montage


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    reports = {0: ["", 'None seen, "quoted"\nand broken'], 1: ["Lesion; PI-RADS 5."]}
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("export") / "pool", reports=reports)


def test_an_exported_manifest_reads_back_to_the_same_subjects(pool, tmp_path):
    csv = export_pool(pool, tmp_path / "out")
    back = load_manifest(csv, ["t2w"], report="report")
    for subject, original in zip(back, pool.subjects(), strict=True):
        assert set(subject) == set(original)
        assert torch.equal(subject["t2w"].data, original["t2w"].data)
        assert np.array_equal(subject["t2w"].affine, original["t2w"].affine)
        for key in ("label", "subject_id", "patient_id", "report", "synthetic", "provenance"):
            assert subject[key] == original[key]


def test_ccellas_layout_has_its_keys_and_whole_numbers(pool, tmp_path):
    datalist = export_pool(pool, tmp_path / "out", layout="ccella")
    cases = json.loads(datalist.read_text(encoding="utf-8"))
    assert len(cases) == 8
    keys = {"axt2", "dataset", "folder", "pirads", "spacing", "text", "text_isnull"}
    for case, subject in zip(cases, pool.subjects(), strict=True):
        assert set(case) == keys
        assert case["pirads"] == ([1, 0] if subject["label"] == 0 else [0, 1])
        assert (case["text"], case["text_isnull"]) == (subject["report"], int(subject["report"] == ""))
        assert case["spacing"] == [5.0, 5.0, 8.0]
        image = nibabel.load(datalist.parent / case["axt2"])
        assert case["axt2"].startswith(case["folder"] + "/")
        assert image.get_data_dtype() == np.int16
        assert np.array_equal(np.asarray(image.dataobj), np.rint(subject["t2w"].data[0].numpy() * 962))
        assert image.header.get_zooms() == (5.0, 5.0, 8.0)


def test_ccellas_layout_scales_each_sequence_to_its_own_intensity(pool, tmp_path):
    tensor = pool.subject(0, 0)["t2w"].data[0].numpy()
    for name, (ccella, one) in {"t2w": ("axt2", 962), "hbv": ("b1600", 117), "adc": ("adc", 3000)}.items():
        entries = [
            entry | {key: {name: entry[key]["t2w"]} for key in ("files", "sha256")} for entry in pool.entries(0)[:1]
        ]
        renamed = SyntheticPool(pool.path, pool.header | {"images": [name]}, entries)
        datalist = export_pool(renamed, tmp_path / name, layout="ccella")
        (case,) = json.loads(datalist.read_text(encoding="utf-8"))
        found = np.asarray(nibabel.load(datalist.parent / case[ccella]).dataobj)
        assert np.array_equal(found, np.rint(tensor * one))


def test_what_ccella_does_not_know_is_refused(pool, tmp_path):
    other = SyntheticPool(pool.path, pool.header | {"images": ["flair"]}, pool.entries(0))
    with pytest.raises(InputError, match="no image 'flair'"):
        export_pool(other, tmp_path / "out", layout="ccella")
    third = SyntheticPool(pool.path, pool.header, [pool.entries(0)[0] | {"label": 2}])
    with pytest.raises(InputError, match="classes 0 and 1 only"):
        export_pool(third, tmp_path / "out", layout="ccella")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["manifest", "ccella"])
def test_a_pool_without_volumes_is_not_exported(pool, tmp_path, layout):
    with pytest.raises(InputError, match="no volumes"):
        export_pool(pool.only([]), tmp_path / "out", layout=layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["manifest", "ccella"])
def test_an_export_is_whole_or_absent_and_overwrites_nothing(tiny_pipeline, tiny_subjects, tmp_path, layout):
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool")
    path = pool.path / pool.entries(1)[4]["files"]["t2w"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=path.name):
        export_pool(pool, tmp_path / "out", layout=layout)
    assert [each.name for each in tmp_path.iterdir()] == ["pool"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(InputError, match="is not empty"):
        export_pool(pool, tmp_path / "mine", layout=layout)
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_a_montage_is_a_png_with_a_row_a_class_and_different_volumes(pool, tmp_path):
    image = imread(save_montage(pool, tmp_path / "m.png", columns=8))
    assert image.ndim == 3
    # Five columns at most, as many as the larger class has; the smaller one leaves the rest of its row white.
    height, width = image.shape[:2]
    assert width == pytest.approx(height / 2 * max(PER_CLASS.values()), rel=0.02)
    assert image[: height // 2, width * 4 // 5 :, :3].min() > 0.99
    assert image[height // 2 :, width * 4 // 5 :, :3].min() < 0.9
    with pytest.raises(InputError, match=r"ends in \.png"):
        save_montage(pool, tmp_path / "m.jpg")
    with pytest.raises(InputError, match="columns=0"):
        save_montage(pool, tmp_path / "m.png", columns=0)
