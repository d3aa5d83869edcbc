import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_pool import SAMPLING, build_pool

from synthaug.augment.sampler import SyntheticSampler
from synthaug.augment.source import LiveSource, as_source, open_source
from synthaug.augment.transform import SyntheticAugment
from synthaug.config import SamplingConfig
from synthaug.data.reading.manifest import CONVENTION
from synthaug.ground.errors import InputError
from synthaug.ground.files import write_json
from synthaug.pool.pool import SyntheticPool, reports_by_class
from synthaug.pool.prompts import TextPrompts


@pytest.fixture
def live(tiny_pipeline, tiny_subjects):
    """Makes a live source; every call another object with the same settings but for ``changes``."""
    made = []

    def make(**changes):
        settings = {"reports": reports_by_class(tiny_subjects), "sampling": SAMPLING, "seed": 5} | changes
        made.append(LiveSource(tiny_pipeline, **settings))
        return made[-1]

    yield make
    for source in made:
        source.close()


def voxels(source, label, index):
    return source.subject(label, index)["t2w"].data


def test_a_subject_is_the_same_whatever_was_asked_before_and_however_few_blocks_are_kept(live):
    places = [(1, 9), (0, 0), (1, 0), (0, 3), (1, 1), (1, 9)]
    first, second = live(), live(keep=1)
    forward = {place: voxels(first, *place) for place in places}
    backward = {place: voxels(second, *place) for place in reversed(places)}
    assert all(torch.equal(forward[place], backward[place]) for place in places)
    assert len({volume.sum().item() for volume in forward.values()}) == 5
    assert torch.equal(voxels(first, 0, 0), forward[0, 0])


def test_the_micro_batch_is_the_one_of_the_sampling_and_the_pipeline_stays_as_it_is(live, tiny_pipeline):
    source = live(sampling=SamplingConfig(steps=1, micro_batch=2, scheduler="ddim"))
    scheduler = tiny_pipeline.scheduler
    provenance = json.loads(source.subject(0, 3)["provenance"])
    assert (provenance["micro_batch"], provenance["scheduler"]) == (2, "ddim")
    assert len(source._blocks[0, 1].result()) == 2
    assert tiny_pipeline.config.micro_batch == 4
    assert tiny_pipeline.scheduler is scheduler


def test_another_seed_gives_other_volumes_at_another_address(live):
    assert not torch.equal(voxels(live(), 0, 0), voxels(live(seed=6), 0, 0))
    assert live().address != live(seed=6).address


def test_live_and_pooled_subjects_have_the_same_keys_provenance_fields_and_geometry(
    live, tiny_pipeline, tiny_subjects, tmp_path
):
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path)
    pooled, drawn = pool.subject(1, 0), live().subject(1, 0)
    assert set(drawn) == set(pooled) == set(tiny_subjects[0])
    assert set(json.loads(drawn["provenance"])) == set(json.loads(pooled["provenance"]))
    assert np.array_equal(drawn["t2w"].affine, pooled["t2w"].affine)
    assert drawn["t2w"].data.shape == pooled["t2w"].data.shape
    assert (drawn["label"], drawn["synthetic"]) == (1, True)
    assert drawn["report"] in reports_by_class(tiny_subjects)[1]


def test_a_bounded_source_counts_modulo_its_size(live):
    source = live(per_class=3)
    assert source.counts == {0: 3, 1: 3}
    assert source.subject(0, 7)["subject_id"] == source.subject(0, 1)["subject_id"]


def test_a_live_source_is_found_by_its_address(live):
    source = live()
    assert open_source(source.address) is source
    assert as_source(source.address) is source
    assert as_source(source) is source


def test_a_pool_that_grew_is_opened_anew_by_its_path(tiny_pipeline, tiny_subjects, tmp_path):
    build_pool(tiny_pipeline, tiny_subjects, tmp_path, per_class={0: 1})
    assert as_source(tmp_path).counts == {0: 1}
    build_pool(tiny_pipeline, tiny_subjects, tmp_path, per_class={0: 2})
    assert as_source(str(tmp_path)).counts == {0: 2}
    assert open_source(as_source(tmp_path).address).counts == {0: 2}


def test_a_pool_has_the_same_address_however_its_path_is_written(tiny_pipeline, tiny_subjects, tmp_path, monkeypatch):
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool", per_class={0: 1})
    monkeypatch.chdir(tmp_path)
    assert as_source("pool").address == pool.address


@pytest.fixture
def audited(tiny_pipeline, tiny_subjects, tmp_path):
    """A pool whose first volume of class 1 an audit has dropped, and the id of that volume."""
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path / "audited")
    copy, *_ = [entry["id"] for entry in pool.entries(1)]
    found = {entry["id"]: {"copy": entry["id"] == copy} for label in (0, 1) for entry in pool.entries(label)}
    write_json(pool.path / "audit.json", {"volumes": found, "dropped": True})
    return SyntheticPool.open(pool.path), copy


def test_a_pool_with_its_copies_or_a_selection_never_stands_for_the_audited_one(audited, tiny_subjects):
    pool, copy = audited
    augment = SyntheticAugment(pool, p=1, target={1: 1})
    for other in (SyntheticPool.open(pool.path, whole=True), pool.only([pool.entries(1)[0]["id"]])):
        assert other.address != pool.address
        SyntheticAugment(other, p=1, target={1: 1})
        assert open_source(augment.source).counts == {0: 3, 1: 4}
        assert open_source(other.address) is other
    drawn = {augment(tiny_subjects[0])["subject_id"] for _ in range(30)}
    assert f"synthetic-{copy}" not in drawn
    assert len(drawn) == 4


def test_the_address_of_a_pool_opens_the_same_volumes_where_none_is_open(audited, tmp_path):
    pool, copy = audited
    whole = SyntheticPool.open(pool.path, whole=True)
    chosen = whole.only([copy, pool.entries(0)[1]["id"]])
    addresses = {as_source(source).address: source.identity for source in (pool, whole, chosen)}
    assert len(addresses) == 3
    before, elsewhere = (str(path.resolve()) for path in (pool.path, tmp_path / "elsewhere"))
    shutil.copytree(before, elsewhere)  # of which nothing is open, as in a process that was spawned
    moved = {address.replace(before, elsewhere): identity for address, identity in addresses.items()}
    assert {address: open_source(address).identity for address in moved} == moved
    assert {address: as_source(address).identity for address in moved} == moved
    with pytest.raises(InputError, match="lacks 1 of the 2"):
        open_source(chosen.address.replace(copy, "0" * 16))


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_live_subject_is_the_pools_whatever_is_generated_ahead(live, tiny_pipeline, tiny_subjects, tmp_path, ahead):
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path, per_class={0: 6, 1: 6}, seed=5)
    with live(ahead=ahead, keep=1) as source:
        for place in [(1, 5), (0, 0), (1, 0), (0, 5), (0, 4)]:
            drawn, pooled = source.subject(*place), pool.subject(*place)
            assert torch.equal(drawn["t2w"].data, pooled["t2w"].data)
            assert {k: drawn[k] for k in CONVENTION} == {k: pooled[k] for k in CONVENTION}


def test_the_thread_computes_with_as_many_threads_as_the_process(live):
    torch.set_num_threads(2)
    try:
        with live(ahead=0) as source:
            assert json.loads(source.subject(0, 0)["provenance"])["threads"] == 2
    finally:
        torch.set_num_threads(1)


def test_the_next_block_is_generated_without_being_asked_for_and_the_blocks_are_bounded(live):
    with live(ahead=2, keep=1) as source:
        source.subject(0, 0)
        assert list(source._blocks) == [(0, 0), (0, 1), (0, 2)]
        assert len(source._blocks[0, 2].result(timeout=60)) == SAMPLING.micro_batch
        made = source._blocks[0, 1].result(timeout=60)
        assert source.subject(0, 4) is made[0]  # handed out, not generated again
        for index in range(0, 40, 4):
            source.subject(1, index)
            assert len(source._blocks) <= 3


def test_a_small_source_runs_round_and_generates_no_block_twice_over(live):
    with live(ahead=5, per_class=6) as source:
        source.subject(0, 5)
        assert sorted(source._blocks) == [(0, 0), (0, 1)]


class Prepared(TextPrompts):
    """Prompts before each of which something happens."""

    def __init__(self, texts, before):
        super().__init__(texts)
        self.before = before

    def report(self, *place, **options):
        self.before()
        return super().report(*place, **options)


def test_a_failure_passes_with_the_call_that_met_it(live, tiny_subjects):
    faults = [RuntimeError("out of memory")]
    prompts = Prepared(reports_by_class(tiny_subjects), lambda: faults and fail(faults.pop()))
    with live(ahead=0, reports=prompts) as source:
        with pytest.raises(RuntimeError, match="out of memory"):
            source.subject(0, 0)
        assert source.subject(0, 0)["label"] == 0


def fail(error):
    raise error


def test_one_of_two_live_sources_of_one_address_may_be_closed(live, tiny_subjects):
    first, second = live(), live()
    sampler = SyntheticSampler(tiny_subjects, second, batch_size=2, synthetic_fraction=0.5)
    second.close()
    assert open_source(first.address) is first
    with pytest.raises(InputError, match="closed"):
        next(iter(sampler.loader()))


def test_no_block_that_a_thread_waits_for_is_called_off(live, tiny_subjects):
    allowed = threading.Event()
    prompts = Prepared(reports_by_class(tiny_subjects), lambda: allowed.wait(60))
    with live(ahead=0, keep=1, reports=prompts) as source, ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(source.subject, number % 2, 1000 * number) for number in range(4)]
        while sum(source._waited_for.values()) < 4:
            time.sleep(0.001)
        allowed.set()
        assert [each.result()["label"] for each in asked] == [0, 1, 0, 1]
    assert not source._waited_for


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_loader_with_workers_is_refused_in_clear_words(live, tiny_subjects, context):
    with live() as source:
        sampler = SyntheticSampler(tiny_subjects, source, batch_size=2, synthetic_fraction=0.5)
        assert len(next(iter(sampler.loader()))["label"]) == 2
        with pytest.raises(InputError, match="use num_workers=0, or build a SyntheticPool"):
            list(sampler.loader(num_workers=1, multiprocessing_context=context))


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"ahead": -1}, {"per_class": 0}])
def test_numbers_out_of_range_are_refused(live, wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        live(**wrong)


def test_what_is_no_source_is_refused(live, tiny_pipeline, tmp_path):
    with pytest.raises(InputError, match="no synthetic pool there"):
        as_source(tmp_path)
    with pytest.raises(InputError, match="not loaded here"):
        open_source("live:unknown")
    with pytest.raises(InputError, match="LiveSource"):
        as_source(tiny_pipeline)
    with pytest.raises(InputError, match="No report of class 1"):
        LiveSource(tiny_pipeline, {0: ["a"], 1: []})
    with pytest.raises(InputError, match="class 0 has none"):
        LiveSource(tiny_pipeline, {})
    with pytest.raises(InputError, match="no report of class 2"):
        live().subject(2, 0)
