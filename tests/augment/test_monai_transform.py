"""What MONAI users expect of a dictionary transform beyond the contract of tests/augment/test_augment_contract.py."""

import monai.data
import monai.transforms as mt
import nibabel
import numpy as np
import pytest
import torch
from small_pool import build_pool

from synthaug.augment.monai_transform import SyntheticAugmentArray, SyntheticAugmentd
from synthaug.config import PreprocessConfig
from synthaug.ground.errors import InputError
from synthaug.pool.adoption import adopt_pool


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("monai") / "pool")


@pytest.fixture
def files(tiny_subjects, tmp_path):
    """Dictionaries of a path and a label, as a MONAI data list has them."""
    rows = []
    for number, subject in enumerate(tiny_subjects):
        path = tmp_path / f"{number}.nii.gz"
        subject["t2w"].save(path)
        rows.append({"image": str(path), "label": subject["label"]})
    return rows


def pipeline(pool, **settings):
    return mt.Compose(
        [
            mt.LoadImaged("image"),
            mt.EnsureChannelFirstd("image"),
            SyntheticAugmentd("image", pool, images=["t2w"], **settings),
            mt.RandFlipd("image", prob=0.5, spatial_axis=0),
        ]
    )


def names(pool, files, *, seed, workers):
    loader_seed = torch.Generator().manual_seed(seed)
    dataset = monai.data.Dataset(files, pipeline(pool, prob=0.5))
    loader = monai.data.DataLoader(dataset, batch_size=4, num_workers=workers, generator=loader_seed)
    return [name for batch in loader for name in batch["subject_id"]]


def test_it_stands_between_loading_and_other_transforms_and_batches_keep_their_affines(pool, files):
    transform = pipeline(pool, prob=0.5).set_random_state(0)
    (batch,) = monai.data.DataLoader(monai.data.Dataset(files, transform), batch_size=12)
    assert isinstance(batch["image"], monai.data.MetaTensor)
    assert batch["image"].shape == (12, 1, 16, 16, 8)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].affine.shape == (12, 4, 4)
    paths = batch["image"].meta["filename_or_obj"]
    assert [path.endswith(".nii") for path in paths] == batch["synthetic"].tolist()
    assert set(batch["image"].meta["space"]) == {"RAS"}
    assert 0 < batch["synthetic"].sum() < 12


def test_the_seed_of_the_loader_decides_in_the_main_process_and_in_workers(pool, files):
    for workers in (0, 2):
        assert names(pool, files, seed=1, workers=workers) == names(pool, files, seed=1, workers=workers)
    assert names(pool, files, seed=1, workers=0) != names(pool, files, seed=2, workers=0)


def test_the_global_generator_stays_as_it_is(pool):
    transform = SyntheticAugmentd("image", pool, images=["t2w"], prob=1.0).set_random_state(0)
    before = torch.get_rng_state()
    transform({"image": torch.zeros(1, 16, 16, 8), "label": 0})
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "label",
    [1, np.int64(1), np.array(1), np.array([1]), torch.tensor(1), torch.tensor([1.0]), monai.data.MetaTensor(1)],
)
def test_the_label_stays_what_it_was(pool, label):
    result = SyntheticAugmentd("t2w", pool, prob=1.0, target={0: 1.0})(
        {"t2w": torch.zeros(1, 16, 16, 8), "label": label}
    )
    assert type(result["label"]) is type(label)
    assert result["label"] == 0
    assert getattr(result["label"], "dtype", None) == getattr(label, "dtype", None)
    assert np.shape(result["label"]) == np.shape(label)


def test_the_class_may_stand_under_another_key(pool):
    augment = SyntheticAugmentd("t2w", pool, prob=1.0, label_key="csPCa")
    result = augment({"t2w": torch.zeros(1, 16, 16, 8), "csPCa": 1})
    assert result["csPCa"] == 1
    assert "label" not in result
    with pytest.raises(InputError, match="no 'csPCa'"):
        augment({"t2w": torch.zeros(1, 16, 16, 8), "label": 1})


def test_a_missing_image_is_refused_or_passed_over_as_in_every_map_transform(pool):
    with pytest.raises(KeyError, match="allow_missing_keys"):
        SyntheticAugmentd(["t2w", "adc"], pool, images=["t2w", "t2w"], prob=1.0)(
            {"t2w": torch.zeros(1, 16, 16, 8), "label": 1}
        )
    lenient = SyntheticAugmentd(["t2w", "adc"], pool, images=["t2w", "t2w"], prob=1.0, allow_missing_keys=True)
    assert "adc" not in lenient({"t2w": torch.zeros(1, 16, 16, 8), "label": 1})
    with pytest.raises(InputError, match="none of the images"):
        lenient({"label": 1})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keys": "image"}, "no image 'image'.*pass images="),
        ({"keys": ["t2w", "adc"], "images": ["t2w"]}, "one image of the source for each"),
    ],
)
def test_images_that_do_not_match_the_source_are_refused(pool, settings, words):
    with pytest.raises(InputError, match=words):
        SyntheticAugmentd(source=pool, **settings)


def test_without_tracking_of_metadata_plain_tensors_come_out(pool):
    monai.data.set_track_meta(False)
    try:
        for p in (0.0, 1.0):
            result = SyntheticAugmentd("t2w", pool, prob=p)({"t2w": np.zeros((1, 16, 16, 8)), "label": 1})
            assert type(result["t2w"]) is torch.Tensor
    finally:
        monai.data.set_track_meta(True)


def test_a_composition_is_inverted_whether_or_not_the_image_was_replaced(pool, files):
    before, after = mt.SpatialPadd("image", (16, 16, 8)), mt.SpatialPadd("image", (20, 20, 12))
    for prob in (0.0, 1.0):
        augment = SyntheticAugmentd("image", pool, images=["t2w"], prob=prob)
        first = [mt.LoadImaged("image"), mt.EnsureChannelFirstd("image"), mt.CenterSpatialCropd("image", (16, 16, 6))]
        transform = mt.Compose([*first, before, augment, after])
        result = transform(files[0])
        assert result["image"].shape == (1, 20, 20, 12)
        assert transform.inverse(result)["image"].shape == (1, 16, 16, 8)


def test_the_array_twin_draws_what_the_dictionary_one_draws(pool):
    array = SyntheticAugmentArray(pool, "t2w", prob=0.5).set_random_state(7)
    twin = SyntheticAugmentd("image", pool, prob=0.5, images=["t2w"]).set_random_state(7)
    real = torch.rand(1, 16, 16, 8)
    drawn = [(array(real, 1), twin({"image": real, "label": 1})["image"]) for _ in range(6)]
    assert all(torch.equal(one, other) for one, other in drawn)
    assert len({torch.equal(one, real) for one, _ in drawn}) == 2


def test_the_array_twin_replaces_all_channels_by_those_of_one_volume(tmp_path):
    """Images are channels, in the order that their names are given in."""
    names, rows = ["adc", "t2w"], ["adc,t2w,label"]
    for number in range(4):
        for name in names:
            values = np.random.default_rng([number, len(name), ord(name[0])]).random((16, 16, 8), dtype=np.float32)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}{number}.nii")
        rows.append(f"adc{number}.nii,t2w{number}.nii,{number % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    grid = PreprocessConfig(shape=(16, 16, 8), spacing_mm=(1, 1, 1))
    source = adopt_pool(tmp_path, tmp_path / "labels.csv", tmp_path / "pool", grid, images=["t2w", "adc"])
    real = torch.rand(2, 16, 16, 8)
    array = SyntheticAugmentArray(source, names, prob=0.5).set_random_state(3)
    twin = SyntheticAugmentd(names, source, prob=0.5).set_random_state(3)
    for _ in range(6):
        drawn = twin({"adc": real[:1], "t2w": real[1:], "label": 1})
        assert torch.equal(array(real, 1), torch.cat([drawn["adc"], drawn["t2w"]]))
    with pytest.raises(InputError, match="3 channels"):
        array(torch.rand(3, 16, 16, 8), 1)
