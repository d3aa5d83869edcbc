"""The prostate T2 study: reports that nobody has alone, arms that differ in their variant only, figures as by hand."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchio as tio
from torch import nn

from synthaug.config import Config, GeneratorConfig
from synthaug.data.reading.manifest import make_subject
from synthaug.data.splits import Split
from synthaug.metrics.features import module_extractor
from synthaug.metrics.fidelity import stated_volume_ml
from synthaug.models.variants import VARIANTS
from synthaug.study.stages.preparation import Study

FOLDER = Path(__file__).parents[2] / "benchmarks" / "studies" / "prostate_t2"


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/prostate_t2")


def subjects(count: int, *, seed: int, name: str) -> list[tio.Subject]:
    draw = torch.Generator().manual_seed(seed)
    return [
        make_subject(
            {"t2w": tio.ScalarImage(tensor=torch.rand(1, 16, 16, 8, generator=draw))},
            label=place % 2,
            subject_id=f"{name}-{place}",
            patient_id=f"{name}-{place}",
        )
        for place in range(count)
    ]


def a_study(tmp_path: Path) -> Study:
    parts = [subjects(n, seed=n, name=f"part-{n}") for n in (16, 2, 12)]
    return Study(Config(), tmp_path, lambda name, total: lambda *_: None, {0: 15, 1: 15}, Split(*parts))


def test_a_report_states_coil_sharpness_and_the_gland_that_is_read_back(script):
    prepare = script("prepare")
    report = prepare.write_report({"label": 0, "rough": 0.1, "gland_ml": 60})
    assert report.startswith("No coil. Soft.")
    assert stated_volume_ml(report) == 60
    assert report == prepare.write_report({"label": 0, "rough": 0.2, "gland_ml": 60})


def test_no_training_report_is_of_one_patient_alone_and_the_held_out_move_none(script, tmp_path, monkeypatch):
    prepare = script("prepare")
    (tmp_path / "images").mkdir()
    for place, subject in enumerate(subjects(40, seed=0, name="p")):
        subject["t2w"].save(tmp_path / "images" / f"{place}.nii.gz")
    rows = pd.DataFrame(
        {
            "subject_id": [f"p-{place}" for place in range(40)],
            "label": [place % 2 for place in range(40)],
            "t2w": [f"images/{place}.nii.gz" for place in range(40)],
            "measured_ml": np.random.default_rng(0).uniform(15, 120, 40),
            "rough": np.random.default_rng(1).uniform(0.2, 0.3, 40),
        }
    )
    rows.to_csv(tmp_path / "crops.csv", index=False)
    table = prepare.deal_out(tmp_path, seed=0)
    trained = table[table["part"] == "train"]
    assert trained["report"].value_counts().min() > 1
    assert "part" not in pd.read_csv(tmp_path / "manifest.csv")
    held_out = table[table["part"] != "train"]
    assert (held_out["gland_ml"] == held_out["measured_ml"].map(prepare.nearest_step)).all()


def test_every_variant_is_an_arm_and_differs_from_the_first_in_its_variant_only(script):
    run = script("run")
    assert set(run.ARMS) == set(VARIANTS)
    config = GeneratorConfig()
    for arm in run.ARMS:
        made = run.generator_of(config, arm)
        assert made.training == config.training
        assert made.variant == arm
    assert sum(run.deal_volumes({0: 38, 1: 24}, 75).values()) == 75


def test_a_ratio_of_distances_is_one_for_the_same_rows_and_lies_in_its_interval(script):
    collect = script("collect")
    rng = np.random.default_rng(0)
    real, near, far = (rng.normal(shift, 1, size=(30, 4)) for shift in (0, 1, 4))
    assert collect.ratio_interval(real, near, near) == pytest.approx((1, 1, 1), rel=0.8)
    value, low, high = collect.ratio_interval(real, near, far)
    assert low < value < high < 0.5
    assert collect.equal_sized(real, far) > collect.equal_sized(real, near)


def test_arms_are_measured_judged_tabled_and_drawn(script, tmp_path):
    collect, study = script("collect"), a_study(tmp_path)
    pooled = nn.Sequential(nn.AdaptiveAvgPool3d(2), nn.Flatten())
    features = module_extractor(pooled, "means of octants")
    found = [collect.measure("real", study.split.train, study, features)]
    assert "copies" not in found[0]
    for arm, volumes in (("ccella", subjects(14, seed=5, name="s")), ("maisi", study.split.train)):
        found.append(collect.measure(arm, volumes, study, features))
        found[-1]["glands"] = {"spearman": 0.7, "spearman_interval": (0.5, 0.8)}
    assert found[1]["copies"]["share"] == 0
    assert found[2]["copies"]["share"] == 1  # the training volumes themselves
    found[1]["ratio_to_maisi"] = {"value": 0.3, "ci_low": 0.2, "ci_high": 0.5}
    goals = {goal["goal"]: goal["holds"] for goal in collect.judge(found)}
    assert list(goals.values())[:2] == [True, True]
    assert goals["FID at most 0.36 of MAISI's"]
    assert collect.to_table(found).count("\n") == 4
    frame = collect.to_frame(found)
    assert set(frame["arm"]) == {"real", "ccella", "maisi"}
    assert {"fid", "kid", "copies", "gland_spearman", "ratio_to_maisi"} <= set(frame["metric"])
    assert len(collect.draw(found).axes) == 2
