"""Extractors by name: weights fit exactly or are refused, features do not hang on the batch, volumes are not held."""

import weakref

import numpy as np
import pytest
import torch
import torchio as tio
from monai.networks.nets import ResNet
from taps_wheel import needs_taps
from transformers import ResNetConfig, ResNetModel

import synthaug as sa
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.ground.errors import InputError
from synthaug.metrics.extractors import build_extractor, medicalnet_extractor, radimagenet_extractor
from synthaug.models.extractors.backbones import STEM, load_medicalnet, load_radimagenet

SHAPE = (16, 16, 8)
SPACING_MM = (0.8, 0.8, 3.0)


def random_state(dims: int) -> dict[str, torch.Tensor]:
    """Weights of a ResNet-50 under torchvision's names, batch norms that do something included."""
    generator = torch.Generator().manual_seed(dims)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(dims)
        network = ResNet(
            "bottleneck",
            [3, 4, 6, 3],
            [64, 128, 256, 512],
            spatial_dims=dims,
            n_input_channels=1 if dims == 3 else 3,
            bias_downsample=False,
            feed_forward=False,
        )
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
    return state


def numbered(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """RadImageNet's own names."""
    known = {theirs: ours for ours, theirs in STEM.items()}
    return {known[name[: name.index(".") + 1]] + name[name.index(".") + 1 :]: value for name, value in state.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    three, two = random_state(3), random_state(2)
    torch.save({"state_dict": {f"module.{name}": value for name, value in three.items()}}, folder / "medicalnet.pth")
    torch.save(numbered(two), folder / "radimagenet.pt")
    with_classifier = {**two, "fc.weight": torch.zeros(5, 2048), "fc.bias": torch.zeros(5)}
    torch.save(with_classifier, folder / "torchvision.pt")
    return folder


BUILD = {
    "seeded": lambda files: build_extractor("seeded"),
    "medicalnet": lambda files: build_extractor("medicalnet", weights=files / "medicalnet.pth"),
    "radimagenet": lambda files: radimagenet_extractor(files / "radimagenet.pt", slices=2, side=32),
    "taps": lambda files: build_extractor("taps", spacing_mm=SPACING_MM),
}
FEATURES = {"seeded": 512, "medicalnet": 2048, "radimagenet": 6144, "taps": 256}


@pytest.fixture(scope="module", params=[*list(BUILD)[:3], pytest.param("taps", marks=needs_taps)])
def named(request, files):
    return request.param, BUILD[request.param](files)


def test_features_do_not_depend_on_the_batch(named):
    name, extractor = named
    volumes = torch.rand(3, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    whole = extractor.features(volumes, 3)
    assert whole.shape == (3, FEATURES[name])
    assert extractor.features(volumes, 2) == pytest.approx(whole, rel=1e-3, abs=1e-4 * abs(whole).max())
    assert abs(whole[0] - whole[1]).max() > 1e-3  # it sees the volume


def test_volumes_are_let_go_as_they_are_read(named):
    """At no time do more volumes live than two batches, the one at work and the one that is being drawn."""
    _, extractor = named
    alive, most = weakref.WeakSet(), 0

    class Volume(torch.Tensor):
        pass

    def stream():
        nonlocal most
        for k in range(9):
            volume = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(k)).as_subclass(Volume)
            alive.add(volume)
            most = max(most, len(alive))
            yield volume
            del volume

    assert len(extractor.features(stream(), 2)) == 9
    assert 0 < most <= 4


def test_fingerprints_tell_extractors_apart(files):
    found = {name: BUILD[name](files).fingerprint for name in ("seeded", "medicalnet", "radimagenet")}
    found["other slices"] = radimagenet_extractor(files / "radimagenet.pt", slices=3, side=32).fingerprint
    assert len(set(found.values())) == len(found)
    assert medicalnet_extractor(files / "medicalnet.pth").fingerprint == found["medicalnet"]
    # One network under two layouts of its file is one network.
    one = radimagenet_extractor(files / "torchvision.pt", slices=2, side=32)
    assert one.fingerprint == found["radimagenet"]


@needs_taps
def test_the_fingerprint_of_taps_follows_the_spacing():
    assert len({build_extractor("taps", spacing_mm=(1.0, 1.0, z)).fingerprint for z in (3.0, 4.0)}) == 2


def test_radimagenets_network_is_torchvisions_as_transformers_has_it(files):
    state = torch.load(files / "torchvision.pt", weights_only=True)
    reference = ResNetModel(ResNetConfig(depths=[3, 4, 6, 3], layer_type="bottleneck")).eval()
    reference.load_state_dict({_transformers_name(k): v for k, v in state.items() if not k.startswith("fc.")})
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference(images).pooler_output.flatten(1)
        torch.testing.assert_close(load_radimagenet(files / "torchvision.pt")(images), expected, rtol=1e-4, atol=1e-4)


def _transformers_name(name: str) -> str:
    if name.startswith(("conv1.", "bn1.")):
        part, rest = name.split(".", 1)
        return f"embedder.embedder.{'convolution' if part == 'conv1' else 'normalization'}.{rest}"
    level, block, part, rest = name.split(".", 3) if "downsample" not in name else [*name.split(".", 2), ""]
    home = f"encoder.stages.{int(level[-1]) - 1}.layers.{block}"
    if part.startswith("downsample"):
        _, number, leaf = part.split(".")
        return f"{home}.shortcut.{'convolution' if number == '0' else 'normalization'}.{leaf}"
    return f"{home}.layer.{int(part[-1]) - 1}.{'convolution' if part.startswith('conv') else 'normalization'}.{rest}"


def test_medicalnets_last_levels_are_dilated_not_strided(files):
    network = load_medicalnet(files / "medicalnet.pth")
    sizes = []
    for level in (network.layer1, network.layer2, network.layer3, network.layer4):
        level.register_forward_hook(lambda module, seen, given: sizes.append(tuple(given.shape[2:])))
    with torch.inference_mode():
        network(torch.rand(1, 1, 32, 32, 32))
    assert sizes == [(8, 8, 8), (4, 4, 4), (4, 4, 4), (4, 4, 4)]
    assert [network.layer4[0].conv2.dilation, network.layer3[0].conv2.dilation] == [(4,) * 3, (2,) * 3]


def test_two_channels_stand_side_by_side(files):
    extractor = BUILD["radimagenet"](files)
    one, other = torch.rand(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    both = extractor.features([torch.cat([one, other])])
    alone = [extractor.features([each]) for each in (one, other)]
    assert both.shape == (1, 2 * FEATURES["radimagenet"])
    assert both[0, :6144] == pytest.approx(alone[0][0], abs=1e-4)
    assert both[0, 6144:] == pytest.approx(alone[1][0], abs=1e-4)


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
def test_weights_that_do_not_fit_exactly_are_refused(files, tmp_path, change):
    state = torch.load(files / "radimagenet.pt", weights_only=True)
    first = next(iter(state))
    if change == "missing":
        del state[first]
    elif change == "unexpected":
        state["backbone.7.9.conv1.weight"] = torch.zeros(1)
    else:
        state[first] = torch.zeros(1, 2)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(InputError, match=f"other.pt: weights do not fit ResNet: 1 {change}"):
        load_radimagenet(tmp_path / "other.pt")


def test_files_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("no weights", encoding="utf-8")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "code.pth")  # reading it would run code
    for name in ("text.pth", "list.pth", "code.pth", "none.pth"):
        with pytest.raises(InputError, match=name):
            load_medicalnet(tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "inception"}, "choose from seeded, medicalnet"),
        ({"name": "medicalnet"}, "'medicalnet' needs weights="),
        ({"name": "seeded", "weights": "a.pth"}, "'seeded' takes no weights"),
        ({"name": "taps"}, "needs spacing_mm"),
    ],
)
def test_what_a_name_needs_is_said(arguments, message):
    with pytest.raises(InputError, match=message):
        build_extractor(**arguments)


def test_compare_images_takes_names(files):
    config = sa.PreprocessConfig(spacing_mm=(5.0, 5.0, 8.0), shape=SHAPE)
    real, other = (
        preprocess(make_subjects(4, seed=seed, shape=SHAPE, spacing_mm=(5.0, 5.0, 8.0)), config, ["t2w"])
        for seed in (0, 1)
    )
    report = sa.compare_images(real, other, "medicalnet", weights=str(files / "medicalnet.pth"), resamples=5)
    assert report.extractor == "medicalnet-resnet50"
    assert report.fingerprint == medicalnet_extractor(files / "medicalnet.pth").fingerprint
    coarse = sa.PreprocessConfig(spacing_mm=(5.0, 5.0, 4.0), shape=SHAPE)
    with pytest.raises(InputError, match="preprocess both alike"):
        sa.compare_images(real, preprocess(other, coarse, ["t2w"]))


@needs_taps
def test_compare_images_takes_the_spacing_of_taps_from_the_subjects():
    draw = torch.Generator().manual_seed(0)
    affine = np.diag([*SPACING_MM, 1.0])
    volumes = torch.rand(8, 1, *SHAPE, generator=draw)
    subjects = [tio.Subject(t2w=tio.ScalarImage(tensor=volume, affine=affine)) for volume in volumes]
    report = sa.compare_images(subjects[:4], subjects[4:], extractor="taps", resamples=5)
    assert report.fingerprint == build_extractor("taps", spacing_mm=SPACING_MM).fingerprint
