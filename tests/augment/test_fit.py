"""A pool that does not fit the real subjects is refused in one line, before the first batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchio as tio
from conftest import IMAGES, TINY_PREPROCESSING
from monai.data import MetaTensor
from small_pool import build_pool

import synthaug as sa
from synthaug.augment.source import LiveSource
from synthaug.data.reading.manifest import make_subject
from synthaug.ground.errors import InputError
from synthaug.pool.pool import reports_by_class

AFFINE = np.diag([5.0, 5.0, 8.0, 1.0])


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("fit") / "pool")


def subject(label, *, name="t2w", shape=(1, 16, 16, 8), affine=AFFINE, scale=1.0, shift=0.0, **images):
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(label)) * scale + shift
    image = tio.ScalarImage(tensor=volume, affine=affine)
    return make_subject({name: image, **images}, label=label, subject_id=f"p{label}", patient_id=f"p{label}")


UNFIT = {
    "orientation": {"affine": np.diag([-5.0, -5.0, 8.0, 1.0])},
    "spacing_mm": {"affine": np.diag([5.0, 5.0, 3.0, 1.0])},
    "shape": {"shape": (1, 16, 16, 9)},
    "channels": {"shape": (2, 16, 16, 8)},
    "intensities": {"scale": 1500.0},
    "intensities from -": {"scale": 6.0, "shift": -2.0},
}


def sampled(subjects, source):
    sa.SyntheticSampler(subjects, source, batch_size=2, synthetic_fraction=0.5).loader()


def by_torchio(subjects, source):
    sa.SyntheticAugment(source, p=1.0)(subjects[0])


def by_monai(subjects, source):
    image = next(iter(subjects[0].get_images()))
    tensor = MetaTensor(image.data, affine=torch.as_tensor(image.affine))
    sa.SyntheticAugmentd("t2w", source, prob=1.0)({"t2w": tensor, "label": subjects[0]["label"]})


@pytest.mark.parametrize("meeting", [sampled, by_torchio, by_monai])
@pytest.mark.parametrize("what", UNFIT)
def test_what_does_not_fit_is_named_where_real_and_synthetic_meet(pool, meeting, what):
    with pytest.raises(InputError, match=what) as refusal:
        meeting([subject(0, **UNFIT[what]), subject(1, **UNFIT[what])], pool)
    assert len(str(refusal.value).splitlines()) == 1
    meeting([subject(0), subject(1)], pool)


def test_sequences_of_other_names_are_refused_though_torchio_would_collate_some(pool):
    with pytest.raises(InputError, match="adc"):
        sampled([subject(label, adc=tio.ScalarImage(tensor=torch.rand(1, 16, 16, 8))) for label in (0, 1)], pool)
    with pytest.raises(InputError, match="'t2'"):
        sampled([subject(label, name="t2") for label in (0, 1)], pool)


def test_every_real_subject_is_looked_at_not_only_the_first(pool):
    with pytest.raises(InputError, match="spacing_mm"):
        sampled([subject(0), subject(1), subject(1, affine=np.diag([5.0, 5.0, 5.0, 1.0]))], pool)


def test_a_live_generator_is_compared_too(tiny_pipeline, tiny_subjects):
    with LiveSource(tiny_pipeline, reports_by_class(tiny_subjects)) as live, pytest.raises(InputError, match="shape"):
        sampled([subject(0, shape=(1, 16, 16, 9)), subject(1)], live)


@pytest.mark.parametrize(
    ("transform", "fits"),
    [
        (tio.Compose([tio.CropOrPad((16, 16, 8)), tio.RescaleIntensity((0, 1))]), True),
        (tio.Compose([tio.CropOrPad((16, 16, 8)), tio.ZNormalization()]), True),
        (tio.CropOrPad((16, 16, 8)), False),
    ],
)
def test_the_loaders_transform_may_bring_them_together(pool, transform, fits):
    raw = [subject(label, shape=(1, 18, 18, 9), scale=1500.0) for label in (0, 1)]
    sampler = sa.SyntheticSampler(raw, pool, batch_size=2, synthetic_fraction=0.5)
    if fits:
        assert len(list(sampler.loader(transform=transform))) == len(sampler)
    else:
        with pytest.raises(InputError, match="intensities"):
            sampler.loader(transform=transform)


def test_another_preprocessing_of_the_same_grid_is_refused(pool, tiny_subjects):
    ours = sa.preprocess(tiny_subjects, TINY_PREPROCESSING, IMAGES)
    other = sa.preprocess(tiny_subjects, replace(TINY_PREPROCESSING, percentiles=(5.0, 95.0)), IMAGES)
    for meeting in (sampled, by_torchio):
        meeting(ours, pool)
        with pytest.raises(InputError, match="percentiles"):
            meeting(other, pool)
