import copy
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
import torchio as tio
from conftest import TINY_PREPROCESSING, tiny_generator_config
from diffusers import DDPMScheduler
from small_pool import PER_CLASS, SAMPLING, build_pool, tree
from torch.nn.modules.module import register_module_forward_hook

from synthaug.config import SamplingConfig
from synthaug.data.reading.manifest import CONVENTION
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.errors import InputError
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.pool.consistency import require_preprocessing
from synthaug.pool.pool import HEADER, MANIFEST, SyntheticPool, reports_by_class
from synthaug.pool.prompts import WriterPrompts
from synthaug.study.stages.pools import preprocessing_of

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
    return (pool.path / MANIFEST).read_text(encoding="utf-8").splitlines()


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


def test_the_epsilon_scale_is_in_a_recipe_where_it_is_asked_for(tiny_cascade, tiny_subjects, tmp_path):
    def volume(name, generator, **asked):
        sampling = SamplingConfig(steps=2, micro_batch=1, **asked)
        pool = build_pool(generator, tiny_subjects, tmp_path / name, per_class={0: 1}, sampling=sampling)
        return pool.entries(0)[0]["recipe"], *contents(pool).values()

    own, plain = volume("own", tiny_cascade)
    asked, scaled = volume("asked", tiny_cascade, epsilon_scale=1.1)
    assert set(asked) - set(own) == {"epsilon_scale"}
    assert asked["epsilon_scale"] == 1.1
    kept = copy.copy(tiny_cascade).with_scheduler("ddim", epsilon_scale=1.1)
    told, same = volume("kept", kept)
    assert set(told) == set(own)
    assert told["checkpoint"] != own["checkpoint"]
    assert same == scaled != plain


@pytest.mark.parametrize(
    ("asked", "refusing", "wrong"),
    [
        ({"guided_levels": 1}, "tiny_cascade", {"guided_levels": 3}),
        # An autoencoder's latents have times that are no noise levels.
        ({"guidance_below": 2.0}, "tiny_pipeline", {"guidance_below": 2.0}),
    ],
)
def test_where_guidance_leads_is_in_a_recipe_where_it_is_asked_for(
    tiny_cascade, tiny_subjects, tmp_path, request, asked, refusing, wrong
):
    def build(name, pipeline=tiny_cascade, **asked):
        sampling = SamplingConfig(steps=2, micro_batch=1, **asked)
        return build_pool(pipeline, tiny_subjects, tmp_path / name, per_class={0: 1}, sampling=sampling)

    plain, led = (build(name, **told).entries(0)[0]["recipe"] for name, told in (("a", {}), ("b", asked)))
    assert {name: led[name] for name in set(led) - set(plain)} == asked
    pipeline = request.getfixturevalue(refusing)
    with pytest.raises(InputError, match=next(iter(wrong))):
        build("refused", pipeline, **wrong)
    assert not (tmp_path / "refused").exists()


def test_without_settings_a_pool_is_drawn_as_the_card_was_measured(tiny_cascade, tiny_subjects, tmp_path):
    told = copy.copy(tiny_cascade)
    measured = {"scheduler": "dpm_solver", "steps": 2, "guidance": 1.5, "guided_levels": 1}
    told.record = {**tiny_cascade.record, "evaluation": {"summary": "", "figures": {"settings": measured}}}
    told.record["generator"] = {**told.record["generator"], "report_dropout": 0.1}
    pool = build_pool(told, tiny_subjects, tmp_path, per_class={0: 1}, sampling=None)
    recipe = pool.entries(0)[0]["recipe"]
    assert {name: recipe[name] for name in measured} == measured
    assert told.measured_settings == {"num_inference_steps": 2, "guidance_scale": 1.5, "guided_levels": 1}
    assert tiny_cascade.measured_settings == {}


def test_an_epsilon_scale_is_for_edm_alone(tiny_pipeline, tiny_subjects, tmp_path):
    with pytest.raises(InputError, match="epsilon_scale"):
        build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool", sampling=SamplingConfig(epsilon_scale=1.1))
    assert not (tmp_path / "pool").exists()


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
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    assert contents(build()) == contents(pool)


def test_a_deleted_volume_is_refused_on_read_and_made_again_and_no_other(pool, build):
    first = build()
    before = written(first)
    gone = first.path / first.entries(1)[2]["files"]["t2w"]
    gone.unlink()
    opened = SyntheticPool.open(first.path)
    assert opened.counts == PER_CLASS
    with pytest.raises(InputError, match=f"{gone.name}: is missing"):
        opened.subject(1, 2).load()
    again = build()
    assert contents(again) == contents(pool)
    assert {name for name, when in written(again).items() if when != before[name]} == {gone.name}


def test_hidden_files_of_others_stay_and_stop_no_build(build):
    path = build(per_class={0: 1}).path
    others = [path / "volumes" / name for name in (".DS_Store", ".nfs000000000001", "._v_t2w.nii")]
    others.append(path / "claims" / ".DS_Store")
    for other in others:
        other.write_bytes(b"theirs")
    build(per_class={0: 2}).verify()
    assert all(other.read_bytes() == b"theirs" for other in others)


@pytest.mark.parametrize(
    "wrong", [{"per_class": {0: 2.0}}, {"per_class": {0: -2, 1: 1}}, {"per_class": {-1: 1}}, {"seed": 0.5}]
)
def test_an_order_that_cannot_be_meant_is_refused_before_a_folder_is_made(build, tmp_path, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        build(**wrong)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_order_the_pool_of_plain_ones(pool, build):
    ordered = {np.int64(label): np.int64(count) for label, count in PER_CLASS.items()}
    built = build(per_class=ordered, seed=np.int64(7), attempts=np.int32(4))
    assert tree(built.path) == tree(pool.path)


def test_a_growing_pool_keeps_its_volumes(pool, build):
    before = written(build())
    grown = build(per_class={0: 6, 1: 6})
    assert grown.counts == {0: 6, 1: 6}
    assert before.items() <= written(grown).items()
    assert contents(pool).items() < contents(grown).items()
    assert [entry["id"] for entry in grown.entries(0)][:3] == [entry["id"] for entry in pool.entries(0)]


def test_other_prompts_never_mix_into_a_pool(build):
    build(per_class={0: 3}, reports={0: ["first"]})
    with pytest.raises(InputError, match="prompts differs"):
        build(per_class={0: 3}, reports={0: ["second"]})


def test_a_build_goes_on_with_the_threads_that_the_pool_was_begun_with(pool, build):
    build(per_class={0: 1})
    torch.set_num_threads(2)
    try:
        grown = build()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert grown.header["threads"] == 1
    assert tree(grown.path) == tree(pool.path)
    with pytest.raises(InputError, match="threads differs"):
        build(threads=2)


def damage(pool, label, index, how):
    path = pool.path / pool.entries(label)[index]["files"]["t2w"]
    content = bytearray(path.read_bytes())
    if how == "altered":
        content[-1] ^= 1
    path.write_bytes(content[:-1] if how == "truncated" else content)
    return path.name


def test_verify_names_all_that_is_bad_and_a_read_refuses_each_by_name(pool, build):
    begun = build()
    bad = [damage(begun, 0, 1, "altered"), damage(begun, 1, 0, "truncated")]
    gone = begun.path / begun.entries(1)[4]["files"]["t2w"]
    gone.unlink()
    with pytest.raises(InputError, match="3 of 8 volumes") as refusal:
        begun.verify()
    assert all(name in str(refusal.value) for name in [*bad, gone.name])
    assert [path.name for path in begun.bad_files()] == [*bad, gone.name]
    for place, name in zip([(0, 1), (1, 0)], bad, strict=True):
        with pytest.raises(InputError, match=f"{name}: altered or truncated"):
            begun.subject(*place).load()
    assert begun.subject(0, 0)["t2w"].data.shape == (1, 16, 16, 8)
    for path in begun.bad_files():
        path.unlink(missing_ok=True)
    assert tree(build().path) == tree(pool.path)


@pytest.mark.parametrize("how", ["altered", "truncated"])
def test_a_build_over_a_damaged_volume_is_refused_and_draws_it_when_it_is_deleted(pool, build, how):
    begun = build()
    older = os.stat(begun.path / MANIFEST).st_mtime_ns - 10**9
    name = damage(begun, 1, 0, how)
    if how == "truncated":  # as a crash of the machine leaves it, with the time of before
        os.utime(begun.path / "volumes" / name, ns=(older, older))
    before = tree(begun.path)
    with pytest.raises(InputError, match=name):
        build(per_class={0: 4, 1: 5})
    assert tree(begun.path) == before
    (begun.path / "volumes" / name).unlink()
    assert tree(build().path) == tree(pool.path)


def test_a_pool_whose_files_were_copied_in_any_order_is_built_on(pool, build):
    begun = build()
    for path in begun.path.glob("volumes/*"):
        path.touch()
    assert tree(build().path) == tree(pool.path)


def test_the_reader_gives_what_other_readers_give(pool):
    subject = pool.subject(1, 3)
    plain = tio.ScalarImage(subject["t2w"].path)
    assert torch.equal(subject["t2w"].data, plain.data)
    assert np.allclose(subject["t2w"].affine, plain.affine)
    assert subject["t2w"].data.dtype == torch.float32
    copied = copy.deepcopy(pool.subject(1, 3))
    assert torch.equal(copied["t2w"].data, plain.data)


@pytest.mark.parametrize("parts", [2, 5])
def test_shards_are_disjoint_and_make_up_the_whole_byte_for_byte(pool, build, parts):
    seen = set()
    for part in reversed(range(parts)):
        before = len(seen)
        seen |= set(contents(build(shard=(part, parts))))
        assert len(seen) - before in (8 // parts, 8 // parts + 1)
    assert tree(build().path) == tree(pool.path)


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_is_none_is_refused(build, shard):
    with pytest.raises(InputError, match="must be"):
        build(shard=shard)


def test_two_builders_at_once_make_each_volume_once_and_end_in_the_same_bytes(build, tmp_path):
    log = tmp_path / "drawn"

    def note(module, arguments, answer):
        """A line for each pass through the denoiser, from whichever process."""
        if isinstance(module, CCELLADenoiser):
            with log.open("a") as stream:
                stream.write(f"{os.getpid()}\n")

    hook = register_module_forward_hook(note)
    sampling = {"sampling": SamplingConfig(steps=2, micro_batch=1), "per_class": {0: 12, 1: 12}}
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=build, kwargs=sampling) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=120)
    assert [child.exitcode for child in children] == [0, 0]
    passes, both = log.read_text(encoding="utf-8").split(), tree(tmp_path / "pool")
    assert len(set(passes)) == 2
    log.unlink()
    shutil.rmtree(tmp_path / "pool")
    assert tree(build(**sampling).path) == both
    hook.remove()
    assert len(log.read_text(encoding="utf-8").split()) == len(passes)  # one builder draws as many


def test_a_reader_sees_a_pool_grow_and_what_it_had_keeps_its_place(build, tmp_path):
    growing = {"per_class": {0: 12, 1: 12}, "sampling": SamplingConfig(steps=2, micro_batch=2)}
    build(**growing | {"per_class": {0: 2, 1: 2}})
    reader = SyntheticPool.open(tmp_path / "pool")
    builder = multiprocessing.get_context("fork").Process(target=build, kwargs=growing)
    builder.start()
    sizes = [len(reader)]
    known = {label: [entry["id"] for entry in reader.entries(label)] for label in reader.classes}
    while sizes[-1] < 24:
        assert builder.is_alive() or builder.exitcode == 0
        if not reader.refresh():
            continue
        sizes.append(len(reader))
        for label in reader.classes:
            ids = [entry["id"] for entry in reader.entries(label)]
            assert ids[: len(known[label])] == known[label]
            known[label] = ids
            assert reader.subject(label, len(ids) - 1)["t2w"].data.isfinite().all()
    builder.join(timeout=60)
    assert sizes[0] == 4
    assert len(sizes) > 2
    reader.verify()
    assert known == {label: [e["id"] for e in SyntheticPool.open(reader.path).entries(label)] for label in (0, 1)}


def test_a_pool_is_refused_under_another_preprocessing(pool):
    SyntheticPool.open(pool.path, preprocessing=TINY_PREPROCESSING)
    changes = ({"spacing_mm": (5.0, 5.0, 7.0)}, {"shape": (16, 16, 16)}, {"percentiles": (1.0, 99.0)})
    for change in (*changes, {"centre": "prostate"}):
        with pytest.raises(InputError, match=f"born with preprocessing {next(iter(change))}"):
            SyntheticPool.open(pool.path, preprocessing=replace(TINY_PREPROCESSING, **change))


def test_a_pool_of_prostate_crops_is_compared_with_such_crops_only(pool):
    centred = replace(TINY_PREPROCESSING, centre="prostate")
    header = pool.header | {"preprocessing": json.loads(json.dumps(centred.recorded()))}
    require_preprocessing(header, centred, source="pool")
    with pytest.raises(InputError, match="born with preprocessing centre prostate, not volume"):
        require_preprocessing(header, TINY_PREPROCESSING, source="pool")
    assert preprocessing_of(SyntheticPool(pool.path, header, [])) == centred


def test_a_pool_of_a_generator_without_a_record_is_compared_by_shape_and_spacing(pool):
    bare = SyntheticPool(pool.path, pool.header | {"preprocessing": None}, [])
    require_preprocessing(bare.header, replace(TINY_PREPROCESSING, percentiles=(1.0, 99.0)), source="pool")
    with pytest.raises(InputError, match="born with preprocessing shape"):
        require_preprocessing(bare.header, replace(TINY_PREPROCESSING, shape=(16, 16, 16)), source="pool")


@pytest.fixture(scope="module")
def torn_pipeline(tiny_pipeline):
    """The tiny pipeline with its class logits moved so that it reads class 1 from about half of all reports."""
    pipe = copy.copy(tiny_pipeline)
    pipe.register_modules(denoiser=copy.deepcopy(tiny_pipeline.denoiser))
    pipe._fingerprint = None
    reports = [WriterPrompts().report(label, index, seed=7) for label in (0, 1) for index in range(8)]
    drawn = pipe(reports, seeds=range(16), num_inference_steps=2).class_probabilities[:, 1]
    with torch.no_grad():
        pipe.denoiser.classifier.bias[1] -= torch.logit(drawn.median() + 1e-6)
    return pipe


def test_a_predicted_pool_lists_each_volume_under_the_class_that_was_predicted(torn_pipeline, tiny_subjects, tmp_path):
    pool = build_pool(torn_pipeline, tiny_subjects, tmp_path, labels="predicted", reports=WriterPrompts())
    places, contradicting = {0: 0, 1: 0}, 0
    for label in pool.classes:
        for entry in pool.entries(label):
            assert int(np.argmax(entry["class_probabilities"])) == label
            contradicting += entry["recipe"]["requested_class"] != label
            places[entry["recipe"]["requested_class"]] += 1
    assert places == PER_CLASS == pool.summary()["requested"]
    assert pool.summary()["kept"] == pool.counts != PER_CLASS
    assert pool.doubts()["contradicts"] == contradicting > 0
    assert [pool.subject(label, 0)["label"] for label in pool.classes] == pool.classes


def test_an_agreed_pool_turns_others_down_makes_them_anew_and_reports_the_counts(
    torn_pipeline, tiny_subjects, tmp_path
):
    wanted = {"labels": "agreed", "attempts": 3, "reports": WriterPrompts(), "per_class": {0: 6, 1: 6}}
    pool = build_pool(torn_pipeline, tiny_subjects, tmp_path / "whole", **wanted)
    summary = pool.summary()
    assert summary["requested"] == {0: 6, 1: 6}
    assert sum(summary["turned_down"].values()) > 0
    assert sum(summary["generated"].values()) == sum(summary["turned_down"].values()) + len(pool)
    for label in pool.classes:
        entries = pool.entries(label)
        assert all(np.argmax(e["class_probabilities"]) == label == e["recipe"]["requested_class"] for e in entries)
    assert any(entry["attempt"] for label in pool.classes for entry in pool.entries(label))
    assert len(list((pool.path / "volumes").iterdir())) == len(pool)
    assert all(kept <= 6 for kept in pool.counts.values())
    for part in (1, 0):  # an attempt depends on no other place, so shards agree too
        build_pool(torn_pipeline, tiny_subjects, tmp_path / "parts", shard=(part, 2), **wanted)
    assert tree(tmp_path / "parts") == tree(pool.path)
    before = len(lines(pool))
    assert len(lines(build_pool(torn_pipeline, tiny_subjects, tmp_path / "whole", **wanted))) == before


def test_a_place_without_an_agreed_volume_stays_empty(torn_pipeline, tiny_subjects, tmp_path):
    text = {label: reports[:1] for label, reports in reports_by_class(tiny_subjects).items()}
    pool = build_pool(
        torn_pipeline, tiny_subjects, tmp_path, labels="agreed", attempts=2, reports={0: text[0], 1: text[0]}
    )
    assert len(pool.classes) == 1  # one report is read as one class
    other = 1 - pool.classes[0]
    assert pool.summary()["generated"][other] == 2 * PER_CLASS[other] == pool.summary()["turned_down"][other]


@pytest.mark.parametrize("override_class", [False, True])
def test_a_class_that_the_generator_does_not_have_is_refused_before_a_folder_is_made(build, tmp_path, override_class):
    reports = {0: ["a"], 1: ["b"], 2: ["c"]}
    with pytest.raises(InputError, match=r"class 2.*0 to 1"):
        build(per_class={0: 1, 2: 1}, reports=reports, override_class=override_class)
    assert not list(tmp_path.iterdir())
    assert build(per_class={0: 1, 2: 0}, reports=reports, override_class=override_class).counts == {0: 1}


def test_labels_of_a_generator_that_predicts_none_are_refused(tiny_subjects, tmp_path, tiny_autoencoder):
    pipe = train_ldm(
        tiny_subjects,
        tiny_autoencoder,
        tiny_generator_config(variant="radmaisi"),
        preprocessing=TINY_PREPROCESSING,
        images=["t2w"],
        micro_batch=4,
    )
    with pytest.raises(InputError, match="'radmaisi' predicts no class"):
        build_pool(pipe, tiny_subjects, tmp_path / "pool", labels="agreed", override_class=True)
    assert not (tmp_path / "pool").exists()


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
    header = json.loads((path / HEADER).read_text(encoding="utf-8"))
    (path / HEADER).write_text(json.dumps(header | {"checkpoint": "another"}), encoding="utf-8")
    with pytest.raises(InputError, match="checkpoint differs"):
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
    with pytest.raises(InputError, match=f"{what} differs"):
        build(**changes)


def test_a_class_without_reports_is_refused_before_anything_is_generated(build, tmp_path):
    for reports in ({0: ["a"]}, {0: ["a"], 1: []}):
        with pytest.raises(InputError, match="No report of class 1"):
            build(reports=reports)
    assert not (tmp_path / "pool" / MANIFEST).exists()


def test_steps_that_a_generators_own_schedule_cannot_make_are_refused_before_anything_is_written(
    tiny_pipeline, tiny_subjects, tmp_path
):
    with pytest.raises(InputError, match="steps=950"):
        build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool", sampling=SamplingConfig(steps=950))
    assert not (tmp_path / "pool").exists()
    cosine = copy.copy(tiny_pipeline)
    cosine.scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    with pytest.raises(InputError, match="steps=20"):
        build_pool(cosine, tiny_subjects, tmp_path / "pool", sampling=SamplingConfig(steps=20))
    with pytest.raises(InputError, match="steps=20"):
        cosine.with_scheduler("dpm_solver_sde")([""], seeds=[0], num_inference_steps=20)
    assert not (tmp_path / "pool").exists()


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
    (path / MANIFEST).write_text(json.dumps(entry | {"files": {"t2w": file}}) + "\n", encoding="utf-8")
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
