"""Looks at a generator's training: what they measure of the drawn volumes."""

import pytest
import torch

from synthaug.config import MetricsConfig, PreprocessConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.tracking.monitoring import TrainingMonitor

SHAPE, SPACING_MM = (16, 16, 8), (5.0, 5.0, 8.0)


@pytest.fixture(scope="module")
def subjects():
    made = make_subjects(80, seed=3, shape=SHAPE, spacing_mm=SPACING_MM)
    return preprocess(made, PreprocessConfig(shape=SHAPE, spacing_mm=SPACING_MM), ["t2w"])


def measured(subjects, drawn, *, known=16, watched=16, **metrics):
    """What a look says of ``drawn``, where the last subjects were trained on."""
    parts = subjects[:watched], subjects[len(subjects) - known :]
    watcher = TrainingMonitor(None, parts[0], ["t2w"], MetricsConfig(**metrics), parts[1])
    return watcher.measure(torch.stack([stack_images(subject, ["t2w"]) for subject in drawn]))


def test_copies_of_training_volumes_are_seen_at_a_look(subjects):
    copied, fresh = (measured(subjects, drawn) for drawn in (subjects[-16:], subjects[20:36]))
    assert copied["val_copies_excess"] > 0.5
    assert fresh["val_copies_excess"] == 0


def test_what_too_few_patients_cannot_tell_is_left_out(subjects):
    assert set(measured(subjects, subjects[20:24], watched=4)) == {"val_fid"}
    assert set(measured(subjects, subjects[20:36], copies=False)) == {"val_fid"}


def test_realism_is_judged_from_forty_patients_on(subjects):
    values = measured(subjects, subjects[40:80], watched=40, known=2, copies=False)
    assert 0.2 < values["val_realism_auroc"] < 0.8  # two halves of one population
    assert "val_realism_auroc" not in measured(subjects, subjects[40:80], watched=40, copies=False, realism="off")
