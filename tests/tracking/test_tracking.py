"""MLflow: what a study leaves there, and what happens while the server is away. Real stores, real servers."""

import contextlib
import http.server
import json
import multiprocessing
import os
import re
import shutil
import socket
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import uvicorn
import yaml
from mlflow.server import constants
from mlflow.tracking import MlflowClient
from tiny_study import PUBLISHED, STUDY

from synthaug.bench.commands import run_command
from synthaug.bench.options.parsing import config_of, study_parser
from synthaug.data.reading.manifest import stack_images
from synthaug.ground.errors import InputError
from synthaug.study.folder.tracked import remember_place, tell_place, without_password
from synthaug.study.identity import id_of
from synthaug.study.records import CellRecord, read_summary
from synthaug.study.stages.preparation import Study
from synthaug.tracking import Tracker, cells, connection, trainings
from synthaug.tracking.notes import note_of
from synthaug.tracking.studies import MOST_METRICS, metrics_of

TINY = PUBLISHED | {
    "generator": PUBLISHED["generator"] | {"monitor_every": 0, "training": STUDY["generator"]["training"]},
    "classifier": PUBLISHED["classifier"] | {"test_flips": True},
    "metrics": {"bootstrap": 20, "permutations": 20, "copies": False},
    "study": STUDY["study"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished study, tracked in its own SQLite file."""
    folder = tmp_path_factory.mktemp("tracking")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert rerun(folder / "out", folder / "tiny.yaml") == 0
    return folder / "out"


@pytest.fixture(scope="module")
def config(finished):
    parser = study_parser("bench")
    return config_of(parser.instantiate_classes(parser.parse_args(["--config", str(finished / "config.yaml")])))


@pytest.fixture
def copied(finished, tmp_path):
    """The finished study without its own MLflow files."""
    ignored = shutil.ignore_patterns("mlflow.db", "mlartifacts")
    return Path(shutil.copytree(finished, tmp_path / "out", ignore=ignored))


def rerun(out, config=None):
    return run_command("bench", ["--config", str(config or out / "config.yaml"), "--out", str(out)])


def store(out):
    return MlflowClient(f"sqlite:///{out / 'mlflow.db'}")


def runs_of(client, kind, name="tiny"):
    experiment = client.get_experiment_by_name(name).experiment_id
    return client.search_runs([experiment], f"tags.kind = '{kind}'")


def records_of(out):
    return [
        CellRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
        for path in sorted((out / "cells").glob("*.json"))
    ]


def tracker_of(out, config, study_id="s"):
    return Tracker(out, experiment="tiny", study_id=study_id, params={"a": 1})


def log_all(tracker, records, config, cells_in):
    for record in records:
        tracker.log_cell(record, config, weights=cells_in / "cells" / f"{record.id}.safetensors")


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(folder, port):
    """What ``mlflow server`` starts, without its launcher: MLflow is imported here already."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ |= {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that nothing here needs
        constants.BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{folder / 'server.db'}",
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "artifacts"),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=port, log_level="critical")


class Server:
    """An MLflow server in a process of its own, which can be killed and started again on the same store."""

    def __init__(self, folder, port):
        self.folder, self.port, self.uri = folder, port, f"http://127.0.0.1:{port}"
        self.process = None

    def start(self):
        store = self.folder / "server.db"
        if not store.exists():
            store.write_bytes(connection._empty_store())
        self.process = multiprocessing.get_context("fork").Process(target=serve, args=(self.folder, self.port))
        self.process.start()
        deadline = time.monotonic() + 600  # seconds on an idle machine
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            assert self.process.is_alive()
            time.sleep(0.2)
        raise AssertionError("the server did not start")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


@pytest.fixture
def server(tmp_path, free_port, monkeypatch):
    """Not yet started; MLFLOW_TRACKING_URI names it."""
    made = Server(tmp_path, free_port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    yield made
    made.kill()


def test_a_cell_has_tags_to_filter_by_parameters_and_curves(finished):
    client = store(finished)
    real, mixed = sorted(runs_of(client, "cell"), key=lambda run: run.data.tags["ratio"])
    asked = ("regime", "ratio", "n_train", "seed", "classifier", "generator", "protocol")
    assert [real.data.tags[name] for name in asked] == ["real", "0", "17", "0", "resnet10", "none", "same cohort"]
    assert [mixed.data.tags[name] for name in asked] == ["mixed", "0.5", "17", "0", "resnet10", "ccella", "same cohort"]
    assert (real.info.run_name, mixed.info.run_name) == ("real, seed 00", "mixed 0.5, seed 00")
    assert mixed.data.params["classifier.training.steps"] == "8"
    assert mixed.data.params.keys() == real.data.params.keys()  # a comparison shows what differs, not what is missing
    differing = {name for name in real.data.params if real.data.params[name] != mixed.data.params[name]}
    assert differing == {"regime", "synthetic_fraction", "n_train_synthetic"}
    for curve in ("train_loss", "val_loss"):
        points = client.get_metric_history(mixed.info.run_id, f"training/{curve}")
        assert [point.step for point in points] == [4, 8]
    [record] = [record for record in records_of(finished) if record.regime == "mixed"]
    assert mixed.data.metrics["test/auroc"] == record.metrics["auroc"]


def test_every_number_of_the_history_becomes_a_curve():
    history = ({"step": 4, "val_loss": 0.5, "val_auroc": 0.75, "stage": "real"},)
    record = CellRecord("real", 0, chosen_step=4, seconds=1.0, history=history)
    found = {(metric.key, metric.step): metric.value for metric in cells.metrics_of(record, 0)}
    assert found["training/val_auroc", 4] == 0.75
    assert not any("stage" in name for name, _ in found)


def test_data_sets_have_the_study_s_own_hashes_and_classes(finished, config):
    client, study = store(finished), Study.read(config, finished, lambda *_: lambda *a: None)
    found = {}
    for run in runs_of(client, "cell"):
        inputs = client.get_run(run.info.run_id).inputs.dataset_inputs
        found[run.data.tags["regime"]] = sorted((each.tags[0].value, each.dataset.name) for each in inputs)
        for each in inputs:
            profile = json.loads(each.dataset.profile)
            assert sum(profile["classes"].values()) == profile["num_rows"]
            assert mlflow.data.get_source(each.dataset)  # MLflow itself can read where it is from
    split = [("test", "phantoms test"), ("training", "phantoms train"), ("validation", "phantoms val")]
    assert found["real"] == split
    assert found["mixed"] == sorted([*split, ("training", "synthetic pool")])
    digests = {each.dataset.name: each.dataset.digest for each in inputs_of(client, "mixed")}
    assert digests == {f"phantoms {part}": digest for part, digest in study.part_ids.items()} | {
        "synthetic pool": id_of(study.identify_pool())
    }
    [pool] = [each.dataset for each in inputs_of(client, "mixed") if each.dataset.name == "synthetic pool"]
    assert json.loads(pool.source) == {"uri": str(study.pool_folder)}
    assert json.loads(pool.profile) == {"num_rows": 12, "classes": {"0": 6, "1": 6}}


def inputs_of(client, regime):
    [run] = [run for run in runs_of(client, "cell") if run.data.tags["regime"] == regime]
    return client.get_run(run.info.run_id).inputs.dataset_inputs


@contextlib.contextmanager
def tracked_by(uri):
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # for what only the global functions do; it sets the variable too
    try:
        yield
    finally:
        mlflow.set_tracking_uri("")
        if before:
            os.environ["MLFLOW_TRACKING_URI"] = before


def test_a_model_loads_without_pickle_and_predicts_what_was_recorded(finished, config):
    client, study = store(finished), Study.read(config, finished, lambda *_: lambda *a: None)
    batch = torch.stack([stack_images(subject, ["t2w"]) for subject in study.split.test]).numpy()
    for record in records_of(finished):
        [run] = [run for run in runs_of(client, "cell") if run.data.tags["cell_id"] == record.id]
        [output] = client.get_run(run.info.run_id).outputs.model_outputs
        with tracked_by(f"sqlite:///{finished / 'mlflow.db'}"):
            model = mlflow.pyfunc.load_model(f"models:/{output.model_id}", suppress_warnings=True)
        recorded = np.array([row.probabilities for row in record.predictions])
        np.testing.assert_allclose(model.predict(batch), recorded, atol=1e-6)
        np.testing.assert_allclose(model.predict(batch[3:4]), recorded[3:4], atol=1e-5)
        with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
            model.predict(batch[:, :, :8])
        logged = client.get_logged_model(output.model_id)
        assert logged.status == "READY"
        assert logged.source_run_id == run.info.run_id
        linked = {metric.key: metric for metric in logged.metrics}
        assert linked["test/auroc"].value == record.metrics["auroc"]
        assert linked["test/auroc"].dataset_digest == study.part_ids["test"]
    files = [path for path in (finished / "mlartifacts").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert not any(path.suffix in (".pkl", ".pt", ".pth") for path in files)


def test_predictions_are_a_table(finished):
    client = store(finished)
    [record] = [record for record in records_of(finished) if record.regime == "mixed"]
    experiment = client.get_experiment_by_name("tiny").experiment_id
    with tracked_by(f"sqlite:///{finished / 'mlflow.db'}"):
        table = client.load_table(experiment, "predictions.json", extra_columns=["run_id"])
    [run] = [run for run in runs_of(client, "cell") if run.data.tags["regime"] == "mixed"]
    rows = table[table.run_id == run.info.run_id]
    assert list(rows.columns[:3]) == ["subject_id", "patient_id", "label"]
    assert rows.probability_1.tolist() == pytest.approx([row.probabilities[1] for row in record.predictions])


def test_the_study_s_run_answers_at_a_glance(finished):
    client = store(finished)
    [parent] = runs_of(client, "study")
    verdict = read_summary(finished).verdict
    assert parent.info.run_name == f"study: {verdict.headline()}"
    assert parent.data.tags["verdict_kind"] == verdict.kind in ("helped", "hurt", "unclear", "abstains")
    assert verdict.sentence() in parent.data.tags["mlflow.note.content"]
    assert {"AUROC/mixed", "gain/mixed over real", "gain/mixed over real p"} <= set(parent.data.metrics)
    assert len(parent.data.metrics) <= MOST_METRICS
    plots = [item.path for item in client.list_artifacts(parent.info.run_id, "plots")]
    assert len(plots) >= 3
    assert "auroc" in plots[0]
    description = client.get_experiment_by_name("tiny").tags["mlflow.note.content"]
    assert verdict.sentence() in description
    [autoencoder] = runs_of(client, "autoencoder")
    assert autoencoder.info.status == "FINISHED"
    assert autoencoder.data.tags["mlflow.parentRunId"] == parent.info.run_id
    report = f"#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}/artifacts/report.html"
    assert f"{report}?workflowType=machine_learning" in parent.data.tags["mlflow.note.content"]
    assert not {"*", "`", "<"} & set(parent.data.tags["mlflow.note.content"])


def test_a_note_shows_arms_and_effects_in_short_tables(finished):
    summary = read_summary(finished)
    note = note_of(summary)
    [arm] = [line for line in note.splitlines() if line.startswith("| mixed |")]
    mixed = summary.arms[1]
    assert f"| {mixed.n_train_real} | {mixed.n_train_synthetic} | {mixed.metrics['auroc'].value:.3f} (" in arm
    many = replace(summary, arms=tuple(replace(mixed, name=f"mixed {place}") for place in range(200)))
    assert len(note_of(many)) < 8000
    assert re.search(r"\b188\b", note_of(many))  # arms that only the report shows


def test_a_study_of_many_arms_has_few_metrics_and_the_gains_first(finished):
    summary = read_summary(finished)
    [gain] = summary.in_metric("auroc")
    many = tuple(replace(gain, arm=replace(gain.arm, name=f"mixed {place}")) for place in range(200))
    names = [metric.key for metric in metrics_of(replace(summary, contrasts=many))]
    assert len(names) == len(set(names)) == MOST_METRICS
    assert names[:2] == ["gain/mixed 0 over real", "gain/mixed 1 over real"]


def test_the_address_of_the_runs_is_told_without_a_password(finished, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    experiment = store(finished).get_experiment_by_name("tiny").experiment_id
    command, page = tell_place(finished, "tiny")
    assert str(finished / "mlflow.db") in command
    assert page.endswith(f"/#/experiments/{experiment}/runs?workflowType=machine_learning")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking.example/mlflow")
    [place] = tell_place(tmp_path, "tiny")
    assert "MLFLOW_TRACKING_URI" in place
    assert "secret" not in place
    remember_place(tmp_path, without_password("https://me:secret@tracking.example/mlflow"), "7")
    [page] = tell_place(tmp_path, "tiny")
    assert page == "https://tracking.example/mlflow/#/experiments/7/runs?workflowType=machine_learning"


def test_a_rerun_adds_no_run_no_point_and_no_artifact(finished):
    client, before = store(finished), snapshot(finished)
    assert rerun(finished) == 0
    assert snapshot(finished) == before
    [parent] = runs_of(client, "study")
    assert len(client.get_metric_history(parent.info.run_id, "AUROC/mixed")) == 1


def snapshot(out):
    client = store(out)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    runs = {run.info.run_id: run.info.status for run in client.search_runs([experiment])}
    return runs, {path: path.stat().st_mtime_ns for path in (out / "mlartifacts").rglob("*") if path.is_file()}


def test_weights_lie_beside_the_record_whether_or_not_mlflow_is_up(finished):
    for path in (finished / "cells").glob("*.json"):
        assert path.with_suffix(".safetensors").stat().st_size < 2_000_000


def test_a_study_goes_on_without_its_server_and_the_same_command_uploads_later(copied, server, capsys):
    started = time.monotonic()
    assert rerun(copied) == 0
    assert time.monotonic() - started < 120
    [told] = [line for line in capsys.readouterr().err.splitlines() if "MLflow" in line]
    assert told.startswith("warning: ")
    assert f"{server.uri} cannot be reached (connection refused)" in told
    assert not (copied / "mlflow.db").exists()
    server.start()
    assert rerun(copied) == 0
    printed = capsys.readouterr()
    assert "warning" not in printed.err
    [experiment] = [each for each in MlflowClient(server.uri).search_experiments() if each.name == "tiny"]
    page = f"{server.uri}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert printed.out.splitlines()[-1] == f"MLflow: {page}"
    client = MlflowClient(server.uri)
    [parent] = runs_of(client, "study")
    assert parent.info.status == "FINISHED"
    assert "mlflow.note.content" in parent.data.tags
    children = runs_of(client, "cell")
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert [run.info.status for run in children] == ["FINISHED"] * 2
    [autoencoder] = runs_of(client, "autoencoder")
    assert [p.step for p in client.get_metric_history(autoencoder.info.run_id, "validation/l1")] == [2, 4]
    assert len(client.list_artifacts(autoencoder.info.run_id, "montages")) == 2
    [output] = client.get_run(children[0].info.run_id).outputs.model_outputs
    with tracked_by(server.uri):
        model = mlflow.pyfunc.load_model(f"models:/{output.model_id}", suppress_warnings=True)
    assert model.predict(np.zeros((1, 1, 16, 16, 8), dtype=np.float32)).shape == (1, 2)


class Deadly(tuple):
    """Predictions whose reading ends the server; they are the last that is logged of a cell."""

    def __iter__(self):
        self.server.kill()
        return super().__iter__()


def test_a_server_killed_within_a_cell_gets_it_whole_and_once_when_it_is_back(finished, copied, config, server, capsys):
    records, summary = records_of(finished), read_summary(finished)
    server.start()
    tracker = tracker_of(copied, config)
    log_all(tracker, records[:1], config, finished)
    deadly = Deadly(records[1].predictions)
    deadly.server = server
    # Its run, model and metrics are there, its table is not.
    log_all(tracker, [replace(records[1], predictions=deadly)], config, finished)
    tracker.log_study(summary, artifacts=[])
    assert capsys.readouterr().err.count("warning: MLflow") == 1
    server.start()
    client = MlflowClient(server.uri)
    assert sorted(run.info.status for run in runs_of(client, "cell")) == ["FINISHED", "RUNNING"]
    tracker = tracker_of(copied, config)
    log_all(tracker, records, config, finished)
    tracker.log_study(summary, artifacts=[])
    children = runs_of(client, "cell")
    assert sorted(run.data.tags["cell_id"] for run in children) == sorted(record.id for record in records)
    assert [run.info.status for run in children] == ["FINISHED"] * 2
    assert {"predictions.json"} <= {item.path for item in client.list_artifacts(children[0].info.run_id)}
    experiment = client.get_experiment_by_name("tiny").experiment_id
    models = client.search_logged_models([experiment])
    assert sorted(model.source_run_id for model in models) == sorted(run.info.run_id for run in children)


def test_a_server_that_comes_back_within_the_study_gets_all_at_its_end(finished, tmp_path, config, monkeypatch):
    tracker = tracker_of(tmp_path, config)
    tracker.connection.lost = True
    log_all(tracker, records_of(finished), config, finished)
    assert runs_of(store(tmp_path), "cell") == []
    tracker.log_study(read_summary(finished), artifacts=[])
    assert len(runs_of(store(tmp_path), "cell")) == 2


@contextlib.contextmanager
def answering(status):
    """A web server that answers every request with a status, or (None) never."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if status is None:
                time.sleep(5)
                return
            self.send_response(status)
            self.end_headers()

        do_POST = do_PUT = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://me:secret@127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.mark.parametrize(
    ("status", "reason"), [(500, "HTTP status 500"), (503, "HTTP status 503"), (None, "no answer")]
)
def test_a_server_that_fails_or_is_silent_costs_one_line(status, reason, tmp_path, config, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's patience is not overruled
    with answering(status) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        started = time.monotonic()
        tracker = tracker_of(tmp_path, config)
        tracker.log_study({}, artifacts=[])
        assert time.monotonic() - started < 30
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert reason in told
    assert "secret" not in told


def test_a_server_that_refuses_us_is_unusable_input(tmp_path, config, monkeypatch):
    with answering(401) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(
            InputError, match=r"MLFLOW_TRACKING_URI=http://127\.0\.0\.1:\d+ is refused \(HTTP status 401"
        ):
            tracker_of(tmp_path, config)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://nowhere")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI=htp://nowhere is refused"):
        tracker_of(tmp_path, config)


def test_patience_ends_with_the_call(tmp_path, config, monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    tracker_of(tmp_path, config)
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_two_benches_of_one_folder_log_a_cell_once(finished, tmp_path, config):
    """Two connections, as two processes have them; the file lock knows no difference."""
    records, summary = records_of(finished), read_summary(finished)
    start, failures = threading.Barrier(2), []
    trackers = []
    for _ in range(2):
        connection._connection.cache_clear()
        trackers.append(tracker_of(tmp_path, config))
    assert trackers[0].connection is not trackers[1].connection

    def work(tracker):
        start.wait()
        log_all(tracker, records, config, finished)
        tracker.log_study(summary, artifacts=[])
        failures.append(tracker.connection.lost)

    threads = [threading.Thread(target=work, args=(tracker,)) for tracker in trackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [False, False]
    assert len(runs_of(store(tmp_path), "study")) == 1
    assert sorted(run.data.tags["cell_id"] for run in runs_of(store(tmp_path), "cell")) == sorted(
        record.id for record in records
    )


def test_a_study_that_grew_takes_its_cells_along(finished, tmp_path, config):
    records = records_of(finished)
    log_all(tracker_of(tmp_path, config), records[:1], config, finished)
    records = [replace(each, settings={**each.settings, "split.train": 1}) for each in records]
    log_all(tracker_of(tmp_path, config, study_id="grown"), records, config, finished)
    [grown] = [run for run in runs_of(store(tmp_path), "study") if run.data.tags["study_id"] == "grown"]
    children = runs_of(store(tmp_path), "cell")
    assert len(children) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {grown.info.run_id}
    assert {run.data.tags["split.train"] for run in children} == {"1"}  # also of the run that was there


def test_a_deleted_experiment_is_named(tmp_path, config):
    tracker = tracker_of(tmp_path, config)
    store(tmp_path).delete_experiment(tracker.connection.find_experiment())
    connection._connection.cache_clear()
    with pytest.raises(InputError, match="experiment 'tiny' is deleted"):
        tracker_of(tmp_path, config)


def test_a_value_that_is_not_finite_survives_the_file_of_a_look():
    kept = json.loads(json.dumps(trainings._plain({"loss": float("nan"), "l1": 0.5}), allow_nan=False))
    assert np.isnan(float(kept["loss"]))
    assert kept["l1"] == 0.5
