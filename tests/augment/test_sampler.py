import json
import random
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import monai.transforms
import numpy as np
import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st
from small_pool import build_pool, imbalanced
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from synthaug.augment.plan import ClassShare, Draw, EpochPlan
from synthaug.augment.sampler import MixedSubjects, SyntheticSampler
from synthaug.data.reading.manifest import CONVENTION
from synthaug.ground.errors import InputError
from synthaug.pool.pool import SyntheticPool

SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=4)


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("sampler") / "pool")


def labelled(sizes):
    return [{"label": label} for label, size in enumerate(sizes) for _ in range(size)]


def listed(classes, volumes=1):
    """A pool of ``volumes`` a class, of which only the list is read."""
    places = [(label, index) for label in range(classes) for index in range(volumes)]
    entries = [{"id": f"{label}-{index}", "label": label, "index": index} for label, index in places]
    return SyntheticPool(Path("nowhere"), {"images": ["t2w"]}, entries)


def members(sampler):
    return Counter(draw[2:] for batch in sampler for draw in batch)


def same(left, right):
    return (
        torch.equal(left["t2w"]["data"], right["t2w"]["data"])
        and torch.equal(left["label"], right["label"])
        and left["subject_id"] == right["subject_id"]
    )


@given(
    sizes=SIZES,
    per_class=st.integers(1, 5),
    mode=st.sampled_from([("add", None), ("add", 1), ("add", 50), ("add", 100), ("replace", 30), ("synthetic", None)]),
    ranks=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_batch_of_every_rank_is_exactly_balanced_the_last_one_too(sizes, per_class, mode, ranks):
    for rank in range(ranks):
        sampler = SyntheticSampler(
            labelled(sizes),
            listed(len(sizes)),
            batch_size=per_class * len(sizes),
            mode=mode[0],
            synthetic_fraction=mode[1] and mode[1] / 100,
            rank=rank,
            ranks=ranks,
        )
        batches = list(sampler)
        assert len(batches) == len(sampler)
        for batch in batches:
            assert Counter(draw.label for draw in batch) == dict.fromkeys(range(len(sizes)), per_class)


@given(sizes=SIZES, per_class=st.integers(1, 5), epoch=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_epoch_uses_every_real_subject_and_repeats_the_largest_class_only_to_fill_the_last_batch(
    sizes, per_class, epoch
):
    sampler = SyntheticSampler(labelled(sizes), None, batch_size=per_class * len(sizes))
    sampler.set_epoch(epoch)
    used = members(sampler)
    assert set(used) == {(False, label, index) for label, size in enumerate(sizes) for index in range(size)}
    largest = sizes.index(max(sizes))
    repeats = sum(count - 1 for (_, label, _), count in used.items() if label == largest)
    assert repeats == -max(sizes) % per_class


def test_an_epoch_uses_each_subject_of_the_largest_class_once_where_the_batch_divides():
    used = members(SyntheticSampler(labelled([12, 5]), listed(2), batch_size=4))
    assert {used[False, 0, index] for index in range(12)} == {1}
    assert {used[False, 1, index] for index in range(5)} == {1}  # filled with synthetic subjects, not with repeats
    assert sum(count for (synthetic, *_), count in used.items() if synthetic) == 7


def test_fraction_one_draws_no_real_subject():
    sampler = SyntheticSampler(labelled([7, 3]), listed(2), batch_size=4, synthetic_fraction=1)
    assert all(draw.synthetic for batch in sampler for draw in batch)
    assert len(sampler) == 4


@given(sizes=SIZES, percent=st.integers(1, 99))
@settings(max_examples=60, deadline=None)
def test_the_share_of_synthetic_draws_is_the_one_asked_for(sizes, percent):
    sampler = SyntheticSampler(
        labelled(sizes), listed(len(sizes)), batch_size=len(sizes), synthetic_fraction=percent / 100
    )
    draws = [draw for batch in sampler for draw in batch]
    for label, size in enumerate(sizes):
        of_class = [draw.synthetic for draw in draws if draw.label == label]
        assert sum(of_class) == len(of_class) - size
        assert sum(of_class) * 100 >= percent * len(of_class)


@given(sizes=SIZES, per_class=st.integers(1, 3), ranks=st.integers(2, 4), epoch=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_ranks_share_out_the_epoch_of_one_rank_disjoint_and_equal_in_length(sizes, per_class, ranks, epoch):
    def draws(batch_size, **rank):
        sampler = SyntheticSampler(labelled(sizes), listed(len(sizes)), batch_size=batch_size, **rank)
        sampler.set_epoch(epoch)
        return [draw for batch in sampler for draw in batch]

    size = per_class * len(sizes)
    parts = [draws(size, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    together = [draw for part in parts for draw in part]
    assert len({draw.slot for draw in together}) == len(together)
    assert sorted(together) == sorted(draws(size * ranks))


@pytest.mark.parametrize(
    ("sizes", "fraction", "told"), [([6, 6], None, True), ([6, 2], None, False), ([6, 6], 0.5, False)]
)
def test_balanced_classes_that_leave_no_room_for_synthetic_subjects_are_told(sizes, fraction, told, caplog):
    SyntheticSampler(labelled(sizes), listed(2), batch_size=4, synthetic_fraction=fraction)
    assert any("synthetic_fraction" in line for line in caplog.messages) == told


def test_an_epoch_repeats_and_another_epoch_or_seed_differs():
    def order(epoch, seed=0):
        sampler = SyntheticSampler(labelled([9, 4]), None, batch_size=2, seed=seed)
        sampler.set_epoch(epoch)
        return [draw[2:] for batch in sampler for draw in batch]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != order(0, seed=1)


def test_later_epochs_walk_on_through_a_larger_pool():
    sampler = SyntheticSampler(labelled([5, 2]), listed(2, volumes=9), batch_size=2)
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen += [draw.member for batch in sampler for draw in batch if draw.synthetic]
    assert sorted(seen) == list(range(9))


def test_batches_are_the_same_bits_with_0_1_2_and_4_workers_whatever_the_global_generator(tiny_subjects, pool):
    def batches(workers):
        torch.manual_seed(workers)
        sampler = SyntheticSampler(imbalanced(tiny_subjects), pool, batch_size=4, synthetic_fraction=0.5, seed=3)
        return list(sampler.loader(num_workers=workers, transform=tio.RandomNoise(std=0.1)))

    reference = batches(0)
    for workers in (1, 2, 4):
        others = batches(workers)
        assert len(others) == len(reference) == 4
        assert all(same(left, right) for left, right in zip(reference, others, strict=True))


def test_a_transform_draws_anew_for_each_epoch_and_slot_and_leaves_the_global_generator_alone(tiny_subjects):
    subject_of = {}
    noise = tio.RandomNoise(std=0.1)
    sampler = SyntheticSampler(imbalanced(tiny_subjects), None, batch_size=2)
    state = torch.get_rng_state()
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for batch in sampler:
            for draw in batch:
                subject_of[draw] = sampler.loader(transform=noise).dataset[draw]["t2w"].data
    list(sampler.loader(transform=noise))
    assert torch.equal(torch.get_rng_state(), state)
    repeated = [draw for draw in subject_of if draw.label == 1 and draw.member == 0]
    assert len(repeated) == 4
    assert len({subject_of[draw].sum().item() for draw in repeated}) == 4


def by_python(subject):
    subject["t2w"].set_data(subject["t2w"].data + random.random())
    return subject


def by_numpy(subject):
    subject["t2w"].set_data(subject["t2w"].data + np.random.rand())  # noqa: NPY002  # as many libraries do
    return subject


@pytest.mark.parametrize(
    "make",
    [
        lambda noise: by_python,
        lambda noise: by_numpy,
        lambda noise: tio.Lambda(noise),
        lambda noise: tio.Compose([tio.MonaiAdapter(monai.transforms.Compose([noise]))]),
        lambda noise: tio.OneOf({tio.MonaiAdapter(noise): 1.0}),
        lambda noise: lambda subject: tio.MonaiAdapter(noise)(subject),
    ],
)
def test_a_transform_may_draw_from_any_generator(tiny_subjects, make):
    transform = make(monai.transforms.RandGaussianNoise(prob=1.0))
    dataset = MixedSubjects(tiny_subjects, None, transform, seed=3)
    draws = [Draw(epoch, slot, False, 0, 0) for epoch, slot in ((0, 0), (0, 1), (1, 0))]
    states = repr(random.getstate()), repr(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    first = [dataset[draw]["t2w"].data for draw in draws]
    assert (repr(random.getstate()), repr(np.random.get_state()), torch.get_rng_state().tolist()) == states  # noqa: NPY002
    assert len({float(voxels.sum()) for voxels in first}) == 3
    again = [dataset[draw] for draw in draws[::-1]]
    assert all(torch.equal(left, right["t2w"].data) for left, right in zip(first[::-1], again, strict=True))


def test_ranks_give_a_subject_the_same_transform_as_one_rank_does(tiny_subjects, pool):
    def volumes(batch_size, **rank):
        sampler = SyntheticSampler(imbalanced(tiny_subjects), pool, batch_size=batch_size, **rank)
        return [volume for batch in sampler.loader(transform=tio.RandomNoise()) for volume in batch["t2w"]["data"]]

    parts = [volumes(2, rank=rank, ranks=2) for rank in range(2)]
    dealt = [parts[rank][2 * step + row] for step in range(2) for rank in range(2) for row in range(2)]
    assert torch.equal(torch.stack(dealt), torch.stack(volumes(4)))


@pytest.mark.parametrize("transform", [None, tio.RandomFlip()])
def test_real_and_synthetic_subjects_collate_under_the_convention(tiny_subjects, pool, transform):
    sampler = SyntheticSampler(imbalanced(tiny_subjects), pool, batch_size=8, synthetic_fraction=0.5)
    for batch in sampler.loader(transform=transform):
        assert set(batch) == {"t2w", *CONVENTION}
        assert batch["t2w"]["data"].shape == (8, 1, 16, 16, 8)
        assert batch["t2w"]["data"].dtype == torch.float32
        assert batch["label"].tolist() == [0, 1] * 4
        assert 0 < batch["synthetic"].sum() < 8
        assert [bool(line) for line in batch["provenance"]] == batch["synthetic"].tolist()


@pytest.mark.parametrize("transform", [None, tio.RandomFlip()])
def test_keys_that_not_every_subject_has_are_left_out_of_every_batch_and_told_once(
    tiny_subjects, pool, transform, caplog
):
    subjects = [tio.Subject(t2w=s["t2w"], label=s["label"], age=60) for s in tiny_subjects]
    subjects[0]["side"] = "left"
    sampler = SyntheticSampler(subjects, pool, batch_size=2, synthetic_fraction=0.5)
    batches = list(sampler.loader(transform=transform))
    assert {frozenset(batch) for batch in batches} == {frozenset({"t2w", *CONVENTION})}
    assert {flag for batch in batches for flag in batch["synthetic"].tolist()} == {True, False}
    (told,) = caplog.messages
    assert "'age', 'side'" in told
    assert subjects[0]["age"] == 60


@pytest.mark.parametrize("kind", [float, str, torch.tensor])
def test_synthetic_subjects_collate_in_the_types_of_the_real_ones(tiny_subjects, pool, kind):
    subjects = [
        tio.Subject(t2w=tio.ScalarImage(tensor=s["t2w"].data.double(), affine=s["t2w"].affine), label=kind(s["label"]))
        for s in tiny_subjects[3:9]
    ]
    loader = SyntheticSampler(subjects, pool, batch_size=2, synthetic_fraction=0.5).loader()
    one, *others = [(batch["t2w"]["data"].dtype, getattr(batch["label"], "dtype", str)) for batch in loader]
    assert one[0] == torch.float64
    assert set(others) == {one}


def test_a_real_subject_with_another_image_than_the_first_is_refused(tiny_subjects, pool):
    subjects = [tio.Subject(t2w=s["t2w"], label=s["label"]) for s in tiny_subjects]
    subjects[-1].add_image(subjects[-1]["t2w"], "adc")
    sampler = SyntheticSampler(subjects, pool, batch_size=2, synthetic_fraction=0.5)
    with pytest.raises(InputError, match="adc"):
        sampler.loader()


def test_volumes_not_read_yet_collate_without_a_transform(tiny_subjects, pool):
    sampler = SyntheticSampler(imbalanced(tiny_subjects), pool, batch_size=8, synthetic_fraction=1)
    (batch,) = sampler.loader()
    assert batch["t2w"]["data"].shape == (8, 1, 16, 16, 8)
    assert batch["t2w"]["affine"].shape == (8, 4, 4)


def test_a_transform_that_does_not_copy_leaves_the_real_subjects_untouched(tiny_subjects, pool):
    before = [subject["t2w"].data.clone() for subject in tiny_subjects]
    sampler = SyntheticSampler(tiny_subjects, pool, batch_size=4)
    list(sampler.loader(transform=tio.RandomNoise(std=1.0, copy=False)))
    assert all(torch.equal(old, subject["t2w"].data) for old, subject in zip(before, tiny_subjects, strict=True))


def test_a_folder_stands_for_its_pool(tiny_subjects, pool):
    opened, given_path = (
        SyntheticSampler(imbalanced(tiny_subjects), source, batch_size=4) for source in (pool, str(pool.path))
    )
    assert all(same(*pair) for pair in zip(opened.loader(), given_path.loader(), strict=True))


def test_without_a_source_the_smaller_class_is_oversampled_evenly():
    used = members(SyntheticSampler(labelled([9, 3]), None, batch_size=2))
    assert {used[False, 0, index] for index in range(9)} == {1}
    assert {used[False, 1, index] for index in range(3)} == {3}
    assert not any(synthetic for synthetic, *_ in used)


@pytest.mark.parametrize(
    ("sizes", "source", "settings", "words"),
    [
        ([4, 2], None, {"batch_size": 3}, "multiple of the 2 classes"),
        ([4, 2], None, {"batch_size": 0}, "multiple of the 2 classes"),
        ([4, 2, 1], listed(2), {"batch_size": 3}, "no volumes of class 2"),
        ([4, 2], None, {"batch_size": 2, "rank": 2, "ranks": 2}, r"rank=2 must lie in 0\.\.1"),
        ([4, 2], None, {"batch_size": 2, "rank": -1, "ranks": 1}, "rank=-1"),
        ([4, 2], None, {"batch_size": 2, "rank": 1}, "go together"),
        ([4], None, {"batch_size": 2}, "two classes needed"),
        ([4, 2], None, {"batch_size": 2, "synthetic_fraction": 0.5}, "pass a source"),
        ([4, 2], None, {"batch_size": 2, "mode": "synthetic"}, "pass a source"),
        ([4, 2], None, {"batch_size": 2, "sampling_strategy": 0.9}, "pass a source"),
        ([4, 2, 1], listed(2), {"batch_size": 3, "synthetic_fraction": [(0, 0.0), (9, 0.5)]}, "no volumes of class 2"),
        ([4, 2], "no/such/pool", {"batch_size": 2}, "no synthetic pool there"),
    ],
)
def test_what_cannot_be_sampled_is_refused(sizes, source, settings, words):
    with pytest.raises(InputError, match=words):
        SyntheticSampler(labelled(sizes), source, **settings)


def test_a_class_that_needs_no_filling_may_be_missing_from_the_source():
    sampler = SyntheticSampler(labelled([2, 4]), listed(1), batch_size=2)
    assert len(sampler) == 4


@given(sizes=SIZES, percent=st.integers(1, 99))
@settings(max_examples=60, deadline=None)
def test_replacing_keeps_the_epoch_and_takes_the_share_out_of_every_class(sizes, percent):
    plain = SyntheticSampler(labelled(sizes), None, batch_size=len(sizes))
    sampler = SyntheticSampler(
        labelled(sizes), listed(len(sizes)), batch_size=len(sizes), mode="replace", synthetic_fraction=percent / 100
    )
    assert len(sampler) == len(plain)
    largest = sizes.index(max(sizes))
    drawn = [draw for batch in sampler for draw in batch if draw.label == largest]
    assert len(drawn) == max(sizes)
    real = [draw.member for draw in drawn if not draw.synthetic]
    assert len(set(real)) == len(real) == max(sizes) - -(-max(sizes) * percent // 100)


def test_replacing_lets_the_epochs_take_turns_through_all_real_subjects():
    sampler = SyntheticSampler(labelled([9, 6]), listed(2), batch_size=2, mode="replace", synthetic_fraction=2 / 3)
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen += [draw.member for batch in sampler for draw in batch if draw.label == 0 and not draw.synthetic]
    assert sorted(seen) == list(range(9))
    assert seen[:3] != [0, 1, 2]


def test_synthetic_only_draws_no_real_subject():
    sampler = SyntheticSampler(labelled([7, 3]), listed(2), batch_size=4, mode="synthetic")
    assert all(draw.synthetic for batch in sampler for draw in batch)
    assert (len(sampler), sampler.real, sampler.synthetic) == (4, {0: 0, 1: 0}, {0: 7, 1: 7})


def test_a_ratio_fills_the_smaller_class_and_batches_stay_balanced():
    sampler = SyntheticSampler(labelled([8, 2]), listed(2, volumes=9), batch_size=4, sampling_strategy=0.5)
    draws = [draw for batch in sampler for draw in batch]
    assert sampler.synthetic == {0: 0, 1: 2}
    assert Counter(draw.label for draw in draws) == {0: 8, 1: 8}
    assert Counter(draw.synthetic for draw in draws if draw.label == 1) == {True: 4, False: 4}


@pytest.mark.parametrize("schedule", [[(0, 1.0), (4, 0.0)], lambda epoch: max(0.0, 1 - epoch / 4)])
def test_a_schedule_goes_from_synthetic_to_real_and_walks_on_through_the_pool(schedule):
    sampler = SyntheticSampler(
        labelled([8, 8]), listed(2, volumes=100), batch_size=2, mode="replace", synthetic_fraction=schedule
    )
    shares, members = [], []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        assert len(sampler) == 8
        synthetic = [draw for batch in sampler for draw in batch if draw.synthetic]
        shares.append(len(synthetic) / 16)
        members += [draw.member for draw in synthetic if draw.label == 0]
    assert shares == [1, 0.75, 0.5, 0.25, 0, 0]
    assert sorted(members) == list(range(20))


def test_an_epoch_is_the_same_whether_or_not_the_epochs_before_it_were_opened():
    arguments = {"batch_size": 2, "mode": "replace", "synthetic_fraction": [(0, 0.9), (9, 0.1)]}
    walked, jumped = (SyntheticSampler(labelled([8, 5]), listed(2, volumes=50), **arguments) for _ in range(2))
    for epoch in range(6):
        walked.set_epoch(epoch)
    jumped.set_epoch(5)
    assert list(walked) == list(jumped)


@given(sizes=SIZES, ranks=st.integers(1, 3), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_resumed_sampler_yields_the_batches_that_were_left(sizes, ranks, data):
    def sampler():
        return SyntheticSampler(
            labelled(sizes),
            listed(len(sizes), volumes=7),
            batch_size=len(sizes),
            synthetic_fraction=0.4,
            rank=ranks - 1,
            ranks=ranks,
        )

    first = sampler()
    first.set_epoch(2)
    whole = list(first)
    had = data.draw(st.integers(0, len(first)))
    state = json.loads(json.dumps(first.state_dict(consumed=had)))
    resumed = sampler()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    resumed.set_epoch(2)  # as many training loops do at the top of an epoch
    assert list(resumed) == whole[had:]
    resumed.set_epoch(2)
    assert list(resumed) == whole  # the next pass is whole again
    assert list(resumed) == list(first)  # and the one after it the next epoch, as in the loop that was not broken off
    assert resumed.epoch == first.epoch == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_resumes_after_the_batches_it_has_had_not_those_that_workers_have_begun(
    tiny_subjects, pool, workers
):
    def loader():
        sampler = SyntheticSampler(tiny_subjects, pool, batch_size=2, synthetic_fraction=0.5)
        return sampler.loader(num_workers=workers, transform=tio.RandomNoise(std=0.1))

    whole = list(loader())
    interrupted = loader()
    for number, _ in enumerate(interrupted, start=1):
        if number == 3:
            break
    state = interrupted.batch_sampler.state_dict()
    assert state["batch"] == 3
    resumed = loader()
    resumed.batch_sampler.load_state_dict(state)
    left = list(resumed)
    assert len(left) == len(whole) - 3
    assert all(same(*pair) for pair in zip(left, whole[3:], strict=True))
    assert resumed.batch_sampler.state_dict()["batch"] == len(whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_transform_of_a_data_set_is_drawn_anew_for_each_draw_and_for_real_subjects_only(
    pool, tiny_subjects, workers
):
    own_state = monai.transforms.RandGaussianNoised("t2w", prob=1.0, std=0.001)
    noise = tio.Compose([tio.RandomNoise(std=0.001), tio.MonaiAdapter(own_state)])

    def epochs(num_workers):
        dataset = tio.SubjectsDataset(tiny_subjects, transform=noise)
        loader = SyntheticSampler(dataset, pool, batch_size=4, synthetic_fraction=0.5).loader(num_workers=num_workers)
        drawn = [batch for _ in range(2) for batch in loader]
        return [
            (name, float(volume.sum()))
            for batch in drawn
            for name, volume in zip(batch["subject_id"], batch["t2w"]["data"], strict=True)
        ]

    found = epochs(workers)
    looks = {}
    for name, total in found:
        looks.setdefault(name, set()).add(total)
    real = [len(totals) for name, totals in looks.items() if not name.startswith("synthetic-")]
    assert len(real) == len(tiny_subjects)
    assert min(real) > 1
    assert all(len(totals) == 1 for name, totals in looks.items() if name.startswith("synthetic-"))
    assert found == epochs(0)


def test_a_pool_that_is_still_empty_stands_beside_classes_that_need_nothing_of_it(pool, tiny_subjects):
    loader = SyntheticSampler(tiny_subjects, pool.only([]), batch_size=4).loader()
    assert not any(synthetic for batch in loader for synthetic in batch["synthetic"])


def test_the_loader_is_torchios_own(tiny_subjects):
    assert isinstance(SyntheticSampler(tiny_subjects, None, batch_size=2).loader(), tio.SubjectsLoader)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed=0"),
        ({"batch_size": 4}, "batch_size=2"),
        ({"rank": 0, "ranks": 2}, "ranks=1"),
        ({"synthetic_fraction": 0.7}, "synthetic="),
        ({"source": listed(2)}, "5 volumes of class 0"),
    ],
)
def test_the_state_of_another_sampler_is_refused(change, words):
    arguments = {"source": listed(2, volumes=5), "batch_size": 2, "synthetic_fraction": 0.5}
    state = SyntheticSampler(labelled([4, 2]), **arguments).state_dict()
    other = SyntheticSampler(labelled([4, 2]), **(arguments | change))
    with pytest.raises(InputError, match=words):
        other.load_state_dict(state)
    with pytest.raises(InputError, match="missing"):
        other.load_state_dict({"epoch": 3})


def test_a_pool_that_grows_takes_part_from_the_next_epoch_and_leaves_a_saved_epoch_as_it_was():
    class Growing(SyntheticPool):
        size = 2

        @property
        def counts(self):
            return {0: self.size, 1: self.size}

    entries = [{"id": f"{label}", "label": label, "index": 0} for label in (0, 1)]
    pool = Growing(Path("nowhere"), {"images": ["t2w"]}, entries)

    def sampler():
        return SyntheticSampler(labelled([6, 6]), pool, batch_size=2, mode="synthetic")

    def used(sampler):
        return {draw.member for batch in sampler for draw in batch}

    first = sampler()
    state, before = first.state_dict(), list(first)
    pool.size = 12
    first.set_epoch(0)
    assert used(first) == {0, 1}
    resumed = sampler()
    resumed.load_state_dict(state)
    assert list(resumed) == before
    first.set_epoch(1)
    assert used(first) == set(range(6, 12))


@pytest.mark.parametrize("kept", [[1, 2, 3], [0, 2, 1, 3]])
def test_a_state_is_refused_where_other_volumes_stand_at_its_places(kept):
    def sampler(volumes):
        entries = [
            {"id": f"{label}-{each}", "label": label, "index": n} for label in (0, 1) for n, each in enumerate(volumes)
        ]
        pool = SyntheticPool(Path("nowhere"), {"images": ["t2w"]}, entries)
        return SyntheticSampler(labelled([6, 6]), pool, batch_size=2, mode="synthetic")

    state = json.loads(json.dumps(sampler([0, 1, 2]).state_dict()))
    sampler([0, 1, 2, 9]).load_state_dict(state)  # it has grown at the end
    with pytest.raises(InputError, match="other volumes"):
        sampler(kept).load_state_dict(state)
    del state["ids"]  # of an earlier version
    sampler(kept).load_state_dict(state)


def test_a_worker_whose_pool_has_grown_meanwhile_opens_it_again(tiny_pipeline, tiny_subjects, tmp_path):
    old = build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool", per_class={0: 1, 1: 1})
    grown = build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool", per_class={0: 2, 1: 2})
    dataset = MixedSubjects(tiny_subjects, old, None, seed=0)
    draw = Draw(epoch=0, slot=0, synthetic=True, label=1, member=1)
    assert dataset[draw]["subject_id"] == grown.subject(1, 1)["subject_id"]
    with pytest.raises(InputError, match="has lost volumes of class 1"):
        dataset[draw._replace(member=5)]


def test_ranks_are_those_of_torch_distributed_where_it_runs():
    distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=3)
    try:
        sampler = SyntheticSampler(labelled([7, 3]), None, batch_size=2)
        given = SyntheticSampler(labelled([7, 3]), None, batch_size=2, rank=0, ranks=1)
        assert (sampler.rank, sampler.ranks, len(sampler)) == (1, 3, 3)
        assert (given.rank, given.ranks, len(given)) == (0, 1, 7)
    finally:
        distributed.destroy_process_group()
    assert (sampler.rank, sampler.ranks, len(sampler)) == (0, 1, 7)  # as of now, not of when it was made


def test_ten_million_subjects_open_an_epoch_and_draw_anywhere_in_it_in_milliseconds():
    share = ClassShare(0, 9_000_000, 9_000_000, 0, 0, 0, 0)
    other = ClassShare(1, 1_000_000, 1_000_000, 0, 10_000, 8_000_000, 10**9)
    plan = EpochPlan(seed=0, epoch=99, per_class=4, shares=(share, other))
    tracemalloc.start()
    started = time.process_time()
    batches = [next(plan.batches(range(first, plan.places // 4))) for first in range(0, 2_200_000, 220_000)]
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(Counter(draw.label for draw in batch) == {0: 4, 1: 4} for batch in batches)
    assert seconds < 2  # about 0.1; writing the order down takes many seconds and hundreds of megabytes
    assert peak < 10e6


def test_orders_do_not_change_between_versions():
    sampler = SyntheticSampler(
        labelled([4, 2]), listed(2, volumes=9), batch_size=2, mode="replace", synthetic_fraction=0.5, seed=1
    )
    sampler.set_epoch(2)
    assert [tuple(draw[2:]) for batch in sampler for draw in batch] == [
        (True, 0, 4),
        (False, 1, 1),
        (False, 0, 3),
        (True, 1, 2),
        (True, 0, 5),
        (True, 1, 2),
        (False, 0, 0),
        (False, 1, 1),
    ]
