"""The phantom map at tiny size: whole cohorts alone, arms by name, a gain with its interval for each cohort."""

import json
from functools import partial

import pytest
from small_pool import build_pool
from tiny_study import STUDY

from synthaug.ground.errors import InputError
from synthaug.pool.prompts import WriterPrompts

TINY = {
    "data.phantom.n": 32,
    "data.phantom.shape": [16, 16, 8],
    "data.phantom.spacing_mm": [5.0, 5.0, 8.0],
    "preprocess.shape": [16, 16, 8],
    "preprocess.spacing_mm": [5.0, 5.0, 8.0],
    "preprocess.percentiles": [0.5, 99.5],
    "classifier.channels": STUDY["classifier"]["channels"],
    "classifier.pooling": 1,
    "classifier.evaluate_every": 1,
    "classifier.training.steps": 2,
    "classifier.training.batch_size": 4,
}


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/imbalance")


def test_the_map_at_tiny_size(script, tiny_pipeline, tmp_path, capsys):
    pool = build_pool(tiny_pipeline, [], tmp_path / "pool", reports=WriterPrompts(), per_class={0: 2, 1: 2})
    words = ["--pool", str(pool.path), "--out", str(tmp_path / "map"), "--seeds", "0", "--difficulties", "0.5"]
    words += ["--positives", "0.5", "0.05", "--sizes", "8"]
    words += [word for name, value in TINY.items() for word in (f"--{name}", json.dumps(value))]
    run = script("run")
    run.main(words)
    # One patient in twenty of 32 cannot stand twice in every part.
    assert capsys.readouterr().out.count("left out") == 1
    collect = script("collect")
    records = collect.read_records(tmp_path / "map")
    assert sorted(record.settings["arm"] for record in records) == sorted(run.ARMS)
    (row,) = collect.gains_of(records, resamples=20)
    assert (row["n"], row["positive_fraction"], row["seeds"]) == (8, 0.5, 1)
    assert row["low"] <= row["gain"] <= row["high"]
    assert run.ARMS[row["synthetic"]][0] == "mixed"
    assert run.ARMS[row["against"]][0] == "real"
    assert set(row["auroc"]) == set(run.ARMS)
    collect.main([str(tmp_path / "map"), "--out", str(tmp_path)])
    assert json.loads((tmp_path / "map.json").read_text(encoding="utf-8"))["rows"]
    assert (tmp_path / "gains.png").stat().st_size > 1000


def test_seeds_that_a_run_did_not_finish_are_left_out(script):
    from synthaug.study.records import CellRecord

    records = [CellRecord("real", seed, settings={"arm": arm}) for arm, seed in (("a", 0), ("b", 0), ("a", 1))]
    assert [record.seed for record in script("collect")._of_whole_seeds(records)] == [0, 0]
    with pytest.raises(InputError, match="no finished cell"):
        script("collect").read_records(script("collect").Path("absent"))
