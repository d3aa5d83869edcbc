"""What cannot be meant is refused in words, not by a traceback, wherever subjects and settings come in."""

import numpy as np
import pytest
from small_pool import build_pool, imbalanced

import synthaug as sa
from synthaug.data.reading.manifest import load_manifest
from synthaug.ground.errors import InputError
from synthaug.pool.prompts import TrainingPrompts


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("refusals") / "pool")


def without(key):
    return [
        {name: value for name, value in each.items() if name != key}
        for label in (0, 1)
        for each in [{"label": label, "report": "a", "patient_id": f"p{label}", "subject_id": "s"}] * 4
    ]


def labelled(*labels):
    return [{"label": label, "report": "a", "patient_id": f"p{place}"} for place, label in enumerate(labels)]


def sampler(pool, subjects):
    return sa.SyntheticSampler(subjects, pool, batch_size=2, synthetic_fraction=0.5)


def resumed(pool, subjects, batch):
    made = sampler(pool, subjects)
    made.load_state_dict(made.state_dict() | {"batch": batch})


def replaced(pool, subject, **settings):
    return sa.SyntheticAugmentd(["t2w"], pool, prob=1.0, **settings)(subject)


WRONG = {
    "split without label": lambda pool, s: sa.split_subjects(without("label")),
    "split without patient": lambda pool, s: sa.split_subjects(without("patient_id")),
    "split of names": lambda pool, s: sa.split_subjects(labelled("a", "b")),
    "sampler without label": lambda pool, s: sampler(pool, without("label")),
    "sampler of names": lambda pool, s: sampler(pool, labelled("a", "b")),
    "sampler of one-hot labels": lambda pool, s: sampler(pool, labelled(np.array([1, 0]), np.array([0, 1]))),
    "prompts without report": lambda pool, s: TrainingPrompts(without("report")),
    "prompts without label": lambda pool, s: TrainingPrompts(without("label")),
    "prompts without patient": lambda pool, s: TrainingPrompts(without("patient_id")),
    "one-hot label": lambda pool, s: replaced(pool, {"t2w": s["t2w"].data, "label": np.array([1, 0])}),
    "one-hot label, other target": lambda pool, s: replaced(
        pool, {"t2w": s["t2w"].data, "label": np.array([1, 0])}, target={1: 1.0}
    ),
    "image not loaded": lambda pool, s: replaced(pool, {"t2w": "scan.nii", "label": 0}),
    "prob": lambda pool, s: sa.SyntheticAugmentd(["t2w"], pool, prob=2),
    "no subjects": lambda pool, s: sa.SyntheticAugment(pool, target="balance", class_counts={0: 0, 1: 0}),
    "fewer than no subjects": lambda pool, s: sa.SyntheticAugment(pool, target="balance", class_counts={0: -1, 1: 2}),
    "half a class": lambda pool, s: sa.SyntheticAugment(pool, target={0.6: 1.0}),
    "no images": lambda pool, s: load_manifest("manifest.csv", images=[]),
    "images as a text": lambda pool, s: load_manifest("manifest.csv", images="t2w"),
    "export here": lambda pool, s: sa.export_pool(pool, "."),
    "batch beyond the epoch": lambda pool, s: resumed(pool, imbalanced([s, *labelled(0, 1, 1)]), 99),
    "batch before the first": lambda pool, s: resumed(pool, imbalanced([s, *labelled(0, 1, 1)]), -1),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_refused(call, pool, tiny_subjects, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifest.csv").write_text("subject_id,label,t2w\na,0,a.nii\n", encoding="utf-8")
    if call is WRONG["export here"]:
        (tmp_path / "manifest.csv").unlink()
    with pytest.raises(InputError):
        call(pool, tiny_subjects[0])
    assert {path.name for path in tmp_path.iterdir()} <= {"manifest.csv"}
