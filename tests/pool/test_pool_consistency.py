"""A pool whose files contradict each other is refused when it is opened, or where the bytes are read, and named."""

import json
import os
import shutil

import pytest
from small_pool import build_pool, tree

from synthaug.classify.weights import SavedClassifier, require_whole, save_classifier
from synthaug.config import ClassifierConfig, PreprocessConfig
from synthaug.ground.errors import InputError
from synthaug.models.classifier import build_classifier
from synthaug.pool.ledger import HEADER, MANIFEST, Ledger, _append_line
from synthaug.pool.pool import SyntheticPool


@pytest.fixture(scope="module")
def whole(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("consistency") / "pool")


@pytest.fixture
def pool(whole, tmp_path):
    """A copy to be spoilt."""
    return SyntheticPool.open(shutil.copytree(whole.path, tmp_path / "pool"))


def entries(pool):
    return [json.loads(line) for line in (pool.path / MANIFEST).read_text(encoding="utf-8").splitlines()]


def write(pool, lines):
    (pool.path / MANIFEST).write_text(
        "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines), encoding="utf-8"
    )


def test_a_torn_line_in_the_middle_is_named_and_made_again(pool, whole, tiny_pipeline, tiny_subjects):
    lines = (pool.path / MANIFEST).read_text(encoding="utf-8").splitlines()
    (pool.path / MANIFEST).write_text("\n".join([lines[0], lines[1][:-40], *lines[2:], ""]), encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        SyntheticPool.open(pool.path)
    assert tree(build_pool(tiny_pipeline, tiny_subjects, pool.path).path) == tree(whole.path)


def test_a_line_that_a_killed_builder_left_without_its_end_is_replaced_by_the_next(pool):
    path = pool.path / MANIFEST
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:-40])
    _append_line(path, lines[-1].decode().rstrip("\n"))
    assert path.read_bytes() == b"".join(lines)


LIES = {
    "has label 7": lambda lines: lines[0].update(label=7),
    "has label 1": lambda lines: lines[0].update(label=1),
    "has label '0'": lambda lines: lines[0].update(label="0"),
    "has index -1": lambda lines: lines[0].update(index=-1),
    "stands there twice": lambda lines: lines[1].update(id=lines[0]["id"]),
    "stand at one place": lambda lines: lines[1].update(index=lines[0]["index"]),
    "has the images": lambda lines: lines[0].update(files={"adc": lines[0]["files"]["t2w"]}),
    "no SHA-256": lambda lines: lines[0].update(sha256={"t2w": "0"}),
    "is not an entry": lambda lines: lines[0].update(recipe="DDPM"),
}


@pytest.mark.parametrize("what", LIES)
def test_a_manifest_that_contradicts_itself_is_refused_when_the_pool_is_opened(pool, what):
    lines = entries(pool)
    LIES[what](lines)
    write(pool, lines)
    with pytest.raises(InputError, match=what) as refusal:
        SyntheticPool.open(pool.path)
    assert MANIFEST in str(refusal.value)


def test_swapped_hashes_and_a_changed_recipe_are_found_where_the_volume_is_read(pool):
    lines = entries(pool)
    lines[0]["sha256"], lines[1]["sha256"] = lines[1]["sha256"], lines[0]["sha256"]
    lines[2]["recipe"]["report"] = "Another report."
    write(pool, lines)
    spoilt = SyntheticPool.open(pool.path)
    for index in (0, 1):
        with pytest.raises(InputError, match=lines[index]["id"]):
            spoilt.subject(0, index)["t2w"].load()
    with pytest.raises(InputError, match=lines[2]["id"]):
        spoilt.subject(0, 2)
    with pytest.raises(InputError, match=lines[2]["id"]):
        spoilt.verify()


@pytest.mark.parametrize("header", [[], {}, {"images": "t2w"}, {"images": ["t2w"], "shape": [1, 2]}])
def test_a_header_that_is_none_is_named(pool, header):
    (pool.path / HEADER).write_text(json.dumps(header), encoding="utf-8")
    with pytest.raises(InputError, match=HEADER):
        SyntheticPool.open(pool.path)


def test_a_classifier_whose_weights_were_cut_is_named(tmp_path):
    path = tmp_path / "cell.safetensors"
    config, shape = ClassifierConfig(channels=(4, 4, 8, 8)), (16, 16, 8)
    network = build_classifier(config, in_channels=1, classes=2, shape=shape, seed=0)
    save_classifier(path, SavedClassifier(network, config, PreprocessConfig(shape=shape), ["t2w"], classes=2))
    require_whole(path)
    for size in (path.stat().st_size - 1, 2, 0):
        os.truncate(path, size)
        with pytest.raises(InputError, match=path.name):
            require_whole(path)
    path.unlink()
    require_whole(path)  # a folder of before weights were kept


def test_a_volume_that_was_made_again_stands_twice_and_once(pool):
    write(pool, [*entries(pool), entries(pool)[0]])
    assert len(SyntheticPool.open(pool.path)) == 8
    ledger = Ledger(pool.path)
    ledger.refresh()
    ledger.close()
    assert ledger.torn == []


@pytest.mark.parametrize(
    "change",
    [
        {"trained_on_patients": None},
        {"trained_on_patients": [3]},
        {"prompts": True},
        {"prompts": {"policy": "training", "patients": 3}},
        {"labels": "best"},
        {"override_class": "no"},
        {"preprocessing": "x"},
        {"preprocessing": {"shape": 16, "spacing_mm": [1, 1, 1]}},
        {"shape": [16, 16, "8"]},
        {"images": ["t2w", "t2w"]},
    ],
    ids=str,
)
def test_a_header_that_was_damaged_is_named(pool, change):
    path = pool.path / HEADER
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(InputError, match=f"{HEADER}: {next(iter(change))}"):
        SyntheticPool.open(pool.path)
