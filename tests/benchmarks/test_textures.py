"""Textures are added to the finest level of a trained cascade, and the other levels stay as they are."""

import copy

import pytest
import torch
import yaml
from tiny_study import STUDY

from synthaug.bench.commands import run_command
from synthaug.generate.pipeline import CCELLAPipeline

SEEDS, REPORTS = [1, 2], ["no lesion"] * 2


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return path


def test_the_finest_level_alone_is_trained_on_and_told_textures(config_file, import_script, tmp_path):
    assert run_command("train-ldm", ["--config", str(config_file), "--out", str(tmp_path / "before")]) == 0
    [folder] = (path for path in (tmp_path / "before").glob("generator-*") if path.is_dir())
    told = copy.deepcopy(STUDY)
    told["generator"]["levels"][1]["texture"] = 2
    config_file.write_text(yaml.safe_dump(told), encoding="utf-8")
    words = ["--pipeline", str(folder), "--config", str(config_file), "--steps", "2", "--rate", "0.01"]
    import_script("builtin", "textures").main([*words, "--out", str(tmp_path / "out")])
    before, after = (CCELLAPipeline.from_pretrained(path) for path in (folder, tmp_path / "out" / "textured"))
    old, new = before.denoiser.state_dict(), after.denoiser.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert all(name.startswith("finer.0.") for name in changed)
    assert {name.rpartition("texture.")[0] for name in new.keys() - old.keys()} == {"finer.0."}
    assert new["finer.0.texture.directions"].any()
    assert after.record["generator"]["levels"][1]["texture"] == 2
    assert set(before.record["patients"]) <= set(after.record["patients"])
    for pipeline in (before, after):
        pipeline.set_progress_bar_config(disable=True)
    coarse = [pipeline(REPORTS, seeds=SEEDS, num_inference_steps=1, levels=1).volumes for pipeline in (before, after)]
    assert torch.equal(*coarse)
