"""The privacy study at tiny size: its groups share nobody, its control knows neither, its figures are complete."""

import json
from functools import partial

import numpy as np
import pytest
import yaml
from tiny_study import STUDY

from synthaug.ground.errors import InputError


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/privacy")


def test_people_stand_in_one_group_each_with_the_classes_in_proportion(script):
    subjects = [
        {"patient_id": f"p{number // 2}", "subject_id": str(number), "label": int(number >= 40)} for number in range(60)
    ]
    deal = script("deals").deal_people(subjects, 9, seed=1)
    groups = [{subject["patient_id"] for subject in each} for each in (deal.members, deal.others, deal.third)]
    assert [len(group) for group in groups] == [9, 9, 9]
    assert len(set.union(*groups)) == 27
    positives = [sum(subject["label"] for subject in each) for each in (deal.members, deal.others, deal.third)]
    assert max(positives) - min(positives) <= 2
    halves = [deal.half(number) for number in range(4)]
    assert all(len(half) == 9 and half <= groups[0] | groups[1] for half in halves)
    assert len({frozenset(half) for half in halves}) == 4
    with pytest.raises(InputError, match="cannot be dealt"):
        script("deals").deal_people(subjects, 11, seed=1)


def test_the_loss_of_a_subject_does_not_depend_on_its_neighbours(tiny_cascade, tiny_subjects):
    from synthaug.generate.training.subject_losses import subject_losses

    whole = subject_losses(tiny_cascade, tiny_subjects[:3], draws=1)
    assert whole.shape == (3, 2)
    assert np.isfinite(whole).all()
    assert len(np.unique(whole[:, 0])) == 3
    np.testing.assert_allclose(subject_losses(tiny_cascade, tiny_subjects[2:3], draws=1)[0], whole[2])


def test_the_whole_study_at_tiny_size(script, tmp_path, capsys):
    config = {name: STUDY[name] for name in ("preprocess", "generator")}
    config["data"] = {"phantom": {**STUDY["data"]["phantom"], "n": 16}}
    config["pool"] = {"sampling": {"steps": 1, "micro_batch": 4}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    words = ["--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out"), "--n", "5", "--scales", "1"]
    words += [
        "--deals",
        "1",
        "--shadows",
        "1",
        "--volumes",
        "2",
        "--draws",
        "1",
        "--json",
        str(tmp_path / "found.json"),
    ]
    script("run").main(words)
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    attacks = {row["attack"]: row for row in found["attacks"]}
    kinds = {"loss of level 0", "loss of level 1", "loss", "shadow models", "nearest voxels", "nearest features"}
    assert set(attacks) == kinds
    for row in attacks.values():
        assert (row["n_members"], row["n_others"], row["n"]) == (5, 5, 5)
        for part in ("auroc", "found", "control_auroc", "control_found"):
            assert 0 <= row[part]["low"] <= row[part]["value"] <= row[part]["high"] <= 1
    gate = {row["kind"]: row for row in found["gate"]}
    assert gate["exact"]["found"] == 1
    assert {"cropped by a tenth all round", "shrunk by 10 %", "mirrored"} < set(gate)
    # Target, control and one shadow.
    generators = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(generators) == 3
