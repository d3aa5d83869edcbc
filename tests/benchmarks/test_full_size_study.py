"""The full-size study: its config takes the published manifest as it is, and its script tells what the run recorded."""

from pathlib import Path

import pytest
import yaml
from taps_wheel import real_data

from synthaug.bench.commands import run_command
from synthaug.config import DataConfig, MeasurementConfig, PreprocessConfig, SplitConfig
from synthaug.data.preprocess import preprocess
from synthaug.ground.errors import InputError
from synthaug.study.outlook.costs import Costs
from synthaug.study.stages.cohort import draw_split, load_subjects

FOLDER = Path(__file__).parents[2] / "benchmarks" / "studies" / "full_size"


@pytest.fixture
def settings():
    return yaml.safe_load((FOLDER / "study.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def data(settings):
    given = settings["data"]
    words = {column: MeasurementConfig(**each) for column, each in given.pop("measurements").items()}
    return DataConfig(root=str(real_data("prostatex")), measurements=words, **given)


@pytest.fixture
def collect(import_script):
    """The study's script."""
    return import_script("studies/full_size", "collect")


def test_the_config_is_a_study(settings, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_command("bench", ["--config", str(FOLDER / "study.yaml"), "--print_config"])
    assert stopped.value.code in (0, None)
    assert yaml.safe_load(capsys.readouterr().out)["data"]["unlabelled"] == settings["data"]["unlabelled"]


def test_the_manifest_goes_in_as_it_is(settings, data):
    subjects = load_subjects(data)
    assert [sum(subject["label"] == label for subject in subjects) for label in (0, 1)] == [8, 3]
    reports = {subject["subject_id"]: subject["report"] for subject in subjects}
    assert reports["ProstateX-0002"].endswith("PI-RADS 5.")  # "5,2" in the manifest
    assert reports["ProstateX-0006"] == ""  # nothing was measured
    split = draw_split(SplitConfig(**settings["split"]), subjects)
    assert {part: sum(subject["label"] for subject in each) for part, each in split.parts()} == dict.fromkeys(
        ("train", "val", "test"), 1
    )


def test_a_study_without_a_class_is_refused_unless_it_may_be_left_out(data):
    data.unlabelled = "refuse"
    with pytest.raises(InputError, match="row 13: label is empty"):
        load_subjects(data)


def test_original_grids_become_one_grid_each_sequence_scaled_by_itself(settings, data):
    coarse = settings["preprocess"] | {"spacing_mm": [4.0, 4.0, 6.0], "shape": [32, 32, 16]}
    subject = load_subjects(data)[0]
    assert subject["t2w"].shape != subject["adc"].shape
    # Of ADC the highest value counts little: 3,000 becomes 1.
    above = float(subject["adc"].data.max())
    assert above > 3000
    (made,) = preprocess([subject], PreprocessConfig(**coarse), data.images)
    for name in data.images:
        assert made[name].shape == (1, 32, 32, 16)
        assert 0 <= made[name].data.min() < made[name].data.max() <= 1


def test_stages_are_told_as_they_were_recorded(collect):
    costs = Costs({"pool": 30.0}, 40.0, {}, {}, processor_seconds={"pool": 20.0}, peak_mib={"pool": 2048.0})
    rows = collect.stages(costs)
    assert collect.stage_table(rows)[-2:] == ["| pool | 30 | 20 | 2.00 |", "| all | 30 | 20 | 2.00 |"]
    assert collect.cost_plot(rows).axes[0].get_xlabel() == "seconds"
