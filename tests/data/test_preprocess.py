"""The one preprocessing: orientation, grid, window, shape."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchio as tio

import synthaug as sa
from synthaug.data.phantom import make_subjects
from synthaug.data.reading.manifest import make_subject, stack_images
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash


def subject(**images):
    return make_subject(images, label=0, subject_id="s", patient_id="s")


def image(tensor, spacing=(1.0, 1.0, 1.0), signs=(1, 1, 1)):
    return tio.ScalarImage(tensor=tensor, affine=np.diag([*np.multiply(spacing, signs), 1.0]))


def done(config, **images):
    return sa.preprocess([subject(**images)], config, list(images))[0]


def test_shape_spacing_and_range():
    config = sa.PreprocessConfig(spacing_mm=(2, 2, 2), shape=(8, 12, 4))
    result = done(config, t2w=image(torch.rand(1, 20, 20, 20) * 900))
    assert result["t2w"].shape == (1, 8, 12, 4)
    assert result["t2w"].spacing == (2, 2, 2)
    assert result["t2w"].data.min() >= 0
    assert 0.9 < result["t2w"].data.max() <= 1  # the crop need not hold the brightest voxel


def test_orientation_becomes_ras():
    values = torch.rand(1, 6, 6, 6)
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(6, 6, 6), percentiles=(0, 100))
    straight = done(config, t2w=image(values))
    mirrored = done(config, t2w=image(values.flip(1), signs=(-1, 1, 1)))  # the same anatomy, stored the other way
    assert torch.allclose(straight["t2w"].data, mirrored["t2w"].data, atol=1e-6)


def test_percentiles_are_those_of_the_image_before_padding():
    values = torch.linspace(100, 200, 5**3).reshape(1, 5, 5, 5)
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(9, 9, 9), percentiles=(0, 100))
    inner = done(config, t2w=image(values))["t2w"].data[:, 2:7, 2:7, 2:7]
    assert torch.allclose(inner, (values - 100) / 100, atol=1e-6)


def test_images_with_a_physical_scale_keep_it():
    values = torch.rand(1, 6, 6, 6) * 1500
    values[0, 0, 0, 0] = 9000
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(6, 6, 6), ranges={"adc": (0, 3000)})
    result = done(config, t2w=image(torch.rand(1, 6, 6, 6)), adc=image(values))
    assert torch.allclose(result["adc"].data, (values / 3000).clamp(0, 1), atol=1e-5)


def test_padding_of_a_smaller_field_of_view_moves_no_percentile_and_becomes_zero():
    inner = torch.linspace(100, 200, 12**3).reshape(1, 12, 12, 12)
    affine = np.eye(4)
    affine[:3, 3] = 2
    images = {"t2w": image(torch.rand(1, 16, 16, 16)), "adc": tio.ScalarImage(tensor=inner, affine=affine)}
    for extra in ({}, {"ranges": {"adc": (-100.0, 300.0)}}):
        config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(16, 16, 16), percentiles=(0, 100), **extra)
        adc = done(config, **images)["adc"].data
        low, high = extra.get("ranges", {}).get("adc", (100, 200))
        assert torch.allclose(adc[:, 2:14, 2:14, 2:14], (inner - low) / (high - low), atol=1e-5)
        outside = torch.ones_like(adc, dtype=torch.bool)
        outside[:, 2:14, 2:14, 2:14] = False
        assert (adc[outside] == 0).all()


def test_one_dark_voxel_moves_nothing_by_default_and_is_told_with_the_published_percentiles(caplog):
    values = torch.rand(1, 12, 12, 12) * 100
    spoilt = values.clone()
    spoilt[0, 3, 3, 3] = -1024
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(12, 12, 12))
    clean, robust = (done(config, t2w=image(each))["t2w"].data for each in (values, spoilt))
    assert (clean - robust).abs().flatten().topk(2).values[1] < 0.01  # but for that voxel
    assert not caplog.records
    published = done(replace(config, percentiles=(0, 99.5)), t2w=image(spoilt))["t2w"].data
    assert published.flatten().topk(1700).values[-1] > 0.88
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "s: most of the range" in record.getMessage()


def test_ordinary_images_raise_no_remark(caplog):
    sa.preprocess(make_subjects(3, 0.5, seed=0), sa.PreprocessConfig(), ["t2w"])
    assert not caplog.records


@pytest.mark.parametrize(("values", "low"), [(torch.zeros(1, 12, 12, 12), 0), (torch.full((1, 12, 12, 12), 5.0), 5)])
def test_an_image_with_one_value_between_the_percentiles_is_refused(values, low):
    values[0, 0, 0, 0] = 9
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(12, 12, 12))
    with pytest.raises(InputError, match=rf"s: image 't2w' is {low} at both of preprocess\.percentiles"):
        done(config, t2w=image(values))


def test_ranges_name_images_and_rise():
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(6, 6, 6), ranges={"adc": (0, 3000)})
    with pytest.raises(InputError, match=r"preprocess\.ranges: 'adc' is no image; the images are t2w"):
        done(config, t2w=image(torch.rand(1, 6, 6, 6)))
    for window in ((3, 3), (5, 1), (0, float("inf")), (float("nan"), 1)):
        with pytest.raises(InputError, match=r"preprocess\.ranges\.adc"):
            sa.PreprocessConfig(ranges={"adc": window})


@pytest.mark.parametrize("spacing", [(1e4, 1, 1), (9.0, 1.0, 1.0)])
def test_a_grid_of_too_many_or_too_few_voxels_is_refused(spacing):
    config = sa.PreprocessConfig(spacing_mm=(10.0, 1e-4, 1e-4) if spacing[0] > 10 else (100, 1, 1), shape=(6, 6, 6))
    with pytest.raises(InputError, match=r"s: image 't2w' of .* voxels at preprocess\.spacing_mm"):
        done(config, t2w=image(torch.rand(1, 6, 6, 6), spacing))


def test_percentiles_are_robust_at_both_ends_and_a_recorded_setting_keeps_its_meaning():
    assert sa.PreprocessConfig().percentiles == (0.5, 99.5)
    phantom = make_subjects(2, 0.5, seed=0)
    config = sa.PreprocessConfig(percentiles=(0, 99.5))
    before = tio.Compose(
        [tio.ToCanonical(), tio.RescaleIntensity((0, 1), percentiles=(0, 99.5)), tio.CropOrPad(config.shape)]
    )
    assert torch.equal(sa.preprocess(phantom, config, ["t2w"])[0]["t2w"].data, before(phantom[0])["t2w"].data)


def test_other_images_come_onto_the_grid_of_the_first():
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(16, 16, 8))
    result = done(config, t2w=image(torch.rand(1, 16, 16, 8)), adc=image(torch.rand(1, 8, 8, 4), spacing=(2, 2, 2)))
    assert stack_images(result, ["t2w", "adc"]).shape == (2, 16, 16, 8)
    assert np.allclose(result["t2w"].affine, result["adc"].affine)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0)])
def test_images_that_are_not_named_come_onto_the_grid_of_the_first_too(spacing):
    labels = torch.randint(0, 3, (1, 12, 12, 12))
    scan = image(torch.rand(1, 12, 12, 12), spacing)
    given = subject(t2w=scan, gland=tio.LabelMap(tensor=labels, affine=scan.affine), adc=image(torch.rand(1, 9, 9, 9)))
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(8, 8, 8))
    (result,) = sa.preprocess([given], config, ["t2w"])
    assert {name: result[name].spatial_shape for name in given.get_images_names()} == dict.fromkeys(
        ["t2w", "gland", "adc"], (8, 8, 8)
    )
    assert np.allclose(result["gland"].affine, result["t2w"].affine)
    assert set(result["gland"].data.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("images", ["t2w", [], ["t2w", "adc"]])
def test_names_that_are_no_images_are_refused(images):
    with pytest.raises(InputError, match="image"):
        sa.preprocess([subject(t2w=image(torch.rand(1, 8, 8, 8)))], sa.PreprocessConfig(shape=(8, 8, 8)), images)


def test_an_image_that_becomes_constant_is_named():
    values = torch.zeros(1, 20, 20, 20)
    values[:, :2] = torch.rand(1, 2, 20, 20)
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(4, 4, 4))
    with pytest.raises(InputError, match="s: image 't2w' is constant after preprocessing"):
        done(config, t2w=image(values))


def test_input_is_left_as_it_was():
    values = torch.rand(1, 6, 6, 6) * 100
    given = subject(t2w=image(values.clone()))
    sa.preprocess([given], sa.PreprocessConfig(spacing_mm=(2, 2, 2), shape=(4, 4, 4)), ["t2w"])
    assert torch.equal(given["t2w"].data, values)


def test_the_crop_is_central_unless_a_centre_is_given():
    values = torch.rand(1, 24, 20, 16)
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(6, 6, 6), percentiles=(0, 100))
    subjects = [subject(t2w=image(values))]
    plain = sa.preprocess(subjects, config, ["t2w"])[0]["t2w"]
    assert torch.allclose(plain.data, tio.CropOrPad(6)(plain).data)
    middle = tuple(plain.get_center())
    same = sa.preprocess(subjects, config, ["t2w"], centre=lambda image: middle)[0]["t2w"]
    assert torch.equal(same.data, plain.data)
    np.testing.assert_allclose(same.affine, plain.affine)


def test_the_setting_needs_what_finds_the_prostate_and_is_recorded_only_when_set():
    plain = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(6, 6, 6), percentiles=(0, 99.5))
    wanted = replace(plain, centre="prostate")
    subjects = [subject(t2w=image(torch.rand(1, 12, 12, 12)))]
    with pytest.raises(InputError, match=r"centre=synthaug\.models\.extractors\.taps\.crop_centre"):
        sa.preprocess(subjects, wanted, ["t2w"])
    corner = sa.preprocess(subjects, wanted, ["t2w"], centre=lambda image: (2.5, 2.5, 2.5))[0]["t2w"]
    np.testing.assert_allclose(corner.affine[:3, 3], 0)
    # The hash that pools and generators made before the setting existed are found by.
    assert content_hash(plain.recorded()) == "9ad36325949c375a"
    assert wanted.recorded() == plain.recorded() | {"centre": "prostate"}


@pytest.mark.parametrize("voxel", [(5, 9, 12), (0, 19, 0), (11.5, 9.5, 7.5)])
def test_the_wanted_point_lies_in_the_middle_of_the_crop_on_all_images(voxel):
    values = torch.rand(1, 24, 20, 16)
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 2), shape=(6, 7, 6), percentiles=(0, 100))
    spacing = (1.0, 1.0, 2.0)
    wanted = np.array(voxel) * spacing
    both = [subject(t2w=image(values, spacing), adc=image(1 - values, spacing))]
    done = sa.preprocess(both, config, ["t2w", "adc"], centre=lambda image: wanted)[0]
    for name in ("t2w", "adc"):
        assert done[name].shape == (1, 6, 7, 6)
        assert np.abs(np.subtract(done[name].get_center(), wanted) / spacing).max() <= 0.5
    np.testing.assert_allclose(done["t2w"].affine, done["adc"].affine)
    # No voxel moved in the world: what lies at the wanted point is what lay there.
    near = np.rint(np.linalg.inv(done["t2w"].affine) @ [*np.rint(voxel) * spacing, 1.0])[:3].astype(int)
    before = values[0][tuple(np.rint(voxel).astype(int))]
    scaled = (before - values.min()) / (values.max() - values.min())
    assert done["t2w"].data[0][tuple(near)].item() == pytest.approx(scaled.item(), abs=1e-3)
