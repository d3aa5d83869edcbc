"""Filters of a pool: the share that ranks first is kept, the pool stays whole, and another choice is another pool."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import IMAGES, TINY_PREPROCESSING
from small_pool import build_pool, plant

from synthaug.config import Config, DataConfig, PhantomConfig, PoolConfig, StudyConfig
from synthaug.ground.errors import InputError
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.prompts import WriterPrompts
from synthaug.study.grid import cells_of
from synthaug.study.running.studies import Studies
from synthaug.study.stages.filtering import AUDITOR, agreement
from synthaug.study.stages.making import make_pool
from synthaug.study.stages.preparation import Study

PHANTOM = PhantomConfig(n=26, seed=3, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))


def silent(name, total):
    return lambda *_: None


@pytest.fixture
def pool(tiny_pipeline, tmp_path):
    """Six volumes of each class."""
    return build_pool(tiny_pipeline, [], tmp_path / "pool", reports=WriterPrompts(), per_class={0: 6, 1: 6})


@pytest.fixture
def config(pool):
    return Config(
        data=DataConfig(phantom=PHANTOM),
        preprocess=TINY_PREPROCESSING,
        pool=PoolConfig(path=str(pool.path), keep=0.5),
    )


def read(config, by, out, **changes):
    return Study.read(replace(config, pool=replace(config.pool, filter=by, **changes)), out, silent)


def ids(pool, label):
    return [entry["id"] for entry in pool.entries(label)]


def test_distance_leaves_out_what_is_nearest_to_a_training_patient(config, pool, tmp_path):
    training = read(config, "none", tmp_path).split.train
    for label in (0, 1):
        for number, entry in enumerate(pool.entries(label)[:3]):
            plant(pool, entry, training[3 * label + number]["t2w"].data)
    study = read(config, "distance", tmp_path)
    kept = make_pool(study)
    assert kept.counts == {0: 3, 1: 3}
    for label in (0, 1):
        assert ids(kept, label) == ids(pool, label)[3:]  # in the order of the pool
    assert kept.refresh() == 0
    assert len(list((tmp_path / "filters").iterdir())) == 1
    assert len(SyntheticPool.open(pool.path)) == 12
    assert len(make_pool(read(config, "distance", tmp_path, keep=1.0))) == 12


def test_agreement_asks_a_classifier_of_the_training_patients_for_each_volumes_own_class(config, pool, tmp_path):
    study = read(config, "agreement", tmp_path)
    training = study.split.train
    for label in (0, 1):  # the same six volumes under either class
        for number, entry in enumerate(pool.entries(label)):
            plant(pool, entry, training[number]["t2w"].data)
    short = replace(AUDITOR, training=replace(AUDITOR.training, steps=8, warmup=0), evaluate_every=4)
    odds = agreement(study, SyntheticPool.open(pool.path), short)
    assert len(set(odds[:6])) == 6
    # What looks most like one class looks least like the other.
    np.testing.assert_allclose(odds[:6], -odds[6:], atol=1e-6)


def test_realism_keeps_what_looks_like_training_volumes(config, pool, tmp_path):
    split, draw = read(config, "none", tmp_path).split, torch.Generator().manual_seed(0)
    unseen = [*split.test, *split.val]
    for label in (0, 1):
        for number, entry in enumerate(pool.entries(label)):  # the first three are noise, the others other patients
            real = unseen[3 * label + number - 3]["t2w"].data
            plant(pool, entry, real if number >= 3 else torch.rand(real.shape, generator=draw))
    kept = make_pool(read(config, "realism", tmp_path))
    assert [ids(kept, label) for label in (0, 1)] == [ids(pool, label)[3:] for label in (0, 1)]


def test_each_choice_is_a_pool_of_its_own_and_real_arms_are_shared(config, tmp_path):
    axes = {"pool.filter": ["none", "distance"], "pool.keep": [0.25, 0.5]}
    study = StudyConfig(regimes=["real", "mixed"], seeds=[0], axes=axes)
    cells = cells_of(replace(config, study=study), Studies(tmp_path, silent).identify)
    assert [cell.regime for cell in cells].count("real") == 1
    pools = {(cell.settings["pool.filter"], cell.settings["pool.keep"]): cell.pool_id for cell in cells[1:]}
    assert pools["distance", 0.25] != pools["distance", 0.5]
    assert len({cell.id for cell in cells}) == len(cells) == 1 + 3  # unfiltered, the share says nothing
    with pytest.raises(InputError, match=r"pool\.keep"):
        PoolConfig(filter="distance", keep=0)


def test_chosen_volumes_are_a_source_like_any_other(config, pool, tmp_path):
    from synthaug.augment.sampler import SyntheticSampler

    study = read(config, "distance", tmp_path)
    sampler = SyntheticSampler(study.split.train, make_pool(study), batch_size=4, synthetic_fraction=0.5)
    batch = next(iter(sampler.loader()))
    assert batch[IMAGES[0]]["data"].shape[0] == 4
    assert SyntheticSampler(study.split.train, str(pool.path), batch_size=4).source.counts == {0: 6, 1: 6}
