"""Training of the generator: the joint loss on numbers checked by hand, every comparator, and what is recorded."""

import copy
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchio as tio
import yaml
from conftest import IMAGES, TINY_AUTOENCODER, TINY_PREPROCESSING, tiny_cascade_config, tiny_generator_config
from torch.nn.modules.module import register_module_forward_hook

from synthaug.bench.commands import run_command
from synthaug.config import GeneratorConfig, TextEncoderConfig, TrainingConfig
from synthaug.data.reading.manifest import stack_images
from synthaug.generate import encode
from synthaug.generate.diffusion import noise_schedule, training_scheduler
from synthaug.generate.encode import TensorCache, encode_each, encode_reports, encode_volumes, jitter
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training.autoencoder import psnr, train_autoencoder
from synthaug.generate.training.continuing import with_own_design
from synthaug.generate.training.examples import fit_length
from synthaug.generate.training.ldm import train_ldm
from synthaug.generate.training.networks import noise_process
from synthaug.generate.training.objectives import AutoencoderObjective, DiffusionObjective
from synthaug.generate.training.subject_losses import subject_losses
from synthaug.generate.training.validation import VALIDATION_TIMESTEPS
from synthaug.ground.errors import InputError
from synthaug.ground.people import patient_hash
from synthaug.metrics.volumes import VolumeSet
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.pretrained import weights_hash
from synthaug.models.text_encoder import build_text_encoder, tokenize, without_padding
from synthaug.models.variants import VARIANTS

ONE_STEP = TrainingConfig(steps=1, batch_size=4)


class Scripted(CCELLADenoiser):
    """A denoiser that answers a fixed prediction and fixed logits, to count the loss by hand."""

    def __init__(self, *, predicted, logits, variant="ccella"):
        super().__init__(
            variant=variant,
            text_width=16,
            unet_size={"channels": (32,), "attention": (True,)},
            adapter_size={"width": 32, "queries": 2, "blocks": 1, "heads": 2},
        )
        self.answers = predicted, logits

    def read(self, text, timesteps):
        return torch.zeros(len(text), 2, 32), self.answers[1]

    def forward(self, latents, timesteps, **conditions):
        return self.answers[0]


def joint_loss(*, report_weight, weight=1.0, prediction="epsilon", variant="ccella", offset=0.5, **ours):
    """Loss and parts where the prediction is ``offset`` above the target and the logits favour class 1 by 3 to 1."""
    latents = torch.randn(2, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 4, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([10, 700])
    scheduler = training_scheduler(prediction)
    target = noise
    if prediction == "v_prediction":
        betas = np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
        kept = torch.tensor(np.cumprod(1 - betas)[timesteps.numpy()], dtype=torch.float32).view(2, 1, 1, 1, 1)
        target = kept.sqrt() * noise - (1 - kept).sqrt() * latents
    if prediction == "flow_prediction":
        target = noise - latents
    logits = torch.tensor([[1.0, 3.0], [1.0, 3.0]]).log()
    denoiser = Scripted(predicted=target + offset, logits=logits, variant=variant)
    objective = DiffusionObjective(denoiser, None, scheduler, weight, **ours)
    return objective(
        latents=latents,
        noise=noise,
        timesteps=timesteps,
        text=torch.zeros(2, 1, 16),
        labels=torch.tensor([0, 1]),
        report_weight=torch.tensor(report_weight),
        spacing_mm=torch.ones(2, 3),
    )


# Focal loss by hand: weight (0.25 for class 0, 0.75 for others) x (1 - p)^2 x -log p, averaged over the two classes.
FOCAL_0 = 0.25 * 0.75**2 * -math.log(0.25) / 2
FOCAL_1 = 0.75 * 0.25**2 * -math.log(0.75) / 2


def test_the_joint_loss_is_l1_plus_the_weighted_focal_mean():
    loss, values = joint_loss(report_weight=[1.0, 1.0], weight=10.0)
    assert values["l1"].item() == pytest.approx(0.5, abs=1e-6)
    assert values["focal"].item() == pytest.approx((FOCAL_0 + FOCAL_1) / 2, rel=1e-5)
    assert loss.item() == pytest.approx(0.5 + 10 * (FOCAL_0 + FOCAL_1) / 2, rel=1e-5)
    assert values["class_accuracy"].item() == 0.5


def test_a_case_without_report_adds_nothing_to_the_focal_mean():
    # One of two cases has a report: its weight is 1 / (1/2), so that the mean is over that case alone.
    assert joint_loss(report_weight=[2.0, 0.0])[1]["focal"].item() == pytest.approx(FOCAL_0, rel=1e-5)
    assert joint_loss(report_weight=[0.0, 2.0])[1]["focal"].item() == pytest.approx(FOCAL_1, rel=1e-5)
    assert joint_loss(report_weight=[0.0, 0.0])[0].item() == pytest.approx(0.5, abs=1e-6)


def test_weight_zero_and_l1only_leave_the_l1():
    assert joint_loss(report_weight=[1.0, 1.0], weight=0.0)[0].item() == pytest.approx(0.5, abs=1e-6)
    assert joint_loss(report_weight=[1.0, 1.0], weight=9.0, variant="l1only")[0].item() == pytest.approx(0.5, abs=1e-6)


def test_the_squared_error_replaces_the_l1():
    loss, values = joint_loss(report_weight=[1.0, 1.0], weight=0.0, distance="mse")
    assert loss.item() == values["mse"].item() == pytest.approx(0.25, abs=1e-6)
    assert "l1" not in values


def test_the_velocity_target_is_the_papers():
    _, values = joint_loss(report_weight=[1.0, 1.0], prediction="v_prediction", offset=0.0)
    assert values["l1"].item() < 1e-5


def test_the_target_of_a_flow_leads_straight_from_image_to_noise():
    _, values = joint_loss(report_weight=[1.0, 1.0], prediction="flow_prediction", offset=0.0)
    assert values["l1"].item() == 0.0


def test_the_noise_schedule_is_the_published_one():
    scheduler = training_scheduler("epsilon")
    betas = np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
    np.testing.assert_allclose(scheduler.betas.numpy(), betas, rtol=1e-5)
    assert scheduler.betas[0].item() == pytest.approx(0.0015)
    assert scheduler.betas[-1].item() == pytest.approx(0.0195)
    assert not scheduler.config.clip_sample


def test_the_autoencoder_loss_is_l1_plus_the_weighted_kl():
    class Posterior(ImageAutoencoder):
        """Mean 1 and deviation 2 in each of two latent values; rebuilds a volume of 0.25."""

        def posterior(self, volumes):
            return torch.ones(1, 1, 1, 1, 2), torch.full((1, 1, 1, 1, 2), 2.0)

        def decode_unscaled(self, latents):
            assert latents.flatten().tolist() == [1 + 2 * 3.0, 1 - 2 * 1.0]  # mean + deviation x noise
            return torch.full((1, 1, 4, 4, 8), 0.25)

    model = Posterior(channels=(8,), latent_channels=1, residual_blocks=1, norm_groups=4, patch=4)
    noise = torch.tensor([3.0, -1.0]).view(1, 1, 1, 1, 2)
    loss, values = AutoencoderObjective(model, kl_weight=0.5)(torch.zeros(1, 1, 4, 4, 8), noise)
    kl = 2 * 0.5 * (1 + 4 - math.log(4) - 1)
    assert values["kl"].item() == pytest.approx(kl, rel=1e-6)
    assert loss.item() == pytest.approx(0.25 + 0.5 * kl, rel=1e-6)


# --- whole trainings


@pytest.mark.parametrize("place", ["encoding", "storing"])
def test_an_autoencoder_killed_before_it_is_stored_trains_no_step_again(
    place, tiny_subjects, tiny_autoencoder, tmp_path, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    volumes, told = VolumeSet.of(tiny_subjects, IMAGES), []
    options = {"checkpoint": tmp_path / "autoencoder.checkpoint", "on_step": lambda step, _: told.append(step)}
    with monkeypatch.context() as patch:
        if place == "encoding":
            patch.setattr("synthaug.generate.training.autoencoder.encode_volumes", killed)
        with pytest.raises(KeyboardInterrupt):
            train_autoencoder(volumes, TINY_AUTOENCODER, store=killed, **options)
    with pytest.raises(InputError, match="other settings"):
        train_autoencoder(volumes, replace(TINY_AUTOENCODER, kl_weight=0.5), **options)
    resumed = train_autoencoder(volumes, TINY_AUTOENCODER, **options)
    assert told == [1, 2, 3]
    assert resumed.settings == tiny_autoencoder.settings
    assert weights_hash(resumed) == weights_hash(tiny_autoencoder)
    assert list(tmp_path.iterdir()) == []


def train(subjects, autoencoder, **changes):
    losses = []
    config = tiny_generator_config(**({"training": ONE_STEP} | changes))
    pipeline = train_ldm(
        subjects,
        autoencoder,
        config,
        preprocessing=TINY_PREPROCESSING,
        images=IMAGES,
        on_step=lambda step, values: losses.append(values),
    )
    return pipeline, losses


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_trains_a_step_and_draws_a_volume(variant, tiny_subjects, tiny_autoencoder):
    pipeline, losses = train(tiny_subjects, tiny_autoencoder, variant=variant)
    assert len(losses) == 1
    assert all(math.isfinite(value) for value in losses[0].values())
    assert ("focal" in losses[0]) == (VARIANTS[variant].heads != "none")
    assert pipeline.record["generator"]["variant"] == variant
    labels = [1] if VARIANTS[variant].class_input == "true" else None
    pipeline.set_progress_bar_config(disable=True)
    volumes = pipeline(["PI-RADS 4"], labels, seeds=[0], num_inference_steps=2).volumes
    assert torch.isfinite(volumes).all()


def test_equal_seeds_train_equal_generators_and_leave_the_global_generator(tiny_subjects, tiny_autoencoder):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, _ = train(tiny_subjects, tiny_autoencoder)
    assert torch.equal(torch.rand(3), expected)
    second, _ = train(tiny_subjects, tiny_autoencoder)
    other, _ = train(tiny_subjects, tiny_autoencoder, training=replace(ONE_STEP, seed=1))
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_training_moves_the_text_encoder_only_where_it_is_trainable(tiny_subjects, tiny_autoencoder, tmp_path):
    start, _ = train(tiny_subjects, tiny_autoencoder, training=replace(ONE_STEP, learning_rate=1e-12))
    pipeline, _ = train(tiny_subjects, tiny_autoencoder, training=TrainingConfig(steps=3, batch_size=4))
    moved = [
        not torch.equal(before, after)
        for before, after in zip(start.text_encoder.parameters(), pipeline.text_encoder.parameters(), strict=True)
    ]
    assert all(moved)
    # The same encoder from a folder counts as pretrained: it stays as it was.
    start.text_encoder.save_pretrained(tmp_path)
    start.tokenizer.save_pretrained(tmp_path)
    config = TextEncoderConfig(path=str(tmp_path), max_tokens=64)
    frozen, _ = train(tiny_subjects, tiny_autoencoder, text_encoder=config)
    before, after = start.text_encoder.state_dict(), frozen.text_encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def shown():
    """Every batch that the training of a generator is shown, by torch's own hook."""
    batches = []

    def keep(module, arguments, named, answer):
        if isinstance(module, DiffusionObjective):
            batches.append(named)

    hook = register_module_forward_hook(keep, with_kwargs=True)
    yield batches
    hook.remove()


@pytest.mark.parametrize("trainable", [True, False])
def test_full_report_dropout_shows_the_null_report_only(trainable, tiny_subjects, tiny_autoencoder, shown):
    text = replace(tiny_generator_config().text_encoder, trainable=trainable)
    loop = TrainingConfig(steps=2, batch_size=4)
    pipeline, losses = train(tiny_subjects, tiny_autoencoder, report_dropout=1.0, text_encoder=text, training=loop)
    null = tokenize(pipeline.tokenizer, [""])[0]
    if not trainable:
        null = without_padding(encode_reports(pipeline.text_encoder, pipeline.tokenizer, [""])[""])
        assert len(null) == 1  # its end
    assert shown
    for batch in shown:
        assert all(torch.equal(row, null) for row in batch["text"])
        assert not batch["report_weight"].any()
    assert [values["focal"] for values in losses] == [0.0, 0.0]


def test_a_frozen_text_encoder_may_be_in_half_precision(tiny_subjects, tiny_autoencoder, tmp_path):
    encoder, tokenizer = build_text_encoder(TextEncoderConfig(width=16, layers=1, heads=2, max_tokens=32))
    for part in (encoder.to(torch.bfloat16), tokenizer):
        part.save_pretrained(tmp_path)
    text = TextEncoderConfig(path=str(tmp_path), max_tokens=32)
    config = tiny_generator_config(text_encoder=text, training=replace(ONE_STEP, precision="float32"))
    trained = train_ldm(tiny_subjects, tiny_autoencoder, config, preprocessing=TINY_PREPROCESSING, images=IMAGES)
    assert (trained.text_encoder.dtype, trained.denoiser.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("label", [2, -1])
def test_a_validation_subject_of_an_unknown_class_is_refused_before_any_step(label, tiny_subjects, tiny_autoencoder):
    stranger = copy.deepcopy(tiny_subjects[0])
    stranger["label"] = label
    steps = []
    with pytest.raises(InputError, match=str(stranger["subject_id"])):
        train_ldm(
            tiny_subjects,
            tiny_autoencoder,
            tiny_generator_config(training=ONE_STEP),
            preprocessing=TINY_PREPROCESSING,
            images=IMAGES,
            validation=[tiny_subjects[1], stranger],
            on_step=lambda step, values: steps.append(step),
        )
    assert not steps


def test_cases_without_report_weigh_nothing_and_the_others_average_to_one(tiny_subjects, tiny_autoencoder, shown):
    mixed = []
    for index, subject in enumerate(tiny_subjects):
        fields = dict(subject)
        fields["report"] = "" if index % 2 else subject["report"]
        mixed.append(tio.Subject(fields))
    pipeline, _ = train(mixed, tiny_autoencoder, training=TrainingConfig(steps=4, batch_size=8))
    null = tokenize(pipeline.tokenizer, [""])[0]
    assert shown
    for batch in shown:
        silent = torch.tensor([torch.equal(row, null) for row in batch["text"]])
        assert 0 < silent.sum() < 8
        assert not batch["report_weight"][silent].any()
        assert batch["report_weight"].mean().item() == pytest.approx(1.0)


def test_the_record_holds_the_hashes_of_exactly_the_training_patients(tiny_subjects, tiny_autoencoder):
    part = tiny_subjects[:6]
    pipeline, _ = train(part, tiny_autoencoder)
    expected = {patient_hash(subject["patient_id"]) for subject in part}
    assert pipeline.record["patients"] == sorted(expected)
    text = json.dumps(pipeline.record)
    assert not any(subject["patient_id"] in text or subject["report"] in text for subject in part)
    assert sum(pipeline.record["class_counts"].values()) == 6


def test_a_saved_generator_carries_a_card_with_its_data_code_and_settings(tiny_subjects, tiny_autoencoder, tmp_path):
    pipeline, _ = train(tiny_subjects, tiny_autoencoder)
    pipeline.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(head)["library_name"] == "synthaug"
    for fact in (pipeline.fingerprint, pipeline.record["data"], pipeline.record["git_commit"], "v_prediction"):
        assert fact in body
    assert f"torch {torch.__version__}" in body
    assert not any(subject["patient_id"] in card for subject in tiny_subjects)
    changed = [*tiny_subjects[1:], tio.Subject({**tiny_subjects[0], "report": "another"})]
    other, _ = train(changed, tiny_autoencoder)
    assert other.record["data"] != pipeline.record["data"]


def test_several_sequences_share_one_latent_stack_and_are_drawn_together(tiny_subjects):
    images = ["t2w", "adc", "b1600"]
    several = []
    for subject in tiny_subjects:
        volume = subject["t2w"].data
        more = {"adc": tio.ScalarImage(tensor=1 - volume), "b1600": tio.ScalarImage(tensor=volume.square())}
        several.append(tio.Subject({**subject, **more}))
    volumes = torch.stack([stack_images(subject, images) for subject in several])
    autoencoder = train_autoencoder(volumes, TINY_AUTOENCODER)
    config = tiny_generator_config(training=ONE_STEP)
    pipeline = train_ldm(several, autoencoder, config, preprocessing=TINY_PREPROCESSING, images=images)
    assert pipeline.denoiser.config.latent_channels == 3 * TINY_AUTOENCODER.latent_channels
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        ["PI-RADS 4", "vu\u00df \u2264 3 mm \u524d\u5217\u817a " * 200, ""], seeds=[0, 1, 2], num_inference_steps=2
    )
    assert drawn.volumes.shape == (3, 3, 16, 16, 8)
    assert torch.isfinite(drawn.volumes).all()


# --- looks at the validation patients


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_looking_at_validation_patients_changes_nothing_in_the_training(precision, tiny_subjects, tiny_autoencoder):
    loop, looks = TrainingConfig(steps=4, batch_size=4, ema=0.9, precision=precision), []
    unwatched, _ = train(tiny_subjects, tiny_autoencoder, training=loop)

    def look(step, values, pipeline, levels):
        assert levels == 1
        pipeline.set_progress_bar_config(disable=True)
        drawn = pipeline(["PI-RADS 4"], seeds=[0], num_inference_steps=2).volumes
        looks.append((step, values, drawn))
        return {"val_copies_excess": float(step < 4)}  # so that the last weights are the best

    watched = train_ldm(
        tiny_subjects,
        tiny_autoencoder,
        tiny_generator_config(training=loop, monitor_every=2),
        preprocessing=TINY_PREPROCESSING,
        images=IMAGES,
        validation=tiny_subjects[:3],
        monitor=look,
    )
    assert watched.fingerprint == unwatched.fingerprint
    assert [step for step, _, _ in looks] == [2, 4]
    for _, values, _ in looks:
        by_time = {f"val_loss_at_{time}" for time in VALIDATION_TIMESTEPS}
        assert set(values) == {"val_loss", "val_l1", "val_focal", "val_class_accuracy"} | by_time
        assert all(math.isfinite(value) for value in values.values())
    at_the_end = watched(["PI-RADS 4"], seeds=[0], num_inference_steps=2).volumes
    assert torch.equal(looks[-1][2], at_the_end)


def test_looking_at_reconstructions_changes_nothing_in_the_autoencoder(tiny_subjects):
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in tiny_subjects])
    config, looks = replace(TINY_AUTOENCODER, monitor_every=2), []
    expected = train_autoencoder(volumes, config)
    watched = train_autoencoder(volumes, config, validation=volumes[:2], monitor=lambda *look: looks.append(look))
    assert [step for step, _, _ in looks] == [2, 3]
    _, values, rebuilt = looks[-1]
    assert rebuilt.shape == volumes[:2].shape
    assert values["val_psnr"] == pytest.approx(psnr(rebuilt, volumes[:2]))
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), expected.parameters(), strict=True))


# --- what is kept on disk


class Counting(ImageAutoencoder):
    """An autoencoder that notes how many volumes it encodes."""

    rows: list[int]

    def encode(self, volumes):
        self.rows.append(len(volumes))
        return super().encode(volumes)


def test_cached_latents_are_the_same_bits_and_are_not_encoded_again(tiny_subjects, tiny_autoencoder, tmp_path):
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in tiny_subjects])
    cache, rows = TensorCache(tmp_path), []
    ours, other = (Counting(**tiny_autoencoder.settings | changes) for changes in ({}, {"scale_factor": 2.0}))
    for each in (ours, other):
        each.load_state_dict(tiny_autoencoder.state_dict())
        each.rows = rows
    expected = encode_volumes(ours, volumes)
    assert torch.equal(encode_volumes(ours, volumes[:5], cache=cache), expected[:5])
    rows.clear()
    assert torch.equal(encode_volumes(ours, volumes, cache=cache), expected)
    assert sum(rows) < 2 * len(volumes)
    rows.clear()
    assert torch.equal(encode_volumes(ours, volumes.flip(0), cache=cache), expected.flip(0))
    assert rows == []
    # Another volume, another scale: nothing stale is used.
    encode_volumes(ours, volumes[:1] * 0.5, cache=cache)
    ratio = encode_volumes(other, volumes[:1], cache=cache) / expected[:1]
    assert ratio.mean().item() == pytest.approx(2 / tiny_autoencoder.config.scale_factor, rel=1e-4)
    assert len(rows) == 2


def test_latents_are_mapped_from_the_cache_and_its_files_stay_as_they_are(tiny_subjects, tiny_autoencoder, tmp_path):
    volumes, cache = VolumeSet.of(tiny_subjects, IMAGES), TensorCache(tmp_path)
    expected = encode_each(tiny_autoencoder, volumes)
    for _ in range(2):  # encoded, then found
        found = encode_each(tiny_autoencoder, volumes, cache=cache)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        maps = Path("/proc/self/maps")
        assert not maps.exists() or str(tmp_path) in maps.read_text(encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == len(volumes)
    for latent in found:
        latent.mul_(0)
    assert {path: path.read_bytes() for path in before} == before
    assert torch.equal(torch.stack(encode_each(tiny_autoencoder, volumes, cache=cache)), torch.stack(expected))


def test_latents_that_cannot_be_mapped_are_read(tmp_path, monkeypatch):
    def refuse(path):
        raise OSError("no more maps")

    cache = TensorCache(tmp_path)
    cache.put("ab", torch.ones(2))
    monkeypatch.setattr(encode, "load_file", refuse)
    assert torch.equal(cache.get("ab"), torch.ones(2))


def test_cached_states_of_reports_follow_the_encoders_weights(tiny_pipeline, tmp_path):
    cache, encoder, tokenizer = TensorCache(tmp_path), tiny_pipeline.text_encoder, tiny_pipeline.tokenizer
    first = encode_reports(encoder, tokenizer, ["PI-RADS 5", ""], cache=cache)
    again = encode_reports(encoder, tokenizer, ["", "PI-RADS 5"], cache=cache)
    assert all(torch.equal(first[report], again[report]) for report in first)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    changed = copy.deepcopy(encoder)
    with torch.no_grad():
        changed.shared.weight.add_(1.0)
    assert not torch.equal(encode_reports(changed, tokenizer, [""], cache=cache)[""], first[""])


def test_a_broken_cache_file_is_named(tmp_path):
    cache = TensorCache(tmp_path)
    cache.put("ab", torch.ones(2))
    [path] = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"ab\.safetensors: broken cache file; delete it"):
        cache.get("ab")


def test_a_single_class_is_refused(tiny_subjects, tiny_autoencoder):
    with pytest.raises(InputError, match="two classes needed"):
        train([subject for subject in tiny_subjects if subject["label"] == 0], tiny_autoencoder)


class Killed(Exception):
    """Stands for a signal in the middle of a training."""


@pytest.mark.parametrize("stage", ["autoencoder", "generator"])
def test_a_killed_training_resumes_to_the_same_generator(stage, tiny_subjects, tiny_autoencoder, tmp_path):
    loop = TrainingConfig(steps=4, batch_size=4, ema=0.9, checkpoint_minutes=0.0)
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in tiny_subjects])

    def run(checkpoint=None, on_step=None):
        if stage == "autoencoder":
            config = replace(TINY_AUTOENCODER, training=loop)
            return train_autoencoder(volumes, config, checkpoint=checkpoint, on_step=on_step)
        config = tiny_generator_config(training=loop)
        return train_ldm(
            tiny_subjects,
            tiny_autoencoder,
            config,
            preprocessing=TINY_PREPROCESSING,
            images=IMAGES,
            checkpoint=checkpoint,
            on_step=on_step,
        ).denoiser

    def kill(step, values):
        if step == 3:
            raise Killed

    unbroken = run()
    with pytest.raises(Killed):
        run(tmp_path / "checkpoint", kill)
    resumed = run(tmp_path / "checkpoint")
    assert resumed.settings == unbroken.settings  # the scale factor too
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), unbroken.parameters(), strict=True))


def test_the_scale_factor_gives_the_training_latents_unit_deviation(tiny_subjects):
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in tiny_subjects])
    published = train_autoencoder(volumes, TINY_AUTOENCODER)
    assert encode_volumes(published, volumes).std().item() == pytest.approx(1.0, abs=1e-5)


# --- what is computed beforehand


def test_jitter_moves_by_at_most_the_shift_and_repeats_the_edges():
    ramp = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(40, 1, 8, 8, 8)
    moved = jitter(ramp, shift=2, flip=False, seed_parts=("test",))
    starts = set()
    for volume in moved:
        line = volume[0, :, 0, 0]
        start = int((line - torch.arange(8.0))[4])
        starts.add(start)
        assert line.tolist() == [min(max(x + start, 0), 7) for x in range(8)]
    assert starts == {-2, -1, 0, 1, 2}
    assert torch.equal(moved, jitter(ramp, shift=2, flip=False, seed_parts=("test",)))
    assert not torch.equal(moved, jitter(ramp, shift=2, flip=False, seed_parts=("other",)))


def test_jitter_mirrors_half_of_the_volumes_left_right_where_asked():
    ramp = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(40, 1, 8, 8, 8)
    moved = jitter(ramp, shift=0, flip=True, seed_parts=("test",))
    mirrored = [volume[0, 0, 0, 0].item() == 7 for volume in moved]
    assert 10 < sum(mirrored) < 30
    assert all(torch.equal(v, r.flip(1) if m else r) for v, r, m in zip(moved, ramp, mirrored, strict=True))


def test_a_reports_states_do_not_depend_on_its_neighbours(tiny_pipeline):
    reports = ["PI-RADS 5", "", "no lesion"]
    together = encode_reports(tiny_pipeline.text_encoder, tiny_pipeline.tokenizer, [*reports, *reports])
    assert list(together) == reports
    for report in reports:
        alone = encode_reports(tiny_pipeline.text_encoder, tiny_pipeline.tokenizer, [report])
        assert torch.equal(alone[report], together[report])


# --- going on from a trained generator


@pytest.fixture(scope="module")
def begun_folder(tiny_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun") / "generator"
    tiny_pipeline.save_pretrained(folder)
    return str(folder)


def go_on(subjects, autoencoder, folder, **changes):
    config = tiny_generator_config(pretrained=folder, **({"training": TrainingConfig(steps=1, batch_size=4)} | changes))
    return train_ldm(subjects, autoencoder, config, preprocessing=TINY_PREPROCESSING, images=IMAGES, micro_batch=4)


def test_training_goes_on_from_the_weights_of_a_saved_generator(
    begun_folder, tiny_subjects, tiny_autoencoder, tiny_pipeline
):
    still = TrainingConfig(steps=1, batch_size=4, learning_rate=1e-12)
    same = go_on(tiny_subjects[:6], tiny_autoencoder, begun_folder, training=still)
    for part in ("denoiser", "text_encoder"):
        ours, theirs = (getattr(pipeline, part).state_dict() for pipeline in (same, tiny_pipeline))
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0)
    moved = go_on(tiny_subjects[:6], tiny_autoencoder, begun_folder)
    assert moved.fingerprint != tiny_pipeline.fingerprint


def test_a_generator_saved_in_half_precision_is_trained_on_in_float32(begun_folder, tiny_subjects, tmp_path):
    half = CCELLAPipeline.from_pretrained(begun_folder, torch_dtype=torch.bfloat16)
    half.save_pretrained(tmp_path)
    training = replace(ONE_STEP, precision="float32")
    trained = go_on(tiny_subjects[:6], half.autoencoder.float(), str(tmp_path), training=training)
    assert trained.text_encoder.dtype == trained.denoiser.dtype == torch.float32


def test_a_pretrained_generator_brings_its_design(
    begun_folder, tiny_cascade, tiny_subjects, tiny_autoencoder, tmp_path
):
    left_alone = GeneratorConfig(pretrained=begun_folder)
    own = with_own_design(left_alone)
    assert (own.variant, own.latents, own.process) == ("ccella", "autoencoder", "v_prediction")
    with pytest.raises(InputError, match=r"generator\.latents is 'autoencoder' there and 'cascade' here"):
        with_own_design(left_alone, typed=["latents"])
    with_own_design(left_alone, typed=["variant", "training.steps"])
    tiny_cascade.save_pretrained(tmp_path)
    levels = with_own_design(GeneratorConfig(pretrained=str(tmp_path), variant="ccella")).levels
    trained = tiny_cascade_config().levels
    assert [(level.pooling, level.patch, level.denoiser, level.steps) for level in levels] == [
        (level.pooling, level.patch, level.denoiser, 0) for level in trained
    ]
    again = [replace(level, steps=7, batch_size=3, sigma_mean=-1.0) for level in trained]
    assert with_own_design(GeneratorConfig(pretrained=str(tmp_path), levels=again)).levels == again
    for change in ({"texture": 1}, {"sigma_max": 12.0}, {"denoiser": replace(trained[1].denoiser, channels=(64,))}):
        others = [again[0], replace(again[1], **change)]
        with pytest.raises(InputError, match=rf"generator\.levels\[1\]\.{next(iter(change))} is"):
            with_own_design(GeneratorConfig(pretrained=str(tmp_path), levels=others))
    config = GeneratorConfig(pretrained=begun_folder, training=ONE_STEP, report_dropout=0.0)
    settings = {"preprocessing": TINY_PREPROCESSING, "images": IMAGES, "micro_batch": 4}
    assert (
        train_ldm(tiny_subjects, tiny_autoencoder, config, **settings).record["generator"]["latents"] == "autoencoder"
    )


def test_a_frozen_text_encoder_stays_frozen(begun_folder, tiny_subjects, tiny_autoencoder, tiny_pipeline, tmp_path):
    config = replace(tiny_generator_config().text_encoder, trainable=False)
    folder = tmp_path / "frozen"
    train(tiny_subjects, tiny_autoencoder, text_encoder=config)[0].save_pretrained(folder)
    assert not with_own_design(GeneratorConfig(pretrained=str(folder))).text_encoder.trainable
    assert with_own_design(GeneratorConfig(pretrained=begun_folder)).text_encoder.trainable
    with pytest.raises(InputError, match=r"text_encoder\.trainable"):
        with_own_design(GeneratorConfig(pretrained=str(folder)), typed=["text_encoder.trainable"])
    went_on = go_on(tiny_subjects, tiny_autoencoder, str(folder))
    before = CCELLAPipeline.from_pretrained(folder).text_encoder.state_dict()
    after = went_on.text_encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert went_on.record["generator"]["text_encoder"]["trainable"] is False


def test_what_is_typed_may_not_contradict_a_pretrained_generator(begun_folder, tmp_path, capsys):
    words = ["--generator.pretrained", begun_folder, "--generator.latents", "cascade", "--out", str(tmp_path / "out")]
    assert run_command("train-ldm", words) == 2
    assert "generator.latents" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_generator_remembers_the_patients_of_the_one_it_went_on_from(
    begun_folder, tiny_subjects, tiny_autoencoder, tiny_pipeline
):
    others = [copy.copy(subject) for subject in tiny_subjects[:6]]
    for subject in others:
        subject["patient_id"] = f"new-{subject['patient_id']}"
    record = go_on(others, tiny_autoencoder, begun_folder).record
    assert len(record["patients"]) == len(tiny_subjects) + len(others)
    assert set(tiny_pipeline.record["patients"]) < set(record["patients"])
    assert record["begun_from"]["fingerprint"] == tiny_pipeline.fingerprint
    assert "patients" not in record["begun_from"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "radmaisi"}, "generator.variant is 'ccella' there and 'radmaisi' here"),
        ({"prediction": "epsilon"}, "generator.prediction is 'v_prediction' there"),
        ({"pretrained": "nowhere"}, "no saved pipeline"),
    ],
)
def test_what_cannot_go_on_is_refused(change, message, begun_folder, tiny_subjects, tiny_autoencoder):
    config = tiny_generator_config(**({"pretrained": begun_folder} | change))
    with pytest.raises(InputError, match=message):
        train_ldm(tiny_subjects, tiny_autoencoder, config, preprocessing=TINY_PREPROCESSING, images=IMAGES)


@pytest.mark.parametrize("prediction", ["edm", "maisi_flow", "flow_prediction", "epsilon"])
def test_losses_are_measured_under_the_process_of_the_training(prediction, tiny_subjects, tiny_autoencoder):
    pipeline, _ = train(tiny_subjects, tiny_autoencoder, prediction=prediction)
    found = []

    def remember(module, *_):
        if isinstance(module, DiffusionObjective):
            found.append(module.scheduler)

    hook = register_module_forward_hook(remember)
    try:
        assert np.isfinite(subject_losses(pipeline, tiny_subjects[:2], draws=1)).all()
    finally:
        hook.remove()
    trained = noise_process(tiny_generator_config(prediction=prediction))
    assert type(found[0]) is type(trained)
    assert noise_schedule(found[0]) == noise_schedule(trained)


@pytest.mark.parametrize(("asked", "read"), [({}, 2528), ({"max_tokens": 300}, 300)])
def test_the_byte_encoder_reads_as_much_as_its_reports_hold_and_tells_what_is_cut(asked, read, caplog):
    config = TextEncoderConfig(width=16, layers=1, heads=2, **asked)
    _, tokenizer = build_text_encoder(config)
    with caplog.at_level(logging.WARNING):
        fit_length(tokenizer, ["x" * 947, "y" * 2522, "y" * 2522], at_most=config.longest)
    assert tokenizer.model_max_length == read
    told = [record.args for record in caplog.records if record.name.startswith("synthaug")]
    assert told == ([(2, 2, 300)] if asked else [])
    assert tokenize(tokenizer, ["z" * 2522]).shape == (1, read)
