"""The audit of a pool: planted copies are marked beside the pool, left out on demand, and no patient is named."""

import json

import nibabel
import pytest
from conftest import IMAGES, TINY_PREPROCESSING
from small_pool import build_pool

from synthaug.augment.pool import SyntheticPool
from synthaug.bench.pool_audit import AUDIT, audit_pool, marked_copies, without_copies
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.errors import InputError


@pytest.fixture(scope="module")
def held_out():
    raw = make_subjects(60, seed=5, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    done = preprocess(raw, TINY_PREPROCESSING, IMAGES)
    for subject in done:
        subject["patient_id"] = f"unseen-{subject['patient_id']}"
    return done


@pytest.fixture
def planted(tiny_pipeline, tiny_subjects, tmp_path) -> tuple[SyntheticPool, set[str]]:
    """A pool in which the first volume of each class is a mirrored training volume."""
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool")
    ids = set()
    for label in pool.classes:
        entry = pool.entries(label)[0]
        path = pool.path / entry["files"]["t2w"]
        image = nibabel.load(path)
        copied = tiny_subjects[label]["t2w"].data[0].flip(0).numpy()
        nibabel.save(nibabel.Nifti1Image(copied, image.affine, image.header), path)
        ids.add(entry["id"])
    return SyntheticPool.open(pool.path), ids


def test_copies_are_marked_and_left_out(planted, tiny_subjects, held_out, tmp_path):
    pool, copies = planted
    audit = audit_pool(pool, tiny_subjects, held_out, pictures=tmp_path / "pairs.png")
    record = json.loads((pool.path / AUDIT).read_text())
    assert copies <= marked_copies(pool)
    assert {name for name, found in record["volumes"].items() if found["correlation"] > 0.99} == copies
    assert all(record["volumes"][name]["mirrored"] for name in copies)
    assert record["share"] == audit.share()[0]
    assert len(without_copies(pool)) == len(pool) - len(marked_copies(pool))
    kept = {subject["subject_id"] for subject in without_copies(pool)}
    assert not kept & {f"synthetic-{name}" for name in copies}
    assert (tmp_path / "pairs.png").stat().st_size > 1000
    # The pool can be handed on: patients stand in it as hashes alone.
    assert not any(subject["patient_id"] in (pool.path / AUDIT).read_text() for subject in tiny_subjects)


def test_a_pool_that_was_not_audited_or_grew_is_not_called_clean(planted, tiny_pipeline, tiny_subjects, held_out):
    pool, _ = planted
    with pytest.raises(InputError, match="not audited"):
        without_copies(pool)
    audit_pool(pool, tiny_subjects, held_out)
    grown = build_pool(tiny_pipeline, tiny_subjects, pool.path, per_class={0: 4, 1: 5})
    with pytest.raises(InputError, match="does not know 1 volumes"):
        without_copies(grown)


def test_patients_on_both_sides_are_refused(planted, tiny_subjects):
    with pytest.raises(InputError, match="both a training and a held-out patient"):
        audit_pool(planted[0], tiny_subjects, tiny_subjects)
