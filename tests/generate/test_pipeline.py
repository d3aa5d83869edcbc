"""The pipeline: a volume is a pure function of its recipe, saved and loaded without a changed bit."""

import hashlib
import json
import math
import os
import shutil
import socket

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import IMAGES, TINY_PREPROCESSING, tiny_generator_config
from diffusers import UniPCMultistepScheduler
from safetensors.torch import load_file, save_file

from synthaug.config import Config, GeneratorConfig, TextEncoderConfig, TrainingConfig
from synthaug.generate.diffusion import SAMPLERS_OF_DIFFUSION
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.errors import InputError
from synthaug.models.text_encoder import encode_tokens, tokenize
from synthaug.study.stages.checks import check_study

REPORTS = ["PI-RADS 5 lesion", "no lesion", "", "PI-RADS 2", "PI-RADS 5 lesion"]
SEEDS = [0, 1, 2, 3, 4]
BUILTIN_REPORT = (
    "Focal T2 lesion of 18 mm in the left midgland peripheral zone. "
    "IMPRESSION: PI-RADS 5, left midgland peripheral zone."
)
BUILTIN_VOXELS = [[0.0, 0.597509, 0.453541, 0.526742], [0.0, 0.663154, 0.22398, 0.875454]]
BUILTIN_CLASSES = [[0.003791, 0.996209], [0.987705, 0.012295]]


def draw(pipeline, reports=REPORTS, labels=None, *, seeds=SEEDS, steps=3, **settings):
    return pipeline(reports, labels, seeds=seeds, num_inference_steps=steps, **settings)


@pytest.fixture(scope="module")
def saved(tiny_pipeline, tmp_path_factory):
    """The folder of the tiny pipeline."""
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def pipeline(saved):
    """A copy that a test may change, loud enough to draw a picture at each report."""
    pipeline = CCELLAPipeline.from_pretrained(saved)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.record["generator"]["report_dropout"] = 0.1  # may be guided
    # After three steps the last layer is all but zero; without a signal no condition could be told from another.
    with torch.no_grad():
        last = pipeline.denoiser.unet.out[2].conv.weight
        last.copy_(0.3 * torch.randn(last.shape, generator=torch.Generator().manual_seed(0)))
    return pipeline


@pytest.fixture
def radmaisi(tiny_subjects, tiny_autoencoder):
    """A generator conditioned on the true class, without text."""
    config = tiny_generator_config(
        variant="radmaisi", training=TrainingConfig(steps=2, batch_size=4, learning_rate=0.01)
    )
    pipeline = train_ldm(
        tiny_subjects, tiny_autoencoder, config, preprocessing=TINY_PREPROCESSING, images=IMAGES, micro_batch=2
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# --- what is drawn from


def first_latents(pipeline, context):
    pipeline.scheduler.set_timesteps(4)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    return pipeline.sampler.first_latents(context, generators, (pipeline.autoencoder.latent_channels, 4, 4, 2))


def test_published_generators_start_from_noise_alone(pipeline):
    context = torch.zeros(2, 4, 8)
    channels = pipeline.autoencoder.latent_channels
    noise = [torch.randn(channels, 4, 4, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert torch.equal(first_latents(pipeline, context), torch.stack(noise))


def test_with_a_layout_the_rest_of_the_image_at_the_first_timestep_is_drawn_too(old_folder):
    pipeline = CCELLAPipeline.from_pretrained(old_folder)
    denoiser, channels = pipeline.denoiser, pipeline.autoencoder.latent_channels
    with torch.no_grad():
        denoiser.layout[-1].weight.zero_()
        denoiser.layout[-1].bias.fill_(3.0)
        size = denoiser.config.adapter_size
        context = torch.zeros(2, size["queries"], size["width"])
        sides = denoiser.layout_basis.shape[2:]
        pipeline.scheduler.set_timesteps(4)
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        found = pipeline.sampler.first_latents(context, generators, (channels, *sides))
    deviations = torch.tensor(pipeline.config.latent_deviations).view(-1, 1, 1, 1)
    kept = pipeline.scheduler.alphas_cumprod[999]
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(channels, *sides, generator=generator)
        components = 3.0 + torch.randn(len(denoiser.layout_basis), generator=generator)
        image = deviations * sum(c * basis for c, basis in zip(components, denoiser.layout_basis, strict=True))
        torch.testing.assert_close(found[seed], kept.sqrt() * image + (1 - kept).sqrt() * noise)


def test_a_layout_is_stretched_to_the_shape_that_is_drawn(old_folder):
    pipeline = CCELLAPipeline.from_pretrained(old_folder)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(["PI-RADS 4"], seeds=[0], shape=(32, 16, 8), num_inference_steps=2).volumes
    assert drawn.shape == (1, 1, 32, 16, 8)


def test_residual_noise_of_an_old_folder_is_added_by_each_volumes_own_seed(old_folder):
    pipeline = CCELLAPipeline.from_pretrained(old_folder).with_scheduler("ddim")
    pipeline.set_progress_bar_config(disable=True)
    noisy = draw(pipeline).volumes
    pipeline.autoencoder.register_to_config(residual_deviation=0.0)
    plain = draw(pipeline).volumes
    inside = (plain > 0.2) & (plain < 0.8)
    assert (noisy - plain)[inside].std().item() == pytest.approx(0.05, rel=0.1)
    assert inside.float().mean() > 0.1


def test_the_builtin_generator_draws_what_it_always_drew():
    """Values of the day that it was packaged, 2026-11-29. Processors differ by up to 0.006, as it computes in bf16."""
    pipeline = CCELLAPipeline.from_pretrained("builtin/ccella-tiny")
    pipeline.set_progress_bar_config(disable=True)
    output = draw(pipeline, [BUILTIN_REPORT, ""], seeds=[0, 1], guidance_scale=3.0)
    assert pipeline.fingerprint == "5a4e697d76bd49c5"
    torch.testing.assert_close(output.volumes[:, 0, ::8, 16, 8], torch.tensor(BUILTIN_VOXELS), rtol=0, atol=2e-2)
    torch.testing.assert_close(output.class_probabilities, torch.tensor(BUILTIN_CLASSES), rtol=0, atol=2e-2)
    assert output.volumes.mean().item() == pytest.approx(0.374863, abs=3e-3)


# --- a volume is a function of its recipe


@pytest.mark.parametrize("scheduler", SAMPLERS_OF_DIFFUSION)
def test_volumes_are_finite_in_the_unit_range_and_have_the_trained_shape(scheduler, pipeline):
    output = draw(pipeline.with_scheduler(scheduler))
    assert output.volumes.shape == (5, 1, 16, 16, 8)
    assert output.volumes.dtype == torch.float32
    assert torch.isfinite(output.volumes).all()
    assert output.volumes.min() >= 0
    assert output.volumes.max() <= 1
    assert output.volumes.std() > 0
    assert output.class_probabilities.shape == (5, 2)
    torch.testing.assert_close(output.class_probabilities.sum(1), torch.ones(5))
    assert output.seeds == SEEDS


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("scheduler", SAMPLERS_OF_DIFFUSION)
def test_one_call_of_five_five_calls_of_one_and_reversed_order_give_the_same_bits(scheduler, guidance, pipeline):
    pipeline.with_scheduler(scheduler)
    together = draw(pipeline, guidance_scale=guidance)
    alone = [
        draw(pipeline, [report], seeds=[seed], guidance_scale=guidance)
        for report, seed in zip(REPORTS, SEEDS, strict=True)
    ]
    backward = draw(pipeline, REPORTS[::-1], seeds=SEEDS[::-1], guidance_scale=guidance)
    assert torch.equal(together.volumes, torch.cat([one.volumes for one in alone]))
    assert torch.equal(together.class_probabilities, torch.cat([one.class_probabilities for one in alone]))
    assert torch.equal(together.volumes, backward.volumes.flip(0))
    assert torch.equal(together.class_probabilities, backward.class_probabilities.flip(0))


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_sampling_is_the_plain_loop_one_case_at_a_time(name, pipeline):
    report, seed, steps = "PI-RADS 4", 5, 40
    output = draw(pipeline.with_scheduler(name), [report], seeds=[seed], steps=steps)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 4, 4, 4, 2, generator=generator)
    spacing = torch.tensor([TINY_PREPROCESSING.spacing_mm])
    with torch.no_grad():
        text = encode_tokens(pipeline.text_encoder, tokenize(pipeline.tokenizer, [report]))
        pipeline.scheduler.set_timesteps(steps)
        for timestep in pipeline.scheduler.timesteps:
            context, logits = pipeline.denoiser.read(text, timestep[None])
            vector = pipeline.denoiser.class_vector(logits, None)
            predicted = pipeline.denoiser(
                latents, timestep[None], context=context, class_vector=vector, spacing_mm=spacing
            )
            latents = pipeline.scheduler.step(predicted, timestep, latents, generator=generator).prev_sample
        decoded = pipeline.autoencoder.decode(latents)
    expected = decoded.clamp(0, 1)
    # Not the same bits: the pipeline runs at its micro-batch.
    torch.testing.assert_close(output.volumes, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(output.class_probabilities, logits.softmax(1), rtol=0, atol=1e-5)


def test_the_callback_sees_each_step_and_can_replace_the_latents(pipeline):
    seen = []

    def watch(pipe, step, timestep, tensors):
        assert pipe is pipeline
        seen.append((step, int(timestep), tuple(tensors["latents"].shape)))
        return {}

    pipeline.with_scheduler("ddim")
    plain = draw(pipeline, steps=4).volumes
    watched = draw(pipeline, steps=4, callback_on_step_end=watch).volumes
    assert torch.equal(plain, watched)
    steps = list(zip(range(4), pipeline.scheduler.timesteps.tolist(), strict=True))
    assert seen == [(step, time, (4, 4, 4, 4, 2)) for _ in range(2) for step, time in steps]
    flat = draw(pipeline, steps=4, callback_on_step_end=lambda *_: {"latents": torch.zeros(4, 4, 4, 4, 2)}).volumes
    assert not torch.equal(flat, plain)


def test_a_scheduler_is_swapped_as_in_diffusers(pipeline):
    named = draw(pipeline.with_scheduler("unipc")).volumes
    pipeline.with_scheduler("ddpm")
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    assert torch.equal(draw(pipeline).volumes, named)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_out_of_range_is_refused(steps, pipeline):
    with pytest.raises(InputError, match=f"num_inference_steps={steps}: the generator was trained on 1 to 1000 steps"):
        draw(pipeline, steps=steps)


def test_bfloat16_networks_draw_nearly_the_same(pipeline, tmp_path):
    pipeline.with_scheduler("ddim").save_pretrained(tmp_path)
    half = CCELLAPipeline.from_pretrained(tmp_path)
    half.set_progress_bar_config(disable=True)
    half.to(torch.bfloat16)
    output = draw(half, steps=4)
    assert output.volumes.dtype == torch.float32
    assert (output.volumes - draw(pipeline, steps=4).volumes).abs().mean() < 0.02


def test_a_builtin_generator_that_is_not_there_is_named():
    with pytest.raises(InputError, match="builtin/nothing: no such builtin generator; there are "):
        CCELLAPipeline.from_pretrained("builtin/nothing")


def test_bits_hold_beyond_the_timesteps_that_are_read_ahead(pipeline):
    together = draw(pipeline.with_scheduler("ddpm"), steps=40)
    one = draw(pipeline, REPORTS[3:4], seeds=SEEDS[3:4], steps=40)
    assert torch.equal(together.volumes[3:4], one.volumes)


@pytest.mark.parametrize("scheduler", SAMPLERS_OF_DIFFUSION)
def test_seed_zero_is_a_seed_like_any_other(scheduler, pipeline):
    pipeline.with_scheduler(scheduler)
    first, second = (draw(pipeline, ["PI-RADS 4"], seeds=[0]).volumes for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, draw(pipeline, ["PI-RADS 4"], seeds=[1]).volumes)


def test_sampling_leaves_the_global_generator_alone(pipeline):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    draw(pipeline.with_scheduler("ddpm"))
    assert torch.equal(torch.rand(3), expected)


def test_report_spacing_shape_and_steps_all_matter(pipeline):
    base = draw(pipeline, ["PI-RADS 4"], seeds=[0]).volumes
    changes = [
        draw(pipeline, ["no lesion at all"], seeds=[0]),
        draw(pipeline, ["PI-RADS 4"], seeds=[0], spacing_mm=(1.0, 1.0, 1.0)),
        draw(pipeline, ["PI-RADS 4"], seeds=[0], steps=5),
    ]
    assert not any(torch.equal(change.volumes, base) for change in changes)
    assert draw(pipeline, ["PI-RADS 4"], seeds=[0], shape=(8, 12, 4)).volumes.shape == (1, 1, 8, 12, 4)


# --- class and guidance


def test_labels_override_the_class_that_conditions_the_image(pipeline):
    seen, scale = [], pipeline.denoiser.scale
    pipeline.denoiser.unet.pirads_layer.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    predicted = draw(pipeline, ["PI-RADS 4"], seeds=[0])
    # The class embedding sees the prediction, and what is reported is that of the last step.
    torch.testing.assert_close(seen[-1][:1], predicted.class_probabilities * scale)
    for label in (0, 1):
        overridden = draw(pipeline, ["PI-RADS 4"], [label], seeds=[0])
        assert seen[-1][0].tolist() == [scale * (label == 0), scale * (label == 1)]
        assert not torch.equal(overridden.volumes, predicted.volumes)
        # What the report says stays what the report says.
        assert torch.equal(overridden.class_probabilities, predicted.class_probabilities)
    mixed = draw(pipeline, ["PI-RADS 4"] * 2, [0, 1], seeds=[0, 0]).volumes
    assert not torch.equal(mixed[0], mixed[1])


def test_radmaisi_needs_labels_and_reads_no_report(radmaisi):
    with pytest.raises(InputError, match=r"'radmaisi'.*give labels"):
        draw(radmaisi, ["PI-RADS 4"], seeds=[0])
    output = draw(radmaisi, ["PI-RADS 4", "no lesion", "", ""], [0, 0, 1, 1], seeds=[0] * 4)
    assert output.class_probabilities is None
    assert torch.equal(output.volumes[0], output.volumes[1])
    assert torch.equal(output.volumes[2], output.volumes[3])
    assert not torch.equal(output.volumes[0], output.volumes[2])
    with pytest.raises(InputError, match="guidance has no meaning"):
        draw(radmaisi, ["PI-RADS 4"], [0], seeds=[0], guidance_scale=3.0)


def test_labels_that_a_variant_would_ignore_are_refused(tiny_subjects, tiny_autoencoder):
    config = tiny_generator_config(variant="ellamaisi", training=TrainingConfig(steps=1, batch_size=4))
    pipeline = train_ldm(tiny_subjects, tiny_autoencoder, config, preprocessing=TINY_PREPROCESSING, images=IMAGES)
    with pytest.raises(InputError, match="takes no class"):
        draw(pipeline, ["PI-RADS 4"], [1], seeds=[0])


def test_guidance_of_a_generator_that_never_drew_without_a_report_is_refused(pipeline):
    pipeline.record["generator"]["report_dropout"] = 0
    draw(pipeline, guidance_scale=1.0)
    with pytest.raises(InputError, match="report_dropout"):
        draw(pipeline, guidance_scale=3.0)


def test_guidance_one_is_unguided_and_three_is_not(pipeline):
    unguided = draw(pipeline).volumes
    assert torch.equal(draw(pipeline, guidance_scale=1.0).volumes, unguided)
    guided = draw(pipeline, guidance_scale=3.0).volumes
    empty = REPORTS.index("")
    changed = [not torch.allclose(one, other, atol=1e-6) for one, other in zip(guided, unguided, strict=True)]
    # Away from "" there is nowhere to go for "" itself.
    assert changed == [row != empty for row in range(5)]


# --- what is refused, and the empty call


def test_no_reports_give_an_empty_output_of_the_right_shape(pipeline):
    output = draw(pipeline, [], seeds=[])
    assert output.volumes.shape == (0, 1, 16, 16, 8)
    assert output.seeds == []
    assert draw(pipeline, [], seeds=[], shape=(8, 8, 4)).volumes.shape == (0, 1, 8, 8, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [0, 1]}, "5 reports need as many seeds"),
        ({"labels": [0, 1]}, "5 reports need as many seeds and labels"),
        ({"reports": "PI-RADS 5"}, "must be a list of texts"),
        ({"labels": [0, 1, 2, 0, 0]}, r"labels must lie in 0\.\.1"),
        ({"labels": [0, -1, 1, 0, 0]}, r"labels must lie in 0\.\.1"),
        ({"seeds": [0, 1, 2, 3, -4]}, "seeds must lie in 0"),
        ({"shape": (16, 16, 6)}, r"\(16, 16, 6\).*multiple of 4"),
        ({"shape": (16, 16)}, "three sides"),
        ({"shape": (16, 0, 16)}, "three sides"),
    ],
)
def test_unusable_calls_are_refused(change, message, pipeline):
    with pytest.raises(InputError, match=message):
        draw(pipeline, **change)


def test_a_column_of_a_table_in_any_order_draws_what_its_list_draws(pipeline):
    table = pd.DataFrame({"report": REPORTS, "label": [0, 1, 0, 1, 0], "seed": SEEDS}).sample(frac=1, random_state=1)
    assert table.index.tolist() != [0, 1, 2, 3, 4]
    lists = draw(pipeline, [*table.report], [*table.label], seeds=[*table.seed])
    columns = draw(pipeline, table.report, table.label, seeds=table.seed)
    assert torch.equal(columns.volumes, lists.volumes)
    assert columns.seeds == lists.seeds == [*table.seed]


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"labels": [1.0] * 5}, {"labels": [1] * 5}),
        ({"labels": np.ones(5, dtype=np.int32)}, {"labels": [1] * 5}),
        ({"labels": torch.ones(5)}, {"labels": [1] * 5}),
        ({"seeds": np.arange(5.0)}, {}),
        ({"seeds": range(5)}, {}),
        ({"reports": np.array(REPORTS)}, {}),
        ({"spacing_mm": np.array([5.0, 5, 8])}, {"spacing_mm": (5, 5, 8)}),
        ({"shape": np.array([16.0, 16, 8])}, {"shape": (16, 16, 8)}),
        ({"steps": np.int64(3)}, {}),
    ],
)
def test_equal_values_of_any_type_draw_the_same(given, plain, pipeline):
    assert torch.equal(draw(pipeline, **given).volumes, draw(pipeline, **plain).volumes)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"reports": None}, "reports"),
        ({"reports": [None, *REPORTS[1:]]}, r"reports\[0\]"),
        ({"reports": [*REPORTS[:4], math.nan]}, r"reports\[4\]"),
        ({"reports": ["a\udcff", *REPORTS[1:]]}, r"reports\[0\]"),
        ({"labels": [0.5] * 5}, "labels"),
        ({"labels": [True] * 5}, "labels"),
        ({"labels": [math.nan] * 5}, "labels"),
        ({"labels": ["1"] * 5}, "labels"),
        ({"labels": 1}, "labels"),
        ({"seeds": [0, 1, 2, 3, 5.9]}, "seeds"),
        ({"seeds": 7}, "seeds"),
        ({"seeds": None, "generator": [None] * 5}, "generator"),
        ({"spacing_mm": (5, 5)}, "spacing_mm"),
        ({"spacing_mm": (5,)}, "spacing_mm"),
        ({"spacing_mm": (-5, 5, 0)}, "spacing_mm"),
        ({"spacing_mm": (5, 5, math.inf)}, "spacing_mm"),
        ({"spacing_mm": 5}, "spacing_mm"),
        ({"shape": (16, 16, 8.5)}, "shape"),
        ({"shape": "16"}, "shape"),
        ({"steps": 2.5}, "num_inference_steps"),
        ({"steps": True}, "num_inference_steps"),
        ({"levels": 0.5}, "levels"),
        ({"levels": 2}, "levels"),
        ({"guidance_scale": math.nan}, "guidance_scale"),
        ({"guidance_scale": None}, "guidance_scale"),
        ({"guided_levels": 0.5}, "guided_levels"),
        ({"guidance_below": "3"}, "guidance_below"),
    ],
)
def test_what_is_no_text_or_number_is_named(change, name, pipeline):
    with pytest.raises(InputError, match=name):
        draw(pipeline, **change)


def test_an_unknown_scheduler_is_refused_by_name(pipeline):
    with pytest.raises(InputError, match=r"'euler'.*ddpm, ddim, dpm_solver, dpm_solver_sde, unipc"):
        pipeline.with_scheduler("euler")


def test_offloading_which_would_leave_networks_on_two_devices_is_refused(tiny_pipeline):
    with pytest.raises(ValueError, match="model_cpu_offload_seq"):
        tiny_pipeline.enable_model_cpu_offload()


def test_volumes_that_are_not_finite_stop_the_call(pipeline):
    with torch.no_grad():
        pipeline.denoiser.unet.out[2].conv.bias[0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        draw(pipeline)


# --- saving and loading


def test_a_loaded_pipeline_draws_the_same_bytes(saved, tiny_pipeline):
    loaded = CCELLAPipeline.from_pretrained(saved)
    # Longer than the tokenizer reads, so that both must drop the same end.
    reports = ["x" * 200 + f" IMPRESSION: PI-RADS {n}" for n in (2, 5)]
    ours, theirs = (draw(pipeline, reports, seeds=[0, 1]) for pipeline in (tiny_pipeline, loaded))
    assert torch.equal(ours.volumes, theirs.volumes)
    assert torch.equal(ours.class_probabilities, theirs.class_probabilities)
    assert loaded.config.micro_batch == tiny_pipeline.config.micro_batch == 4
    assert loaded.config.images == IMAGES
    assert loaded.config.shape == [16, 16, 8]
    assert json.loads(json.dumps(tiny_pipeline.record)) == loaded.record
    modules = (loaded.autoencoder, loaded.denoiser, loaded.text_encoder)
    assert not any(module.training for module in modules)


def test_weights_are_saved_in_safetensors_only(saved):
    kinds = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json", ".md"}
    parts = {path.parent.name for path in saved.glob("*/*.safetensors")}
    assert parts == {"autoencoder", "denoiser", "text_encoder"}


@pytest.mark.parametrize("part", ["autoencoder", "denoiser", "text_encoder"])
def test_a_pipeline_that_lacks_a_weight_is_refused(part, tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    path = next((tmp_path / part).glob("*.safetensors"))
    state = load_file(path)
    name = next(key for key in sorted(state) if state[key].ndim > 1)
    del state[name]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"{part}.*{name}"):
        CCELLAPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("part", ["autoencoder", "denoiser", "text_encoder", "tokenizer", "scheduler"])
def test_a_pipeline_that_lacks_a_part_is_refused(part, tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    (tmp_path / part).rename(tmp_path / f"{part}-elsewhere")
    with pytest.raises(InputError, match=part):
        CCELLAPipeline.from_pretrained(tmp_path)


def test_a_folder_without_pipeline_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"model_index\.json is missing"):
        CCELLAPipeline.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text('{"scheduler": ["diffusers", "NoSuchScheduler"]}', encoding="utf-8")
    with pytest.raises(InputError, match=r"model_index\.json"):
        CCELLAPipeline.from_pretrained(tmp_path)


def test_swapping_schedulers_keeps_the_trained_noise_schedule(pipeline, tmp_path):
    names = ("beta_start", "beta_end", "beta_schedule", "prediction_type", "num_train_timesteps")
    before = draw(pipeline.with_scheduler("ddpm")).volumes
    for name in SAMPLERS_OF_DIFFUSION:
        config = pipeline.with_scheduler(name).scheduler.config
        assert [config[key] for key in names] == [0.0015, 0.0195, "scaled_linear", "v_prediction", 1000]
    pipeline.save_pretrained(tmp_path)
    again = CCELLAPipeline.from_pretrained(tmp_path).with_scheduler("ddpm")
    assert not again.scheduler.config.clip_sample
    assert torch.equal(draw(again).volumes, before)


# --- the fingerprint


def test_the_fingerprint_survives_saving_and_any_sampler(saved, tiny_pipeline):
    loaded = CCELLAPipeline.from_pretrained(saved)
    assert loaded.fingerprint == tiny_pipeline.fingerprint
    assert CCELLAPipeline.from_pretrained(saved).with_scheduler("ddim").fingerprint == loaded.fingerprint


def test_the_fingerprint_follows_the_precision(saved):
    loaded = CCELLAPipeline.from_pretrained(saved)
    whole = loaded.fingerprint
    half = CCELLAPipeline.from_pretrained(saved, torch_dtype=torch.bfloat16).fingerprint
    assert loaded.to(torch.bfloat16).fingerprint == half != whole


def test_a_generator_saved_over_another_leaves_nothing_of_it(saved, tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    assert CCELLAPipeline.from_pretrained(tmp_path).familiarity is not None
    other = CCELLAPipeline.from_pretrained(saved)
    other.familiarity = None
    other.save_pretrained(tmp_path)
    assert CCELLAPipeline.from_pretrained(tmp_path).familiarity is None


def change_weight(part):
    def change(pipeline):
        with torch.no_grad():
            parameter = list(getattr(pipeline, part).parameters())[-1]
            parameter.view(-1)[-1] += 1e-3

    return change


def change_scale(pipeline):
    pipeline.autoencoder.register_to_config(scale_factor=pipeline.autoencoder.config.scale_factor * 1.01)


def change_prediction(pipeline):
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, prediction_type="epsilon")


def change_tokens(pipeline):
    pipeline.tokenizer.model_max_length = 32


def change_heads(pipeline):
    size = {**pipeline.denoiser.config.adapter_size, "heads": 4}  # equal weights, other attention
    pipeline.denoiser.register_to_config(adapter_size=size)


@pytest.mark.parametrize(
    "change",
    [
        *(change_weight(part) for part in ("autoencoder", "denoiser", "text_encoder")),
        change_scale,
        change_prediction,
        change_tokens,
        change_heads,
    ],
    ids=["autoencoder", "denoiser", "text encoder", "scale factor", "prediction", "tokens", "heads"],
)
def test_the_fingerprint_changes_with_whatever_changes_a_volume(change, saved, tiny_pipeline):
    loaded = CCELLAPipeline.from_pretrained(saved)
    change(loaded)
    assert loaded.fingerprint != tiny_pipeline.fingerprint


def reading_with(encoder):
    """Settings whose generator reads with this text encoder."""
    return Config(generator=GeneratorConfig(text_encoder=TextEncoderConfig(path=encoder)))


def test_nothing_is_fetched_where_no_setting_names_a_hub_id(monkeypatch, tmp_path):
    def refuse(*_):
        pytest.fail("somebody asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    CCELLAPipeline.from_pretrained("builtin/ccella-tiny")
    check_study(Config())
    check_study(reading_with("reader"))
    for absent in ("nowhere", str(tmp_path / "nowhere"), "a/b/c"):
        with pytest.raises(InputError):
            CCELLAPipeline.from_pretrained(absent)
        with pytest.raises(InputError):
            check_study(reading_with(str(tmp_path / "no" / "encoder")))


def cached(hub, pipe, *, commit, branch):
    """A commit of "ward/prostates" in a folder laid out as the hub's cache, files linked to blobs."""
    repository = hub / "models--ward--prostates"
    pipe.save_pretrained(hub / commit)
    for file in [path for path in (hub / commit).rglob("*") if path.is_file()]:
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        link = repository / "snapshots" / commit / file.relative_to(hub / commit)
        for place in (blob, link):
            place.parent.mkdir(parents=True, exist_ok=True)
        if not blob.exists():
            shutil.copy(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / branch).write_text(commit, encoding="utf-8")


def test_a_revision_is_a_branch_or_commit_of_a_hub_id(tiny_pipeline, saved, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    other = CCELLAPipeline.from_pretrained(saved)
    change_weight("denoiser")(other)
    cached(tmp_path, tiny_pipeline, commit="a" * 40, branch="main")
    cached(tmp_path, other, commit="b" * 40, branch="v2")
    for revision, pipe in ((None, tiny_pipeline), ("main", tiny_pipeline), ("v2", other), ("b" * 40, other)):
        found = CCELLAPipeline.from_pretrained("ward/prostates", revision=revision)
        assert found.fingerprint == pipe.fingerprint
    with pytest.raises(InputError, match="revision v3"):
        CCELLAPipeline.from_pretrained("ward/prostates", revision="v3")
    for name in ("builtin/ccella-tiny", saved):
        with pytest.raises(InputError, match="no hub id"):
            CCELLAPipeline.from_pretrained(name, revision="v2")


DAMAGED = {
    "model_index.json": [{"images": 3}, {"shape": [16, 16]}, {"micro_batch": {}}, {"spacing_mm": ["x", 1, 1]}],
    "scheduler/scheduler_config.json": [{"num_train_timesteps": "x"}, {"beta_schedule": "y"}],
    "tokenizer/tokenizer_config.json": [{"added_tokens_decoder": {"0": {"content": "<pad>", "special": []}}}],
    "text_encoder/config.json": [{"d_model": "x"}, {"layer_norm_epsilon": []}, {"num_layers": 2**63}],
    "autoencoder/config.json": [{"norm_groups": 7}, {"patch": 2.5}, {"sequences": 2}, {"residual_blocks": 2**63}],
    "denoiser/config.json": [
        {"variant": True},
        {"adapter_size": 3},
        {"classes": 10**6},
        {"adapter_size": {"blocks": 9**9}},
    ],
    "training.json": [{"patients": {}}, {"patients": [3]}, {"generator": 3}, {"preprocessing": 3}],
}


@pytest.mark.parametrize(
    ("file", "change"), [(file, change) for file, changes in DAMAGED.items() for change in changes]
)
def test_a_damaged_folder_is_named(saved, tmp_path, file, change):
    folder = shutil.copytree(saved, tmp_path / "generator")
    told = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps({**told, **change}), encoding="utf-8")
    with pytest.raises(InputError, match=str(folder)):
        CCELLAPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    "file", ["model_index.json", "training.json", "denoiser/config.json", "text_encoder/config.json"]
)
def test_nobody_is_told_to_delete_a_part_of_a_generator(saved, tmp_path, file):
    folder = shutil.copytree(saved, tmp_path / "generator")
    (folder / file).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=str(folder)) as refused:
        CCELLAPipeline.from_pretrained(folder)
    assert "delete it" not in str(refused.value)


def test_a_generator_of_many_patients_keeps_them_in_a_file_of_its_own(saved, tmp_path):
    pipeline = CCELLAPipeline.from_pretrained(shutil.copytree(saved, tmp_path / "generator"))
    pipeline.record["patients"] = [f"{number:016x}" for number in range(3000)]
    pipeline.save_pretrained(tmp_path / "many")
    assert (tmp_path / "many/training.json").stat().st_size < 10_000
    assert CCELLAPipeline.from_pretrained(tmp_path / "many").record == pipeline.record
    (tmp_path / "many/patients.json.gz").write_bytes(b"")
    with pytest.raises(InputError, match="patients"):
        CCELLAPipeline.from_pretrained(tmp_path / "many")
