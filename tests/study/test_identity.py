"""Ids: they follow every setting that changes a result, survive new settings, and tell revisions apart."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import yaml

from synthaug.config import ClassifierConfig, Config, DataConfig, LabelRule, LevelConfig, MeasurementConfig, StudyConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import canonical, content_hash, write_json
from synthaug.ground.seeding import derive_seed
from synthaug.study.folder.earlier import IDENTITY, earlier_cells, tell_earlier_cells, tell_other_revision
from synthaug.study.grid import cells_of
from synthaug.study.identity import classifier_settings, id_of, identify, revisions_of, told
from synthaug.study.introduced import (
    ALWAYS,
    AUTOENCODER,
    CELL,
    DATA,
    GENERATOR,
    POOL,
    PREPROCESS,
    WITHOUT_RESULT,
    Each,
    Maybe,
)
from synthaug.study.records import CellRecord
from synthaug.study.summary.arms import arms_of

SECTIONS = {
    "autoencoder": AUTOENCODER.fields,
    "generator": GENERATOR.fields,
    "pool": POOL.fields,
    "classifier": CELL.fields,
    "preprocess": PREPROCESS,
}


def settings():
    """Every section as plain values, with one element in each list or dictionary of sections."""
    whole = asdict(Config())
    whole["generator"]["levels"] = [asdict(LevelConfig())]
    measured = {"measurements": {"volume": asdict(MeasurementConfig("volume"))}, "label_rule": asdict(LabelRule())}
    measured |= {name: whole["data"][name] for name in ("style", "wordings")}
    return {**{name: whole[name] for name in SECTIONS}, "data": measured}


def paths_of(value, *before):
    """The places of all single values in nested settings."""
    if isinstance(value, dict) and value:
        return [path for name, each in value.items() for path in paths_of(each, *before, name)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return paths_of(value[0], *before, 0)
    return [before]


def changed(value, path):
    """Nested settings with another value at a place."""
    first, *rest = path
    other = changed(value[first], rest) if rest else "another value"
    return [other] if isinstance(value, list) else {**value, first: other}


@pytest.mark.parametrize("path", paths_of(settings()), ids=lambda path: ".".join(map(str, path)))
def test_an_id_follows_every_setting_but_those_that_change_no_result(path):
    section, *rest = path
    fields, before = {**SECTIONS, "data": DATA}[section], settings()[section]
    same = told(before, fields) == told(changed(before, rest), fields)
    assert same is (".".join(map(str, path)) in WITHOUT_RESULT)


def test_a_new_setting_keeps_every_id_until_it_is_set():
    grown = replace(CELL, fields={**CELL.fields, "mixup": 0.0})
    before = classifier_settings(ClassifierConfig())
    assert identify(CELL, before) == identify(grown, before) == identify(grown, {**before, "mixup": 0})
    assert identify(grown, {**before, "mixup": 0.2}) != identify(CELL, before)


SETTINGS_AT_FIRST = "e5cd8cb951d9839c"
"""Hash of the settings that stages had when ids were first made so, with the values they were introduced with."""
ADDED_SINCE = {
    "autoencoder.training.optimizer",
    "classifier.training.optimizer",
    "generator.calibration",
    "generator.training.optimizer",
    "generator.levels.low_frequencies",
    "generator.levels.texture",
    "pool.sampling.epsilon_scale",
    "pool.sampling.guidance_below",
    "pool.sampling.guided_levels",
}
"""Settings that came later: to be listed here, and the hash stays."""


def introduced(fields, *before):
    """The value each setting was introduced with, by its place."""
    if isinstance(fields, Maybe | Each):
        return {
            ".".join((*before, "()")): repr(getattr(fields, "introduced", None)),
            **introduced(fields.fields, *before),
        }
    if isinstance(fields, dict) and fields:
        return {
            place: each for name, under in fields.items() for place, each in introduced(under, *before, name).items()
        }
    return {".".join(before): "always" if fields is ALWAYS else canonical(fields)}


def test_the_values_that_settings_were_introduced_with_never_change():
    """An id leaves them out: with another value there, it would come to mean another result."""
    found = introduced({**SECTIONS, "data": DATA})
    then = content_hash({place: found[place] for place in found if place not in ADDED_SINCE})
    assert then == SETTINGS_AT_FIRST, "list a new setting in ADDED_SINCE; leave the values of the others as they are"


def test_a_setting_with_the_value_it_was_introduced_with_is_left_out():
    assert told(asdict(ClassifierConfig(patience=0)), CELL.fields).get("patience") is None
    assert told(asdict(ClassifierConfig(patience=3)), CELL.fields)["patience"] == 3


@pytest.mark.parametrize("kind", [int, float, np.int64, np.int32, np.uint8, np.float64, np.float32])
def test_equal_numbers_give_one_id_and_one_seed(kind):
    assert id_of({"steps": (kind(3), 0.5)}) == id_of({"steps": [3, 0.5]})
    assert derive_seed("name", kind(3), [kind(3)]) == derive_seed("name", 3, [3])
    made = [
        Config(classifier=ClassifierConfig(pooling=1, class_weights=[each, 2], balance="weighted"))
        for each in (1, kind(1))
    ]
    ids = [[cell.id for cell in cells_of(config, lambda _: ("data", "pool"))] for config in made]
    assert ids[0] == ids[1]


def test_moves_name_a_cell_only_where_they_are_made():
    moved = replace(ClassifierConfig().geometry, shift=1)
    plain, labelled = ClassifierConfig(geometry=moved), ClassifierConfig(geometry=moved, augment="labelled")
    assert classifier_settings(plain) == classifier_settings(ClassifierConfig())
    assert classifier_settings(labelled) != classifier_settings(ClassifierConfig(augment="labelled"))


def a_study(**changes):
    """Cells of real data, and the config they are of."""
    config = Config(study=StudyConfig(regimes=["real"], seeds=[0, 1]), **changes)
    return config, cells_of(config, lambda _: ("data", None))


def finish(out, cell, **changes):
    """A finished cell's file."""
    record = CellRecord(**{**cell.describe(), **changes})
    write_json(out / "cells" / f"{record.id}.json", record.to_json())
    return CellRecord.from_json(record.to_json())


def test_cells_of_another_revision_are_told_and_not_taken_up(tmp_path, capsys):
    _, cells = a_study()
    before = {**cells[0].identity, "revision": 0}
    kept = finish(tmp_path, cells[0], identity=before, id=id_of(before))
    assert id_of(before) != cells[0].id
    assert earlier_cells(tmp_path, cells) == {cells[0].id: kept}
    tell_earlier_cells(tmp_path, cells)
    assert str(tmp_path) in capsys.readouterr().err
    ours = finish(tmp_path, cells[0])
    assert earlier_cells(tmp_path, cells) == {}
    with pytest.raises(InputError, match="revisions"):
        arms_of([kept, replace(ours, seed=1)])


def test_a_record_that_was_not_written_to_its_end_is_passed_over(tmp_path):
    _, cells = a_study()
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / ".999-a.0123456789abcdef.json").write_text("", encoding="utf-8")  # whose bench was killed
    assert earlier_cells(tmp_path, cells) == {}


@pytest.mark.parametrize(("network", "matched"), [("resnet10", True), ("resnet18", False)])
def test_cells_without_a_recorded_identity_are_matched_by_the_recorded_config(tmp_path, network, matched):
    config, cells = a_study()
    recorded = asdict(replace(config, classifier=ClassifierConfig(network=network)))
    del recorded["classifier"]["patience"]  # which that version did not know
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(recorded), encoding="utf-8")
    old = finish(tmp_path, cells[0], identity={}, id="0123456789abcdef")
    assert earlier_cells(tmp_path, cells) == ({cells[0].id: old} if matched else {})
    assert [arm.label for arm in arms_of([old])] == ["real"]


def test_old_cells_of_other_data_are_not_matched(tmp_path):
    config, cells = a_study()
    recorded = asdict(replace(config, data=DataConfig(root="elsewhere")))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(recorded), encoding="utf-8")
    finish(tmp_path, cells[0], identity={}, id="0123456789abcdef")
    assert earlier_cells(tmp_path, cells) == {}


def test_a_stage_of_another_revision_is_told(tmp_path, capsys):
    ours = identify(GENERATOR, asdict(Config())["generator"], train="people")
    theirs = {**ours, "revision": 0}
    write_json(tmp_path / f"generator-{id_of(theirs)}" / IDENTITY, theirs)
    tell_other_revision(tmp_path / "generator-ours", {**ours, "train": "others"})
    assert capsys.readouterr().err == ""
    tell_other_revision(tmp_path / "generator-ours", ours)
    assert id_of(theirs) in capsys.readouterr().err


def test_the_revisions_of_all_stages_behind_a_cell_are_told():
    generator = identify(GENERATOR, {}, autoencoder=identify(AUTOENCODER, {}))
    cell = identify(CELL, {}, pool=identify(POOL, {}, generator=generator), data="a")
    assert revisions_of(cell) == {"cell": 2, "pool": 1, "generator": 2, "autoencoder": 1}
    assert revisions_of({}) == {}
