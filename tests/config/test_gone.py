"""Files of earlier versions name settings that are gone; they still open, unless they asked for what is gone."""

import pytest
import yaml

from synthaug.bench.options.parsing import read_config
from synthaug.generate.training.continuing import levels_from_record
from synthaug.ground.errors import InputError

LEVELS = [{"pooling": 4, "amplitudes": False}, {"pooling": 1, "patch": 2, "amplitudes": False}]


def written(folder, levels):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"generator": {"levels": levels}}), encoding="utf-8")
    return ["--config", str(path)]


def test_an_old_config_opens_as_one_without_the_setting(tmp_path):
    now = [{name: value for name, value in level.items() if name != "amplitudes"} for level in LEVELS]
    assert read_config(written(tmp_path, LEVELS)) == read_config(written(tmp_path, now))


def test_an_old_config_that_asked_for_what_is_gone_is_refused(tmp_path):
    with pytest.raises(InputError, match="amplitudes"):
        read_config(written(tmp_path, [{**LEVELS[0], "amplitudes": True}, LEVELS[1]]), exits=False)


def test_the_levels_of_an_old_record_are_those_without_the_setting():
    record = {
        "generator": {"levels": [{**level, "denoiser": {"channels": [32], "attention": [False]}} for level in LEVELS]}
    }
    assert [level.pooling for level in levels_from_record(record)] == [4, 1]
    record["generator"]["levels"][0]["amplitudes"] = True
    with pytest.raises(InputError, match="amplitudes"):
        levels_from_record(record)
