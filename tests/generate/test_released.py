"""Released checkpoints: written here in the published layout, imported, and found to compute the same function."""

import json
import pickle
import shutil

import pytest
import torch
from nv_generate_files import make_vae, write_files
from safetensors.torch import save_file
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

import synthaug as sa
from synthaug.bench.commands import main
from synthaug.config import GeneratorConfig
from synthaug.generate.training.networks import pretrained_generator
from synthaug.ground.errors import InputError
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.released import LICENCE, released_denoiser
from synthaug.models.variants import VARIANTS

pytestmark = pytest.mark.filterwarnings(f"ignore:{LICENCE[:30]}")

UNET = {"channels": (32, 32), "attention": (False, True), "residual_blocks": 2, "condition_scale": 100.0}
ADAPTER = {"width": 32, "queries": 4, "blocks": 6, "heads": 8, "sinusoids": 16, "class_width": 8}
TEXT_WIDTH = 16


def make_denoiser(variant="ccella", *, latent_channels=4, unet=None, adapter=None, classes=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return CCELLADenoiser(
            latent_channels=latent_channels,
            classes=classes,
            variant=variant,
            text_width=TEXT_WIDTH,
            unet_size=UNET | (unet or {}),
            adapter_size=ADAPTER | (adapter or {}),
        ).eval()


def released_state(denoiser):
    """Parameter names as the published files have them: MAISI and RADMAISI hold the bare U-Net."""
    state = denoiser.state_dict()
    if denoiser.conditioning.text:
        return dict(state)
    return {name.removeprefix("unet."): value for name, value in state.items()}


def write_unet(path, denoiser, **changes):
    checkpoint = {
        "unet_state_dict": released_state(denoiser),
        "scale_factor": torch.tensor(0.75),
        "epoch": 399,
        "loss": 0.1,
        "num_train_timesteps": 1000,
        "optimizer": {"state": {}},
        "scheduler": {"last_epoch": 3},
    }
    torch.save(checkpoint | changes, path)
    return str(path)


@pytest.fixture(scope="module")
def flan(tmp_path_factory):
    """A text encoder in a local folder, as Flan-T5-XXL would lie there."""
    folder = tmp_path_factory.mktemp("flan")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        encoder = T5EncoderModel(
            T5Config(vocab_size=384, d_model=TEXT_WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        )
    encoder.save_pretrained(folder)
    ByT5Tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def vae_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vae") / "autoencoder.pt"
    torch.save(make_vae().state_dict(), path)
    return str(path)


def imported(unet, vae, output, flan, variant="ccella", **options):
    sa.import_released(
        unet, vae, str(output), variant, flan, shape=(16, 16, 8), norm_groups=4, micro_batch=2, **options
    )
    pipeline = sa.CCELLAPipeline.from_pretrained(output)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def predict(denoiser):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, denoiser.config.latent_channels, 4, 4, 4, generator=generator)
    text, times = torch.randn(2, 5, TEXT_WIDTH, generator=generator), torch.tensor([10, 900])
    with torch.no_grad():
        context, logits = denoiser.read(text, times)
        given = torch.tensor([0, 1]) if denoiser.conditioning.class_input == "true" else None
        vector = denoiser.class_vector(logits, given)
        predicted = denoiser(latents, times, context=context, class_vector=vector, spacing_mm=torch.ones(2, 3))
    return predicted, logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_computes_the_same_function_after_import(variant, tmp_path, vae_file, flan):
    denoiser = make_denoiser(variant)
    pipeline = imported(write_unet(tmp_path / "u.pt", denoiser), vae_file, tmp_path / "out", flan, variant)
    # As in a pipeline: PyTorch multiplies matrices another way where a gradient may be asked for.
    (expected, logits), (found, found_logits) = predict(denoiser.requires_grad_(False)), predict(pipeline.denoiser)
    assert torch.equal(expected, found)
    assert (logits is None and found_logits is None) or torch.equal(logits, found_logits)
    volumes = torch.rand(1, 1, 16, 16, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mean = make_vae().encode(volumes)[0]
        torch.testing.assert_close(pipeline.autoencoder.encode(volumes), 0.75 * mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(pipeline.autoencoder.decode(0.75 * mean), make_vae().decode(mean))
    labels = [1] if VARIANTS[variant].class_input == "true" else None
    drawn = pipeline(["PI-RADS 4"], labels, seeds=[0], num_inference_steps=2)
    assert torch.isfinite(drawn.volumes).all()


@pytest.mark.parametrize(
    ("unet", "adapter", "classes"),
    [
        ({"channels": (32, 64, 64), "attention": (False, True, True), "residual_blocks": 1}, {}, 2),
        ({"channels": (64, 32), "attention": (True, True)}, {"width": 64, "queries": 3, "blocks": 2}, 3),
        ({}, {"sinusoids": 32, "class_width": 24}, 5),
    ],
)
def test_any_width_loads(unet, adapter, classes, tmp_path):
    denoiser = make_denoiser(unet=unet, adapter=adapter, classes=classes)
    found, facts = released_denoiser(write_unet(tmp_path / "u.pt", denoiser))
    assert found.config.classes == classes
    assert torch.equal(predict(denoiser)[0], predict(found)[0])
    assert facts == {"scale_factor": 0.75, "num_train_timesteps": 1000, "epoch": 399}


def test_an_imported_pipeline_is_the_published_procedure(tmp_path, vae_file, flan):
    pipeline = imported(write_unet(tmp_path / "u.pt", make_denoiser()), vae_file, tmp_path / "out", flan)
    assert pipeline.tokenizer.model_max_length == 512
    assert pipeline.tokenizer.truncation_side == "left"
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert not pipeline.scheduler.config.clip_sample
    assert pipeline.denoiser.scale == 100.0
    assert pipeline.autoencoder.config.residual_deviation == 0
    assert pipeline.autoencoder.config.splits == 16
    assert pipeline.config.images == ["t2w"]


def test_the_licence_is_shown_and_kept_with_the_hashes_of_the_files(tmp_path, vae_file, flan, capsys):
    unet = write_unet(tmp_path / "u.pt", make_denoiser())
    with pytest.warns(UserWarning, match="Open Model License"):
        sa.import_released(unet, vae_file, str(tmp_path / "one"), text_encoder=flan, norm_groups=4)
    words = ["import", "--unet", unet, "--autoencoder", vae_file, "--output", str(tmp_path / "two")]
    assert main([*words, "--text_encoder", flan, "--norm_groups", "4", "--shape", "[16, 16, 8]"]) == 0
    assert LICENCE in capsys.readouterr().out
    for folder in ("one", "two"):
        record = json.loads((tmp_path / folder / "training.json").read_text(encoding="utf-8"))
        assert record["license"] == LICENCE
        assert len(record["source"]["unet"]) == 64
        assert LICENCE in (tmp_path / folder / "README.md").read_text(encoding="utf-8")


def test_sequences_of_one_stack_are_counted_and_named(tmp_path, vae_file, flan):
    unet = write_unet(tmp_path / "u.pt", make_denoiser(latent_channels=12))
    pipeline = imported(unet, vae_file, tmp_path / "out", flan)
    assert pipeline.config.images == ["t2w", "b1600", "adc"]
    assert pipeline(["PI-RADS 4"], seeds=[0], num_inference_steps=2).volumes.shape == (1, 3, 16, 16, 8)
    with pytest.raises(InputError, match="draws 3 sequences together; give as many images, not 2"):
        imported(unet, vae_file, tmp_path / "other", flan, images=["a", "b"])
    odd = write_unet(tmp_path / "odd.pt", make_denoiser(latent_channels=6))
    with pytest.raises(InputError, match="6 latent channels, no multiple of the autoencoder's 4"):
        imported(odd, vae_file, tmp_path / "other", flan)


def test_files_of_several_gpus_and_wrapped_or_old_files_load_too(tmp_path, flan):
    denoiser = make_denoiser()
    state = {f"module.{name}": value for name, value in released_state(denoiser).items()}
    unet = write_unet(tmp_path / "u.pt", denoiser, unet_state_dict=state)
    vae = tmp_path / "vae.pt"
    torch.save({"unet_state_dict": make_vae().state_dict()}, vae, _use_new_zipfile_serialization=False)
    pipeline = imported(unet, str(vae), tmp_path / "out", flan)
    assert torch.equal(predict(denoiser)[0], predict(pipeline.denoiser)[0])


class Payload:
    """What a hostile file would run."""

    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c["unet_state_dict"].pop("unet.out.2.conv.bias"), r"1 missing \(unet\.out\.2\.conv\.bias\)"),
        (lambda c: c["unet_state_dict"].update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
        (
            lambda c: c["unet_state_dict"].update({"classifier.bias": torch.ones(3)}),
            r"1 misshapen \(classifier\.bias\)",
        ),
        (
            lambda c: c["unet_state_dict"].update({"classifier.bias": torch.full((2,), torch.nan)}),
            r"1 not finite \(classifier\.bias\)",
        ),
        (lambda c: c["unet_state_dict"].pop("unet.conv_in.conv.weight"), "unet.conv_in.conv.weight' is missing"),
        (lambda c: c.pop("scale_factor"), "lacks scale_factor; a released CCELLA checkpoint has them"),
        (lambda c: c.update(loss=Payload()), "holds Python objects other than tensors"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_whole(spoil, message, tmp_path, vae_file, flan):
    denoiser = make_denoiser()
    path = tmp_path / "u.pt"
    checkpoint = {"unet_state_dict": released_state(denoiser), "scale_factor": 1.0}
    spoil(checkpoint)
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match=message):
        imported(str(path), vae_file, tmp_path / "out", flan)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["u.pt"]


@pytest.mark.parametrize(
    "options",
    [
        {"micro_batch": 0},
        {"splits": 0},
        {"tile": -1},
        {"norm_groups": 3},
        {"norm_groups": 0},
        {"heads": 7},
        {"head_channels": 24},
        {"head_channels": 0},
        {"spacing_mm": (-1, 1, 1)},
        {"spacing_mm": (1, 1)},
        {"shape": (18, 16, 8)},
        {"shape": (16, 16)},
    ],
    ids=str,
)
def test_settings_that_nothing_can_be_drawn_with_are_named_and_leave_no_folder(options, tmp_path, vae_file, flan):
    unet = write_unet(tmp_path / "u.pt", make_denoiser())
    sizes = {"shape": (16, 16, 8), "norm_groups": 4, "micro_batch": 2}
    with pytest.raises(InputError, match=next(iter(options))):
        sa.import_released(unet, vae_file, str(tmp_path / "out"), "ccella", flan, **sizes | options)
    assert [item.name for item in tmp_path.iterdir()] == ["u.pt"]


@pytest.mark.parametrize(
    "change",
    [
        *({"scale_factor": torch.tensor(value)} for value in (float("nan"), float("inf"), 0.0, -1.0)),
        {"scale_factor": torch.ones(2)},
        {"epoch": None},
        {"num_train_timesteps": 0},
        {"num_train_timesteps": "many"},
    ],
    ids=str,
)
def test_a_file_that_says_what_cannot_be_is_named_and_leaves_no_folder(change, tmp_path, vae_file, flan):
    unet = write_unet(tmp_path / "u.pt", make_denoiser(), **change)
    with pytest.raises(InputError, match=rf"u\.pt.*{next(iter(change))}"):
        imported(unet, vae_file, tmp_path / "out", flan)
    assert [item.name for item in tmp_path.iterdir()] == ["u.pt"]


def test_a_generator_of_other_timesteps_is_not_trained_on_from(tmp_path, vae_file, flan):
    unet = write_unet(tmp_path / "u.pt", make_denoiser(), num_train_timesteps=500)
    imported(unet, vae_file, tmp_path / "out", flan)
    config = GeneratorConfig(pretrained=str(tmp_path / "out"), latents="autoencoder", prediction="epsilon")
    with pytest.raises(InputError, match="timesteps is 500"):
        pretrained_generator(config, classes=2, images=["t2w"])


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1, 2])])
def test_what_is_no_checkpoint_is_named(content, tmp_path, vae_file, flan):
    (tmp_path / "u.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"u\.pt: (not a readable checkpoint|holds)"):
        imported(str(tmp_path / "u.pt"), vae_file, tmp_path / "out", flan)
    with pytest.raises(InputError, match=r"none\.pt: no such checkpoint file"):
        imported(str(tmp_path / "none.pt"), vae_file, tmp_path / "out", flan)


@pytest.mark.parametrize(
    ("made", "asked", "named"),
    [("maisi", "ccella", "maisi"), ("ccella", "last", "ccella or l1only"), ("first", "shared", "first")],
)
def test_a_file_of_another_variant_is_named(made, asked, named, tmp_path, vae_file, flan):
    unet = write_unet(tmp_path / "u.pt", make_denoiser(made))
    with pytest.raises(InputError, match=f"its weights are those of variant {named}, not of '{asked}'"):
        imported(unet, vae_file, tmp_path / "out", flan, asked)


def test_a_file_of_nv_generate_is_named_as_such(tmp_path, vae_file, flan):
    for variant in ("ccella", "maisi"):
        with pytest.raises(InputError, match="variant nv-generate, not"):
            imported(write_files(tmp_path)[0], vae_file, tmp_path / "out", flan, variant)


@pytest.mark.parametrize("name", ["u.pt", "u.safetensors"])
def test_a_file_that_was_cut_short_and_a_folder_are_named(name, tmp_path, vae_file, flan):
    path, state = tmp_path / name, released_state(make_denoiser())
    save_file(state, path) if name.endswith("safetensors") else torch.save({"unet_state_dict": state}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{name}: .*copy it again"):
        imported(str(path), vae_file, tmp_path / "out", flan)
    with pytest.raises(InputError, match="is a folder"):
        imported(str(tmp_path), vae_file, tmp_path / "out", flan)


def test_a_text_encoder_must_be_given_and_fit(tmp_path, vae_file, flan):
    unet = write_unet(tmp_path / "u.pt", make_denoiser())
    with pytest.raises(InputError, match=r"'ccella' reads reports: give text_encoder"):
        imported(unet, vae_file, tmp_path / "out", None)
    wide = tmp_path / "wide"
    T5EncoderModel(T5Config(vocab_size=384, d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(
        wide
    )
    ByT5Tokenizer().save_pretrained(wide)
    with pytest.raises(InputError, match=r"its states are 24 wide, .* was trained on 16"):
        imported(unet, vae_file, tmp_path / "out", str(wide))


def test_a_text_encoder_is_looked_for_before_a_checkpoint_is_read(tmp_path, vae_file, flan):
    bare = tmp_path / "bare"
    shutil.copytree(flan, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    for folder in (bare, tmp_path / "typo"):
        with pytest.raises(InputError, match=folder.name):
            imported(str(tmp_path / "absent.pt"), vae_file, tmp_path / "out", str(folder))
    with pytest.raises(InputError, match=r"absent\.pt"):
        imported(str(tmp_path / "absent.pt"), vae_file, tmp_path / "out", flan)


def test_an_autoencoder_that_does_not_fit_is_refused(tmp_path, flan):
    unet = write_unet(tmp_path / "u.pt", make_denoiser())
    state = make_vae().state_dict()
    for change, message in (
        (lambda s: s.pop("quant_conv_mu.conv.weight"), "quant_conv_mu.conv.weight' is missing"),
        (lambda s: s.pop("decoder.blocks.0.conv.conv.bias"), "1 missing"),
        (lambda s: [s.pop(name) for name in list(s) if name.startswith("encoder")], "is missing"),
    ):
        spoilt = dict(state)
        change(spoilt)
        torch.save(spoilt, tmp_path / "vae.pt")
        with pytest.raises(InputError, match=message):
            imported(unet, str(tmp_path / "vae.pt"), tmp_path / "out", flan)


def test_a_folder_in_use_is_refused_and_the_command_ends_with_one_line(tmp_path, vae_file, flan, capsys):
    unet = write_unet(tmp_path / "u.pt", make_denoiser())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/note").touch()
    with pytest.raises(InputError, match="already there; choose another output folder"):
        imported(unet, vae_file, tmp_path / "out", flan)
    words = ["import", "--unet", unet, "--autoencoder", vae_file, "--output", str(tmp_path / "out")]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["import", "--unet", unet]) == 2
