"""The scorecard of a pool: seven criteria, each entry a figure or what is needed for it, as a page and as JSON."""

import json
import re

import pytest
from conftest import IMAGES, TINY_PREPROCESSING
from small_pool import build_pool, plant

from synthaug.bench.commands import main
from synthaug.classify.weights import SavedClassifier
from synthaug.config import ClassifierConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.ground.errors import InputError
from synthaug.models.classifier import build_classifier
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.prompts import TrainingPrompts
from synthaug.pool.review.criteria import CRITERIA
from synthaug.pool.review.scorecard import RealSide, score_pool


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    return build_pool(tiny_pipeline, [], folder, reports=TrainingPrompts(tiny_subjects), per_class={0: 3, 1: 6})


@pytest.fixture(scope="module")
def held_out():
    raw = make_subjects(14, seed=5, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    return preprocess(raw, TINY_PREPROCESSING, IMAGES)


def entries_of(card):
    return {entry.name: entry for entry in card.entries}


def test_without_anything_else_the_pool_tells_what_it_knows_and_what_is_needed(pool):
    card = score_pool(pool)
    found = entries_of(card)
    assert [name for name in CRITERIA if card.of(name)] == list(CRITERIA)
    assert all((entry.value is None) == bool(entry.needs) for entry in card.entries)
    assert (found["filled"].value, found["whole"].value, found["own_recipe"].value) == (1, 1, 1)
    assert found["class_balance"].value == 0.5
    assert found["intensities"].value == 1
    assert 0 <= found["class_read"].value <= 1
    missing = {name for name, entry in found.items() if entry.needs}
    real = {"fid", "kid", "recall", "coverage", "precision", "realism", "similarity", "copies", "distance_by_class"}
    assert missing == real | {"class_seen", "cut_reports", "licence", "model_card", "membership"}


def test_real_volumes_generator_and_classifier_fill_the_rest(pool, tiny_pipeline, tiny_subjects, held_out):
    config = ClassifierConfig(channels=(4, 4, 8, 8))
    network = build_classifier(config, in_channels=1, classes=2, shape=(16, 16, 8), seed=0)
    auditor = SavedClassifier(network.eval(), config, TINY_PREPROCESSING, IMAGES, classes=2)
    real = RealSide(held_out, tiny_subjects)
    card = score_pool(pool, real=real, generator=tiny_pipeline, auditor=auditor, resamples=20)
    found = entries_of(card)
    missing = {name for name, entry in found.items() if entry.needs}
    # Nine synthetic volumes: too few to judge realism by, or for shares of neighbours.
    assert missing == {"realism", "membership", "recall", "coverage", "precision", "distance_by_class"}
    assert found["fid"].low <= found["fid"].value <= found["fid"].high
    assert found["fid"].reference is not None
    assert found["class_seen"].low <= found["class_seen"].value <= found["class_seen"].high
    assert found["copies"].reference == 0.01
    assert found["licence"].value == "none recorded"
    assert found["training_patients"].value.startswith("12 ")


def test_a_generator_that_did_not_draw_the_pool_and_an_altered_volume_are_refused(
    pool, tiny_cascade, tiny_pipeline, tiny_subjects, tmp_path
):
    with pytest.raises(InputError, match="was drawn by generator"):
        score_pool(pool, generator=tiny_cascade)
    other = build_pool(tiny_pipeline, [], tmp_path, reports=TrainingPrompts(tiny_subjects), per_class={0: 1, 1: 1})
    plant(other, other.entries(1)[0], tiny_subjects[0]["t2w"].data)
    (tmp_path / other.entries(0)[0]["files"]["t2w"]).write_bytes(b"")
    with pytest.raises(InputError):
        score_pool(SyntheticPool.open(tmp_path))


def test_the_command_writes_a_page_without_network_and_json(pool, tmp_path, capsys):
    assert main(["pool", "card", str(pool.path), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    told = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert list(told["criteria"]) == list(CRITERIA)
    assert str(pool.path) not in json.dumps(told)
    page = (tmp_path / "card.html").read_text(encoding="utf-8")
    for criterion in told["criteria"].values():
        for entry in criterion["entries"]:
            assert entry["name"].replace("_", " ") in page
    assert set(re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', page)) == {"https://doi.org/10.1038/s44172-025-00450-1"}
    assert "<script" not in page


def test_the_command_compares_with_the_data_of_a_study(pool, tmp_path, capsys):
    data = ["--data.phantom.n", "24", "--data.phantom.shape", "[16,16,8]", "--data.phantom.spacing_mm", "[5,5,8]"]
    words = ["pool", "card", str(pool.path), *data, "--data.phantom.seed", "9", "--out", str(tmp_path)]
    assert main(words) == 0, capsys.readouterr().err
    told = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    (fid,) = [entry for entry in told["criteria"]["congruence"]["entries"] if entry["name"] == "fid"]
    assert fid["value"] > 0
    assert told["facts"]["real volumes"] > 0
    out = tmp_path / "refused"
    assert main(["pool", "card", str(pool.path), "--data.images", "[adc]", "--out", str(out)]) == 2
    assert not out.exists()


def test_the_config_of_a_whole_study_tells_whom_a_pool_is_compared_with(pool, tmp_path, capsys):
    config = tmp_path / "study.yaml"
    phantoms = "data: {phantom: {n: 24, shape: [16, 16, 8], spacing_mm: [5, 5, 8], seed: 9}}\n"
    other = "pool: {per_class: 4}\ngenerator: {variant: ccella}\nclassifier: {network: resnet10}\n"
    config.write_text(phantoms + other, encoding="utf-8")
    words = ["pool", "card", str(pool.path), "--config", str(config), "--out", str(tmp_path)]
    assert main(words) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))["facts"]["real volumes"] > 0
