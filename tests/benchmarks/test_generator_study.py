"""The study of the default generator: bands and slopes as by hand, samplers of like cost, folds judged together."""

from copy import copy
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY_PREPROCESSING
from taps_wheel import Threshold, ball

from synthaug.config import Config, DataConfig, PreprocessConfig, SamplingConfig
from synthaug.data.splits import Split
from synthaug.models.extractors.taps import measure_glands_ml


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/generator")


def test_each_pattern_lies_in_its_band(script):
    bands = script("calibration").bands
    signs = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1)
    whole = signs.expand(2, 1, 8, 8, 8)
    assert bands(whole) == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    places = torch.arange(8)
    chequered = (-1.0) ** (places[:, None, None] + places[:, None] + places)
    assert bands(signs * chequered) == pytest.approx([0.0, 0.0, 1.0], abs=1e-3)
    assert bands(2 * whole)[0] == pytest.approx(2.0)


def test_a_denoiser_that_halves_has_a_slope_of_two(script):
    slope = script("calibration").slope
    latents = torch.randn(6, 1, 2, 2, 2) + 5
    assert slope(latents, latents / 2 + 3) == pytest.approx(2.0)


def test_slopes_are_told_of_every_level(script, tiny_cascade, tiny_subjects):
    calibration = script("calibration")
    config = Config(preprocess=TINY_PREPROCESSING)
    found = calibration.slopes(tiny_cascade, config, Split(tiny_subjects, [], []))
    assert [(each["level"], each["sigma"]) for each in found] == [
        (level, sigma) for level in range(2) for sigma in calibration.SIGMAS
    ]
    # Hardly any noise: D has only to keep what it is given.
    assert found[0]["slope"] == pytest.approx(1.0, abs=0.05)


def test_samplers_of_a_budget_cost_alike(script):
    samplers = script("samplers")
    for evaluations, group in samplers.BUDGETS.items():
        assert len(set(group)) == len(group)
        for each in group:
            assert each.steps * (2 if each.scheduler == "heun" else 1) == evaluations


def test_volumes_are_drawn_by_every_setting_of_the_config(script, tiny_cascade):
    evaluate = script("evaluate")
    prompts = SimpleNamespace(reports=["PI-RADS 1.", "PI-RADS 5."], labels=[0, 1])
    changes = [{}, {"epsilon_scale": 1.3}, {"scheduler": "dpm_solver"}, {"steps": 3}]
    drawn = []
    for change in changes:
        sampling = SamplingConfig(**{"steps": 2, **change})
        found, rows = evaluate.draw_as(copy(tiny_cascade), prompts, 2, sampling, seed=0)
        assert rows.tolist() == [0, 1]
        drawn.append(found.volumes)
    for place, change in enumerate(changes[1:], start=1):
        assert not torch.equal(drawn[0], drawn[place]), change


def a_fold(number, volumes):
    """The held-out patients of a fold, one volume each."""
    names = [f"{number}-{place}" for place in range(len(volumes))]
    return SimpleNamespace(volumes=volumes, names=names, people=np.array(names))


def test_volumes_of_all_folds_stay_with_the_patients_who_prompted_them(script, tmp_path):
    evaluate, folds = script("evaluate"), script("pool_folds")
    cohorts = [a_fold(fold, [torch.full((1, 4, 4, 4), float(fold))] * size) for fold, size in enumerate((3, 2))]
    kept = []
    for fold, cohort in enumerate(cohorts):
        rows = np.arange(4) % len(cohort.volumes)
        evaluate.keep(tmp_path / f"{fold}.npz", [cohort.volumes[row] + row / 10 for row in rows], rows)
        with np.load(tmp_path / f"{fold}.npz") as stored:
            kept.append((stored["volumes"], stored["rows"]))
    everyone = folds.Everyone(cohorts, kept)
    assert [everyone.names[row] for row in everyone.rows] == ["0-0", "0-1", "0-2", "0-0", "1-0", "1-1", "1-0", "1-1"]
    assert [volume[0, 0, 0, 0].item() for volume in everyone.synthetic] == pytest.approx(
        [0, 0.1, 0.2, 0, 1, 1.1, 1, 1.1]
    )


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.7, 1.4), (1.0, 2.0, 1e3)])
def test_halves_of_patients_tell_a_shift_from_none(script, shift, low, high):
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(400, 3)), rng.normal(size=(1200, 3)) + shift
    everyone = SimpleNamespace(people=np.arange(400), rows=np.arange(1200) % 400)
    found = script("pool_folds").halves(everyone, real, synthetic, seed=0)
    assert low < found["ratio"] < high
    assert found["n"] == 200


def test_glands_are_compared_with_what_was_asked_where_something_was(script, monkeypatch, tmp_path):
    folds = script("pool_folds")
    monkeypatch.setattr(folds, "measure_glands_ml", partial(measure_glands_ml, network=Threshold()))
    radii, spacing = (7, 9, 11, 13), (1.0, 1.0, 3.0)
    drawn = [ball((40, 40, 16), spacing, radius_mm=radius) for radius in radii]
    # The last patient's gland was not measured.
    asked = [round(4 / 3 * np.pi * radius**3 / 1000, 1) for radius in radii[:3]] + [""]
    lines = ["subject_id,gland_ml", *(f"0-{place},{value}" for place, value in enumerate(asked))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    config = Config(data=DataConfig(root=str(tmp_path)), preprocess=PreprocessConfig(spacing_mm=spacing))
    upright = folds.Everyone([a_fold(0, drawn)], [(torch.stack(drawn).numpy(), np.arange(4))])
    found = folds.glands(config, upright, "gland_ml", seed=0)
    read = {side: found[side]["logit_0"] for side in ("real", "synthetic")}
    assert {side: (each["n"], each["spearman"]) for side, each in read.items()} == {
        "real": (3, pytest.approx(1)),
        "synthetic": (3, pytest.approx(1)),
    }
    turned = folds.Everyone([a_fold(0, drawn)], [(torch.stack(drawn[2::-1]).numpy(), np.arange(3))])
    against = folds.glands(config, turned, "gland_ml", seed=0)["synthetic"]
    assert [each["spearman"] for each in against.values()] == pytest.approx([-1, -1])


def test_the_logit_of_a_gland_is_fitted_on_other_peoples_real_volumes(script):
    # At the second logit all glands but the last person's have their true volume.
    people = np.repeat([str(number) for number in range(10)], 2)
    measured = np.linspace(20, 80, 20)
    outlined = np.stack([measured / 2, measured, measured * 2], axis=1)
    outlined[-2:] = 1e4
    chosen = script("pool_folds").fit_logits(outlined, measured, people)
    assert set(chosen) == set(people)
    assert chosen["9"] == 1  # where the wild volumes are left out
    others = {place for person, place in chosen.items() if person != "9"}
    assert others != {1}  # where they are not
