"""A pool with an index is the pool without it, and an index that does not fit is passed over."""

import pickle

import pytest
import torch
from small_pool import PER_CLASS, build_pool

from synthaug.ground.errors import InputError
from synthaug.pool.index import INDEX, read_index, write_index
from synthaug.pool.pool import SyntheticPool


@pytest.fixture
def build(tiny_pipeline, tiny_subjects, tmp_path):
    return lambda **changes: build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool", **changes)


def with_index(pool):
    """The pool, opened by an index of its manifest."""
    lists = {label: pool.entries(label) for label in pool.classes}
    write_index(pool.path, {**lists, None: []}, pool.identity)
    assert read_index(pool.path)
    return SyntheticPool.open(pool.path)


def test_a_pool_opened_by_its_index_lists_the_same_and_reads_the_same(build):
    whole = build()
    assert not (whole.path / INDEX).exists()  # it is small
    indexed = with_index(whole)
    for each in (indexed, pickle.loads(pickle.dumps(indexed))):
        assert (each.counts, each.identity, len(each)) == (PER_CLASS, whole.identity, len(whole))
        assert [each.entries(label) for label in each.classes] == [whole.entries(label) for label in whole.classes]
        assert torch.equal(each.subject(1, 4)["t2w"].data, whole.subject(1, 4)["t2w"].data)
        assert each.subject(1, -1)["subject_id"] == whole.subject(1, 4)["subject_id"]
        assert (each.summary(), each.doubts()) == (whole.summary(), whole.doubts())
        each.verify()


def test_a_pool_that_grew_keeps_its_places_and_its_index_is_passed_over(build):
    indexed = with_index(build())
    sent = pickle.dumps(indexed)
    before = {label: indexed.entries(label) for label in indexed.classes}
    assert indexed.refresh() == 0
    grown = build(per_class={0: 5, 1: 6})
    assert read_index(grown.path) is None
    assert grown.counts == {0: 5, 1: 6}
    assert {label: indexed.entries(label) for label in indexed.classes} == before  # still the file that was opened
    with pytest.raises(InputError, match="has changed since the pool was opened"):
        pickle.loads(sent)
    assert indexed.refresh() == 3
    assert {label: indexed.entries(label)[: PER_CLASS[label]] for label in before} == before
    assert indexed.identity == grown.identity


def test_a_damaged_index_is_passed_over(build):
    pool = with_index(build())
    path = pool.path / INDEX
    content = bytearray(path.read_bytes())
    for place in (0, 70, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert read_index(pool.path) is None
        assert SyntheticPool.open(pool.path).identity == pool.identity
    path.write_bytes(b"")
    assert read_index(pool.path) is None


def test_an_index_is_of_all_volumes_or_not_written(build):
    pool = build()
    write_index(pool.path, {0: pool.entries(0), None: []}, pool.identity)  # another builder added the others
    assert not (pool.path / INDEX).exists()
