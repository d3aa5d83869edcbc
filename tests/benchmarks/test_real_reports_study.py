"""The study of real reports: findings, readers and likenesses as counted by hand, and every file from faked draws."""

import doctest
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchio as tio
from taps_wheel import real_data

from synthaug.data.reading.manifest import load_manifest
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.models.text_encoder import build_text_encoder

FOLDER = Path(__file__).parents[2] / "benchmarks" / "studies" / "real_reports"
MODULES = ["prepare", "draw", "findings", "detectable", "text_alone", "following", "auditors", "figures"]
SMALL = ["--preprocess.shape", "[16, 16, 8]", "--preprocess.spacing_mm", "[1, 1, 1]"]


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/real_reports")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(script, name):
    assert doctest.testmod(script(name)).failed == 0


def test_both_encoders_share_everything_but_the_encoder(script):
    draw = script("draw")
    one, other = (draw.config_of(encoder, 2) for encoder in draw.ENCODERS)
    assert one.split.fold == other.split.fold == 2
    assert (one.generator.text_encoder.path, other.generator.text_encoder.path) == (None, "minilm")
    assert one.generator.text_encoder.max_tokens == other.generator.text_encoder.max_tokens
    one.generator.text_encoder = other.generator.text_encoder
    assert one == other


def test_a_case_with_svi_alone_is_refused(script, tmp_path):
    (tmp_path / "manifest.csv").write_text("subject_id,epe,svi\na,0,1\n", encoding="utf-8")
    with pytest.raises(InputError, match="a has SVI without EPE"):
        script("prepare").read_cases(tmp_path)
    with pytest.raises(InputError, match="no such manifest"):
        script("prepare").read_cases(tmp_path / "nowhere")


def test_scores_are_held_against_others_of_their_fold_only(script):
    findings = script("findings")
    extents, folds = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.6])
    judged = findings.judge(scores, extents, folds, "SVI")
    # Fold 0 has both pairs in order, fold 1 none of two.
    assert judged["auroc"] == 0.5
    assert (judged["n"], judged["positives"]) == (6, 2)
    assert judged["accuracy"] == pytest.approx(3 / 6)
    assert judged["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert judged["p"] == 1
    gap = findings.difference(scores, -scores, extents, folds, "EPE")
    # Fold 0: 2 of 2 against 0 of 2; fold 1: 1 of 2 against 1 of 2.
    assert gap["auroc"] == pytest.approx(3 / 4 - 1 / 4)
    assert gap["auroc_low"] <= gap["auroc"] <= gap["auroc_high"]


def test_a_permutation_sees_perfect_scores_of_many(script):
    findings = script("findings")
    extents, folds = np.tile([0, 2], 12), np.repeat([0, 1], 12)
    assert findings.judge(extents / 2, extents, folds, "SVI")["p"] < 0.005


def test_volumes_of_the_right_person_are_told_from_others(script):
    following = script("following")
    rng = numpy_generator("a test of likeness")
    real = [rng.normal(size=(12, 60)) for _ in range(2)]
    own = [following.likeness(rows + 0.5 * rng.normal(size=rows.shape), rows, np.zeros(60)) for rows in real]
    other = [following.likeness(rng.normal(size=rows.shape), rows, np.zeros(60)) for rows in real]
    for measure in ("own_before_others", "unswapped_pairs"):
        right, chance = (following.judge_likeness(folds)[measure] for folds in (own, other))
        assert right["value"] > 0.95
        assert right["p"] < 0.005
        assert right["low"] > 0.8
        assert chance["low"] < 0.5 < chance["high"]
        assert chance["p"] > 0.05


def test_an_image_that_all_are_like_spoils_ranks_but_not_swaps(script):
    following = script("following")
    alike = np.array([[0.5, 0.9, 0.1], [0.2, 0.95, 0.1], [0.1, 0.9, 0.5]])
    assert following.own_before_others(alike).tolist() == [0.5, 1.0, 0.5]
    assert following.swap_share([alike]) == 1.0


def test_a_trait_is_followed_within_each_fold(script):
    following = script("following")
    folds = np.repeat([0, 1], 10)
    real = np.arange(20.0)
    followed = following.follow_trait(real + 100 * folds, real, folds, "size")
    assert followed["value"] == pytest.approx(1)
    assert followed["p"] < 0.005
    reversed_in_folds = np.concatenate([real[:10][::-1], 1000 + real[10:][::-1]])
    assert following.follow_trait(reversed_in_folds, real, folds, "size")["value"] == pytest.approx(-1)


def test_variance_is_dealt_out_between_reports_and_seeds(script):
    following = script("following")
    of_seed = np.arange(3.0)[None, :, None] * np.ones((4, 1, 5))
    assert following.shares_of_variance(of_seed)["seed"] == pytest.approx(1)
    noise = numpy_generator("a test of variance").normal(size=(6, 4, 5000))
    shares = following.shares_of_variance(noise)
    assert shares["rest"] == pytest.approx(1, abs=0.03)


def test_an_auditor_reads_what_it_was_trained_on(script):
    auditors = script("auditors")
    rng = numpy_generator("a test of auditors")
    extents = np.tile([0, 1, 2], 8)
    volumes = rng.uniform(0, 0.05, size=(24, 8, 8, 8))
    for volume, extent in zip(volumes, extents, strict=True):
        volume[2 : 4 + 2 * extent, 2:6, 2:6] = 0.5 + 0.1 * extent
    seeds = np.stack([volumes[:6], volumes[:6]], axis=1)
    for name, auditor in auditors.auditors((1, 1, 1)).items():
        read = auditors.audit(auditor, volumes[6:], extents[6:], {"one": volumes[:6], "two": seeds})
        assert read["one"].argmax(1).tolist() == [0, 1, 2, 0, 1, 2], name
        assert np.allclose(read["one"], read["two"])


def test_the_end_of_a_report_is_what_the_byte_level_encoder_keeps(script):
    text = script("text_alone")
    report = "FINDINGS. " + "ä" * 400 + " IMPRESSION: no invasion."
    (tail,) = text._tails([report], text.BYTES)
    config = script("draw").config_of("bytes", 0).generator.text_encoder
    _, tokenizer = build_text_encoder(config)
    kept = tokenizer(report, truncation=True, max_length=config.max_tokens).input_ids
    assert bytes(token - 3 for token in kept if token > 2).decode(errors="ignore") == tail


@pytest.fixture
def faked(script, tmp_path):
    """A folder with draws for 36 small cases: the pre-trained encoder's follow the person, the other's do not."""
    rng, data = numpy_generator("real reports, faked"), tmp_path / "data"
    (data / "images").mkdir(parents=True)
    rows = []
    for number in range(36):
        extent = (0, 0, 1, 2)[number % 4]
        volume = torch.from_numpy(rng.uniform(0, 8, size=(1, 16, 16, 8))).float()
        volume[:, 4 : 8 + 2 * extent, 4:12, 2 : 4 + number % 3] += 60
        tio.ScalarImage(tensor=volume).save(data / "images" / f"{number}.nii.gz")
        report = f"Vesicles of type {number % 3}. IMPRESSION: {('no', 'capsular', 'vesicle')[extent]} invasion."
        rows.append({"subject_id": f"s{number}", "t2w": f"images/{number}.nii.gz", "report": report,
                     "epe": int(extent > 0), "svi": int(extent > 1)})  # fmt: skip
    pd.DataFrame(rows).to_csv(data / "manifest.csv", index=False)
    script("prepare").main(["--data", str(data), "--out", str(tmp_path / "prepared")])
    changes = ["--data.root", str(tmp_path / "prepared"), "--split.val", "0.12", *SMALL]
    draw, collect = script("draw"), script("collect")
    for fold in draw.FOLDS:
        study = collect.Study.read(draw.config_of("bytes", fold, changes=changes), tmp_path, collect.Bars().stage)
        for encoder in draw.ENCODERS:
            parts = {}
            for part, people in (("test", study.split.test), ("train", study.split.train)):
                real = np.stack([each["t2w"].data[0].numpy() for each in people])[:, None]
                shown = real if encoder == "minilm" else real.mean(0, keepdims=True).repeat(len(real), 0)
                noise = 0.05 * rng.normal(size=(len(real), 2, *real.shape[2:]))
                told = np.eye(3)[[each["label"] for each in people]] if encoder == "minilm" else np.ones((len(real), 3))
                told = (told + 0.01) / (told + 0.01).sum(1, keepdims=True)
                volumes = np.clip(shown + noise, 0, 1)
                parts[part] = draw.Draws([each["subject_id"] for each in people], volumes, told)
            draw.save_draws(draw.draws_file(tmp_path, encoder, fold), parts)
    return tmp_path, changes


def test_every_file_comes_from_the_draws_of_all_folds(script, faked, tmp_path, capsys):
    out, changes = faked
    script("collect").main(
        ["--out", str(out), "--to", str(tmp_path / "page"), "--resamples", "50", "--words-only", *changes]
    )
    rows = pd.read_csv(tmp_path / "page" / "results.csv")
    summary = json.loads((tmp_path / "page" / "summary.json").read_text(encoding="utf-8"))
    assert len(summary["rows"]) == len(rows)
    assert summary["people"]["left out"] == 36
    assert (tmp_path / "page" / "reports.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")

    def value(**names) -> float:
        found = rows[np.logical_and.reduce([rows[key] == wanted for key, wanted in names.items()])]
        assert len(found) == 1
        return float(found["value"].iloc[0])

    assert value(question="text", reader="network, minilm", finding="SVI", measure="auroc") == 1
    assert value(question="text", reader="network, bytes", finding="SVI", measure="auroc") == 0.5
    assert value(question="text", reader="network, minilm - bytes", finding="EPE", measure="auroc") == 0.5
    assert value(question="person", source="minilm", measure="unswapped_pairs") > 0.9
    assert value(question="person", source="bytes", measure="unswapped_pairs") < 0.7
    assert value(question="trait", source="minilm", measure="volume_ml") > 0.8
    printed = capsys.readouterr().out
    assert "| network, minilm | report | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |" in printed


def test_draws_of_other_people_and_missing_ones_are_refused(script, faked):
    out, changes = faked
    draw, collect = script("draw"), script("collect")
    path = draw.draws_file(out, "minilm", 0)
    draws = draw.load_draws(path)
    draws["test"].subjects.reverse()
    draw.save_draws(path, draws)
    with pytest.raises(InputError, match="drawn for other people"):
        collect.Fold.read(0, out, changes=changes)
    path.unlink()
    assert collect.finished_folds(out) == [1, 2]
    with pytest.raises(InputError, match="no fold there"):
        collect.finished_folds(out / "nowhere")


def test_one_generator_is_trained_and_drawn_from_once(script, faked):
    out, changes = faked
    draw = script("draw")
    path = draw.draws_file(out, "bytes", 1)
    path.unlink()
    tiny = ["--autoencoder.training.steps", "2", "--autoencoder.training.warmup", "1", "--autoencoder.channels", "[8]"]
    tiny += ["--generator.training.steps", "2", "--generator.training.warmup", "1"]
    tiny += ["--generator.text_encoder.max_tokens", "24", "--pool.sampling.steps", "2"]
    words = ["--out", str(out), "--encoders", "bytes", "--folds", "1", *changes, *tiny]
    draw.main(words)
    drawn = draw.load_draws(path)
    assert drawn["test"].volumes.shape == (12, draw.SEEDS["test"], 16, 16, 8)
    assert drawn["train"].probabilities.shape[1] == 3
    assert json.loads((out / "seconds-bytes-1.json").read_text(encoding="utf-8"))["training_processor_seconds"] > 0
    made = path.stat().st_mtime_ns
    draw.main(words)
    assert path.stat().st_mtime_ns == made


def test_the_real_cases_are_as_the_page_says(script, tmp_path):
    data = real_data("prostate_diagnosis")
    script("prepare").main(["--data", str(data), "--out", str(tmp_path)])
    subjects = load_manifest(tmp_path / "manifest.csv", ["t2w"], label="extent", report="report")
    assert np.bincount([subject["label"] for subject in subjects]).tolist() == [22, 15, 8]
