from collections import Counter
from pathlib import Path

import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st
from small_pool import build_pool, imbalanced

from synthaug.augment.pool import SyntheticPool
from synthaug.augment.sampler import SyntheticSampler
from synthaug.data.manifest import CONVENTION
from synthaug.errors import InputError

SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=4)


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("sampler") / "pool")


def labelled(sizes):
    return [{"label": label} for label, size in enumerate(sizes) for _ in range(size)]


def listed(classes, volumes=1):
    """A pool of ``volumes`` a class, of which only the list is read."""
    entries = [{"label": label, "index": index} for label in range(classes) for index in range(volumes)]
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
    percent=st.sampled_from([None, 1, 30, 50, 80, 100]),
    ranks=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_batch_of_every_rank_is_exactly_balanced_the_last_one_too(sizes, per_class, percent, ranks):
    for rank in range(ranks):
        sampler = SyntheticSampler(
            labelled(sizes),
            listed(len(sizes)),
            batch_size=per_class * len(sizes),
            synthetic_fraction=percent and percent / 100,
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


def test_batches_are_the_same_bits_with_0_1_and_2_workers_whatever_the_global_generator(tiny_subjects, pool):
    def batches(workers):
        torch.manual_seed(workers)
        sampler = SyntheticSampler(imbalanced(tiny_subjects), pool, batch_size=4, synthetic_fraction=0.5, seed=3)
        return list(sampler.loader(num_workers=workers, transform=tio.RandomNoise(std=0.1)))

    reference = batches(0)
    for workers in (1, 2):
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
        ([4, 2], None, {"batch_size": 2, "rank": -1}, "rank=-1"),
        ([4], None, {"batch_size": 2}, "two classes needed"),
        ([4, 2], "no/such/pool", {"batch_size": 2}, "no synthetic pool there"),
    ],
)
def test_what_cannot_be_sampled_is_refused(sizes, source, settings, words):
    with pytest.raises(InputError, match=words):
        SyntheticSampler(labelled(sizes), source, **settings)


def test_a_class_that_needs_no_filling_may_be_missing_from_the_source():
    sampler = SyntheticSampler(labelled([2, 4]), listed(1), batch_size=2)
    assert len(sampler) == 4
