"""Nearly one image under two names is found whatever was done to it, and two people's images are not."""

import logging
import os
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import torchio as tio
from scipy import ndimage

from synthaug.config import Config, DataConfig, GeneratorConfig, PreprocessConfig, SplitConfig
from synthaug.data.near_copies import LIMIT, find_near_copies, fingerprint, likeness, shared_reports, tell_near_copies
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import load_manifest, make_subject
from synthaug.data.splits import Split
from synthaug.study.stages.preparation import Study

SHARED = Path(os.environ.get("SYNTHAUG_DATA", Path(__file__).parents[3] / "shared" / "data"))
CONFIG = PreprocessConfig()


@pytest.fixture(scope="module")
def people():
    return preprocess(make_subjects(10, 0.5, seed=5), CONFIG, ["t2w"])


def named(tensor, name, report=""):
    image = tio.ScalarImage(tensor=tensor.contiguous())
    return make_subject({"t2w": image}, label=0, subject_id=name, patient_id=name, report=report)


def shifted(volume):
    moved = torch.zeros_like(volume)
    moved[:, 3:, :-2, 1:] = volume[:, :-3, 2:, :-1]
    return moved


def between_voxels(volume):
    return torch.from_numpy(ndimage.shift(volume[0].numpy(), 0.5, order=1))[None]


COPIES = {
    "shifted": shifted,
    "between voxels": between_voxels,
    "flipped": lambda volume: volume.flip(1),
    "flipped twice": lambda volume: volume.flip(2, 3),
    "rescaled": lambda volume: (volume * 1.3 - 0.1).clamp(0, 1),
    "gamma": lambda volume: volume**0.7,
    "of 16 grey values": lambda volume: (volume * 15).round() / 15,
    "all at once": lambda volume: (shifted(volume.flip(1)) ** 0.8 * 31).round() / 31,
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_and_nobody_else(people, name):
    changed = named(COPIES[name](people[3]["t2w"].data), "copy")
    found = find_near_copies([*people, changed], ["t2w"])
    assert [(pair.one["subject_id"], pair.other["subject_id"]) for pair in found] == [(people[3]["subject_id"], "copy")]
    assert found[0].image == "t2w"
    assert LIMIT <= found[0].likeness <= 1.001


def test_one_patient_may_stand_twice_and_small_volumes_are_not_judged(people):
    again = tio.Subject({**people[3], "subject_id": "again"})
    assert find_near_copies([*people, again], ["t2w"]) == []
    assert fingerprint(torch.rand(1, 16, 16, 8)) is None
    assert fingerprint(torch.zeros(1, 32, 32, 16)) is None


def test_pairs_on_two_sides_are_told_first_in_one_line(people, caplog):
    inside = named(people[1]["t2w"].data.flip(1), "inside")
    across = named(shifted(people[2]["t2w"].data), "across")
    split = Split([*people[:4], inside], people[4:7], [*people[7:], across])
    with caplog.at_level(logging.WARNING):
        assert len(tell_near_copies(split, ["t2w"])) == 2
    [record] = caplog.records
    message = record.getMessage()
    assert f"{people[2]['subject_id']!r} (train)" in message
    assert "'across' (test)" in message
    assert "1 more" in message


def test_one_long_report_on_two_sides_is_told(people, caplog):
    long = "Prostate of 40 ml. " * 20
    pair = [named(people[n]["t2w"].data, f"r{n}", report) for n, report in ((0, long), (1, long.upper() + " "))]
    short = [named(people[n]["t2w"].data, f"s{n}", "Normal prostate.") for n in (2, 3)]
    assert shared_reports(Split([pair[0], short[0]], [], [pair[1], short[1]])) == [(("r0", "train"), ("r1", "test"))]
    assert shared_reports(Split(pair, [], [])) == []
    with caplog.at_level(logging.WARNING):
        tell_near_copies(Split([pair[0]], [], [pair[1]]), ["t2w"])
    assert "same report" in caplog.records[-1].getMessage()


def test_a_volume_costs_milliseconds():
    """Of 256 x 256 x 32 voxels; generous, because tests share their machine."""
    volumes = [torch.rand(1, 256, 256, 32) for _ in range(2)]
    started = time.process_time()
    prints = [fingerprint(volume) for volume in volumes]
    assert likeness(*prints) < LIMIT
    assert time.process_time() - started < 1


def test_a_study_tells_near_copies_of_its_files(people, tmp_path, caplog):
    rows = ["subject_id,label,t2w"]
    volumes = [subject["t2w"].data for subject in people] * 2
    for number, volume in enumerate(volumes[:12]):
        changed = shifted(volume) if number >= 10 else volume
        nibabel.save(nibabel.Nifti1Image(changed[0].numpy(), np.diag([2.5, 2.5, 4, 1])), tmp_path / f"{number}.nii")
        rows.append(f"s{number:02d},{number % 2},{number}.nii")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    config = Config(
        data=DataConfig(root=str(tmp_path)),
        split=SplitConfig(test=0.34, val=0.17),
        generator=GeneratorConfig(variant="radmaisi"),
    )
    with caplog.at_level(logging.WARNING):
        study = Study.read(config, tmp_path / "out", lambda name, total: lambda *_: None)
    [message] = [r.getMessage() for r in caplog.records if "nearly the same image" in r.getMessage()]
    assert "1 more" in message
    assert {frozenset((pair.subject_id, pair.nearest_subject)) for pair in study.near_copies} == {
        frozenset(("s00", "s10")),
        frozenset(("s01", "s11")),
    }


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data folder is not here; set SYNTHAUG_DATA")
def test_no_two_people_of_a_real_cohort_are_called_one():
    subjects = load_manifest(SHARED / "hippocampus/manifest.csv", ["t1"])[:24]
    config = PreprocessConfig(spacing_mm=(1, 1, 1), shape=(32, 40, 24))
    done = preprocess(subjects, config, ["t1"])
    assert find_near_copies(done, ["t1"]) == []
    copy = named(done[7]["t1"].data.flip(1), "copy")
    copy["t1"] = copy.pop("t2w")
    assert [pair.one["subject_id"] for pair in find_near_copies([*done, copy], ["t1"])] == [done[7]["subject_id"]]
