import json

import numpy as np
import pytest
import torch
from small_pool import SAMPLING, build_pool

from synthaug.augment.pool import reports_by_class
from synthaug.augment.source import LiveSource, as_source, open_source
from synthaug.config import SamplingConfig
from synthaug.errors import InputError


@pytest.fixture
def live(tiny_pipeline, tiny_subjects):
    """Makes a live source; every call another object with the same settings but for ``changes``."""
    reports = reports_by_class(tiny_subjects)
    return lambda **changes: LiveSource(tiny_pipeline, reports, **({"sampling": SAMPLING, "seed": 5} | changes))


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
    assert len(source._blocks[0, 1]) == 2
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


def test_what_is_no_source_is_refused(live, tiny_pipeline, tmp_path):
    with pytest.raises(InputError, match="no synthetic pool there"):
        as_source(tmp_path)
    with pytest.raises(InputError, match="not loaded here"):
        open_source("live:unknown")
    with pytest.raises(InputError, match="LiveSource"):
        as_source(tiny_pipeline)
    with pytest.raises(InputError, match="class 1 has none"):
        LiveSource(tiny_pipeline, {0: ["a"], 1: []})
    with pytest.raises(InputError, match="class 0 has none"):
        LiveSource(tiny_pipeline, {})
    with pytest.raises(InputError, match="no report of class 2"):
        live().subject(2, 0)
