"""The study of generators that see nobody but the classifier's training people: who is dealt where, and the chain."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from synthaug.bench.options.parsing import read_config
from synthaug.study.grid import describe_cells


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/same_cohort")


def test_the_test_people_stay_and_the_others_are_dealt_anew(script):
    prepare = script("prepare")
    people = pd.Series([1] * 93 + [0] * 77, index=[f"person-{k:03d}" for k in range(170)])
    dealt = [pd.Series(prepare.deal(people, repeat)) for repeat in range(prepare.REPEATS)]
    for parts in dealt:
        assert parts.value_counts().to_dict() == {"test": 80, "train": 74, "val": 16}
        shares = people.groupby(parts).mean()
        assert dict(shares) == pytest.approx({"test": 93 / 170, "train": 93 / 170, "val": 93 / 170}, abs=0.05)
        assert set(parts.index[parts == "test"]) == set(dealt[0].index[dealt[0] == "test"])
    assert len({frozenset(parts.index[parts == "val"]) for parts in dealt}) == prepare.REPEATS
    assert dealt[3].equals(pd.Series(prepare.deal(people, 3)))


def test_sizes_that_are_asked_for_stand_in_the_reports_under_their_side(script):
    chain = script("chain")
    config = read_config(["--config", str(chain.HERE / "study.yaml")], exits=False)
    reports, sizes = chain.ask(config.data)
    assert len(reports) == len(set(sizes)) == chain.VOLUMES
    assert (sizes.min(), sizes.max()) == chain.SIZES_MM3
    assert all(f"{size:.0f}" in report.replace(",", "") for report, size in zip(reports, sizes, strict=True))
    assert sum("left" in report.lower() for report in reports) == chain.VOLUMES // 2
    assert np.corrcoef(sizes, np.arange(chain.VOLUMES))[0, 1] == pytest.approx(0, abs=0.3)


def test_a_class_that_volumes_show_is_read_from_them_and_noise_shows_none(script):
    chain, draw = script("chain"), torch.Generator().manual_seed(1)
    labels = np.arange(60) % 2

    def volumes(strength):
        noise = torch.randn(60, 1, 8, 8, 4, generator=draw)
        noise[:, :, 2:6, 2:6] += strength * torch.from_numpy(labels).reshape(-1, 1, 1, 1, 1)
        return chain.seen([*noise])

    assert chain.auroc_of(volumes(1.0), labels, volumes(1.0), labels) > 0.9
    assert 0.25 < chain.auroc_of(volumes(1.0), labels, volumes(0.0), labels) < 0.75


def test_the_study_trains_a_generator_for_each_training_set(script):
    config = read_config(["--config", str(script("chain").HERE / "study.yaml")], exits=False)
    cells = describe_cells(config)
    assert {cell.regime for cell in cells} == {"real", "mixed", "synthetic", "finetuned"}
    assert config.pool.prompts == "relabelled"
    assert config.pool.generator is config.pool.path is config.generator.pretrained is None
