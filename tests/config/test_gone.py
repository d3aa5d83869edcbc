"""Files of earlier versions name settings that are gone; they still open, unless they asked for what is gone."""

import pytest
import yaml

from synthaug.bench.options.parsing import read_config
from synthaug.generate.training.continuing import levels_from_record
from synthaug.ground.errors import InputError

LEVELS = [{"pooling": 4, "low_frequencies": 4}, {"pooling": 1, "patch": 2, "texture": 2}]


def of_before(amplitudes):
    return [{**level, "amplitudes": amplitudes} for level in LEVELS]


def opened(folder, levels):
    path = folder / "config.yaml"
    settings = {"generator": {"levels": levels}, "study": {"axes": {"generator.levels": [levels]}}}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return read_config(["--config", str(path)], exits=False)


def test_an_old_config_opens_as_one_without_the_setting(tmp_path):
    found = opened(tmp_path, of_before(amplitudes=False))
    assert found == opened(tmp_path, LEVELS)
    assert [level.low_frequencies for level in found.generator.levels] == [4, 0]
    assert found.study.axes == {"generator.levels": [LEVELS]}


def test_an_old_config_that_asked_for_what_is_gone_is_refused(tmp_path):
    with pytest.raises(InputError, match="amplitudes"):
        opened(tmp_path, of_before(amplitudes=True))
    with pytest.raises(InputError, match="amplitudes"):
        opened(tmp_path, [*of_before(amplitudes=True)[:1], *of_before(amplitudes=False)[1:]])


def test_the_levels_of_an_old_record_are_those_without_the_setting():
    network = {"denoiser": {"channels": [32], "attention": [False]}}
    record = {"generator": {"levels": [{**level, **network} for level in of_before(amplitudes=False)]}}
    assert [level.pooling for level in levels_from_record(record)] == [4, 1]
    record["generator"]["levels"][0]["amplitudes"] = True
    with pytest.raises(InputError, match="amplitudes"):
        levels_from_record(record)
