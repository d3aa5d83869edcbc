"""Labelled augmentation: the class a classifier is shown is always that of the volume it is shown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchio as tio

from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.augmentation import LabelledAugmentation
from synthaug.classify.weights import load_classifier
from synthaug.config import (
    ClassifierConfig,
    Config,
    DataConfig,
    GeneratorConfig,
    GeometryConfig,
    LabelRule,
    PreprocessConfig,
    StudyConfig,
    TrainingConfig,
)
from synthaug.data.reading.manifest import make_subject, stack_images
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.ground.errors import InputError
from synthaug.study.grid import cells_of
from synthaug.study.running.cell import run_cell, weights_path
from synthaug.study.running.studies import Studies

IMAGES = ["t1", "t2"]
LIMIT_MM3 = 2000


def a_ball(radius: float) -> torch.Tensor:
    axes = [torch.arange(side) - (side - 1) / 2 for side in (24, 22, 20)]
    distance = sum(axis**2 for axis in torch.meshgrid(*axes, indexing="ij")).sqrt()
    return (radius + 0.5 - distance).clamp(0, 1)[None]


def a_cohort() -> tuple[list[tio.Subject], dict[str, dict]]:
    """Balls of known volume; smaller than 2000 voxels of 1 mm is class 1."""
    subjects, rows = [], {}
    for place, radius in enumerate((7.0, 7.4, 7.7, 8.0, 8.3, 8.6)):
        volume = a_ball(radius)
        rows[f"ball-{place}"] = {"volume_mm3": volume.sum().item()}
        subjects.append(
            make_subject(
                {name: tio.ScalarImage(tensor=volume.clone()) for name in IMAGES},
                label=int(volume.sum() < LIMIT_MM3),
                subject_id=f"ball-{place}",
                patient_id=f"ball-{place}",
            )
        )
    return subjects, rows


def an_augmentation(rule=None, **geometry) -> tuple[LabelledAugmentation, list[tio.Subject]]:
    subjects, rows = a_cohort()
    data = DataConfig(root="unused", label_rule=rule or LabelRule("volume_mm3", below=LIMIT_MM3))
    relabeller = Relabeller.fit(subjects, data, GeometryConfig(**geometry), rows=rows, texts=False)
    return LabelledAugmentation(relabeller, IMAGES), subjects


def batches(augmentation, subjects, epoch=0, num_workers=0, source=None) -> list[dict]:
    sampler = SyntheticSampler(subjects, source, batch_size=4, seed=1)
    sampler.set_epoch(epoch)
    return list(sampler.loader(batch_transform=augmentation, num_workers=num_workers))


def test_the_class_shown_is_that_of_the_volume_shown():
    """Counted in the moved voxels themselves, not by the rule; near the limit the count may err by interpolation."""
    augmentation, subjects = an_augmentation(probability=1.0)
    seen, changed = 0, 0
    of = {subject["subject_id"]: int(subject["label"]) for subject in subjects}
    for epoch in range(8):
        for batch in batches(augmentation, subjects, epoch):
            assert torch.equal(batch["t1"]["data"], batch["t2"]["data"])  # sequences move together
            for name, label, volume in zip(
                batch["subject_id"], batch["label"].tolist(), batch["t1"]["data"], strict=True
            ):
                shown = volume.sum().item()
                if abs(shown / LIMIT_MM3 - 1) > 0.03:
                    assert label == int(shown < LIMIT_MM3)
                    seen, changed = seen + 1, changed + (label != of[name])
    assert seen > 30
    assert changed > 3  # zooms do carry subjects across the limit


def test_batches_are_a_function_of_seed_and_epoch_whatever_the_workers():
    augmentation, subjects = an_augmentation()
    once, again, later = (batches(augmentation, subjects, epoch) for epoch in (0, 0, 1))
    spread = batches(augmentation, subjects, num_workers=2)
    for one, other in ((once, again), (once, spread)):
        assert all(
            torch.equal(stack_images(a, IMAGES), stack_images(b, IMAGES)) for a, b in zip(one, other, strict=True)
        )
        assert [a["label"].tolist() for a in one] == [b["label"].tolist() for b in other]
    assert not torch.equal(stack_images(once[0], IMAGES), stack_images(later[0], IMAGES))
    assert torch.equal(subjects[0]["t1"].data, a_ball(7.0))  # the training set stays as it is


def test_a_subject_nobody_measured_keeps_its_size_and_class():
    augmentation, subjects = an_augmentation(probability=1.0)
    for seed in range(10):
        synthetic = make_subject(
            {name: tio.ScalarImage(tensor=a_ball(8.0)) for name in IMAGES},
            label=1,
            subject_id="synthetic-0",
            patient_id="synthetic-0",
            provenance="{}",
        )
        [moved] = augmentation([synthetic], [seed])
        assert moved["label"] == 1
        assert moved["t1"].data.sum() == pytest.approx(a_ball(8.0).sum())
    assert augmentation.relabeller.allowed(subjects[0]).zooms == GeometryConfig().zooms


def test_without_a_rule_nothing_is_zoomed(caplog):
    subjects, rows = a_cohort()
    relabeller = Relabeller.fit(subjects, DataConfig(root="unused"), GeometryConfig(), rows=rows, texts=False)
    assert [(each.move, each.subjects) for each in relabeller.left_out] == [("zoom", len(subjects))]
    augmentation = LabelledAugmentation(relabeller, IMAGES)
    for batch in batches(augmentation, subjects):
        shown = batch["t1"]["data"].sum(dim=(1, 2, 3, 4))
        whole = [subjects[int(name[-1])]["t1"].data.sum() for name in batch["subject_id"]]
        np.testing.assert_allclose(shown, whole, rtol=0.01)  # a shift may cut a little off


@pytest.mark.parametrize("wrong", ["other", 3])
def test_augment_is_one_of_its_values(wrong, tmp_path):
    axes = {"classifier.augment": [wrong]}
    with pytest.raises(InputError, match=r"classifier\.augment"):
        cells_of(Config(study=StudyConfig(axes=axes)), lambda config: ("data", "pool"))


def test_a_cell_is_named_by_the_geometry_only_where_it_is_used():
    def names(**classifier) -> list[str]:
        config = Config(classifier=ClassifierConfig(**classifier), study=StudyConfig(seeds=[0], regimes=["real"]))
        return [cell.id for cell in cells_of(config, lambda config: ("data", "pool"))]

    mild = GeometryConfig(zooms=(0.95, 1.0, 1.05))
    assert names() == names(geometry=mild)
    assert names(augment="labelled") != names(augment="labelled", geometry=mild)


def a_study_folder(folder: Path) -> None:
    """Noise with measured volumes: only the loop matters here."""
    rows = []
    generator = np.random.default_rng(0)
    for place in range(24):
        volume = 1000 + 50 * place
        tio.ScalarImage(tensor=torch.from_numpy(generator.random((1, 16, 16, 8), dtype=np.float32))).save(
            folder / f"{place}.nii.gz"
        )
        rows.append(
            {"subject_id": f"s{place}", "t2w": f"{place}.nii.gz", "volume_mm3": volume, "label": int(volume < 1600)}
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


def test_a_cell_trains_with_it(tmp_path):
    a_study_folder(tmp_path)
    config = Config(
        data=DataConfig(root=str(tmp_path), label_rule=LabelRule("volume_mm3", below="boundary")),
        preprocess=PreprocessConfig(shape=(16, 16, 8), spacing_mm=(1.0, 1.0, 1.0)),
        generator=GeneratorConfig(variant="radmaisi"),
        classifier=ClassifierConfig(
            channels=(4, 4, 8, 8), augment="labelled", training=TrainingConfig(steps=4, batch_size=4, warmup=0)
        ),
        study=StudyConfig(regimes=["real"], seeds=[0]),
    )
    studies = Studies(tmp_path / "out", lambda *_: lambda *_: None)
    [cell] = cells_of(config, studies.identify)
    assert run_cell(cell, studies.of(cell.config)).treatment["augment"] == "labelled"
    assert load_classifier(weights_path(studies.out, cell)).config.geometry == GeometryConfig()


def test_cells_are_named_by_the_rule_too():
    one, other = (an_augmentation(LabelRule("volume_mm3", below=limit))[0].relabeller for limit in (2000, 2001))
    assert one.identity != other.identity
    assert one.identity == an_augmentation()[0].relabeller.identity
