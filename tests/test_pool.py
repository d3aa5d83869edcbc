import copy
import hashlib
import json
import multiprocessing
import os
import signal

import nibabel
import numpy as np
import pytest
import torch
from small_pool import PER_CLASS, SAMPLING, build_pool

from synthaug.augment.pool import HEADER, MANIFEST, SyntheticPool, reports_by_class
from synthaug.config import SamplingConfig
from synthaug.data.manifest import CONVENTION
from synthaug.errors import InputError

RECIPE = {
    "checkpoint",
    "report",
    "requested_class",
    "override_class",
    "steps",
    "scheduler",
    "guidance",
    "micro_batch",
    "shape",
    "spacing_mm",
    "seed",
    "threads",
    "device",
    "dtype",
}


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    """An unbroken build, that no test changes."""
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("pools") / "unbroken")


@pytest.fixture
def build(tiny_pipeline, tiny_subjects, tmp_path):
    """Builds the same pool in this test's own folder, once and again."""
    return lambda **changes: build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool", **changes)


def contents(pool):
    """{file: hash of its bytes} of what a pool lists."""
    files = [file for label in pool.classes for entry in pool.entries(label) for file in entry["files"].values()]
    return {file: hashlib.sha256((pool.path / file).read_bytes()).hexdigest() for file in files}


def written(pool):
    """{file: when it was written}."""
    return {path.name: path.stat().st_mtime_ns for path in (pool.path / "volumes").iterdir()}


def lines(pool):
    return (pool.path / MANIFEST).read_text().splitlines()


def stop_after(volumes):
    """A callback that breaks a build off."""
    left = [volumes]

    def count():
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return count


def test_a_pool_has_the_counts_asked_for(pool):
    assert (pool.counts, pool.classes, len(pool), pool.images) == (PER_CLASS, [0, 1], 8, ["t2w"])
    assert [entry["index"] for entry in pool.entries(1)] == [0, 1, 2, 3, 4]
    assert len(set(contents(pool).values())) == 8
    pool.verify()


def test_every_file_is_a_nifti_volume_that_other_tools_read(pool):
    for file in contents(pool):
        image = nibabel.load(pool.path / file)
        values = np.asarray(image.dataobj)
        assert values.shape == (16, 16, 8)
        assert image.get_data_dtype() == np.float32
        assert 0 <= values.min() < values.max() <= 1
        assert image.header.get_zooms() == (5.0, 5.0, 8.0)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
        assert np.allclose(image.affine @ [7.5, 7.5, 3.5, 1], [0, 0, 0, 1])


def test_a_subject_carries_the_convention_and_the_whole_recipe(pool, tiny_subjects):
    for label, count in PER_CLASS.items():
        for index in range(count):
            subject = pool.subject(label, index)
            assert set(subject) == {"t2w", *CONVENTION} == set(tiny_subjects[0])
            assert (subject["label"], subject["synthetic"]) == (label, True)
            assert subject["subject_id"] == subject["patient_id"] == f"synthetic-{pool.entries(label)[index]['id']}"
            provenance = json.loads(subject["provenance"])
            assert set(provenance) == RECIPE | {"class_probabilities"}
            assert "\n" not in subject["provenance"]
            assert provenance["report"] == subject["report"] in reports_by_class(tiny_subjects)[label]
            assert (provenance["requested_class"], provenance["override_class"]) == (label, False)
            assert sum(provenance["class_probabilities"]) == pytest.approx(1, abs=1e-5)


def test_an_index_counts_modulo_the_volumes_of_the_class(pool):
    assert pool.subject(0, 4)["subject_id"] == pool.subject(0, 1)["subject_id"]


def test_each_report_prompts_once_before_any_prompts_twice(build):
    reports = ["a", "b", "c"]
    pool = build(per_class={0: 5}, reports={0: reports})
    prompts = [entry["recipe"]["report"] for entry in pool.entries(0)]
    assert sorted(prompts[:3]) == reports
    assert prompts[3:] == prompts[:2]
    assert len(set(contents(pool).values())) == 5


def test_a_build_does_not_change_its_pipeline(tiny_pipeline, build):
    before = dict(tiny_pipeline.config), tiny_pipeline.scheduler
    build(per_class={0: 1}, sampling=SamplingConfig(steps=1, micro_batch=2, scheduler="ddim"))
    assert dict(tiny_pipeline.config) == before[0]
    assert tiny_pipeline.scheduler is before[1]


def test_a_volume_does_not_depend_on_how_many_are_asked_for(pool, build):
    assert contents(build(per_class={1: 1})).items() <= contents(pool).items()


def test_an_interrupted_build_goes_on_and_ends_in_the_same_bytes(pool, build, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(on_volume=stop_after(2))
    begun = SyntheticPool.open(tmp_path / "pool")
    assert len(begun) == SAMPLING.micro_batch
    before = written(begun)
    finished = build()
    assert contents(finished) == contents(pool)
    assert before.items() <= written(finished).items()


def test_a_build_killed_at_once_goes_on_and_ends_in_the_same_bytes(pool, build, tmp_path):
    child = multiprocessing.get_context("fork").Process(
        target=build, kwargs={"on_volume": lambda: os.kill(os.getpid(), signal.SIGKILL)}
    )
    child.start()
    child.join(timeout=60)
    assert child.exitcode == -signal.SIGKILL
    before = written(SyntheticPool.open(tmp_path / "pool"))
    assert len(before) == SAMPLING.micro_batch
    finished = build()
    assert contents(finished) == contents(pool)
    assert before.items() <= written(finished).items()


def test_another_build_calls_back_for_every_volume_and_writes_none(build):
    first = build()
    before, calls = written(first), []
    again = build(on_volume=lambda: calls.append(1))
    assert written(again) == before
    assert len(lines(again)) == len(calls) == 8


def test_a_torn_last_line_is_passed_over_and_its_volume_made_again(pool, build):
    path = build().path / MANIFEST
    path.write_bytes(path.read_bytes()[:-40])
    assert len(SyntheticPool.open(path.parent)) == 7
    healed = build()
    assert contents(healed) == contents(pool)
    whole = [line for line in lines(healed) if line.endswith("}")]
    assert len(whole) == 8
    assert len({json.loads(line)["id"] for line in whole}) == 8


def test_a_volume_that_was_written_but_not_listed_is_made_again(pool, build):
    path = build().path / MANIFEST
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert contents(build()) == contents(pool)


def test_a_deleted_volume_is_made_again_and_no_other(pool, build):
    first = build()
    before = written(first)
    gone = first.path / first.entries(1)[2]["files"]["t2w"]
    gone.unlink()
    assert SyntheticPool.open(first.path).counts == {0: 3, 1: 4}
    again = build()
    assert contents(again) == contents(pool)
    assert {name for name, when in written(again).items() if when != before[name]} == {gone.name}


def test_a_growing_pool_keeps_its_volumes(pool, build):
    before = written(build())
    grown = build(per_class={0: 6, 1: 6})
    assert grown.counts == {0: 6, 1: 6}
    assert before.items() <= written(grown).items()
    assert contents(pool).items() < contents(grown).items()
    assert [entry["id"] for entry in grown.entries(0)][:3] == [entry["id"] for entry in pool.entries(0)]


def test_other_prompts_take_the_place_of_the_first_ones_and_the_counts_stay(build):
    build(per_class={0: 3}, reports={0: ["first"]})
    pool = build(per_class={0: 3}, reports={0: ["second"]})
    assert pool.counts == {0: 3}
    assert {entry["recipe"]["report"] for entry in pool.entries(0)} == {"second"}


def test_another_thread_count_is_another_recipe_and_the_counts_stay(build):
    build()
    torch.set_num_threads(2)
    try:
        pool = build()
    finally:
        torch.set_num_threads(1)
    assert pool.counts == PER_CLASS
    assert {entry["recipe"]["threads"] for entry in pool.entries(0)} == {2}


def test_verify_names_the_altered_file(build):
    pool = build()
    path = pool.path / pool.entries(0)[1]["files"]["t2w"]
    bytes_ = bytearray(path.read_bytes())
    bytes_[-1] ^= 1
    path.write_bytes(bytes_)
    with pytest.raises(InputError, match=path.name):
        pool.verify()


def test_verify_names_the_missing_file(build):
    pool = build()
    path = pool.path / pool.entries(0)[1]["files"]["t2w"]
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        pool.verify()


def test_the_class_may_override_the_report_and_that_is_recorded(tiny_pipeline, tiny_subjects, tmp_path):
    pipe = copy.copy(tiny_pipeline)
    pipe.register_modules(denoiser=copy.deepcopy(tiny_pipeline.denoiser))
    pipe._fingerprint = None
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # after three steps of training the class moves nothing that float32 could show
        for parameter in pipe.denoiser.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    read, told = (
        build_pool(pipe, tiny_subjects, tmp_path / str(override), override_class=override).entries(1)[0]
        for override in (False, True)
    )
    assert (read["recipe"]["override_class"], told["recipe"]["override_class"]) == (False, True)
    assert told["recipe"]["seed"] == read["recipe"]["seed"]
    assert told["sha256"] != read["sha256"]


def test_another_generator_cannot_continue_a_pool(build, tiny_pipeline, tiny_subjects, tmp_path):
    path = build(per_class={0: 1}).path
    header = json.loads((path / HEADER).read_text())
    (path / HEADER).write_text(json.dumps(header | {"checkpoint": "another"}))
    with pytest.raises(InputError, match="built with another checkpoint"):
        build()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seed": 8}, "seed"),
        ({"sampling": SamplingConfig(steps=3, micro_batch=4)}, "sampling"),
        ({"override_class": True}, "override_class"),
    ],
)
def test_volumes_drawn_otherwise_never_mix_into_a_pool(build, changes, what):
    build(per_class={0: 1})
    with pytest.raises(InputError, match=f"built with another {what}; choose another folder"):
        build(**changes)


def test_a_class_without_reports_is_refused_before_anything_is_generated(build, tmp_path):
    for reports in ({0: ["a"]}, {0: ["a"], 1: []}):
        with pytest.raises(InputError, match="No report of class 1"):
            build(reports=reports)
    assert not (tmp_path / "pool" / MANIFEST).exists()


def test_a_folder_without_a_pool_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no synthetic pool there \(pool.json is missing\)"):
        SyntheticPool.open(tmp_path)


def test_a_class_that_the_pool_lacks_is_refused(pool):
    with pytest.raises(InputError, match="no volume of class 2"):
        pool.subject(2, 0)


@pytest.mark.parametrize("file", ["../secret.nii", "/etc/hostname", "volumes/../../secret.nii"])
def test_a_path_that_leads_out_of_the_pool_is_refused(build, file):
    path = build(per_class={0: 1}).path
    (path.parent / "secret.nii").touch()
    entry = json.loads(lines(SyntheticPool.open(path))[0])
    (path / MANIFEST).write_text(json.dumps(entry | {"files": {"t2w": file}}) + "\n")
    with pytest.raises(InputError, match="leads out of"):
        SyntheticPool.open(path)


@pytest.mark.parametrize("line", ["{}", "[1, 2]", '{"id": "a", "label": 0}'])
def test_a_line_that_is_no_entry_is_named(build, line):
    path = build(per_class={0: 1}).path
    with (path / MANIFEST).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(InputError, match=r"manifest.jsonl, line 2: is not an entry"):
        SyntheticPool.open(path)


def test_a_generator_that_draws_nan_fills_no_pool(tiny_pipeline, build, tmp_path):
    weight = next(tiny_pipeline.denoiser.parameters())
    kept = weight.detach().clone()
    fingerprint, tiny_pipeline._fingerprint = tiny_pipeline._fingerprint, None
    try:
        with torch.no_grad():
            weight.fill_(float("nan"))
        with pytest.raises(InputError, match="not finite"):
            build()
        assert not (tmp_path / "pool" / MANIFEST).exists()
    finally:
        with torch.no_grad():
            weight.copy_(kept)
        tiny_pipeline._fingerprint = fingerprint
