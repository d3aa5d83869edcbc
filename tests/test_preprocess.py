"""The one preprocessing: orientation, grid, window, shape."""

import numpy as np
import pytest
import torch
import torchio as tio

import synthaug as sa
from synthaug.data.manifest import make_subject, stack_images
from synthaug.errors import InputError


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


def test_other_images_come_onto_the_grid_of_the_first():
    config = sa.PreprocessConfig(spacing_mm=(1, 1, 1), shape=(16, 16, 8))
    result = done(config, t2w=image(torch.rand(1, 16, 16, 8)), adc=image(torch.rand(1, 8, 8, 4), spacing=(2, 2, 2)))
    assert stack_images(result, ["t2w", "adc"]).shape == (2, 16, 16, 8)
    assert np.allclose(result["t2w"].affine, result["adc"].affine)


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
