import copy
import json
from collections import Counter

import numpy as np
import pytest
import torch
import torchio as tio
import yaml
from small_pool import SAMPLING, build_pool

from synthaug.augment.source import LiveSource, as_source
from synthaug.augment.transform import Synthesize, SyntheticAugment
from synthaug.ground.errors import InputError
from synthaug.pool.pool import reports_by_class


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("transform") / "pool")


@pytest.fixture(scope="module")
def live(tiny_pipeline, tiny_subjects):
    return LiveSource(tiny_pipeline, reports_by_class(tiny_subjects), sampling=SAMPLING)


@pytest.fixture
def subject(tiny_subjects):
    return tiny_subjects[0]


@pytest.fixture(autouse=True)
def global_seed():
    """torchio's transforms draw from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def same_voxels(left, right):
    return torch.equal(left["t2w"].data, right["t2w"].data) and np.array_equal(left["t2w"].affine, right["t2w"].affine)


def volumes_of(pool, label):
    return [pool.subject(label, index) for index in range(pool.counts[label])]


def test_the_result_is_a_volume_of_the_pool_with_its_geometry_label_and_identity(pool, subject):
    elsewhere = tio.ScalarImage(tensor=torch.rand(1, 16, 16, 8), affine=np.diag([5, 5, 8, 1]))
    result = SyntheticAugment(pool, p=1)(tio.Subject({**subject, "t2w": elsewhere}))
    (source,) = [s for s in volumes_of(pool, subject["label"]) if s["subject_id"] == result["subject_id"]]
    assert same_voxels(result, source)
    assert list(result) == list(subject)
    for key in ("label", "patient_id", "report", "provenance", "synthetic"):
        assert result[key] == source[key]
    assert json.loads(result["provenance"])["requested_class"] == subject["label"]
    assert result["t2w"].path == source["t2w"].path  # no trace of the real file


def test_attributes_follow_the_keys(pool, subject):
    other = 1 - subject["label"]
    result = SyntheticAugment(pool, p=1, target={other: 1})(subject)
    assert result.label == result["label"] == other
    assert result.synthetic is True
    assert result.t2w is result["t2w"]


def test_the_input_and_the_source_are_untouched_by_what_happens_to_the_result(pool, live, subject):
    voxels, keys = subject["t2w"].data.clone(), dict(subject)
    for source in (pool, live):
        result = SyntheticAugment(source, p=1)(subject)
        expected = result["t2w"].data.clone()
        history = result.get_composed_history()
        result["t2w"].data.zero_()
        assert torch.equal(history(subject)["t2w"].data, expected)
    assert torch.equal(subject["t2w"].data, voxels)
    assert dict(subject) == keys


def test_history_holds_the_deterministic_twin_and_replays_to_the_same_bytes(pool, live, tiny_subjects):
    for source in (pool, live):
        result = SyntheticAugment(source, p=1)(tiny_subjects[0])
        (entry,) = result.history
        assert isinstance(entry, Synthesize)
        assert (entry.source, entry.target) == (source.address, tiny_subjects[0]["label"])
        replayed = result.get_composed_history()(tiny_subjects[-1])
        assert same_voxels(replayed, result)
        assert replayed["subject_id"] == result["subject_id"]


def test_history_replays_to_the_same_bytes_after_the_pool_has_grown(tiny_pipeline, tiny_subjects, tmp_path):
    small = build_pool(tiny_pipeline, tiny_subjects, tmp_path)
    results = [SyntheticAugment(small, p=1)(tiny_subjects[0]) for _ in range(5)]
    grown = build_pool(tiny_pipeline, tiny_subjects, tmp_path, per_class={0: 7, 1: 7})
    SyntheticAugment(grown)  # from now on the address means the grown pool
    for result in results:
        assert same_voxels(result.get_composed_history()(tiny_subjects[0]), result)


def test_history_is_refused_where_another_volume_stands_at_its_place(pool, subject):
    result = SyntheticAugment(pool, p=1)(subject)
    (entry,) = result.history
    assert entry.volume == result["subject_id"]
    label = subject["label"]
    fewer = pool.only([each["id"] for each in pool.entries(label) if f"synthetic-{each['id']}" != entry.volume])
    moved = Synthesize(as_source(fewer).address, label, entry.index, volume=entry.volume)
    with pytest.raises(InputError, match=entry.volume):
        moved(subject)


def test_the_hydra_configuration_of_the_twin_makes_it_again(pool, subject):
    result = SyntheticAugment(pool, p=1, include=["t2w"])(subject)
    config = result.history[0].to_hydra_config()
    assert config.pop("_target_") == "synthaug.augment.transform.Synthesize"
    assert json.loads(json.dumps(config)) == config
    assert same_voxels(Synthesize(**config)(subject), result)


def test_it_works_inside_compose_and_the_whole_history_replays(pool, tiny_subjects):
    compose = tio.Compose([tio.RandomFlip(p=1), SyntheticAugment(pool, p=1), tio.RandomNoise(std=0.1)])
    result = compose(tiny_subjects[0])
    assert [entry.name for entry in result.history] == ["Flip", "Synthesize", "Noise"]
    assert same_voxels(result.get_composed_history()(tiny_subjects[0]), result)
    assert not any(same_voxels(result, volume) for volume in volumes_of(pool, tiny_subjects[0]["label"]))


def test_it_works_inside_one_of(pool, subject):
    one_of = tio.OneOf({SyntheticAugment(pool, p=1): 0.5, tio.RandomNoise(std=0.1): 0.5})
    seen = Counter(one_of(subject)["synthetic"] for _ in range(40))
    assert set(seen) == {True, False}


def test_it_works_in_a_dataset_whose_loader_collates_the_mixture(pool, tiny_subjects):
    dataset = tio.SubjectsDataset(tiny_subjects, transform=SyntheticAugment(pool, p=0.5))
    (batch,) = tio.SubjectsLoader(dataset, batch_size=12)
    assert batch["t2w"]["data"].shape == (12, 1, 16, 16, 8)
    assert 0 < batch["synthetic"].sum() < 12
    assert batch["label"].tolist() == [subject["label"] for subject in tiny_subjects]


def test_it_works_in_a_queue_of_patches(pool, tiny_subjects):
    dataset = tio.SubjectsDataset(tiny_subjects[:4], transform=SyntheticAugment(pool, p=1))
    queue = tio.Queue(dataset, max_length=8, samples_per_volume=2, sampler=tio.UniformSampler(8), num_workers=0)
    batches = list(tio.SubjectsLoader(queue, batch_size=4))
    assert [batch["t2w"]["data"].shape for batch in batches] == [(4, 1, 8, 8, 8)] * 2
    assert all(batch["synthetic"].all() for batch in batches)


def test_include_leaves_other_images_and_label_maps_alone(pool, subject):
    rich = tio.Subject(
        **subject,
        adc=tio.ScalarImage(tensor=torch.rand(1, 16, 16, 8)),
        gland=tio.LabelMap(tensor=torch.ones(1, 16, 16, 8)),
    )
    for augment in (
        SyntheticAugment(pool, p=1, include=["t2w"]),
        SyntheticAugment(pool, p=1, exclude=["adc", "gland"]),
    ):
        result = augment(rich)
        assert not torch.equal(result["t2w"].data, rich["t2w"].data)
        assert torch.equal(result["adc"].data, rich["adc"].data)
        assert torch.equal(result["gland"].data, rich["gland"].data)
        assert result["synthetic"] is True
        assert torch.equal(result.get_composed_history()(rich)["adc"].data, rich["adc"].data)


def test_an_image_or_label_map_of_the_real_patient_is_not_left_beside_a_synthetic_one_unasked(pool, subject):
    tensor = torch.ones(1, 16, 16, 8)
    for other in (tio.ScalarImage(tensor=tensor), tio.LabelMap(tensor=tensor)):
        with pytest.raises(InputError, match="no image 'other'; pass include="):
            SyntheticAugment(pool, p=1)(tio.Subject({**subject, "other": other}))


@pytest.mark.parametrize(
    ("chosen", "words"), [({"include": ["t2"]}, "no image 't2'"), ({"exclude": ["t2w"]}, "no image to replace")]
)
def test_a_choice_that_replaces_nothing_is_refused(pool, subject, chosen, words):
    with pytest.raises(InputError, match=words):
        SyntheticAugment(pool, p=1, **chosen)(subject)


def test_a_real_image_may_be_kept_beside_the_synthetic_one(pool, subject):
    result = SyntheticAugment(pool, p=1, keep={"t2w": "real"})(subject)
    assert torch.equal(result["real"].data, subject["t2w"].data)
    assert not torch.equal(result["t2w"].data, subject["t2w"].data)


def test_balance_needs_no_volumes_of_a_class_that_needs_none(tiny_pipeline, tiny_subjects, tmp_path):
    only_positive = build_pool(tiny_pipeline, tiny_subjects, tmp_path, per_class={1: 1})
    augment = SyntheticAugment(only_positive, p=1 / 3, target="balance", class_counts={0: 30, 1: 10})
    assert {augment(s)["label"] for s in tiny_subjects} == {0, 1}


def test_a_subject_that_is_not_replaced_has_no_history_and_is_not_even_copied(pool, subject):
    untouched = SyntheticAugment(pool, p=0)(subject)
    assert untouched is subject
    assert untouched.history == []


def test_the_kept_real_image_comes_back_in_the_replay(pool, subject):
    result = SyntheticAugment(pool, p=1, keep={"t2w": "real"})(subject)
    for again in (result.get_composed_history(), Synthesize(**plain(result.history[0].to_hydra_config()))):
        replayed = again(subject)
        assert same_voxels(replayed, result)
        assert torch.equal(replayed["real"].data, subject["t2w"].data)


def plain(config):
    """A configuration after its way through a file, without the name of the class."""
    config = yaml.safe_load(yaml.safe_dump(config))
    assert config.pop("_target_").startswith("synthaug.augment.transform.Synth")
    return config


@pytest.mark.parametrize(
    "settings",
    [
        {"p": 0.8, "target": "same", "include": ["t2w"]},
        {"p": 0.9, "target": {0: 1.0, 1: 3.0}, "keep": {"t2w": "real"}},
        {"p": 0.6, "target": "balance", "class_counts": {0: 30, 1: 10}, "exclude": ["adc"]},
    ],
)
def test_the_hydra_configuration_of_the_random_transform_makes_it_again(pool, tiny_subjects, settings):
    augment = SyntheticAugment(pool, **settings)
    again = SyntheticAugment(**plain(augment.to_hydra_config()))
    assert repr(again) == repr(augment)
    results = []
    for transform in (augment, again):
        torch.manual_seed(1)
        results.append([transform(subject) for subject in tiny_subjects])
    assert {subject["synthetic"] for subject in results[0]} == {True, False}
    assert all(same_voxels(*pair) and set(pair[0]) == set(pair[1]) for pair in zip(*results, strict=True))


def test_the_hydra_configuration_of_a_whole_composition_holds_it(pool, subject):
    config = tio.Compose([SyntheticAugment(pool, p=1), tio.Flip(axes=(0,))]).to_hydra_config()
    again = SyntheticAugment(**plain(config["transforms"][0]))
    assert again(subject)["synthetic"] is True


def test_the_arguments_of_the_history_are_plain_whatever_was_passed(pool, subject):
    twin = Synthesize(pool.path, np.int64(1), torch.tensor(2))
    (entry,) = twin(subject).applied_transforms
    assert json.loads(json.dumps(entry)) == ["Synthesize", entry[1]]
    assert (entry[1]["source"], entry[1]["target"], entry[1]["index"]) == (str(pool.path), 1, 2)


def test_one_of_writes_into_the_history_what_it_chose(pool, subject):
    one_of = tio.OneOf([SyntheticAugment(pool, p=1), tio.RandomNoise(std=0.1)])
    results = [one_of(subject) for _ in range(12)]
    assert {result.history[0].name for result in results} == {"Synthesize", "Noise"}
    assert all(same_voxels(result.get_composed_history()(subject), result) for result in results)


def test_a_queue_keeps_patch_and_label_together(pool, tiny_subjects):
    dataset = tio.SubjectsDataset(tiny_subjects[:4], transform=SyntheticAugment(pool, p=0.5))
    queue = tio.Queue(dataset, max_length=8, samples_per_volume=2, sampler=tio.UniformSampler(8), num_workers=0)
    (batch,) = tio.SubjectsLoader(queue, batch_size=8)
    labels = {subject["subject_id"]: subject["label"] for subject in tiny_subjects}
    labels |= {s["subject_id"]: s["label"] for label in (0, 1) for s in volumes_of(pool, label)}
    assert batch["t2w"]["data"].shape == (8, 1, 8, 8, 8)
    assert batch["label"].tolist() == [labels[name] for name in batch["subject_id"]]


def test_copy_false_works_in_place_as_in_torchio(pool, subject):
    mine = copy.deepcopy(subject)
    result = SyntheticAugment(pool, p=1, copy=False)(mine)
    assert result is mine
    assert mine["synthetic"] is True


def test_arrays_and_images_without_a_class_are_refused(pool, subject):
    with pytest.raises(InputError, match="no 'label'"):
        SyntheticAugment(pool, p=1)(subject["t2w"])
    with pytest.raises(InputError, match="no image 'default_image_name'"):
        SyntheticAugment(pool, p=1, target={1: 1.0})(subject["t2w"].data)


def test_a_composition_is_inverted_after_the_image_was_replaced(pool, subject):
    compose = tio.Compose([tio.RandomFlip(axes=0, flip_probability=1), SyntheticAugment(pool, p=1), tio.Pad(2)])
    result = compose(subject)
    back = result.apply_inverse_transform(warn=False)
    assert result["t2w"].spatial_shape == (20, 20, 12)
    assert any(
        torch.equal(back["t2w"].data, volume["t2w"].data.flip(1)) for volume in volumes_of(pool, subject["label"])
    )
    assert same_voxels(compose.inverse(warn=False)(result), tio.Compose([tio.Pad(2)]).inverse()(result))
