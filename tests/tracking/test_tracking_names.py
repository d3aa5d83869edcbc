"""MLflow takes what clinical data is called, and folders of any name."""

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from synthaug.ground.files import sqlite_address
from synthaug.tracking import Tracker

CLINICAL = {
    "data.measurements.PSA (ng/ml).name": "PSA",
    "data.measurements.volume.bands.<30 ml": 30,
    "data.measurements.volume.bands.>30 ml": 60,
    "preprocess.ranges.adc[b=800]": [0, 3000],
    "data.measurements." + "x" * 300: 1,
    "data.measurements.größe": 1,
    "a//b": 1,
    "../up": 1,
}


@pytest.mark.parametrize("name", ["plain", "what?", "a%20b", "a#b & c", "50 %"])
def test_clinical_names_and_any_folder_reach_mlflow(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / name
    out.mkdir()
    tracker = Tracker(out, experiment="clinical", study_id="0123", params=CLINICAL)
    assert not tracker.connection.lost
    assert capsys.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir()] == [name]
    client = MlflowClient(sqlite_address(out / "mlflow.db"))
    [run] = client.search_runs([client.get_experiment_by_name("clinical").experiment_id])
    assert len(run.data.params) == len(CLINICAL)
    assert sorted(run.data.params.values()) == sorted(str(value) for value in CLINICAL.values())
    (out / "results.csv").write_text("regime\n", encoding="utf-8")
    client.log_artifact(run.info.run_id, str(out / "results.csv"))
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["results.csv"]
    mlflow.set_tracking_uri("")
