"""One contract for both ways to replace a subject by a synthetic one: torchio's transform and MONAI's."""

import pickle
from collections import Counter
from dataclasses import dataclass
from typing import Any

import monai.data
import monai.transforms
import numpy as np
import pytest
import torch
import torchio as tio
from small_pool import SAMPLING, build_pool

import synthaug as sa
from synthaug.ground.errors import InputError
from synthaug.pool.pool import reports_by_class


@dataclass
class Torchio:
    """Subjects are ``tio.Subject``; the global generator draws, as in every torchio transform."""

    def augment(self, source, *, images=("t2w",), p=1.0, **settings):
        return sa.SyntheticAugment(source, p=p, include=list(images), **settings)

    def subject(self, image, **keys):
        return tio.Subject(t2w=tio.ScalarImage(tensor=image.data.clone(), affine=image.affine), **keys)

    def image(self, tensor):
        return tio.ScalarImage(tensor=tensor)

    def seed(self, transform, seed):
        torch.manual_seed(seed)
        return transform

    def compose(self, *transforms):
        return tio.Compose([*transforms, tio.RandomNoise(std=0.1)])

    def voxels(self, image):
        return image["data"]

    def affine(self, image):
        return torch.as_tensor(image["affine"])

    def batches(self, subjects, transform, *, batch_size, workers=0):
        dataset = tio.SubjectsDataset(subjects, transform=transform)
        return tio.SubjectsLoader(dataset, batch_size=batch_size, num_workers=workers)


@dataclass
class Monai:
    """Subjects are dictionaries of ``MetaTensor``; each transform has its own random state."""

    def augment(self, source, *, images=("t2w",), p=1.0, **settings):
        return sa.SyntheticAugmentd(images, source, prob=p, **settings).set_random_state(0)

    def subject(self, image, **keys):
        return {"t2w": monai.data.MetaTensor(image.data.clone(), affine=torch.as_tensor(image.affine)), **keys}

    def image(self, tensor):
        return monai.data.MetaTensor(tensor)

    def seed(self, transform, seed):
        return transform.set_random_state(seed)

    def compose(self, *transforms):
        noise = monai.transforms.RandGaussianNoised("t2w", prob=1.0, std=0.1, sample_std=False)
        return monai.transforms.Compose([*transforms, noise])

    def voxels(self, image):
        return image.as_tensor()

    def affine(self, image):
        return image.affine

    def batches(self, subjects, transform, *, batch_size, workers=0):
        dataset = monai.data.Dataset(subjects, transform)
        return monai.data.DataLoader(dataset, batch_size=batch_size, num_workers=workers)


@pytest.fixture(params=[Torchio(), Monai()], ids=["torchio", "monai"])
def library(request):
    return request.param


@pytest.fixture(autouse=True)
def global_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("contract") / "pool")


@pytest.fixture(scope="module")
def live(tiny_pipeline, tiny_subjects):
    return sa.LiveSource(tiny_pipeline, reports_by_class(tiny_subjects), sampling=SAMPLING)


@pytest.fixture
def subject(library, tiny_subjects):
    return converted(library, tiny_subjects[0])


def converted(library, subject) -> Any:
    """A subject under the convention, as this library holds it."""
    return library.subject(subject["t2w"], **{key: subject[key] for key in subject if key != "t2w"})


def volumes_of(pool, label):
    return {s["subject_id"]: s for s in (pool.subject(label, index) for index in range(pool.counts[label]))}


def drawn(library, augment, label, draws):
    """Which class each of many draws takes, and whether it was replaced."""
    small = library.subject(tio.ScalarImage(tensor=torch.zeros(1, 16, 16, 8)), label=label, synthetic=False)
    return [augment(small) for _ in range(draws)]


def test_the_result_is_a_volume_of_the_pool_with_its_geometry_label_identity_and_provenance(library, pool, subject):
    result = library.augment(pool)(subject)
    expected = volumes_of(pool, subject["label"])[result["subject_id"]]
    assert torch.equal(library.voxels(result["t2w"]), expected["t2w"].data)
    assert np.array_equal(library.affine(result["t2w"]), expected["t2w"].affine)
    assert set(result) == set(subject)
    for key in ("label", "patient_id", "report", "provenance", "synthetic"):
        assert result[key] == expected[key]
    assert result["synthetic"] is True
    assert type(result["label"]) is int


def test_p_0_never_p_1_always_and_p_is_the_share(library, pool):
    assert not any(result["synthetic"] for result in drawn(library, library.augment(pool, p=0.0), 0, 20))
    assert all(result["synthetic"] for result in drawn(library, library.augment(pool, p=1.0), 0, 20))
    share = sum(result["synthetic"] for result in drawn(library, library.augment(pool, p=0.3), 0, 200)) / 200
    assert share == pytest.approx(0.3, abs=0.1)


def test_a_subject_that_is_not_replaced_is_what_it_was(library, pool, subject):
    result = library.augment(pool, p=0.0)(subject)
    assert torch.equal(library.voxels(result["t2w"]), library.voxels(subject["t2w"]))
    assert {key: result[key] for key in result if key != "t2w"} == {k: subject[k] for k in subject if k != "t2w"}


def test_input_and_source_are_untouched_by_what_happens_to_the_result(library, pool, live, subject):
    voxels, keys = library.voxels(subject["t2w"]).clone(), dict(subject)
    for source in (pool, live):
        augment = library.augment(source)
        result = library.seed(augment, 1)(subject)
        expected = library.voxels(result["t2w"]).clone()
        library.voxels(result["t2w"]).zero_()
        assert torch.equal(library.voxels(library.seed(augment, 1)(subject)["t2w"]), expected)
    assert torch.equal(library.voxels(subject["t2w"]), voxels)
    assert dict(subject) == keys


def test_one_seed_gives_one_result_and_seeds_differ(library, pool, live, subject):
    for source in (pool, live):
        augment = library.augment(source)
        names = [library.seed(augment, seed)(subject)["subject_id"] for seed in (5, 5, *range(6))]
        assert names[0] == names[1]
        assert len(set(names)) > 1


def test_every_volume_of_the_class_is_drawn(library, pool):
    names = {result["subject_id"] for result in drawn(library, library.augment(pool), 1, 80)}
    assert names == set(volumes_of(pool, 1))


def test_same_keeps_the_class_of_every_subject(library, pool):
    for label in (0, 1):
        assert {result["label"] for result in drawn(library, library.augment(pool), label, 10)} == {label}


def test_a_distribution_is_drawn_from(library, pool):
    results = drawn(library, library.augment(pool, target={0: 1, 1: 4}), 0, 200)
    assert sum(result["label"] for result in results) / 200 == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize(("counts", "p"), [({0: 30, 1: 10}, 0.5), ({0: 9, 1: 1}, 0.8), ({0: 5, 1: 5}, 0.2)])
def test_balance_gives_every_class_the_same_expected_share(library, pool, counts, p):
    augment = library.augment(pool, p=p, target="balance", class_counts=counts)
    total, seen = sum(counts.values()), Counter()
    for label, count in counts.items():
        seen += Counter(result["label"] for result in drawn(library, augment, label, round(300 * count / total)))
    assert seen[1] / seen.total() == pytest.approx(0.5, abs=0.08)


def test_other_images_and_keys_stay_where_they_are_not_named(library, pool, subject):
    other = library.image(torch.rand(1, 16, 16, 8))
    subject["adc"], subject["age_years"] = other, 63
    result = library.augment(pool)(subject)
    assert torch.equal(library.voxels(result["adc"]), library.voxels(other))
    assert result["age_years"] == 63
    assert result["synthetic"] is True


def test_it_works_among_other_transforms(library, pool, subject):
    compose = library.compose(library.augment(pool))
    results = [library.seed(compose, seed)(subject) for seed in (3, 3, 4)]
    voxels = [library.voxels(result["t2w"]) for result in results]
    assert torch.equal(voxels[0], voxels[1])
    assert not torch.equal(voxels[0], voxels[2])
    clean = volumes_of(pool, subject["label"])[results[0]["subject_id"]]["t2w"].data
    assert 0.05 < (voxels[0] - clean).std() < 0.2  # the noise came after, on the synthetic volume


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_collates_the_mixture(library, pool, tiny_subjects, workers):
    subjects = [converted(library, subject) for subject in tiny_subjects]
    (batch,) = library.batches(subjects, library.augment(pool, p=0.5), batch_size=12, workers=workers)
    assert library.voxels(batch["t2w"]).shape == (12, 1, 16, 16, 8)
    assert 0 < batch["synthetic"].sum() < 12
    assert batch["label"].tolist() == [subject["label"] for subject in tiny_subjects]
    assert [bool(line) for line in batch["provenance"]] == batch["synthetic"].tolist()


def test_a_loader_collates_subjects_that_had_only_an_image_and_a_label(library, pool, tiny_subjects):
    subjects = [library.subject(subject["t2w"], label=subject["label"]) for subject in tiny_subjects]
    batches = library.batches(subjects, library.augment(pool, p=0.5), batch_size=3)
    collated = [line for batch in batches for line in zip(batch["synthetic"], batch["subject_id"], strict=True)]
    assert {bool(synthetic) for synthetic, _ in collated} == {True, False}
    assert all(bool(name) == bool(synthetic) for synthetic, name in collated)
    assert all(set(subject) == {"t2w", "label"} for subject in subjects)


@pytest.mark.parametrize("label", [torch.tensor(1), 1.0, "1", np.int64(1), np.array(1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_replaced_subject_keeps_the_types_of_the_real_one(library, pool, subject, label, dtype):
    image = tio.ScalarImage(tensor=subject["t2w"].data.to(dtype), affine=subject["t2w"].affine)
    augment = library.augment(pool)
    result = augment(library.subject(image, label=label))
    assert result["synthetic"] is True
    assert type(result["label"]) is type(label)
    assert result["label"] == label
    assert library.voxels(result["t2w"]).dtype == dtype


def test_it_travels_to_a_worker_as_an_address(library, pool, subject):
    augment = library.augment(pool)
    message = pickle.dumps(augment)
    assert len(message) < 10_000
    assert pickle.loads(message)(subject)["synthetic"] is True


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": {2: 1.0}}, "no volumes of class 2"),
        ({"target": "balance", "class_counts": {0: 3, 1: 2, 2: 1}}, "no volumes of class 2"),
        ({"target": "balance"}, "needs class_counts"),
        ({"target": "balance", "class_counts": {0: 30, 1: 10}, "p": 0.2}, "p must be at least 0.333"),
        ({"target": "rare"}, "unknown"),
        ({"target": {}}, "weights"),
        ({"target": {0: 0.0}}, "weights"),
        ({"target": {0: -1.0, 1: 2.0}}, "weights"),
        ({"target": {0: float("nan")}}, "weights"),
        ({"target": {0: 1.0, 1: float("inf")}}, "weights"),
    ],
)
def test_a_target_that_cannot_be_meant_is_refused(library, pool, settings, words):
    with pytest.raises(InputError, match=words):
        library.augment(pool, **settings)


def test_a_subject_that_cannot_be_replaced_is_refused(library, pool, live, tiny_subjects):
    image = tiny_subjects[0]["t2w"]
    for source in (pool, live):
        with pytest.raises(InputError, match="no volumes of class 2"):
            library.augment(source)(library.subject(image, label=2))
        with pytest.raises(InputError, match="no 'label'"):
            library.augment(source)(library.subject(image))
        with pytest.raises(InputError, match="no image 'adc'"):
            library.augment(source, images=["adc"])(library.subject(image, label=0, adc=library.image(image.data)))


def test_a_folder_stands_for_its_pool_and_a_folder_without_one_is_refused(library, pool, subject, tmp_path):
    assert library.augment(str(pool.path))(subject)["synthetic"] is True
    with pytest.raises(InputError, match="no synthetic pool there"):
        library.augment(str(tmp_path))
