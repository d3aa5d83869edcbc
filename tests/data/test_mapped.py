"""Preprocessed volumes in mapped files: the same voxels, one file for all who need them, damage noticed."""

import copy
import ctypes
import gc
import hashlib
import json
import logging
import multiprocessing
import pickle
import platform
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
import torchio as tio

import synthaug as sa
from synthaug.classify.training import train_classifier
from synthaug.config import Config, DataConfig, PhantomConfig, PreprocessConfig, SplitConfig, StudyConfig
from synthaug.data.mapped import rows as rows_module
from synthaug.data.mapped.image import MappedImage, release
from synthaug.data.mapped.rows import RowFiles, open_rows
from synthaug.data.mapped.volumes import preprocess_mapped
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import load_manifest, make_subject
from synthaug.ground.errors import InputError
from synthaug.ground.files import _machine
from synthaug.study.running.studies import Studies
from synthaug.study.stages.preparation import Study

SMALL = PreprocessConfig(spacing_mm=(5.0, 5.0, 8.0), shape=(16, 16, 8))
STUDY = replace(
    Config(),
    data=DataConfig(phantom=PhantomConfig(n=24, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))),
    preprocess=SMALL,
    study=StudyConfig(regimes=["real"]),
)


def phantoms(n=6, seed=0):
    return make_subjects(n, seed=seed, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))


def mapped(subjects, folder, config=SMALL, images=("t2w",)):
    return preprocess_mapped(subjects, config, list(images), folder=folder)


def states(folder):
    """What is in a folder: bytes and time of writing of each file."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


def same(one, other, images=("t2w",)):
    return all(
        torch.equal(a[name].data, b[name].data) and np.array_equal(a[name].affine, b[name].affine)
        for a, b in zip(one, other, strict=True)
        for name in images
    )


def read(config, out):
    return Study.read(config, out, lambda name, total: lambda *_: None)


def test_voxels_and_all_other_keys_are_those_of_preprocessing_in_memory(tmp_path):
    subjects = phantoms()
    ours, expected = mapped(subjects, tmp_path), preprocess(subjects, SMALL, ["t2w"])
    assert same(ours, expected)
    for one, other in zip(ours, expected, strict=True):
        assert [*one] == [*other]
        assert all(one[key] == other[key] for key in one if key != "t2w")
        assert one.preprocessing == other.preprocessing
        assert one["t2w"].path == other["t2w"].path
    assert len([*tmp_path.glob("*.npy")]) == 1
    assert np.load(next(tmp_path.glob("*.npy"))).shape == (6, 1, 16, 16, 8)  # NumPy opens it


@pytest.fixture
def files(tmp_path):
    """A manifest of two sequences, the second on a grid of its own."""
    rows = ["subject_id,label,t2w,adc"]
    for number in range(4):
        generator = torch.Generator().manual_seed(number)
        for name, side, spacing in (("t2w", 12, 2.0), ("adc", 8, 3.0)):
            image = tio.ScalarImage(
                tensor=torch.rand(1, side, side, side, generator=generator) * 900,
                affine=np.diag([-spacing, spacing, spacing, 1]),
            )
            image.save(tmp_path / f"{name}{number}.nii.gz")
        rows.append(f"s{number},{number % 2},t2w{number}.nii.gz,adc{number}.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "manifest.csv"


TWO = PreprocessConfig(spacing_mm=(2, 2, 2), shape=(10, 14, 8), ranges={"adc": (0.0, 800.0)})


def test_several_sequences_of_files_keep_their_channels_and_paths(files, tmp_path):
    images, folder = ["t2w", "adc"], tmp_path / "cache"
    subjects = load_manifest(files, images)
    expected = preprocess(subjects, TWO, images)
    for _ in range(2):  # made, then found
        ours = mapped(subjects, folder, TWO, images)
        assert same(ours, expected, images)
        assert ours[1]["adc"].path == files.parent / "adc1.nii.gz"
    assert all(subject["t2w"].get(tio.DATA) is None for subject in subjects)  # the originals are not kept


def test_a_volume_follows_its_image_the_settings_and_what_centres(files, tmp_path):
    images, folder = ["t2w", "adc"], tmp_path / "cache"
    mapped(load_manifest(files, images), folder, TWO, images)

    def rows():
        return sum(len(json.loads(path.read_text(encoding="utf-8"))["rows"]) for path in folder.glob("*.json"))

    assert rows() == 4
    changed = tio.ScalarImage(tensor=torch.rand(1, 12, 12, 12), affine=np.diag([-2.0, 2, 2, 1]))
    changed.save(files.parent / "t2w2.nii.gz")
    subjects = load_manifest(files, images)
    assert same(mapped(subjects, folder, TWO, images), preprocess(subjects, TWO, images), images)
    assert rows() == 5
    moved = tio.ScalarImage(tensor=changed.data, affine=np.diag([-2.1, 2, 2, 1]))
    moved.save(files.parent / "t2w2.nii.gz")  # the same voxels, placed otherwise
    mapped(load_manifest(files, images), folder, TWO, images)
    assert rows() == 6
    subjects, wider = load_manifest(files, images), replace(TWO, percentiles=(0.0, 100.0))
    assert same(mapped(subjects, folder, wider, images), preprocess(subjects, wider, images), images)
    assert rows() == 10
    preprocess_mapped(subjects, TWO, images, folder=folder, centred_by="another network")
    assert rows() == 14


def test_an_image_that_changes_while_it_is_read_is_refused(files, tmp_path):
    subjects = load_manifest(files, ["t2w", "adc"])
    tio.ScalarImage(tensor=torch.rand(1, 12, 12, 12)).save(files.parent / "t2w3.nii.gz")
    with pytest.raises(InputError, match="s3: an image was changed while it was read"):
        mapped(subjects, tmp_path / "out/cache", TWO, ["t2w", "adc"])
    assert not (tmp_path / "out").exists()


def test_a_second_study_maps_the_file_of_the_first_and_writes_nothing(tmp_path):
    first = read(STUDY, tmp_path)
    folder = tmp_path / "cache/volumes"
    before = states(folder)
    second = read(STUDY, tmp_path)
    assert states(folder) == before
    assert len(before) == 2
    assert second.part_ids == first.part_ids
    assert {s["t2w"].file for s in second.split.subjects()} == {s["t2w"].file for s in first.split.subjects()}


def test_cohorts_share_the_volumes_of_the_patients_that_they_share(tmp_path):
    """Nested training sets and folds: each patient's volume is written once."""
    nested = replace(STUDY, study=StudyConfig(regimes=["real"], axes={"split.train": [4, 12]}))
    studies = Studies(tmp_path, lambda name, total: lambda *_: None)
    studies.read(nested)
    folds = replace(STUDY, split=SplitConfig(folds=2), study=StudyConfig(axes={"split.fold": [0, 1]}))
    studies.read(replace(folds, study=replace(folds.study, regimes=["real"])))
    written = [
        json.loads(path.read_text(encoding="utf-8"))["rows"] for path in (tmp_path / "cache/volumes").glob("*.json")
    ]
    keys = [row["key"] for rows in written for row in rows]
    assert len(keys) == len(set(keys)) == 24
    tested = [[subject["t2w"].data.data_ptr() for subject in study.split.test] for study in studies]
    assert tested[0] == tested[1]  # the nested ones


@pytest.mark.parametrize("damage", ["byte", "short", "absent", "index", "no JSON", "row"])
def test_damaged_files_are_told_of_in_one_sentence_and_made_again(damage, tmp_path, caplog):
    subjects = phantoms()
    expected = preprocess(subjects, SMALL, ["t2w"])
    mapped(subjects, tmp_path)
    before = {name: content for name, (content, _) in states(tmp_path).items()}
    [voxels], [index] = tmp_path.glob("*.npy"), tmp_path.glob("*.json")
    content = bytearray(voxels.read_bytes())
    if damage == "byte":
        content[-5] ^= 1
        voxels.write_bytes(content)
    elif damage == "short":
        voxels.write_bytes(content[:-100])
    elif damage == "absent":
        voxels.unlink()
    elif damage == "no JSON":
        index.write_text("{", encoding="utf-8")
    else:
        told = json.loads(index.read_text(encoding="utf-8"))
        told = {"rows": []} if damage == "index" else told | {"rows": [{}] * len(told["rows"])}
        index.write_text(json.dumps(told), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert same(mapped(subjects, tmp_path), expected)
    [message] = [record.getMessage() for record in caplog.records]
    assert message.endswith("what it holds is made again.")
    assert voxels.stem in message
    assert {name: content for name, (content, _) in states(tmp_path).items()} == before
    caplog.clear()
    mapped(subjects, tmp_path)
    assert not caplog.records


def test_what_is_refused_leaves_nothing_and_is_told_as_before(tmp_path):
    subjects = phantoms(3)
    affine = np.diag([5.0, 5, 8, 1])
    affine[:3, 3] = 1e4
    spot = torch.zeros(1, 40, 40, 40)
    spot[0, :4, :4, :4] = torch.rand(4, 4, 4)
    subjects.append(
        make_subject({"t2w": tio.ScalarImage(tensor=spot, affine=affine)}, label=0, subject_id="far", patient_id="far")
    )
    wide = replace(SMALL, percentiles=(0.0, 100.0))
    messages = []
    for make in (preprocess, lambda *given: preprocess_mapped(*given, folder=tmp_path / "out/cache/volumes")):
        with pytest.raises(InputError, match="far: image 't2w' is constant") as refused:
            make(subjects, wide, ["t2w"])
        messages.append(str(refused.value))
    assert messages[0] == messages[1]
    assert [*tmp_path.iterdir()] == []


def test_remarks_are_said_whether_a_volume_is_made_or_found(tmp_path, caplog):
    spike = torch.rand(1, 12, 12, 12)
    spike[0, 3, 3, 3] = 1000
    image = tio.ScalarImage(tensor=spike)
    subject = make_subject({"t2w": image}, label=0, subject_id="spiked", patient_id="spiked")
    config = PreprocessConfig(spacing_mm=(1, 1, 1), shape=(12, 12, 12), percentiles=(0, 100))
    told = []
    for make in (preprocess, *[lambda *given: preprocess_mapped(*given, folder=tmp_path)] * 2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            make([subject], config, ["t2w"])
        told.append([record.getMessage() for record in caplog.records])
    assert told[0] == told[1] == told[2]
    assert told[0][0].startswith("spiked")


class InPlace(tio.Transform):
    """Writes into the voxels that it is given, as a careless transform does."""

    def apply_transform(self, subject):
        subject["t2w"].data.mul_(0).add_(7)
        return subject


def test_the_file_is_untouched_after_augmentation_and_training(tmp_path):
    study = read(STUDY, tmp_path)
    folder = tmp_path / "cache/volumes"
    before, voxels = states(folder), [s["t2w"].data.clone() for s in study.split.train]
    subjects = study.split.train
    for transform in (tio.RandomAffine(), tio.RandomNoise(), tio.RandomFlip(flip_probability=1.0), InPlace()):
        changed = transform(subjects[0])
        assert type(changed["t2w"]) is tio.ScalarImage
        assert not torch.equal(changed["t2w"].data, voxels[0])
    sampler = sa.SyntheticSampler(subjects, None, batch_size=4)
    for _ in sampler.loader(transform=InPlace(copy=False)):
        pass
    training = replace(STUDY.classifier.training, steps=2, warmup=0, batch_size=4)
    train_classifier(
        sampler.loader(),
        study.split.val,
        replace(STUDY.classifier, channels=(4, 4, 8, 8), training=training),
        images=["t2w"],
        shape=SMALL.shape,
        seed=0,
        class_counts={0: 1, 1: 1},
    )
    assert all(torch.equal(s["t2w"].data, kept) for s, kept in zip(subjects, voxels, strict=True))
    # Even what is written to the mapped tensor itself stays in this process.
    subjects[0]["t2w"].data.mul_(0)
    release(subjects)
    assert states(folder) == before
    assert open_rows(next(folder.glob("*.json"))).path.read_bytes() == next(folder.glob("*.npy")).read_bytes()


def test_a_copy_is_a_plain_image_of_its_own(tmp_path):
    [subject] = mapped(phantoms(2)[:1], tmp_path)
    deep, flat = copy.deepcopy(subject), copy.copy(subject["t2w"])
    assert type(deep["t2w"]) is type(flat) is tio.ScalarImage
    assert deep["t2w"].data.data_ptr() != subject["t2w"].data.data_ptr() == flat.data.data_ptr()
    assert deep.t2w is deep["t2w"]
    assert deep["t2w"].data.untyped_storage().nbytes() == 4 * 16 * 16 * 8  # not the whole file
    subject["t2w"].set_data(torch.zeros(1, 16, 16, 8))
    assert not pickle.loads(pickle.dumps(subject))["t2w"].data.any()


def test_a_pickled_image_is_its_place_in_the_file(tmp_path):
    subjects = mapped(phantoms(), tmp_path)
    sent = pickle.dumps(subjects[2]["t2w"])
    assert len(sent) < 2000 < 4 * 16 * 16 * 8
    found = pickle.loads(sent)
    assert isinstance(found, MappedImage)
    assert found.data.data_ptr() == subjects[2]["t2w"].data.data_ptr()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_the_same_voxels(context, tmp_path):
    subjects = mapped(phantoms(), tmp_path)
    assert len(ForkingPickler.dumps(tio.SubjectsDataset(subjects))) < 6 * 4000  # no voxels are sent, as bytes or shared
    loader = tio.SubjectsLoader(
        tio.SubjectsDataset(subjects), batch_size=3, num_workers=1, multiprocessing_context=context, shuffle=False
    )
    batches = [batch["t2w"][tio.DATA] for batch in loader]
    assert torch.equal(torch.cat(batches), torch.stack([subject["t2w"].data for subject in subjects]))
    assert all(type(subject["t2w"]) is MappedImage for subject in subjects)  # sending them changed nothing here


def test_processes_that_write_at_once_leave_one_file(tmp_path):
    """Two at once, in five folders."""
    subjects = phantoms(4)
    expected = preprocess(subjects, SMALL, ["t2w"])
    fork = multiprocessing.get_context("fork")

    def work(folder, barrier, answers):
        torch.set_num_threads(1)
        barrier.wait(60)
        answers.put(same(mapped(subjects, folder), expected))

    for turn in range(5):
        answers, barrier = fork.SimpleQueue(), fork.Barrier(2)
        children = [fork.Process(target=work, args=(tmp_path / str(turn), barrier, answers)) for _ in range(2)]
        for child in children:
            child.start()
        assert [answers.get() for _ in children] == [True, True]
        for child in children:
            child.join(60)
        assert len([*(tmp_path / str(turn)).iterdir()]) == 2


def test_what_a_killed_process_was_writing_is_neither_read_nor_kept(tmp_path, caplog):
    left = tmp_path / f".{2**31}-{_machine()}-0123abcd.0123456789abcdef.json"
    left.write_text("{", encoding="utf-8")
    assert RowFiles(tmp_path).find(["a"]) == {}
    assert left.exists()
    mapped(phantoms(2), tmp_path)
    assert not left.exists()
    assert not caplog.records


def test_where_files_cannot_be_mapped_each_volume_is_read(tmp_path, monkeypatch):
    def refuse(*arguments, **named):
        raise OSError("this file system maps no files")

    subjects = phantoms()
    monkeypatch.setattr(rows_module.mmap, "mmap", refuse)
    ours = mapped(subjects, tmp_path)
    assert ours[0]["t2w"].file._map is None
    assert same(ours, preprocess(subjects, SMALL, ["t2w"]))
    release(ours)
    assert same(pickle.loads(pickle.dumps(ours)), ours)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises((InputError, NotADirectoryError, FileExistsError)):
        mapped(phantoms(2), tmp_path / "file/cache")


def anonymous():
    """MB that this process has allocated and not freed."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="memory is read from /proc, after glibc gave back what is free"
)
def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path):
    """64 volumes of 1 MB: in memory they are held, in files one at a time."""

    def rows():
        for number in range(64):
            yield torch.full((1, 64, 64, 64), float(number)), {}

    files, keys = RowFiles(tmp_path), [str(number) for number in range(64)]
    before = anonymous()
    files.write(keys, (1, 64, 64, 64), rows())
    found = files.find(keys)
    tensors = [found[key].values(0) for key in keys]
    assert [int(tensor.mean()) for tensor in tensors] == [*range(64)]
    assert anonymous() - before < 16
    kept = [tensor.clone() for tensor in tensors]
    assert anonymous() - before > 60  # the measure sees what is held
    del kept


def test_a_file_larger_than_memory_is_mapped(tmp_path):
    """The kernel refuses private maps that are larger than memory unless none of it is reserved."""
    size = 2**37  # 128 GiB, of which the file system stores a page or two
    rows = size // 2**32
    with (tmp_path / "a.npy").open("wb") as stream:
        try:
            stream.truncate(size)
        except OSError:
            pytest.skip("this file system has no files of that size")
    told = {"offset": 0, "shape": [1, 1024, 1024, 1024], "rows": [{"key": str(n)} for n in range(rows)]}
    (tmp_path / "a.json").write_text(json.dumps(told), encoding="utf-8")
    file = open_rows(tmp_path / "a.json")
    assert file._map is not None
    assert file.read(rows - 1, 0)[0, -1, -1, -1] == 0
