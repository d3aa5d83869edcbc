"""A whole study at tiny size: what it leaves behind, that it resumes, that nothing leaks."""

import csv
import html
import json
import shutil

import pytest
import torch
import yaml
from mlflow.tracking import MlflowClient
from tiny_study import PUBLISHED, forked, kill_when
from two_processes import in_two_processes

from synthaug.bench.commands import run_command
from synthaug.bench.options.parsing import config_of, study_parser
from synthaug.data.phantom import make_subjects
from synthaug.data.splits import Split
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.record import patient_hash
from synthaug.ground.errors import InputError
from synthaug.pool.pool import SyntheticPool
from synthaug.study.stages.leaks import refuse_leaks
from synthaug.study.stages.making import make_pool
from synthaug.study.stages.preparation import Study


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(PUBLISHED), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(config_file, tmp_path_factory):
    """The folder of a finished study."""
    out = tmp_path_factory.mktemp("study") / "out"
    assert run_command("bench", ["--config", str(config_file), "--out", str(out)]) == 0
    return out


def results(out):
    with (out / "results.csv").open() as stream:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]


def test_one_row_a_cell(finished):
    rows = results(finished)
    assert [(row["regime"], row["seed"]) for row in rows] == [
        (regime, seed) for seed in ("0", "1") for regime in ("real", "synthetic", "mixed")
    ]
    assert all(0 <= float(row["auroc"]) <= 1 for row in rows)
    assert {row["steps"] for row in rows} == {row["steps_made"] for row in rows} == {"8"}


def test_numbers_of_subjects_are_those_of_the_regime(finished):
    rows = {row["regime"]: row for row in results(finished)}
    assert int(rows["real"]["n_train_synthetic"]) == int(rows["synthetic"]["n_train_real"]) == 0
    # 8 + 9 real patients: half of the larger class synthetic, the smaller class filled to the same 18. That is 19
    # places, for which the pool has 12 volumes.
    assert {int(row["n_train_real"]) for row in (rows["real"], rows["mixed"])} == {17}
    assert int(rows["mixed"]["n_train_synthetic"]) == 12


def test_summary_holds_intervals_contrasts_floor_and_verdict(finished):
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    assert summary["cells"] == 6
    assert summary["failed"] == []
    for regime in summary["regimes"]:
        assert regime["auroc"]["ci_low"] <= regime["auroc"]["value"] <= regime["auroc"]["ci_high"]
        assert regime["ece"]["ci_low"] <= regime["ece"]["ci_high"]
    assert {c["contrast"] for c in summary["contrasts"]} == {"synthetic - real", "mixed - real"}
    asked = {"contrast", "n_train", "metric", "difference", "ci_low", "ci_high", "p", "seeds", "protocol"}
    for contrast in summary["contrasts"]:
        assert asked <= set(contrast)
        assert 0 < contrast["p"] <= contrast["p_holm"] <= 1
        assert (contrast["n_train"], contrast["seeds"], contrast["protocol"]) == (17, [0, 1], "same cohort")
    image_metrics = {row["metric"]: row for row in summary["image_metrics"]}
    assert {"fid", "kid", "mmd", "copies"} <= set(image_metrics)
    for row in image_metrics.values():
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert row["fingerprint"]
    assert image_metrics["fid"]["floor"] > 0
    assert (summary["answer"]["compared"], summary["answer"]["seeds"]) == (1, 2)
    assert summary["answer"]["limit"] == summary["p_limit"] != ""


def test_the_saved_config_is_the_study_again(finished, config_file, capsys):
    assert run_command("bench", ["--config", str(finished / "config.yaml"), "--out", str(finished)]) == 0
    client = MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")  # the same study: no run was added
    assert len(client.search_runs([client.get_experiment_by_name("tiny").experiment_id])) == 9


def test_report_is_one_file_that_needs_no_network_and_carries_the_verdict(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    verdict = json.loads((finished / "summary.json").read_text(encoding="utf-8"))["verdict"]
    assert verdict in html.unescape(page)
    assert page.count("data:image/") == 2 + 2 + 5 + 2 + 1  # effect and AUROC in two layouts; the viewer's address
    assert "http://" not in page
    assert "https://" not in page


def test_mlflow_holds_a_study_and_a_child_for_each_cell(finished):
    client = MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if e.name == "tiny"]
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if run.data.tags["kind"] == "study"]
    children = [run for run in runs if run.data.tags["kind"] == "cell"]
    assert len(children) == 6
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["regime"] for run in children} == {"real", "synthetic", "mixed"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    trainings = {run.data.tags["kind"]: run for run in runs if "stage_id" in run.data.tags}
    assert set(trainings) == {"autoencoder", "generator"}
    assert {run.data.tags["mlflow.parentRunId"] for run in trainings.values()} == {parent.info.run_id}
    for stage, run in trainings.items():
        assert run.data.params[f"{stage}.training.steps"] == "4"
        losses = client.get_metric_history(run.info.run_id, "validation/l1")
        assert [point.step for point in losses] == [2, 4]
        assert run.data.metrics["validation/fid"] > 0
        pictures = [item.path for item in client.list_artifacts(run.info.run_id, "montages")]
        assert pictures == ["montages/step-000002.png", "montages/step-000004.png"]
    assert "gain/mixed over real low" in parent.data.metrics
    assert parent.data.params["generator.variant"] == "ccella"
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} >= {"report.html", "results.csv"}
    curve = client.get_metric_history(children[0].info.run_id, "training/val_loss")
    assert [point.step for point in curve] == [4, 8]


def made_in(out):
    """When each file of a stage or a cell was written."""
    kinds = ("cells/*", "autoencoder-*/**/*", "generator-*/**/*", "pool-*/volumes/*")
    return {path: path.stat().st_mtime_ns for kind in kinds for path in out.glob(kind) if path.is_file()}


def test_a_rerun_launches_nothing_and_changes_nothing(finished, config_file):
    before, rows = made_in(finished), results(finished)
    (finished / "finished.json").unlink()  # so that the study is gone through
    assert run_command("bench", ["--config", str(config_file), "--out", str(finished)]) == 0
    assert made_in(finished) == before
    assert results(finished) == rows
    client = MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    assert len(client.search_runs([client.get_experiment_by_name("tiny").experiment_id])) == 9


def test_a_killed_study_continues_to_the_same_results(finished, config_file, tmp_path):
    words = ["--config", str(config_file), "--out", str(tmp_path / "out")]
    kill_when(forked(run_command, "bench", words), tmp_path, "out/cells/[!.]*.json")
    assert 1 <= len(list(tmp_path.glob("out/cells/*.json"))) < 6
    assert run_command("bench", words) == 0
    assert results(tmp_path / "out") == results(finished)


def test_a_failed_cell_is_reported_and_the_rest_goes_on(finished, config_file, capsys):
    records = {path: json.loads(path.read_text(encoding="utf-8")) for path in finished.glob("cells/*.json")}
    [broken] = [path for path, told in records.items() if (told["regime"], told["seed"]) == ("synthetic", 1)]
    whole = broken.read_text(encoding="utf-8")
    broken.write_text("{", encoding="utf-8")
    (finished / "finished.json").unlink()
    assert run_command("bench", ["--config", str(config_file), "--out", str(finished)]) == 1
    assert f"failed: synthetic seed 1: {broken}: not valid JSON" in capsys.readouterr().err
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    assert summary["cells"] == 5
    assert [cell["regime"] for cell in summary["failed"]] == ["synthetic"]
    assert "not valid JSON" in (finished / "report.html").read_text(encoding="utf-8")
    broken.write_text(whole, encoding="utf-8")
    assert run_command("bench", ["--config", str(config_file), "--out", str(finished)]) == 0


def test_generator_and_prompts_come_from_training_patients_only(finished):
    with (finished / "split.csv").open() as stream:
        part_of = {row["patient_id"]: row["part"] for row in csv.DictReader(stream)}
    pipeline = CCELLAPipeline.from_pretrained(next(finished.glob("generator-*[0-9a-f]")))
    trained = {patient_hash(patient) for patient, part in part_of.items() if part == "train"}
    assert set(pipeline.record["patients"]) == trained
    pool = SyntheticPool.open(next(finished.glob("pool-*")))
    training_reports = {subject["report"] for subject in _phantoms() if part_of[subject["patient_id"]] == "train"}
    assert {entry["recipe"]["report"] for label in pool.classes for entry in pool.entries(label)} <= training_reports


def _phantoms():
    from synthaug.data.phantom import make_subjects

    return make_subjects(32, 0.5, 0, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))


def test_a_generator_that_saw_a_test_patient_is_refused():
    split = Split([], [], [{"patient_id": "p7"}])
    with pytest.raises(InputError, match="trained on patient 'p7', who is in the test part"):
        refuse_leaks([patient_hash("p7")], split, source="generator")
    refuse_leaks([patient_hash("p8")], split, source="generator")


def test_a_pool_without_its_copies_is_another_pool_in_the_same_folder(finished, tmp_path):
    [made] = finished.glob("pool-*")
    shutil.copytree(made, tmp_path / made.name)
    parser = study_parser("bench")
    config = config_of(parser.instantiate_classes(parser.parse_args(["--config", str(finished / "config.yaml")])))
    before = Study.read(config, tmp_path, lambda name, total: lambda *_: None)
    assert before.pool_folder.name == made.name
    whole = make_pool(before)
    volumes = [entry["id"] for label in whole.classes for entry in whole.entries(label)]
    record = {"dropped": True, "volumes": {name: {"copy": name == volumes[0]} for name in volumes}}
    (tmp_path / made.name / "audit.json").write_text(json.dumps(record), encoding="utf-8")
    after = Study.read(config, tmp_path, lambda name, total: lambda *_: None)
    assert after.identify_pool() != before.pool_identity  # no cell of the whole pool is taken for one of this
    pool = make_pool(after)
    assert (pool.path, len(pool), pool.dropped) == (whole.path, len(volumes) - 1, 1)


def test_stages_can_be_run_one_by_one(finished, config_file, capsys):
    for command in ("train-autoencoder", "train-ldm", "pool", "metrics"):
        assert run_command(command, ["--config", str(config_file), "--out", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert "fingerprint" in shown
    assert "volumes of each class {0: 6, 1: 6}" in shown
    [made] = finished.glob("generator-*[0-9a-f]")
    assert CCELLAPipeline.from_pretrained(made).record["generator"]["prediction"] == "epsilon"


def test_a_cascade_has_no_autoencoder_to_train(config_file, tmp_path, capsys):
    arguments = ["--config", str(config_file), "--out", str(tmp_path / "out"), "--generator.latents", "cascade"]
    assert run_command("train-autoencoder", arguments) == 2
    assert "generator.latents=cascade" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_study_goes_on_from_a_generator_that_saw_none_of_its_own_held_out_patients(
    finished, config_file, tmp_path, capsys
):
    [generator] = (path for path in finished.glob("generator-*[0-9a-f]") if path.is_dir())
    arguments = ["--config", str(config_file), "--generator.pretrained", str(generator)]
    others = tmp_path / "others"
    assert run_command("train-ldm", [*arguments, "--data.phantom.seed", "5", "--out", str(others)]) == 0
    [made] = others.glob("generator-*[0-9a-f]")
    theirs, ours = (json.loads((folder / "training.json").read_text(encoding="utf-8")) for folder in (generator, made))
    assert set(theirs["patients"]) < set(ours["patients"])
    assert not list(others.glob("autoencoder-*"))
    capsys.readouterr()
    assert run_command("train-ldm", [*arguments, "--split.seed", "9", "--out", str(tmp_path / "leak")]) == 2
    assert "trained on patient" in capsys.readouterr().err
    assert run_command("train-autoencoder", [*arguments, "--out", str(others)]) == 2
    assert "brings its own autoencoder" in capsys.readouterr().err


def test_a_generator_of_one_sequence_goes_on_with_two(finished, config_file, tmp_path, capsys):
    [generator] = (path for path in finished.glob("generator-*[0-9a-f]") if path.is_dir())
    subjects = make_subjects(12, positive_fraction=0.5, seed=5, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    rows = []
    for number, subject in enumerate(subjects):
        subject["t2w"].save(tmp_path / f"{number}.nii.gz")
        names = dict.fromkeys(("t2w", "adc"), f"{number}.nii.gz")
        rows.append({"subject_id": f"new-{number}", **names, "label": subject["label"], "report": subject["report"]})
    with (tmp_path / "manifest.csv").open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    words = ["--config", str(config_file), "--generator.pretrained", str(generator), "--data.root", str(tmp_path)]
    words += ["--data.report", "report", "--split.test", "0.3", "--split.val", "0.3"]
    out = tmp_path / "out"
    assert run_command("train-ldm", [*words, "--data.images", "[adc, t2w]", "--out", str(out)]) == 0
    [made] = out.glob("generator-*[0-9a-f]")
    pipeline = CCELLAPipeline.from_pretrained(made)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(["no lesion"], seeds=[1], num_inference_steps=1).volumes.shape == (1, 2, 16, 16, 8)
    # Both columns name the same files here: the other order is another generator all the same.
    assert run_command("train-ldm", [*words, "--data.images", "[t2w, adc]", "--out", str(out)]) == 0
    assert len([*out.glob("generator-*[0-9a-f]")]) == 2
    capsys.readouterr()
    assert run_command("train-ldm", [*words, "--data.images", "[adc]", "--out", str(tmp_path / "other")]) == 0
    assert run_command("train-ldm", [*words, "--data.images", "[adc, hbv]", "--out", str(tmp_path / "odd")]) == 2
    assert "hbv" in capsys.readouterr().err


def test_two_processes_train_the_generator_that_one_trains(finished, config_file, tmp_path):
    shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("generator-*", "cache", "mlflow.db"))
    [alone] = finished.glob("generator-*[0-9a-f]")
    words = ["--config", str(config_file), "--out", str(tmp_path / "out")]
    assert in_two_processes(lambda rank: run_command("train-ldm", words)) == [0, 0]
    together = CCELLAPipeline.from_pretrained(tmp_path / "out" / alone.name)
    alone = CCELLAPipeline.from_pretrained(alone)
    for one, other in zip(together.denoiser.parameters(), alone.denoiser.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    assert together.record["patients"] == alone.record["patients"]


@pytest.fixture(scope="module")
def grid(config_file, tmp_path_factory):
    """A study of two splits, two sizes of training set and two baselines, with a generator for each training set."""
    out = tmp_path_factory.mktemp("grid") / "out"
    axes = {"split.seed": [0, 1], "split.train": [1, 8], "classifier.balance": ["oversampled", "weighted"]}
    arguments = ["--config", str(config_file), "--out", str(out), "--study.axes", json.dumps(axes)]
    arguments += ["--study.regimes", "[real, mixed]", "--study.seeds", "[0]", "--generator.monitor_every", "0"]
    arguments += ["--autoencoder.monitor_every", "0", "--study.name", "grid"]
    assert run_command("bench", arguments) == 0
    return out


def test_every_training_set_has_a_generator_that_saw_just_its_patients(grid):
    trained = {
        frozenset(json.loads(path.read_text(encoding="utf-8"))["patients"])
        for path in grid.glob("generator-*/training.json")
    }
    splits = [list(csv.DictReader(path.open())) for path in sorted(grid.glob("split*.csv"))]
    assert len(splits) == 4
    parts = [
        {part: {patient_hash(row["patient_id"]) for row in rows if row["part"] == part} for part in ("train", "test")}
        for rows in splits
    ]
    assert trained == {frozenset(each["train"]) for each in parts}
    assert sorted(len(each["train"]) for each in parts) == [8, 8, 17, 17]
    assert len({frozenset(each["test"]) for each in parts}) == 2  # sizes share the test patients of their split
    small, large = sorted((each for each in parts if each["test"] == parts[0]["test"]), key=lambda e: len(e["train"]))
    assert small["train"] < large["train"]


def test_cells_of_a_grid_become_arms_with_splits_as_repeats(grid):
    rows = results(grid)
    assert len(rows) == 16
    assert {(row["split.train"], row["n_train"]) for row in rows} == {("1", "17"), ("8", "8")}
    summary = json.loads((grid / "summary.json").read_text(encoding="utf-8"))
    assert [row["regime"] for row in summary["regimes"]] == [
        f"{regime} train {train} balance {balance}"
        for train in (1, 8)
        for balance in ("oversampled", "weighted")
        for regime in ("real", "mixed")
    ]
    assert {row["repeats"] for row in summary["regimes"]} == {2}
    auroc = [row for row in summary["contrasts"] if row["metric"] == "auroc"]
    assert len(auroc) == 2 * (2 * 2 + 1)  # each mixture against both baselines, and these with one another
    assert {row["n_train"] for row in auroc} == {17, 8}
    assert len({row["source"] for row in summary["image_metrics"]}) == 4
    assert {row["axes"]["split.train"] for row in summary["image_metrics"]} == {1, 8}
    assert summary["answer"]["compared"] > 1
    records = [json.loads(path.read_text(encoding="utf-8")) for path in grid.glob("cells/*.json")]
    for record in records:
        assert record["temperature"] > 0
        assert {"ece", "brier_calibrated", "ece_calibrated"} <= set(record["metrics"])
        assert len(record["predictions"]) == 10


def test_a_study_of_real_data_alone_trains_no_generator(config_file, tmp_path):
    out = tmp_path / "out"
    arguments = ["--config", str(config_file), "--out", str(out), "--study.regimes", "[real]", "--study.seeds", "[0]"]
    assert run_command("bench", [*arguments, "--study.axes", '{"classifier.augment": [true, false]}']) == 0
    assert not list(out.glob("generator-*[0-9a-f]"))
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert {row["contrast"] for row in summary["contrasts"]} == {"real augment False - real augment True"}
    assert summary["image_metrics"] == []
    assert (out / "report.html").is_file()


def test_starting_a_study_checks_everything_before_it_writes(tmp_path):
    from synthaug.config import Config, DataConfig

    with pytest.raises(InputError, match="Phantoms have the image"):
        Study.start(Config(data=DataConfig(images=["t1"])), tmp_path / "out", lambda name, total: lambda *a: None)
    assert not (tmp_path / "out").exists()
