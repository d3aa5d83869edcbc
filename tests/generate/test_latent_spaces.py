"""The contract of latent spaces, the cascade and the autoencoder: training, resume, looks, drawing, going on."""

import copy
import json
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
import torchio as tio
from conftest import (
    IMAGES,
    TINY_AUTOENCODER,
    TINY_PREPROCESSING,
    tiny_cascade_config,
    tiny_generator_config,
)
from diffusers.configuration_utils import register_to_config
from monai.networks.utils import pixelshuffle, pixelunshuffle
from safetensors.torch import load_file, save_file
from two_processes import in_two_processes

from synthaug import models
from synthaug.config import GeneratorConfig, LevelConfig, TrainingConfig
from synthaug.config.latents import LATENT_DESIGNS, LatentDesign, latent_design
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.generate.levels import fit_space
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.familiarity import Familiarity
from synthaug.generate.stored.folder import read_design
from synthaug.generate.training import resumption
from synthaug.generate.training.autoencoder import train_autoencoder
from synthaug.generate.training.calibration import measure_level_gains
from synthaug.generate.training.choice import BestWeights
from synthaug.generate.training.continuing import with_own_design
from synthaug.generate.training.ldm import train_ldm
from synthaug.generate.training.networks import pretrained_generator, pretrained_space
from synthaug.generate.training.validation import VALIDATION_SIGMAS, VALIDATION_TIMESTEPS
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed, numpy_generator
from synthaug.models import precision
from synthaug.models.latent_space import LatentSpace, space_class

CONFIGS = {"cascade": tiny_cascade_config, "autoencoder": tiny_generator_config}
LOOP = TrainingConfig(
    steps=2, batch_size=4, learning_rate=0.01, ema=0.5, ema_warmup=True, checkpoint_minutes=0.0, precision="float32"
)
REPORTS, SEEDS = ["PI-RADS 5 lesion", "no lesion", ""], [4, 5, 6]


class Killed(Exception):
    """Stands for a signal in the middle of a training."""


@dataclass
class Trainer:
    """Trains tiny generators over one latent space."""

    latents: str
    space: LatentSpace
    subjects: list
    images: list = field(default_factory=lambda: IMAGES)

    def __call__(self, *, options=None, **changes):
        config = CONFIGS[self.latents](**{"training": LOOP, **changes})
        settings = {"preprocessing": TINY_PREPROCESSING, "images": self.images, "micro_batch": 2, **(options or {})}
        pipeline = train_ldm(self.subjects, self.space, config, **settings)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @property
    def levels(self):
        return self.space.levels


@pytest.fixture(scope="module", params=CONFIGS)
def trainer(request, tiny_subjects, tiny_cascade, tiny_autoencoder):
    space = {"cascade": tiny_cascade.autoencoder, "autoencoder": tiny_autoencoder}[request.param]
    return Trainer(request.param, space, tiny_subjects)


@pytest.fixture(scope="module")
def unbroken(trainer, tmp_path_factory):
    """A watched training that nothing interrupts, and its stats."""
    stats = tmp_path_factory.mktemp("unbroken") / "stats.jsonl"
    return trainer(options={"validation": trainer.subjects[:3], "stats": stats}, monitor_every=1), stats


@pytest.fixture
def loud(unbroken):
    """A copy whose levels all answer loudly, so that no condition is lost in a young network's silence."""
    pipeline = copy.deepcopy(unbroken[0])
    pipeline.record["generator"]["report_dropout"] = 0.1  # so that guidance is allowed
    pipeline._fingerprint = None
    with torch.no_grad():
        for unet in pipeline.denoiser.unets:
            last = unet.fine.last.weight if hasattr(unet, "fine") else unet.out[2].conv.weight
            last.copy_(0.3 * torch.randn(last.shape, generator=torch.Generator().manual_seed(0)))
    return pipeline


def draw(pipeline, reports=REPORTS, labels=None, *, seeds=SEEDS, **settings):
    return pipeline(reports, labels, seeds=seeds, num_inference_steps=2, **settings)


# --- drawing


def test_bytes_depend_on_no_neighbour_order_or_padding(loud):
    together = draw(loud)
    backward = draw(loud, REPORTS[::-1], seeds=SEEDS[::-1])
    assert torch.equal(together.volumes, backward.volumes.flip(0))
    assert torch.equal(together.class_probabilities, backward.class_probabilities.flip(0))
    alone = draw(loud, REPORTS[1:2], seeds=SEEDS[1:2])  # its micro-batch is padded
    assert torch.equal(alone.volumes[0], together.volumes[1])
    assert not torch.equal(draw(loud, REPORTS[1:2], seeds=[9]).volumes[0], together.volumes[1])


def test_a_class_override_conditions_every_level_and_leaves_the_prediction(loud):
    seen = {}
    for number, unet in enumerate(loud.denoiser.unets):
        unet.pirads_layer.register_forward_hook(
            lambda _, given, out, at=number: seen.update({at: given[0][0].tolist()})
        )
    free = draw(loud, REPORTS[:1], seeds=[1])
    for label in (0, 1):
        given = draw(loud, REPORTS[:1], [label], seeds=[1])
        scale = loud.denoiser.scale
        assert seen == {level: [scale * (label == 0), scale * (label == 1)] for level in seen}
        assert len(seen) == loud.autoencoder.levels
        assert not torch.equal(given.volumes, free.volumes)
        assert torch.equal(given.class_probabilities, free.class_probabilities)


def test_guidance_moves_away_from_the_empty_report(loud):
    plain, same, guided = (draw(loud, guidance_scale=scale).volumes for scale in (1.0, 1.0, 3.0))
    assert torch.equal(plain, same)
    moved = [not torch.allclose(one, other, atol=1e-6) for one, other in zip(plain, guided, strict=True)]
    assert moved == [True, True, False]


def test_guidance_can_lead_the_coarsest_levels_alone(loud):
    levels = loud.autoencoder.levels
    led = {count: draw(loud, guidance_scale=3.0, guided_levels=count).volumes for count in range(1, levels + 1)}
    assert torch.equal(led[levels], draw(loud, guidance_scale=3.0).volumes)
    if levels > 1:
        assert not torch.equal(led[1], led[levels])
        coarse = [draw(loud, guidance_scale=3.0, guided_levels=count, levels=1).volumes for count in (1, None)]
        assert torch.equal(*coarse)
    for count in (0, levels + 1):
        with pytest.raises(InputError, match="guided_levels"):
            draw(loud, guidance_scale=3.0, guided_levels=count)


def test_guidance_can_lead_below_a_noise_level_alone(loud):
    if not loud.edm:
        with pytest.raises(InputError, match="guidance_below"):
            draw(loud, guidance_scale=3.0, guidance_below=1.0)
        return
    plain, whole = draw(loud).volumes, draw(loud, guidance_scale=3.0).volumes
    led = {below: draw(loud, guidance_scale=3.0, guidance_below=below).volumes for below in (1e-6, 1.0, 1e6)}
    assert torch.equal(led[1e-6], plain)
    assert torch.equal(led[1e6], whole)
    assert not torch.equal(led[1.0], plain)
    assert not torch.equal(led[1.0], whole)
    with pytest.raises(InputError, match="guidance_below"):
        draw(loud, guidance_scale=3.0, guidance_below=0.0)


def test_a_saved_generator_is_the_same(loud, tmp_path):
    loud.save_pretrained(tmp_path)
    loaded = CCELLAPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.fingerprint == loud.fingerprint
    assert torch.equal(draw(loaded).volumes, draw(loud).volumes)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"| Objective | {loud.record['generator']['prediction']} |" in card


def test_two_sequences_are_drawn_together(trainer, tiny_subjects):
    images = ["t2w", "adc"]
    several = [
        tio.Subject({**subject, "adc": tio.ScalarImage(tensor=1 - subject["t2w"].data)}) for subject in tiny_subjects
    ]
    volumes = torch.stack([stack_images(subject, images) for subject in several])
    if trainer.latents == "cascade":
        space = fit_space(volumes, tiny_cascade_config())
    else:
        space = train_autoencoder(volumes, TINY_AUTOENCODER)
    drawn = draw(Trainer(trainer.latents, space, several, images)()).volumes
    assert drawn.shape == (3, 2, 16, 16, 8)
    assert torch.isfinite(drawn).all()


class Blocks(LatentSpace):
    """A third latent space: a volume's blocks of 4 voxels as channels."""

    facts = LatentDesign(
        space=f"{__name__}.Blocks",
        model="a model of blocks",
        source="Somebody. Blocks. 2026.",
        processes=("edm",),
        trained=False,
        sigma_data=0.5,
        unused=("autoencoder", "generator.levels"),
    )

    @register_to_config
    def __init__(self, sequences: int = 1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    @classmethod
    def fitted(cls, volumes, levels):
        space = cls(volumes.shape[1])
        space.mean.copy_(volumes.mean())
        return space

    def latent_shape(self, level, shape):
        x, y, z = (side // 4 for side in shape)
        return self.sequences * 4**3, x, y, z

    def to_levels(self, volumes, *, count=None):
        return [pixelunshuffle(volumes - self.mean, 3, 4)]

    def from_levels(self, latents):
        return pixelshuffle(latents[0], 3, 4) + self.mean


class Learned(Blocks):
    """One that would have to be trained."""

    facts = replace(Blocks.facts, space=f"{__name__}.Learned", trained=True)


class Nameless(Blocks):
    """One that brings no record of its own."""


BLOCKS = Blocks.facts.space


@pytest.fixture(scope="module")
def blocks(tiny_subjects):
    """A generator over the third latent space."""
    config = tiny_generator_config(latents=BLOCKS, prediction=None, training=LOOP)
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in tiny_subjects])
    settings = {"preprocessing": TINY_PREPROCESSING, "images": IMAGES, "micro_batch": 2}
    pipeline = train_ldm(tiny_subjects, fit_space(volumes, config), config, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_a_latent_space_is_one_class(blocks, tmp_path):
    """What CONTRIBUTING says of adding one: settings, training, folders and what goes on from them know it by name."""
    assert GeneratorConfig(latents=BLOCKS).process == "edm"
    assert blocks.record["generator"]["latents"] == BLOCKS
    blocks.save_pretrained(tmp_path)
    assert with_own_design(GeneratorConfig(pretrained=str(tmp_path))).latents == BLOCKS
    loaded = CCELLAPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.fingerprint == blocks.fingerprint
    assert torch.equal(draw(loaded).volumes, draw(blocks).volumes)


def test_of_a_folder_nothing_is_imported_but_a_module_of_models(blocks, tmp_path, monkeypatch):
    blocks.save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    whole = index.read_text(encoding="utf-8")
    index.write_text(whole.replace(f'"{__name__}"', '"antigravity"'), encoding="utf-8")
    with pytest.raises(InputError, match=r"latent space is antigravity\.Blocks; import that first"):
        read_design(tmp_path)
    assert "antigravity" not in sys.modules
    (tmp_path / "elsewhere.py").write_text(f"from {__name__} import Blocks\n", encoding="utf-8")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    index.write_text(whole.replace(f'"{__name__}"', '"synthaug.models.elsewhere"'), encoding="utf-8")
    assert read_design(tmp_path)["latents"] == BLOCKS
    del sys.modules["synthaug.models.elsewhere"]


@pytest.mark.parametrize("name", LATENT_DESIGNS)
def test_every_latent_space_is_the_class_that_its_record_names(name):
    kind = space_class(latent_design(name))
    assert (kind.facts, kind.facts.name) == (LATENT_DESIGNS[name], name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blocks", "latents=blocks: give cascade, autoencoder, or package.module.Class"),
        ("", "give cascade"),
        (".Blocks", "give cascade"),
        ("no_such_package.Blocks", "give cascade"),
        ("torch.nn.Linear", "give cascade"),
        (f"{__name__}.Nameless", "give cascade"),
        ("synthaug.models.cascade.Cascade", "give cascade"),  # a space has one name, so that ids are one
        (f"{__name__}.Learned", "only the autoencoder has a stage"),
        (BLOCKS, "prediction=epsilon needs generator.latents=autoencoder"),
    ],
)
def test_what_is_no_latent_space_is_refused_with_the_settings(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        GeneratorConfig(latents=name, prediction="epsilon")


# --- the gain of each level


def last_latents(pipeline, reports, seeds):
    """Clean latents of every level before their gains, coarse to fine, of one micro-batch."""
    last = {}

    def keep(_pipeline, _step, _timestep, values):
        last[tuple(values["latents"].shape)] = values["latents"]
        return {}

    pipeline(reports, seeds=seeds, callback_on_step_end=keep)
    return list(last.values())


def test_drawn_latents_get_the_spread_of_training_latents(trainer, loud, tmp_path):
    if not loud.edm:
        with pytest.raises(InputError, match="calibration"):
            CONFIGS[trainer.latents](calibration=8)
        return
    plain, reports = loud.fingerprint, [REPORTS[0], REPORTS[1]]
    gains = measure_level_gains(loud, reports, [0, 1], volumes=2, seed=3)
    assert gains == measure_level_gains(loud, reports, [0, 1], volumes=2, seed=3)
    assert len(gains) == trainer.levels
    before = draw(loud).volumes
    loud.register_to_config(level_gains=gains)
    loud._fingerprint = None
    order = numpy_generator("level gains", 3).permutation(2)
    seeds = [derive_seed("level gains", 3, number) for number in range(2)]
    for latents, gain in zip(last_latents(loud, [reports[row] for row in order], seeds), gains, strict=True):
        assert (gain * latents).square().mean().sqrt().item() == pytest.approx(0.5, rel=1e-5)
    drawn = draw(loud).volumes
    assert not torch.equal(drawn, before)
    assert loud.fingerprint != plain
    loud.save_pretrained(tmp_path)
    again = CCELLAPipeline.from_pretrained(tmp_path)
    assert again.fingerprint == loud.fingerprint
    assert torch.equal(draw(again).volumes, drawn)


def test_a_training_measures_the_gains_that_are_asked_for(trainer, unbroken):
    assert unbroken[0].config.level_gains == []
    if unbroken[0].edm:
        assert len(trainer(calibration=2).config.level_gains) == trainer.levels


# --- killed and resumed


def kill_at(last):
    def on_step(step, values):
        if step == last:
            raise Killed

    return on_step


def lines(path, stage):
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in found if line["stage"] == stage]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_killed_at_any_step_of_any_level_it_ends_with_the_same_weights(step, trainer, unbroken, tmp_path):
    if step > 2 * trainer.levels:
        pytest.skip("an autoencoder's latents are one level")
    expected, stats = unbroken
    options = {"checkpoint": tmp_path / "generator.checkpoint", "stats": tmp_path / "stats.jsonl"}
    options["validation"] = trainer.subjects[:3]
    with pytest.raises(Killed):
        trainer(options={**options, "on_step": kill_at(step)}, monitor_every=1)
    told = []
    resumed = trainer(options={**options, "on_step": lambda number, values: told.append(number)}, monitor_every=1)
    # The step that was broken off is made again, and none before it: between levels, the next one begins.
    assert told == list(range(step, 2 * trainer.levels + 1))
    assert resumed.fingerprint == expected.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["stats.jsonl"]
    for level in range(trainer.levels):
        ours, theirs = (lines(path, f"level {level}") for path in (options["stats"], stats))
        assert [line["step"] for line in ours] == [line["step"] for line in theirs]
        looks = [[line["val_loss"] for line in each if "val_loss" in line] for each in (ours, theirs)]
        assert looks[0] == looks[1]


def test_killed_in_a_look_it_ends_with_the_same_weights(trainer, unbroken, tmp_path):
    checkpoint, looks = tmp_path / "generator.checkpoint", []

    def monitor(step, values, pipeline, levels):
        looks.append((step, levels))
        if len(looks) == 2 * trainer.levels:
            raise Killed
        return {}

    options = {"checkpoint": checkpoint, "validation": trainer.subjects[:3], "monitor": monitor}
    with pytest.raises(Killed):
        trainer(options=options, monitor_every=1)
    assert looks == [(step, (step + 1) // 2) for step in range(1, 2 * trainer.levels + 1)]
    assert trainer(options=options, monitor_every=1).fingerprint == unbroken[0].fingerprint


def killed(*_, **__):
    raise Killed


@pytest.mark.parametrize("place", ["storing a level", "storing the whole", "Familiarity.fit", "removing a checkpoint"])
def test_killed_before_its_result_is_stored_it_trains_no_step_again(place, trainer, unbroken, tmp_path, monkeypatch):
    checkpoint = tmp_path / "generator.checkpoint"
    options = {"checkpoint": checkpoint, "validation": trainer.subjects[:3]}
    store = killed if place == "storing the whole" else None
    with monkeypatch.context() as patch:
        if place == "storing a level":
            patch.setattr(resumption, "save_file", killed)
        if place == "Familiarity.fit":
            patch.setattr(Familiarity, "fit", killed)
        if place == "removing a checkpoint":
            patch.setattr(Path, "unlink", lambda path, **_: killed() if path == checkpoint else path.exists())
        with pytest.raises(Killed):
            trainer(options={**options, "store": store}, monitor_every=1)
    assert list(tmp_path.iterdir())
    told, stored = [], []
    options |= {"on_step": lambda number, values: told.append(number), "store": lambda made: stored.append(made)}
    resumed = trainer(options=options, monitor_every=1)
    assert told == (list(range(3, 2 * trainer.levels + 1)) if "a level" in place or "a checkpoint" in place else [])
    assert resumed.fingerprint == unbroken[0].fingerprint
    assert stored == [resumed]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("change", [{"class_loss_weight": 9.0}, {"report_dropout": 0.9}])
def test_a_training_begun_with_other_settings_is_not_taken_up(change, step, trainer, tmp_path):
    if step > 2 * trainer.levels:
        pytest.skip("an autoencoder's latents are one level")
    options = {"checkpoint": tmp_path / "generator.checkpoint"}
    with pytest.raises(Killed):
        trainer(options={**options, "on_step": kill_at(step)})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"generator\.(checkpoint|level0): begun with other settings"):
        trainer(options=options, **change)
    assert sorted(tmp_path.iterdir()) == before
    slower = replace(LOOP, checkpoint_minutes=9.0)
    trainer(options=options, training=slower)


def test_files_of_a_training_that_tell_no_settings_are_taken_up(trainer, tmp_path):
    """As earlier versions left them."""
    checkpoint = tmp_path / "generator.checkpoint"
    with pytest.raises(Killed):
        trainer(options={"checkpoint": checkpoint, "on_step": kill_at(2 * trainer.levels)})
    saved = torch.load(checkpoint, weights_only=True)
    del saved["part"]
    torch.save(saved, checkpoint)
    for path in tmp_path.glob("*.level*"):
        save_file(load_file(path), path)
    told = []
    trainer(options={"checkpoint": checkpoint, "on_step": lambda number, values: told.append(number)})
    assert told == [2 * trainer.levels]


@pytest.mark.parametrize("name", ["generator.checkpoint", "generator.level0"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", bytes(100)])
def test_a_damaged_file_of_a_killed_training_is_named(name, content, trainer, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        trainer(options={"checkpoint": tmp_path / "generator.checkpoint"})


def test_a_validation_volume_that_is_not_finite_is_named_before_any_step(trainer, tiny_subjects):
    spoiled, told = copy.deepcopy(tiny_subjects[0]), []
    spoiled["t2w"].data[0, 3, 3, 3] = torch.nan
    options = {"validation": [tiny_subjects[1], spoiled], "on_step": lambda step, _: told.append(step)}
    with pytest.raises(InputError, match=spoiled["subject_id"]):
        trainer(options=options, monitor_every=1)
    assert not told


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_not_finite_stops_the_training(value):
    with pytest.raises(InputError, match="step 4"):
        BestWeights(torch.nn.Linear(1, 1)).offer(4, {"val_loss": value})


# --- what is watched


def test_stats_tell_losses_rate_seconds_and_memory_of_each_level(trainer, unbroken):
    names = {"edm": ("mse",), "v_prediction": ("l1",)}[unbroken[0].record["generator"]["prediction"]]
    for level in range(trainer.levels):
        found = lines(unbroken[1], f"level {level}")
        [trained] = [line for line in found if "val_loss" not in line]
        assert trained["step"] == 2
        wanted = {"stage", "step", "loss", "learning_rate", "seconds", "peak_mb", *names}
        wanted |= {"focal", "class_accuracy"} if level == 0 else set()
        assert set(trained) == wanted
        assert [line["step"] for line in found if "val_loss" in line] == [1, 2]


def test_looks_tell_the_loss_at_each_noise_level(trainer, unbroken):
    times = VALIDATION_SIGMAS if trainer.latents == "cascade" else VALIDATION_TIMESTEPS
    for level in range(trainer.levels):
        for line in lines(unbroken[1], f"level {level}"):
            if "val_loss" in line:
                each = [line[f"val_loss_at_{time:g}"] for time in times]
                assert line["val_loss"] == pytest.approx(sum(each) / len(each), abs=1e-5)


def test_the_weights_kept_are_those_of_the_best_look_of_each_level(trainer):
    kept = {}

    def monitor(step, values, pipeline, levels):
        first = step % 2 == 1
        if first:
            kept[levels - 1] = copy.deepcopy(pipeline.denoiser.unets[levels - 1].state_dict())
        return {"val_copies_excess": 0.0 if first else 0.1}

    chosen = trainer(options={"validation": trainer.subjects[:3], "monitor": monitor}, monitor_every=1)
    last = trainer()
    for level, weights in kept.items():
        state, other = (each.denoiser.unets[level].state_dict() for each in (chosen, last))
        assert all(torch.equal(state[name], weights[name]) for name in weights)
        assert not all(torch.equal(state[name], other[name]) for name in weights)


def test_fewer_copies_then_a_lower_loss_then_a_lower_fid_is_better():
    layer = torch.nn.Linear(1, 1)
    best = BestWeights(layer)
    looks = [
        ({"val_loss": 1.0, "val_fid": 5.0}, True),
        ({"val_loss": 1.001, "val_fid": 4.0}, True),  # a tie, which the FID decides
        ({"val_loss": 0.999, "val_fid": 4.5}, False),
        ({"val_loss": 0.5, "val_fid": 9.0}, True),
        ({"val_loss": 0.1, "val_fid": 1.0, "val_copies_excess": 0.2}, False),
    ]
    for step, (values, better) in enumerate(looks, start=1):
        torch.nn.init.constant_(layer.weight, step)
        assert best.offer(step, values) == better
    best.restore()
    assert (best.step, layer.weight.item()) == (4, 4)


# --- arithmetic


def test_auto_precision_is_written_down_and_read_when_resumed(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "measured_precision", lambda: "bf16")
    checkpoint, record = tmp_path / "generator.checkpoint", tmp_path / "generator.precision"
    auto = replace(LOOP, precision="auto")
    with pytest.raises(Killed):
        trainer(options={"checkpoint": checkpoint, "on_step": kill_at(2)}, training=auto)
    assert json.loads(record.read_text(encoding="utf-8"))["precision"] == "bf16"
    monkeypatch.setattr(precision, "measured_precision", lambda: "float32")
    resumed = trainer(options={"checkpoint": checkpoint}, training=auto)
    assert resumed.config.precision == "bf16"
    assert not record.exists()
    # bf16 draws finite volumes, and a loaded generator the same ones.
    volumes = draw(resumed).volumes
    assert torch.isfinite(volumes).all()
    resumed.save_pretrained(tmp_path / "saved")
    loaded = CCELLAPipeline.from_pretrained(tmp_path / "saved")
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.precision == "bf16"
    assert torch.equal(draw(loaded).volumes, volumes)


def test_what_a_record_says_is_not_measured_again(tmp_path):
    record = tmp_path / "generator.precision"
    measured = precision.resolve_precision("auto", record)
    other = {"float32": "bf16", "bf16": "float32"}[measured]
    record.write_text(record.read_text(encoding="utf-8").replace(measured, other), encoding="utf-8")
    assert precision.resolve_precision("auto", record) == other


def test_a_broken_record_of_precision_is_refused(tmp_path):
    record = tmp_path / "generator.precision"
    for content in ("{}", "[]", '{"precision": "fp8"}'):
        record.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=r"generator\.precision: holds"):
            precision.resolve_precision("auto", record)
    assert precision.resolve_precision("float32", record) == "float32"


# --- two processes


def test_two_processes_train_as_one_at_the_same_global_batch(trainer, unbroken, tmp_path):
    def work(rank):
        # On each machine another arithmetic might pay; the main process's record counts.
        folder = tmp_path / str(rank)
        folder.mkdir()
        record = {"precision": ["float32", "bf16"][rank]}
        (folder / "generator.precision").write_text(json.dumps(record), encoding="utf-8")
        told = []
        options = {"validation": trainer.subjects[:3], "on_step": lambda step, values: told.append(values["loss"])}
        options["checkpoint"] = folder / "generator.checkpoint"
        pipeline = trainer(options=options, monitor_every=1, training=replace(LOOP, precision="auto"))
        weights = {name: value.numpy() for name, value in pipeline.denoiser.state_dict().items()}
        return pipeline.config.precision, pipeline.fingerprint, told, weights

    first, second = in_two_processes(work)
    assert first[0] == second[0] == "float32"
    assert first[1] == second[1]
    assert first[2] == pytest.approx(second[2], abs=1e-6)
    ours = torch.cat([torch.from_numpy(value).flatten() for value in first[3].values()])
    alone = torch.cat([value.flatten() for value in unbroken[0].denoiser.state_dict().values()])
    # Adam divides by the size of gradients: where they are nothing but rounding, a step may differ by the rate.
    assert torch.isclose(ours, alone, atol=1e-3, rtol=1e-3).float().mean() > 0.99


# --- shapes and levels of a cascade


def test_sides_that_no_pooling_divides_and_three_levels(tiny_subjects):
    preprocessing = replace(TINY_PREPROCESSING, shape=(14, 18, 7))
    subjects = preprocess(tiny_subjects, preprocessing, IMAGES)
    one, other = tiny_cascade_config().levels
    config = tiny_cascade_config(levels=[one, LevelConfig(pooling=2, denoiser=one.denoiser), other], training=LOOP)
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in subjects])
    space = fit_space(volumes, config)
    assert space.padded == (16, 20, 8)
    steps = []
    pipeline = train_ldm(
        subjects,
        space,
        config,
        preprocessing=preprocessing,
        images=IMAGES,
        micro_batch=2,
        on_step=lambda step, values: steps.append(step),
    )
    pipeline.set_progress_bar_config(disable=True)
    assert steps == [1, 2, 3, 4, 5, 6]
    whole = draw(pipeline)
    assert whole.volumes.shape == (3, 1, 14, 18, 7)
    coarse = [draw(pipeline, levels=levels) for levels in (1, 2, 3)]
    assert torch.equal(coarse[2].volumes, whole.volumes)
    assert not torch.equal(coarse[0].volumes, coarse[1].volumes)
    assert all(torch.equal(each.class_probabilities, whole.class_probabilities) for each in coarse)
    assert draw(pipeline, [], seeds=[]).volumes.shape == (0, 1, 14, 18, 7)


# --- the published design, end to end


def test_the_published_design_trains_and_draws_as_published(tiny_subjects):
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in tiny_subjects])
    autoencoder = train_autoencoder(volumes, replace(TINY_AUTOENCODER, channels=(8, 8, 8), patch=1, latent_channels=4))
    told = []
    pipeline = Trainer("autoencoder", autoencoder, tiny_subjects)(
        options={"on_step": lambda step, values: told.append(values)}, prediction=None, class_loss_weight=0.1
    )
    for values in told:
        assert values["loss"] == pytest.approx(values["l1"] + 0.1 * values["focal"], rel=1e-5)
    assert pipeline.record["generator"]["prediction"] == "epsilon"
    settings = pipeline.with_scheduler("ddpm").scheduler.config
    assert (settings.prediction_type, settings.num_train_timesteps) == ("epsilon", 1000)
    assert type(pipeline.scheduler).__name__ == "DDPMScheduler"
    assert pipeline.denoiser.settings.get("levels") is None
    output = draw(pipeline)
    assert output.volumes.shape == (3, 1, 16, 16, 8)
    assert output.class_probabilities.shape == (3, 2)


# --- going on from a trained generator


@pytest.fixture(scope="module")
def folders(tiny_pipeline, tiny_cascade, old_folder, tmp_path_factory):
    """Saved generators by their latent space, and one of an earlier version."""
    made = {"autoencoder": tiny_pipeline, "cascade": tiny_cascade}
    found = {name: tmp_path_factory.mktemp(name) for name in made}
    for name, pipeline in made.items():
        pipeline.save_pretrained(found[name])
    return {**found, "old": old_folder}


def test_a_training_goes_on_from_a_saved_generator_of_its_space(trainer, folders, tiny_pipeline, tiny_cascade):
    before = {"autoencoder": tiny_pipeline, "cascade": tiny_cascade}[trainer.latents]
    still = replace(LOOP, learning_rate=1e-12, ema=0.0)
    same = trainer(pretrained=str(folders[trainer.latents]), training=still)
    for name, value in before.denoiser.state_dict().items():
        torch.testing.assert_close(same.denoiser.state_dict()[name], value, atol=1e-6, rtol=0)
    assert same.record["begun_from"]["fingerprint"] == before.fingerprint
    assert trainer(pretrained=str(folders[trainer.latents])).fingerprint != before.fingerprint


@pytest.fixture(scope="module")
def of_one_sequence(trainer, tmp_path_factory):
    """A saved generator of T2 alone whose networks can be given more sequences."""
    levels = [replace(level, linear_components=0) for level in tiny_cascade_config().levels]
    folder = tmp_path_factory.mktemp("one sequence")
    trainer(**({"levels": levels} if trainer.latents == "cascade" else {})).save_pretrained(folder)
    return folder


def with_others(subject):
    """The subject with two further sequences."""
    own = subject[IMAGES[0]].data
    images = {"adc": tio.ScalarImage(tensor=1 - own), "hbv": tio.ScalarImage(tensor=own.flip(1))}
    return tio.Subject({**subject, **images})


def going_on(trainer, folder, images, **changes):
    """A training on more sequences than the saved generator knows."""
    subjects = [with_others(subject) for subject in trainer.subjects]
    config = with_own_design(GeneratorConfig(pretrained=str(folder)))
    begun = pretrained_generator(config, classes=2, images=images)
    volumes = torch.stack([stack_images(subject, images) for subject in subjects])
    space = pretrained_space(config, begun, images, lambda: volumes)
    settings = {"levels": ()} if trainer.latents == "cascade" else {}
    return Trainer(trainer.latents, space, subjects, images)(pretrained=str(folder), **settings, **changes)


@torch.no_grad()
def answers(pipeline, level, latents, guide):
    """Of a level's network to latents as they are."""
    size, told = pipeline.denoiser.config, torch.Generator().manual_seed(0)
    context = torch.randn(len(latents), size.adapter_size["queries"], size.adapter_size["width"], generator=told)
    return pipeline.denoiser(
        latents,
        torch.tensor([10.0, 500.0]),
        context=context,
        class_vector=torch.tensor([[0.2, 0.8], [1.0, 0.0]]),
        spacing_mm=torch.ones(2, 3),
        level=level,
        guide=guide,
    )


@pytest.mark.parametrize("images", [["adc", *IMAGES, "hbv"], [*IMAGES, "adc"]])
def test_a_generator_goes_on_with_more_sequences_and_denoises_its_own_as_before(images, trainer, of_one_sequence):
    before = CCELLAPipeline.from_pretrained(of_one_sequence)
    after = going_on(trainer, of_one_sequence, images, training=replace(LOOP, learning_rate=1e-12, ema=0.0))
    volumes = torch.stack([stack_images(with_others(subject), images) for subject in trainer.subjects[:2]])
    place = images.index(IMAGES[0])
    together = after.autoencoder.to_levels(volumes)
    alone = before.autoencoder.to_levels(volumes[:, place : place + 1])
    for level, (all_of_them, own) in enumerate(zip(together, alone, strict=True)):
        channels = own.shape[1]
        ours = slice(place * channels, (place + 1) * channels)
        torch.testing.assert_close(all_of_them[:, ours], own, atol=1e-5, rtol=1e-5)
        noisy = all_of_them + 0.3 * torch.randn(all_of_them.shape, generator=torch.Generator().manual_seed(level))
        guide = after.autoencoder.guide(level, together) if level else None
        own_guide = before.autoencoder.guide(level, alone) if level else None
        now = answers(after, level, noisy, guide)
        torch.testing.assert_close(
            now[:, ours], answers(before, level, noisy[:, ours], own_guide), atol=1e-4, rtol=1e-4
        )
        assert now.abs().max() > 0


def test_new_sequences_are_learnt_and_drawn(trainer, of_one_sequence, tmp_path):
    images = [*IMAGES, "adc"]
    still = going_on(trainer, of_one_sequence, images, training=replace(LOOP, learning_rate=1e-12, ema=0.0))
    learnt = going_on(trainer, of_one_sequence, images)
    assert list(learnt.config.images) == images
    assert learnt.record["begun_from"]["fingerprint"] == CCELLAPipeline.from_pretrained(of_one_sequence).fingerprint
    before, after = draw(still).volumes, draw(learnt).volumes
    assert before.shape == after.shape == (3, 2, *TINY_PREPROCESSING.shape)
    assert (before - after).abs().amax(dim=(0, 2, 3, 4)).min() > 0
    learnt.save_pretrained(tmp_path)
    assert torch.equal(draw(CCELLAPipeline.from_pretrained(tmp_path)).volumes, after)


def test_volumes_are_read_for_new_sequences_by_a_fitted_space_alone(trainer, of_one_sequence):
    config = with_own_design(GeneratorConfig(pretrained=str(of_one_sequence)))
    begun, read = CCELLAPipeline.from_pretrained(of_one_sequence), []

    def volumes():
        read.append(1)
        return torch.rand(2, 2, *TINY_PREPROCESSING.shape)

    assert pretrained_space(config, begun, [*IMAGES, "adc"], volumes).sequences == 2
    assert len(read) == (0 if begun.autoencoder.facts.trained else 1)


@pytest.mark.parametrize(
    ("images", "changes", "message"),
    [
        (["adc", "hbv"], {}, "keep their names"),
        ([*IMAGES, "adc"], {"unet": "lora"}, r"generator\.unet=lora"),
    ],
)
def test_sequences_that_a_generator_cannot_be_given_are_refused(images, changes, message, trainer, of_one_sequence):
    config = with_own_design(GeneratorConfig(pretrained=str(of_one_sequence), **changes))
    with pytest.raises(InputError, match=message):
        pretrained_generator(config, classes=2, images=images)


def test_sequences_in_another_order_and_a_fitted_filter_are_refused(trainer, of_one_sequence, tmp_path, folders):
    going_on(trainer, of_one_sequence, [*IMAGES, "adc"]).save_pretrained(tmp_path)
    config = with_own_design(GeneratorConfig(pretrained=str(tmp_path)))
    with pytest.raises(InputError, match="order"):
        pretrained_generator(config, classes=2, images=["adc", *IMAGES])
    with pytest.raises(InputError, match="order"):  # what it knows as the second would be taken for the first
        pretrained_generator(config, classes=2, images=["adc", "hbv"])
    assert pretrained_generator(config, classes=2, images=[*IMAGES, "hbv"])
    if trainer.latents == "cascade":  # its coarse level has a linear denoiser
        config = with_own_design(GeneratorConfig(pretrained=str(folders["cascade"])))
        with pytest.raises(InputError, match="cannot be given more images"):
            pretrained_generator(config, classes=2, images=[*IMAGES, "adc"])


def test_what_a_training_cannot_go_on_from_is_refused_before_any_step(trainer, folders, tmp_path):
    def refused(folder: Path, message, **changes):
        steps = []
        with pytest.raises(InputError, match=message):
            trainer(options={"on_step": lambda *each: steps.append(each)}, pretrained=str(folder), **changes)
        assert steps == []

    [other] = CONFIGS.keys() - {trainer.latents}
    refused(folders[other], r"generator\.latents")
    refused(folders[trainer.latents], r"generator\.variant is 'ccella' there", variant="radmaisi")
    refused(folders["old"], r"earlier version \(layout_shape\)")
    pipeline = CCELLAPipeline.from_pretrained(folders["autoencoder"])
    pipeline.register_to_config(latent_deviations=[1.0, 1.0, 1.0, 1.0])
    pipeline.save_pretrained(tmp_path)
    refused(tmp_path, r"earlier version \(latent_deviations\)")
