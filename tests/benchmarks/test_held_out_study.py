"""The study of builtin/ccella-hippocampus on people whom it never saw: who is dealt where, and what is compared."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from test_filtering_study import a_record

from synthaug.config import MetricsConfig
from synthaug.study.summary.aggregate import summarise


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/held_out")


def test_every_repeat_deals_all_people_and_both_classes_to_each_part(script):
    prepare = script("prepare")
    people = pd.Series([1] * 42 + [0] * 32, index=[f"person-{k:02d}" for k in range(74)])
    dealt = [prepare.deal(people, repeat) for repeat in range(prepare.REPEATS)]
    for parts in dealt:
        assert set(parts) == set(people.index)
        counts = pd.Series(parts).value_counts().to_dict()
        assert counts == {"train": 32, "test": 32, "val": 10}
        for part in counts:
            assert set(people[[name for name in parts if parts[name] == part]]) == {0, 1}
    assert dealt[0] == prepare.deal(people, 0)
    assert dealt[0] != dealt[1]


def test_reports_ask_for_what_their_class_says(script):
    rows = script("prepare").write_reports(np.arange(2000.0, 5000.0, 10.0), 3300.0, per_class=20)
    volumes = rows["report"].str.extract(r"volume (\d+)")[0].astype(int)
    assert ((volumes < 3300) == (rows["label"] == 1)).all()
    assert rows["label"].value_counts().to_dict() == {1: 20, 0: 20}
    assert volumes.nunique() == 40
    assert set(rows["patient_id"]) == {"none"}


def test_validation_chooses_the_share_and_each_arm_meets_real_data_of_both_augmentations(script):
    collect, records = script("collect"), []
    both = (collect.CLASSICAL, collect.LABELLED)
    for repeat in range(3):
        for augment, gain in ((["flip"], 0.0), ("labelled", 0.4)):
            settings = {"split.train": 16, "classifier.augment": augment, "split.file": f"split-{repeat}.csv"}
            records.append(a_record("real", repeat, strength=0.5 + gain, loss=0.9, **settings))
            for share, strength, loss in ((0.5, 3.0, 0.6), (0.75, 5.0, 0.8)):
                records.append(a_record("mixed", repeat, strength=strength, loss=loss, fraction=share, **settings))
    assert collect.chosen_shares(records) == {(16, "classical"): 0.5, (16, "labelled"): 0.5}
    summary = summarise(records, [], MetricsConfig(bootstrap=50, permutations=19))
    rows = collect.differences(summary, collect.chosen_shares(records))
    assert {row["share"] for row in rows if row["arm"] == "mixed"} == {0.5}
    mixed = [(row["augment"], row["less_real"]) for row in rows if row["arm"] == "mixed"]
    assert sorted(mixed) == sorted((one, other) for one in both for other in both)
    judged = {goal["augment"]: goal["holds"] for goal in collect.goals(rows)}
    assert judged == {"classical": True, "labelled": True}


def test_where_the_pool_lay_is_not_written_down(script, tmp_path):
    record = a_record("mixed", 0, strength=1.0, loss=0.5, fraction=0.5)
    (tmp_path / "cells").mkdir()
    told = replace(record, generator="/somewhere/held-out-pool").to_json()
    (tmp_path / "cells" / "one.json").write_text(json.dumps(told), encoding="utf-8")
    assert [each.generator for each in script("collect").read_records([tmp_path])] == ["held-out-pool"]
