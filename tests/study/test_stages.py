"""Single stages in a folder that others use too: nothing of theirs is replaced or removed."""

from dataclasses import replace

import pytest
import torch
import yaml
from tiny_study import STUDY

from synthaug.bench.studies.finished import load_config
from synthaug.data.mapped.rows import RowFiles
from synthaug.ground.errors import InputError
from synthaug.study.events import no_progress
from synthaug.study.running.studies import start_studies
from synthaug.study.stages.cohort import VOLUMES, unless_refused


def test_stages_are_of_all_axes_and_leave_the_split_of_another_study(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    config, out = load_config(tmp_path / "tiny.yaml"), tmp_path / "out"
    axes = {"split.seed": [0, 1], "classifier.augment": [True, False]}
    made = start_studies(replace(config, study=replace(config.study, axes=axes)), out, no_progress)
    assert [study.config.split.seed for study in made] == [0, 1]  # the augmentation touches no stage
    names = {"split.csv", f"split-{made[1].data_id}.csv"}
    assert {path.name for path in out.glob("*.csv")} == names
    before = {name: (out / name).stat().st_mtime_ns for name in names}
    assert len(start_studies(replace(config, split=replace(config.split, seed=1)), out, no_progress)) == 1
    assert (out / "split.csv").stat().st_mtime_ns == before["split.csv"]
    assert {path.name for path in out.glob("*.csv")} == names


def test_a_refused_study_removes_what_it_wrote_and_nothing_of_another_bench(tmp_path):
    folder = tmp_path / VOLUMES
    folder.mkdir(parents=True)

    def refused():
        with unless_refused(tmp_path):
            (folder / ".half.npy").write_bytes(b"of another bench")
            RowFiles(folder).write(["key"], (1, 2, 2, 2), [(torch.zeros(1, 2, 2, 2), {})])
            assert len([*folder.iterdir()]) == 3
            raise InputError("refused")

    with pytest.raises(InputError, match="refused"):
        refused()
    assert [path.name for path in folder.iterdir()] == [".half.npy"]
