"""The prostate network rebuilt from the wheel: equal to its ONNX graph, on a standard grid, right on real glands."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torchio as tio
from conftest import TINY_PREPROCESSING, tiny_generator_config
from small_pool import build_pool
from taps_wheel import Threshold, ball, needs_taps, real_data

import synthaug as sa
from synthaug.config import Config, DataConfig, PhantomConfig
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.errors import InputError
from synthaug.metrics.fidelity import gland_volume_fidelity
from synthaug.models.extractors import taps
from synthaug.models.extractors.taps import (
    FIELD,
    SPACING_MM,
    ProstateNetwork,
    crop_centre,
    gland_centre_mm,
    load_taps,
    measure_glands_ml,
)
from synthaug.pool.pool import SyntheticPool
from synthaug.study.stages.pools import preprocessing_of
from synthaug.study.stages.preparation import Study


@needs_taps
def test_equals_the_onnx_graph():
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(str(taps.taps_file()))
    deepest = [
        node.output[0] for node in model.graph.node if node.name.startswith("/encoder") and node.op_type == "Add"
    ]
    model.graph.output.append(onnx.helper.make_tensor_value_info(deepest[-1], onnx.TensorProto.FLOAT, None))
    volumes = torch.randn(1, 1, 16, 16, 8, generator=torch.Generator().manual_seed(0))
    logits, encoded = ReferenceEvaluator(model).run(None, {"input": volumes.numpy()})
    network = load_taps()
    with torch.inference_mode():
        np.testing.assert_allclose(network(volumes).numpy(), logits, atol=4e-4)
        np.testing.assert_allclose(network.encoder(volumes)[-1].numpy(), encoded, atol=4e-4)


@needs_taps
def test_a_damaged_or_other_file_is_refused(tmp_path):
    import onnx

    model = onnx.load(str(taps.taps_file()))
    (tmp_path / "torn.onnx").write_bytes(b"no protobuf")
    with pytest.raises(InputError, match="torn"):
        load_taps(tmp_path / "torn.onnx")
    del model.graph.node[-40:]
    onnx.save(model, str(tmp_path / "short.onnx"))
    with pytest.raises(InputError, match=r"missing .*norm"):
        load_taps(tmp_path / "short.onnx")


def test_without_the_wheel_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(taps.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps lavlab-taps"):
        load_taps()
    taps._shared_network.cache_clear()
    with pytest.raises(InputError, match="pip install --no-deps lavlab-taps"):
        crop_centre(sa.PreprocessConfig(centre="prostate"))
    assert crop_centre(sa.PreprocessConfig()) is None


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((64, 64, 32), (1.0, 1.0, 2.0)), ((40, 40, 12), (2.5, 2.5, 4.0)), ((30, 33, 9), (3, 3, 3))],
)
def test_a_ball_keeps_its_volume_and_place_on_every_grid(shape, spacing_mm):
    where = (4.0, -6.0, 3.0)
    volume = ball(shape, spacing_mm, radius_mm=9, centre_mm=where)
    measured = ProstateNetwork(Threshold(), spacing_mm)
    shown, affine = measured.standardise(volume[None])
    assert all(side % 8 == 0 and side <= most for side, most in zip(shown.shape[2:], FIELD, strict=True))
    assert np.diag(affine)[:3] == pytest.approx(SPACING_MM, rel=0.05)
    assert measure_glands_ml([volume], spacing_mm, network=Threshold())[0] == pytest.approx(3.05, rel=0.15)
    masks, affine = measured.glands(volume[None])
    found = np.argwhere(masks[0]).mean(axis=0) * np.diag(affine)[:3] + affine[:3, 3]
    assert found == pytest.approx(where, abs=1.0)  # slices are 3 mm


def test_z_scores_pass_over_zeros_and_ignore_contrast():
    volume = ball((32, 32, 16), (1.0, 1.0, 3.0), radius_mm=8)
    volume[..., :4] = 0
    measured = ProstateNetwork(Threshold(), SPACING_MM)
    shown = measured.standardise(volume[None])[0]
    seen = shown[shown != 0]
    assert (seen.mean().item(), seen.std(correction=0).item()) == pytest.approx((0, 1), abs=1e-4)
    torch.testing.assert_close(measured.standardise(500 * volume[None])[0], shown, atol=1e-4, rtol=1e-4)


def test_only_the_largest_part_is_the_gland_and_none_is_zero():
    spacing = (0.8, 0.8, 3.0)
    both = torch.maximum(
        ball((80, 80, 16), spacing, radius_mm=9, centre_mm=(-15, 0, 0)),
        ball((80, 80, 16), spacing, radius_mm=5, centre_mm=(20, 0, 0)),
    )
    alone = ball((80, 80, 16), spacing, radius_mm=9, centre_mm=(-15, 0, 0))
    sizes = measure_glands_ml([both, alone, torch.full((1, 80, 80, 16), 0.5)], spacing, network=Threshold())
    assert sizes[0] == pytest.approx(sizes[1])
    assert sizes[2] == 0


def test_a_gland_is_outlined_at_several_logits_at_once():
    volume = ball((80, 80, 16), (0.8, 0.8, 3.0), radius_mm=9)
    blurred = torch.nn.functional.avg_pool3d(volume[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    logits = (-1.0, 0.0, 0.5)
    [sizes] = measure_glands_ml([blurred], (0.8, 0.8, 3.0), network=Threshold(), above=logits)
    assert sizes.shape == (3,)
    assert sizes[0] > sizes[1] > sizes[2] > 0
    assert sizes[1] == measure_glands_ml([blurred], (0.8, 0.8, 3.0), network=Threshold())[0]
    assert measure_glands_ml([], (0.8, 0.8, 3.0), network=Threshold(), above=logits).shape == (0, 3)


def test_unusable_input_is_named():
    with pytest.raises(InputError, match="spacing_mm"):
        ProstateNetwork(Threshold(), (1.0, 0.0, 1.0))
    with pytest.raises(InputError, match="one T2 image"):
        measure_glands_ml([torch.rand(2, 8, 8, 8)], (1.0, 1.0, 1.0), network=Threshold())


def test_crops_around_the_gland_that_the_network_sees():
    where, shape, spacing = (10.0, -12.0, 6.0), (60, 60, 20), (1.0, 1.0, 3.0)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (100, -50, 7)
    image = tio.ScalarImage(tensor=ball(shape, spacing, radius_mm=8, centre_mm=where), affine=affine)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    assert gland_centre_mm(image, network=Threshold()) == pytest.approx(middle + where, abs=0.7)
    with pytest.raises(InputError, match="sees no prostate"):
        gland_centre_mm(tio.ScalarImage(tensor=torch.full((1, 16, 16, 8), 0.5)), network=Threshold())


def test_the_setting_goes_through_study_generator_and_pool(monkeypatch, tiny_autoencoder, tmp_path):
    monkeypatch.setattr(taps, "_shared_network", Threshold)
    phantoms = PhantomConfig(n=20, shape=(24, 24, 8), spacing_mm=(5.0, 5.0, 8.0))
    plain = Config(data=DataConfig(phantom=phantoms), preprocess=TINY_PREPROCESSING)
    centred = replace(plain, preprocess=replace(TINY_PREPROCESSING, centre="prostate"))
    studies = [Study.read(each, tmp_path, lambda name, total: lambda *_: None) for each in (plain, centred)]
    one, other = (study.split.train[0] for study in studies)
    assert one["patient_id"] == other["patient_id"]
    assert not np.allclose(one["t2w"].affine, other["t2w"].affine)
    off_voxels = np.subtract(gland_centre_mm(other["t2w"]), other["t2w"].get_center()) / other["t2w"].spacing
    assert np.abs(off_voxels).max() < 1  # not 0.5: what the crop leaves out was part of the gland
    assert studies[0].generator_id != studies[1].generator_id

    settings = {"preprocessing": centred.preprocess, "images": ["t2w"], "micro_batch": 2}
    pipeline = train_ldm(studies[1].split.train, tiny_autoencoder, tiny_generator_config(), **settings)
    pool = build_pool(pipeline, studies[1].split.train, tmp_path / "pool")
    assert preprocessing_of(pool) == centred.preprocess
    SyntheticPool.open(pool.path, preprocessing=centred.preprocess)
    with pytest.raises(InputError, match="born with preprocessing centre prostate, not volume"):
        SyntheticPool.open(pool.path, preprocessing=plain.preprocess)


@needs_taps
def test_measures_real_glands_near_their_records():
    folder = real_data("prostatex")
    rows = pd.read_csv(folder / "manifest.csv").iloc[:4]
    images = [tio.ToCanonical()(tio.ScalarImage(folder / file)) for file in rows["t2w"]]
    measured = np.array([measure_glands_ml([image.data], image.spacing)[0] for image in images])
    assert measured == pytest.approx([45, 30, 35, 131], rel=0.05)
    fidelity = gland_volume_fidelity(rows["prostate_volume_ml"].to_numpy(), measured)
    assert fidelity.spearman > 0.75
    assert fidelity.median_error_ml < 10


@needs_taps
def test_a_real_gland_lies_in_the_middle_of_its_crop_and_measures_the_same_there():
    folder = real_data("prostatex")
    file = pd.read_csv(folder / "manifest.csv")["t2w"][1]
    subject = tio.Subject(t2w=tio.ScalarImage(folder / file), subject_id="real")
    config = sa.PreprocessConfig(spacing_mm=(0.8, 0.8, 3.0), shape=(96, 96, 16), centre="prostate")
    cropped = sa.preprocess([subject], config, ["t2w"], centre=crop_centre(config))[0]["t2w"]
    off_mm = np.subtract(gland_centre_mm(cropped), cropped.get_center())
    assert np.abs(off_mm).max() < 3
    assert measure_glands_ml([cropped.data], cropped.spacing)[0] == pytest.approx(30, rel=0.15)
