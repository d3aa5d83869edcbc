"""The estimate of a study's time: whatever can be trained can be estimated."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from conftest import tiny_cascade_config, tiny_generator_config
from torch.nn.modules.module import register_module_forward_hook
from transformers import T5EncoderModel

from synthaug.config import (
    AutoencoderConfig,
    ClassifierConfig,
    Config,
    DataConfig,
    MeasurementConfig,
    PoolConfig,
    PreprocessConfig,
    StudyConfig,
    TrainingConfig,
)
from synthaug.generate.training.objectives import DiffusionObjective
from synthaug.models.variants import VARIANTS
from synthaug.study.grid import cells_of
from synthaug.study.outlook.estimate import _Peaks, describe_time

SHORT = TrainingConfig(steps=4, batch_size=4)


def tiny(regime: str = "synthetic", balance: str = "oversampled") -> Config:
    return Config(
        preprocess=PreprocessConfig(shape=(16, 16, 8)),
        autoencoder=AutoencoderConfig(channels=(8,), training=SHORT),
        generator=tiny_generator_config(training=SHORT),
        classifier=ClassifierConfig(balance=balance, channels=(4, 4, 4, 4), training=SHORT),
        study=StudyConfig(regimes=[regime], seeds=[0, 1]),
    )


def estimate(config: Config) -> str:
    return describe_time(cells_of(config, lambda _: ("data", "pool")))


@pytest.mark.parametrize("balance", ["oversampled", "weighted", "none"])
def test_every_way_to_balance_is_estimated(balance):
    assert estimate(tiny("real", balance)).startswith("2 cells; about ")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_estimated(variant):
    config = tiny()
    config.generator = tiny_cascade_config(variant=variant, training=SHORT)
    assert "pool" in estimate(config)


@pytest.mark.parametrize("latents", ["cascade", "autoencoder"])
def test_generators_of_other_people_are_timed_once_and_not_trained_in_full(latents):
    steps = Counter()

    def count(module, arguments, answer):
        if isinstance(module, DiffusionObjective) and torch.is_grad_enabled():
            steps[module.level] += 1

    hook = register_module_forward_hook(count)
    config = tiny()
    config.generator = {"cascade": tiny_cascade_config, "autoencoder": tiny_generator_config}[latents](training=SHORT)
    told = estimate(replace(config, study=StudyConfig(regimes=["synthetic"], axes={"split.seed": [0, 1, 2]})))
    hook.remove()
    assert steps == ({0: 3, 1: 3} if latents == "cascade" else {0: 3})
    assert told.startswith("9 cells")


def test_memory_grows_by_the_volumes_that_a_stage_keeps():
    config = tiny()
    config = replace(config, data=replace(config.data, phantom=replace(config.data.phantom, n=2**20)))
    peaks = _Peaks()
    peaks.note("classifiers", config)  # 2 ** 20 volumes of 2 ** 11 voxels of 4 bytes: 8 GiB
    peaks.note("generator", config, copies=3)
    # What the process itself holds is the same in both.
    assert peaks.mb["generator"] - peaks.mb["classifiers"] == pytest.approx(2 * 8192, abs=64)
    assert peaks.mb["classifiers"] > 8192
    assert peaks.told("classifiers") == f"{peaks.mb['classifiers'] / 1024:.1f} GiB"


def test_a_pool_that_is_there_costs_no_generator():
    config = tiny()
    assert "generator" in estimate(config)
    assert "generator" not in estimate(replace(config, pool=PoolConfig(path="pool")))


def test_of_a_ready_generator_nothing_is_said_about_the_reports_that_were_made_up(caplog):
    config = replace(
        tiny(),
        preprocess=PreprocessConfig(shape=(32, 32, 16)),
        pool=PoolConfig(generator="builtin/ccella-tiny", per_class=2),
    )
    assert estimate(config).startswith("2 cells; about ")
    assert "reports" not in caplog.text


@pytest.mark.parametrize(
    ("setting", "most"),
    [
        ({"report": "report"}, 61),
        ({"measurements": {"ml": MeasurementConfig("volume", unit="ml")}}, 40),
    ],
)
def test_reports_as_long_as_those_of_the_study_are_timed(setting, most, tmp_path, caplog):
    rows = ["subject_id,t2w,label,report,ml", *(f"s{each},s{each}.nii,0,{'x' * each},{each}" for each in (7, 60))]
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    longest = []

    def note(module, arguments, answer):
        if isinstance(module, T5EncoderModel):
            longest.append(answer.last_hidden_state.shape[1])

    hook = register_module_forward_hook(note)
    estimate(replace(tiny(), data=DataConfig(root=str(tmp_path), **setting)))
    hook.remove()
    assert max(longest) == most
    assert "reports" not in caplog.text
