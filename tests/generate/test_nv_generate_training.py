"""NV-Generate with report and class: it draws as before until it is trained, and its U-Net is trained three ways."""

from dataclasses import replace

import pytest
import torch
from conftest import IMAGES, TINY_PREPROCESSING, tiny_generator_config
from nv_generate_files import write_files

import synthaug as sa
from synthaug.bench.commands import run_command
from synthaug.bench.options.parsing import read_config
from synthaug.config import Config, DataConfig, GeneratorConfig, LevelConfig, TrainingConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.generate.stored.record import patients_known
from synthaug.generate.training.additions import add_low_rank, merge_low_rank
from synthaug.generate.training.continuing import with_own_design
from synthaug.generate.training.examples import Examples
from synthaug.generate.training.ldm import train_ldm
from synthaug.generate.training.networks import new_pipeline
from synthaug.ground.errors import InputError
from synthaug.models.nvgenerate.checkpoint import RELEASED
from synthaug.models.nvgenerate.unet import is_added
from synthaug.study.outlook.cards import demands, describe_cards
from synthaug.study.stages.checks import ignored_settings

pytestmark = pytest.mark.filterwarnings("ignore:NVIDIA")
PREPROCESSING = replace(TINY_PREPROCESSING, shape=(16, 16, 16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """NV-Generate as it was imported."""
    place = tmp_path_factory.mktemp("nv")
    files = write_files(place)
    grid = {"shape": PREPROCESSING.shape, "spacing_mm": PREPROCESSING.spacing_mm}
    return sa.import_released(*files, str(place / "imported"), "nv-generate", norm_groups=4, micro_batch=2, **grid)


@pytest.fixture(scope="module")
def original(folder):
    pipeline = sa.CCELLAPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def subjects():
    raw = make_subjects(6, positive_fraction=0.5, seed=0, shape=(16, 16, 16), spacing_mm=(5.0, 5.0, 8.0))
    return preprocess(raw, PREPROCESSING, IMAGES)


def design(folder, **changes):
    """Settings of a training that goes on from the folder, as a study makes them."""
    tiny = {"latents": "autoencoder", "prediction": None, "pretrained": str(folder), "report_dropout": 0.5}
    tiny["training"] = TrainingConfig(steps=2, batch_size=2, learning_rate=1e-2, precision="float32")
    return with_own_design(tiny_generator_config(**tiny | changes))


def grown(original, folder, **changes):
    config = design(folder, **changes)
    settings = {"classes": 3, "preprocessing": PREPROCESSING, "images": IMAGES}
    pipeline = new_pipeline(original.autoencoder, config, original, **settings)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.register_to_config(micro_batch=2)
    return pipeline


def draw(pipeline, reports=("",), **options):
    return pipeline(list(reports), seeds=[4], num_inference_steps=3, guidance_scale=3.0, **options).volumes


@pytest.mark.parametrize("variant", ["ccella", "decoupled", "ellamaisi", "radmaisi", "maisi"])
def test_before_training_any_variant_draws_what_the_original_draws(variant, original, folder):
    pipeline = grown(original, folder, variant=variant)
    labels = [2] if variant in ("decoupled", "radmaisi") else None
    report = ["PI-RADS 5, left peripheral zone."]
    torch.testing.assert_close(draw(pipeline, report, labels=labels), draw(original), atol=1e-5, rtol=0)
    assert pipeline.denoiser.config.variant == variant


def test_low_rank_additions_draw_what_the_original_draws_and_merge_to_what_they_computed(original, folder):
    pipeline = grown(original, folder)
    unet, names = pipeline.denoiser.unet, set(pipeline.denoiser.state_dict())
    add_low_rank(unet, rank=2, seed=0)
    torch.testing.assert_close(draw(pipeline), draw(original), atol=1e-5, rtol=0)
    layers = {name.split(".lora_A")[0] for name, _ in unet.named_parameters() if ".lora_A" in name}
    assert {"conv1.conv", "attn.to_q", "resnet_1.time_emb_proj"} <= {".".join(name.split(".")[-2:]) for name in layers}
    assert not any(is_added(name) or name.startswith(("conv_in", "out", "time_embed")) for name in layers)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    expected = draw(pipeline)
    assert not torch.allclose(expected, draw(original), atol=1e-3)
    merge_low_rank(unet)
    assert set(pipeline.denoiser.state_dict()) == names
    torch.testing.assert_close(draw(pipeline), expected, atol=1e-3, rtol=0)


def test_report_and_class_reach_the_image_once_they_have_weights(original, folder):
    pipeline = grown(original, folder)
    with torch.no_grad():
        for name, parameter in pipeline.denoiser.unet.named_parameters():
            if is_added(name) and not parameter.any():
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    one, other = (draw(pipeline, [report]) for report in ("PI-RADS 2", "PI-RADS 5, a large lesion"))
    assert not torch.allclose(one, other, atol=1e-4)
    assert not torch.equal(draw(pipeline, labels=[0]), draw(pipeline, labels=[1]))


def trained(unet, folder, original, subjects, **changes):
    """A training, and the names of the original's weights that it changed."""
    config = design(folder, unet=unet, lora_rank=2, **changes)
    settings = {"preprocessing": PREPROCESSING, "images": IMAGES, "micro_batch": 2, "validation": subjects[:2]}
    pipeline = train_ldm(subjects, original.autoencoder, config, **settings)
    before, after = original.denoiser.state_dict(), pipeline.denoiser.state_dict()
    assert set(before) == {name for name in after if not is_added(name) and name.startswith("unet.")}
    return pipeline, {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("unet", ["frozen", "lora", "free"])
def test_the_unet_is_trained_as_asked_and_saved_as_one_of_its_kind(unet, original, folder, subjects, tmp_path):
    pipeline, changed = trained(unet, folder, original, subjects)
    assert bool(changed) == (unet != "frozen")
    assert ("unet.conv_in.conv.weight" in changed) == (unet == "free")
    assert any("conv1.conv.weight" in name for name in changed) == (unet != "frozen")
    added = {name for name, value in pipeline.denoiser.unet.named_parameters() if is_added(name) and value.any()}
    assert {"class_layer.2.weight", "middle_block.attention.report_attention.attend.out_proj.weight"} <= added
    pipeline.save_pretrained(tmp_path / "trained")
    loaded = sa.CCELLAPipeline.from_pretrained(tmp_path / "trained")
    for each in (pipeline, loaded):
        each.set_progress_bar_config(disable=True)
    assert torch.equal(draw(loaded, ["PI-RADS 4"]), draw(pipeline, ["PI-RADS 4"]))
    assert loaded.fingerprint == pipeline.fingerprint != original.fingerprint


def test_licence_and_field_of_view_pass_on_and_patients_stay_unknown(original, folder, subjects, tmp_path):
    pipeline, _ = trained("frozen", folder, original, subjects)
    assert pipeline.record["license"] == RELEASED["rflow-mr"].licence
    assert pipeline.record["nv_generate"] == original.record["nv_generate"]
    assert pipeline.record["generator"]["prediction"] == "maisi_flow"
    assert not patients_known(pipeline.record)
    pipeline.save_pretrained(tmp_path / "again")
    again = design(tmp_path / "again", variant="ccella")
    assert again.variant == "ccella"
    with pytest.raises(InputError, match=r"generator\.variant is 'ccella' there"):
        design(tmp_path / "again", variant="radmaisi")  # it has grown, and stays what it became


def test_dropped_reports_are_told_no_modality(original, folder, subjects):
    pipeline = grown(original, folder)
    examples = Examples(subjects, pipeline, trained_text=True)
    settings = {"report_dropout": 0.5, "guide_noise": 0.0}
    batch = examples.draw(0, LevelConfig(batch_size=64), torch.Generator().manual_seed(0), **settings)
    dropped = batch["unconditional"]
    assert 0 < dropped.sum() < 64
    assert torch.equal(dropped, batch["report_weight"] == 0)
    # Times lie between image and noise, and more of them near the image, since the latents are small.
    assert 0 <= batch["timesteps"].min() < batch["timesteps"].median() < 500 < batch["timesteps"].max() <= 1000
    conditions = {"context": None, "class_vector": None, "spacing_mm": batch["spacing_mm"][:2]}
    denoiser, latents = pipeline.denoiser, torch.zeros(2, 4, 8, 8, 8)
    with torch.no_grad():
        told, untold = (
            denoiser(latents, torch.tensor([500.0, 500.0]), unconditional=torch.tensor([False, each]), **conditions)
            for each in (False, True)
        )
    assert torch.equal(told[0], untold[0])
    assert not torch.equal(told[1], untold[1])


def test_the_design_takes_variant_adapter_and_text_encoder_from_the_settings(folder):
    found = design(folder, variant="first")
    assert (found.variant, found.latents, found.prediction) == ("first", "autoencoder", "maisi_flow")
    with pytest.raises(InputError, match=r"generator\.latents"):
        with_own_design(GeneratorConfig(pretrained=str(folder), prediction="edm"), typed=["latents"])
    config = Config(data=DataConfig(), generator=tiny_generator_config(pretrained=str(folder)))
    (line,) = ignored_settings(config)
    assert "generator.denoiser" in line
    assert "generator.adapter" not in line


def preset_words(folder):
    """The preset, tiny."""
    settings = {
        "generator.pretrained": folder,
        "preprocess.shape": [32, 16, 16],
        "preprocess.spacing_mm": [5, 5, 8],
        "data.phantom.n": 16,
        "data.phantom.shape": [32, 16, 16],
        "data.phantom.spacing_mm": [5, 5, 8],
        "generator.adapter.width": 32,
        "generator.adapter.queries": 4,
        "generator.monitor_every": 0,
        "generator.training.steps": 1,
        "generator.training.warmup": 0,
        "generator.training.batch_size": 2,
        "generator.training.accumulate": 2,
        "generator.unet": "lora",
        "pool.per_class": 1,
        "pool.sampling.steps": 2,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return ["--preset", "nv-generate-mr", *words]


def test_the_preset_leads_from_data_to_a_pool(folder, tmp_path, caplog):
    assert run_command("pool", [*preset_words(folder), "--out", str(tmp_path / "out")]) == 0
    pool = sa.SyntheticPool.open(next((tmp_path / "out").glob("pool-*")))
    assert pool.counts == {0: 1, 1: 1}
    generator = sa.CCELLAPipeline.from_pretrained(
        next(path for path in (tmp_path / "out").glob("generator-*") if path.is_dir())
    )
    assert generator.record["license"] == RELEASED["rflow-mr"].licence
    assert "field of view" in caplog.text  # 160 x 80 x 128 mm


def test_memory_and_hours_are_estimated_for_three_cards(folder, original):
    config = read_config(preset_words(folder))
    free = [*demands(replace(config, generator=replace(config.generator, unet="free")))]
    frozen = [*demands(replace(config, generator=replace(config.generator, unet="frozen")))]
    assert [each.rows for each in free] == [2, 2, 2]
    assert all(a.training_gib > b.training_gib for a, b in zip(free, frozen, strict=True))
    hours = [each.training_hours for each in free]
    assert hours == sorted(hours, reverse=True)
    assert hours[-1] > 0
    longer = replace(config.generator.training, steps=10, warmup=0)
    (slow, *_) = demands(replace(config, generator=replace(config.generator, unet="free", training=longer)))
    assert slow.training_hours == pytest.approx(10 * hours[0])
    assert len(describe_cards(config)) == 4
    assert describe_cards(Config()) == []
    assert "does not fit" in replace(free[0], rows=0).words()


def test_a_row_that_does_not_fit_a_card_is_told(folder):
    config = read_config(preset_words(folder))
    large = replace(config, preprocess=replace(config.preprocess, shape=(1024, 1024, 1024)))
    assert next(each.rows for each in demands(large)) == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--pool.sampling.scheduler", "dpm_solver_sde"], "flow_euler"),
        (["--generator.report_dropout", "0"], "generator.report_dropout"),
        (["--preprocess.shape", "[20, 16, 16]"], "multiples of 8"),
        (["--generator.text_encoder.path", "/absent/encoder"], "generator.text_encoder.path"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_training(options, named, folder, tmp_path, capsys):
    assert run_command("pool", [*preset_words(folder), *options, "--out", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("unet", ["lora", "frozen"])
def test_a_training_from_nothing_has_no_unet_to_leave_as_it_is(unet):
    with pytest.raises(InputError, match=r"generator\.unet"):
        GeneratorConfig(unet=unet)
