"""Settings that cannot be are refused before any work; the defaults suit any number of classes."""

import json
import os
from dataclasses import is_dataclass, replace
from typing import get_args, get_origin, get_type_hints

import nibabel
import numpy as np
import pytest
import torch
import yaml
from tiny_study import STUDY

from synthaug.bench.commands import run_command
from synthaug.bench.options.parsing import read_config
from synthaug.config import (
    AdapterConfig,
    AutoencoderConfig,
    ClassifierConfig,
    Config,
    DataConfig,
    ExecutionConfig,
    GeneratorConfig,
    LabelRule,
    LevelConfig,
    MeasurementConfig,
    MetricsConfig,
    PhantomConfig,
    PoolConfig,
    SamplingConfig,
    SplitConfig,
    StudyConfig,
    TextEncoderConfig,
    TrainingConfig,
)
from synthaug.generate.diffusion import SCHEDULERS, swap_scheduler, training_scheduler
from synthaug.generate.trial import require_steps
from synthaug.ground.errors import InputError
from synthaug.ground.people import VARIABLE
from synthaug.study.stages.checks import check_study, ignored_settings, say_once
from synthaug.study.stages.preparation import Study
from synthaug.tracking import require_address

INF, NAN = float("inf"), float("nan")

OUTSIDE = [
    (SamplingConfig, {"steps": 0}),
    (SamplingConfig, {"steps": 1001}),
    (SamplingConfig, {"micro_batch": 0}),
    (SamplingConfig, {"guidance": -1.0}),
    (SamplingConfig, {"guidance": NAN}),
    (PoolConfig, {"per_class": 0}),
    (PoolConfig, {"threads": 0}),
    (TrainingConfig, {"learning_rate": -1e-3}),
    (TrainingConfig, {"learning_rate": 0.0}),
    (TrainingConfig, {"learning_rate": NAN}),
    (TrainingConfig, {"clip_norm": 0.0}),
    (TrainingConfig, {"weight_decay": INF}),
    (TrainingConfig, {"checkpoint_minutes": -1.0}),
    (TrainingConfig, {"steps": 0}),
    (MetricsConfig, {"bootstrap": 10**11}),
    (MetricsConfig, {"permutations": 10**11}),
    (MetricsConfig, {"confidence": NAN}),
    (MetricsConfig, {"subgroups": ["sex", "sex"]}),
    (DataConfig, {"images": []}),
    (DataConfig, {"images": ["t2w", "t2w"]}),
    (DataConfig, {"images": [""]}),
    (PhantomConfig, {"n": 0}),
    (PhantomConfig, {"positive_fraction": 1.0}),
    (PhantomConfig, {"spacing_mm": (1.0, 0.0, 1.0)}),
    (PhantomConfig, {"difficulty": 2.0}),
    (ClassifierConfig, {"channels": (8, 16, 0, 64)}),
    (ClassifierConfig, {"pooling": 0}),
    (StudyConfig, {"name": " "}),
]


@pytest.mark.parametrize(("kind", "values"), OUTSIDE, ids=lambda value: str(value))
def test_a_field_outside_its_range_is_named(kind, values):
    with pytest.raises(InputError, match=next(iter(values))):
        kind(**values)


ANY_NUMBER = {"seed", "extractor_seed", "seeds"}
"""Fields that any whole number suits."""


def _kinds(kind):
    """A config dataclass and those of its fields."""
    yield kind
    for hint in get_type_hints(kind).values():
        for part in (hint, *get_args(hint)):
            if is_dataclass(part):
                yield from _kinds(part)


def _numbers():
    """Every field of a config that holds numbers, with a number that it cannot hold."""
    for kind in dict.fromkeys([*_kinds(Config), ExecutionConfig]):
        for name, hint in get_type_hints(kind).items():
            listed = get_origin(hint) in (list, tuple)
            parts = [part for part in (hint, *get_args(hint)) if part in (int, float)]
            if parts and name not in ANY_NUMBER:
                wrong = NAN if float in parts else -(10**12)
                wrong = [wrong] if listed else {"high": wrong} if get_origin(hint) is dict else wrong
                yield pytest.param(kind, name, wrong, id=f"{kind.__name__}.{name}")


@pytest.mark.parametrize(("kind", "name", "value"), _numbers())
def test_every_field_of_numbers_has_a_range(kind, name, value):
    given = {"name": "size"} if kind is MeasurementConfig else {"column": "size"} if kind is LabelRule else {}
    if isinstance(value, list):
        default = (getattr(kind(**given), name) if not given else None) or value
        value = type(default)([*value, *default[1:]])
    with pytest.raises(InputError, match=name):
        kind(**given, **{name: value})


def test_bands_must_rise():
    with pytest.raises(InputError, match="PSA"):
        MeasurementConfig("PSA", bands={"high": 20, "low": 4})


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("prediction", ["v_prediction", "flow_prediction"])
def test_steps_that_a_sampler_cannot_make_are_refused_and_others_are_made(name, prediction):
    try:
        sampler = swap_scheduler(training_scheduler(prediction), name)
    except InputError:
        return  # refused as it does not suit the process
    before = sampler.timesteps.clone()
    require_steps(sampler, 20)
    assert sampler.timesteps.equal(before)
    for steps in (949, 999, 1000):
        try:
            require_steps(sampler, steps)
        except InputError:
            continue
        sampler.set_timesteps(steps)
        latents = torch.ones(1, 1, 1, 1, 1)
        for timestep in sampler.timesteps[:3]:
            latents = sampler.step(torch.zeros_like(latents), timestep, latents).prev_sample
        assert torch.isfinite(latents).all()


CONTRADICTIONS = {
    "steps that fail": {
        "pool": PoolConfig(sampling=SamplingConfig(steps=950)),
        "generator": GeneratorConfig(latents="autoencoder", prediction="v_prediction"),
    },
    "a flow's scheduler": {"pool": PoolConfig(sampling=SamplingConfig(scheduler="flow_euler"))},
    "guidance without dropout": {
        "pool": PoolConfig(sampling=SamplingConfig(guidance=3.0)),
        "generator": GeneratorConfig(report_dropout=0.0),
    },
    "no marksheet": {"pool": PoolConfig(prompts="writer", marksheet="absent.csv")},
    "no text encoder": {"generator": GeneratorConfig(text_encoder=TextEncoderConfig(path="/absent/encoder"))},
    "no pool": {"pool": PoolConfig(path="/absent/pool")},
    "nothing to fine-tune in": {
        "classifier": ClassifierConfig(training=TrainingConfig(steps=1)),
        "study": StudyConfig(regimes=["real", "finetuned"]),
    },
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_refused_before_anything_is_read(name):
    with pytest.raises(InputError):
        check_study(replace(Config(), **CONTRADICTIONS[name]))


@pytest.mark.parametrize("name", sorted(CONTRADICTIONS.keys() - {"nothing to fine-tune in"}))
def test_a_study_of_real_data_alone_is_not_asked_for_a_generator(name):
    check_study(replace(Config(), **CONTRADICTIONS[name], study=StudyConfig(regimes=["real"])))


def test_defaults_can_be():
    check_study(Config())


@pytest.mark.parametrize("classes", range(2, 11))
def test_batches_hold_as_many_of_each_class(classes):
    for training in (TrainingConfig(), TrainingConfig(batch_size=8, accumulate=4), TrainingConfig(batch_size=3)):
        size = ClassifierConfig(training=training).batch_size(classes)
        assert size % classes == 0
        assert size % training.accumulate == 0
        assert size == training.batch_size or training.batch_size % classes


def test_a_batch_size_that_the_classes_divide_stands():
    assert ClassifierConfig(training=TrainingConfig(batch_size=6)).batch_size(3) == 6


@pytest.fixture
def three_classes(tmp_path):
    """Thirty-six subjects without reports, whose ids name people."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["subject_id,t2w,label"]
    for number in range(36):
        voxels = np.random.default_rng(number).random((16, 16, 8), dtype=np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([5, 5, 8, 1])), folder / f"{number}.nii")
        lines.append(f"jane-doe-{number},{number}.nii,{number % 3}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_three_classes_train_with_the_default_batch_size_and_mlflow_names_nobody(three_classes, tmp_path):
    settings = STUDY | {"study": STUDY["study"] | {"regimes": ["real"]}, "data": {"root": str(three_classes)}}
    settings["classifier"] = {**STUDY["classifier"], "training": {"steps": 4, "warmup": 0}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    out = tmp_path / "out"
    # The data has no reports, and the generator's settings ask for some: nobody asks a study of real data for either.
    assert run_command("bench", ["--config", str(tmp_path / "study.yaml"), "--out", str(out)]) == 0
    records = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("cells/*.json")]
    assert [record["batch_size"] for record in records] == [9]
    assert not list(out.glob("generator-*"))
    assert "jane-doe" in (out / "split.csv").read_text(encoding="utf-8")
    tracked = [out / "mlflow.db", *(path for path in (out / "mlartifacts").rglob("*") if path.is_file())]
    assert len(tracked) > 5
    assert not [path for path in tracked if b"jane-doe" in path.read_bytes()]
    assert not [
        path for path in out.rglob("*") if path.is_file() and os.environ[VARIABLE].encode() in path.read_bytes()
    ]


def test_stages_ask_for_what_they_need_whatever_the_regimes(tmp_path):
    config = replace(read_config([]), pool=PoolConfig(prompts="writer", marksheet="absent.csv"))
    config = replace(config, study=StudyConfig(regimes=["real"]))
    with pytest.raises(InputError, match="absent"):
        Study.start(config, tmp_path / "out", lambda name, total: lambda *a: None)
    assert not (tmp_path / "out").exists()


def test_axes_are_checked_too(tmp_path, capsys):
    options = [
        "--study.axes",
        '{"pool.sampling.scheduler": ["dpm_solver_sde", "flow_euler"]}',
        "--out",
        str(tmp_path / "out"),
    ]
    assert run_command("bench", options) == 2
    assert "flow_euler" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_line_names_the_key(capsys):
    assert run_command("bench", ["--pool.sampling.micro_batch", "0"]) == 2
    assert "micro_batch" in capsys.readouterr().err


@pytest.mark.parametrize(
    "address",
    ["http://", "https://:5000", "http://host:99999", "http://ho st", "htp://x", "sqlite:////absent/folder/x.db"],
)
def test_a_tracking_address_that_cannot_be_is_refused_before_any_work(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert run_command("bench", ["--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert "MLFLOW_TRACKING_URI" in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "address", ["", "http://127.0.0.1:5000", "https://me:word@host/path", "sqlite:///x.db", "runs"]
)
def test_an_address_that_can_be_is_not_tried(address, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    require_address()


IGNORED = {
    "a variant without reports": (
        {"generator": GeneratorConfig(variant="radmaisi", text_encoder=TextEncoderConfig(layers=3))},
        ["generator.text_encoder.layers"],
    ),
    "a variant without class heads": (
        {"generator": GeneratorConfig(variant="ellamaisi", class_loss_weight=0.5)},
        ["generator.class_loss_weight"],
    ),
    "an encoder from elsewhere": (
        {"generator": GeneratorConfig(text_encoder=TextEncoderConfig(path="minilm", width=32, place_values=False))},
        ["generator.text_encoder.width", "generator.text_encoder.place_values"],
    ),
    "a cascade": ({"autoencoder": AutoencoderConfig(patch=2)}, ["autoencoder.patch"]),
    "an autoencoder": (
        {"generator": GeneratorConfig(latents="autoencoder", guide_noise=0.3, levels=[LevelConfig()])},
        ["generator.levels", "generator.guide_noise"],
    ),
    "a pretrained generator": (
        {"generator": GeneratorConfig(pretrained="x", adapter=AdapterConfig(width=32))},
        ["generator.adapter.width"],
    ),
    "a ready pool": (
        {"pool": PoolConfig(path="x", per_class=7), "generator": GeneratorConfig(monitor_every=3)},
        ["generator.monitor_every", "pool.per_class"],
    ),
}


@pytest.mark.parametrize("name", IGNORED)
def test_settings_without_effect_are_named_in_one_line(name):
    changes, names = IGNORED[name]
    [line] = ignored_settings(replace(Config(), **changes))
    assert line.split(" ignores ")[1].rstrip(".").split(", ") == names


def test_nothing_is_said_where_all_has_its_effect(caplog):
    assert ignored_settings(Config()) == []
    assert ignored_settings(replace(Config(), study=StudyConfig(regimes=["real"]), **IGNORED["a cascade"][0])) == []
    say_once("a setting")
    say_once("a setting")
    assert [record.getMessage() for record in caplog.records] == ["a setting"]


def test_the_split_that_a_study_writes_is_not_the_one_it_reads(tmp_path):
    for folder in ("study", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "split.csv").write_text("", encoding="utf-8")
    given = {
        name: replace(Config(), split=SplitConfig(file=str(tmp_path / name / "split.csv")))
        for name in ("study", "elsewhere")
    }
    check_study(given["elsewhere"], tmp_path / "study")
    with pytest.raises(InputError, match="another folder"):
        check_study(given["study"], tmp_path / "elsewhere" / ".." / "study")


def test_a_seed_that_has_no_effect_is_refused():
    with pytest.raises(InputError, match="no effect"):
        ClassifierConfig(training=TrainingConfig(seed=1))
