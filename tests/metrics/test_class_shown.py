"""Whether synthetic volumes show their class: a pool that ignores it is told from one that shows it."""

import numpy as np
import pytest
import torch
import torchio as tio

from synthaug.ground.errors import InputError
from synthaug.metrics.class_shown import MOST_VOXELS, ClassShown, class_shown, pooled
from synthaug.metrics.comparison import compare_images
from synthaug.metrics.volumes import VolumeSet
from synthaug.statistics.intervals import Interval


def volumes(count, *, strength, seed, classes=2, shape=(1, 12, 12, 8)):
    """Noise whose middle is brighter by the class."""
    draw = torch.Generator().manual_seed(seed)
    subjects = []
    for number in range(count):
        label = number % classes
        values = 0.3 * torch.rand(shape, generator=draw)
        values[:, 4:8, 4:8] += strength * label
        subjects.append(tio.Subject(t2w=tio.ScalarImage(tensor=values), label=label, patient_id=f"p{seed}-{number}"))
    return VolumeSet.of(subjects)


def noisy(count, *, seed):
    """Of two classes that no reader tells apart without errors."""
    made = volumes(count, strength=0.06, seed=seed, shape=(1, 8, 8, 8))
    draw = torch.Generator().manual_seed(seed)
    for subject in made.source:
        subject["t2w"].data[:, 4:8, 4:8] += 0.05 * torch.randn(1, generator=draw)
    return made


SIDES = ((1, 40), (2, 20), (3, 100))
"""Number and volumes of training, held-out and synthetic sets."""


def test_a_pool_that_shows_its_class_is_told_from_one_that_ignores_it_and_from_one_that_swaps_it():
    training, held_out = volumes(24, strength=0.05, seed=1), volumes(40, strength=0.05, seed=2)
    good, none, swapped = (
        class_shown(training, held_out, volumes(60, strength=strength, seed=3)) for strength in (0.05, 0.0, -0.05)
    )
    assert good.real.value == none.real.value > 0.9
    assert good.synthetic.value > 0.9
    assert not good.missing
    assert 0.3 < none.synthetic.value < 0.7
    assert swapped.synthetic.value < 0.1
    assert none.missing
    assert swapped.missing


def test_where_real_volumes_do_not_show_their_class_nothing_is_said():
    found = class_shown(*(volumes(40, strength=0.0, seed=seed) for seed in (4, 5, 6)))
    assert found.real.low < 0.5
    assert not found.missing


def test_three_classes_are_read():
    found = class_shown(*(volumes(45, strength=0.1, seed=seed, classes=3) for seed in (7, 8, 9)))
    assert found.real.value > 0.8
    assert found.synthetic.value > 0.8


def test_a_comparison_tells_it_where_training_volumes_have_classes():
    training, held_out, synthetic = (volumes(24, strength=0.2, seed=seed).source for seed in (10, 11, 12))
    report = compare_images(held_out, synthetic, training=training, resamples=20, realism="off")
    assert report.classes.synthetic.value > 0.9
    assert report.to_metrics()["all/class_shown"] == report.classes.synthetic.value
    assert report.classes.sentence() in report.remarks()
    assert compare_images(held_out, synthetic, resamples=20, realism="off").classes is None
    bare = [subject["t2w"].data for subject in training]
    assert compare_images(held_out, synthetic, training=bare, resamples=20, realism="off").classes is None


@pytest.mark.parametrize(("name", "counts"), [("training", (6, 40, 40)), ("synthetic", (40, 40, 1))])
def test_too_few_volumes_are_named(name, counts):
    with pytest.raises(InputError, match=name):
        class_shown(*(volumes(count, strength=0.1, seed=seed) for seed, count in enumerate(counts)))


@pytest.mark.parametrize("form", [float, torch.tensor, lambda label: ["benign", "cancer"][label]])
def test_the_form_of_a_label_changes_no_figure(form):
    def sets(form):
        found = [volumes(16, strength=0.1, seed=seed) for seed in range(3)]
        for subject in (each for part in found for each in part.source):
            subject["label"] = form(subject["label"])
        return [VolumeSet.of(part.source) for part in found]

    assert class_shown(*sets(form)) == class_shown(*sets(int))
    if form is float:  # one side as whole numbers, the other as floats, are still the same classes
        real, synthetic = sets(int)[0], sets(form)[1]
        assert real.groups == synthetic.groups


def test_what_chance_sets_apart_is_not_called_missing():
    """The figure of few real volumes is as uncertain as that of the synthetic ones."""
    synthetic = Interval(0.78, low=0.71, high=0.84)
    unsure, sure = Interval(0.86, low=0.62, high=0.98), Interval(0.92, low=0.85, high=0.97)
    found = [ClassShown(synthetic, real, n_real=20, n_synthetic=100, reader="") for real in (unsure, sure)]
    assert [each.missing for each in found] == [False, True]


def test_volumes_of_one_report_a_class_have_an_interval():
    training, held_out, synthetic = (noisy(count, seed=part) for part, count in SIDES)
    for subject in synthetic.source:
        subject["synthetic"], subject["report"] = True, f"class {subject['label']}"
    one, many = (
        class_shown(training, held_out, each).synthetic for each in (VolumeSet.of(synthetic.source), synthetic)
    )
    assert one == many
    assert one.low < one.value < one.high


def test_held_out_patients_count_and_not_their_volumes():
    training, held_out, synthetic = (noisy(count, seed=part) for part, count in SIDES)
    for number, subject in enumerate(held_out.source):
        subject["patient_id"] = f"p{number % 6}"  # three of each class
    with pytest.raises(InputError, match=r"patients .* \[3, 3\]"):
        class_shown(training, VolumeSet.of(held_out.source), synthetic)


def test_volumes_without_a_class_are_refused():
    sets = [volumes(16, strength=0.1, seed=seed) for seed in range(3)]
    for part in sets:
        part.groups[3] = ""
    with pytest.raises(InputError, match="training"):
        class_shown(*sets)


@pytest.mark.parametrize("shape", [(1, 64, 64, 16), (2, 16, 20, 12), (1, 3, 3, 2)])
def test_volumes_of_any_shape_become_few_means(shape):
    rows = pooled([torch.ones(shape), torch.zeros(shape)])
    assert rows.shape[1] <= shape[0] * MOST_VOXELS
    assert np.array_equal(rows[0], np.ones_like(rows[0]))
