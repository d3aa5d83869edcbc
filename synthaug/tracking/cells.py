"""MLflow run of a cell: parameters, curves, test metrics, data sets, model, predictions and tags."""

import json
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Run

from synthaug.config import Config
from synthaug.study.records import CellRecord
from synthaug.tracking.connection import Connection
from synthaug.tracking.entries import PARENT, SOURCE, as_key, as_params, flatten
from synthaug.tracking.pyfunc_model import write_model

SHOWN = ("regime", "seed", "synthetic_fraction", "n_train_real", "n_train_synthetic", "steps")
"""Fields of a record that are logged as parameters."""
CHOSEN = ("chosen_step", "temperature")
"""Fields of a record that are logged as metrics: choices made on validation patients."""
PREDICTIONS = "predictions.json"
"""A table, as MLflow's interface and ``mlflow.load_table`` show it."""


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell, to be logged."""

    record: CellRecord
    config: Config
    """Config of the cell."""
    weights: Path
    """File of its classifier; skipped if missing, as in earlier versions."""


def name_of(record: CellRecord) -> str:
    """Name of a run, sortable: regime, fraction, axes, seed.

    Example:
        >>> name_of(CellRecord("mixed", 2, synthetic_fraction=0.5, settings={"split.train": 16}))
        'mixed 0.5, train 16, seed 02'
    """
    fraction = record.synthetic_fraction
    words = [record.regime + (f" {fraction:g}" if fraction not in (None, 1) else "")]
    words += [f"{key.split('.')[-1]} {value}" for key, value in record.settings.items()]
    return ", ".join([*words, f"seed {record.seed:02d}"])


def tags_of(record: CellRecord, config: Config) -> dict[str, str]:
    """Tags to filter runs by.

    Example:
        >>> tags_of(CellRecord("real", 0, id="a", n_train=17, protocol="same cohort"), Config())["generator"]
        'none'
    """
    return {
        "kind": "cell",
        "cell_id": record.id,
        "regime": record.regime,
        "ratio": f"{record.synthetic_fraction or 0:g}",
        "n_train": str(record.n_train),
        "seed": str(record.seed),
        "classifier": config.classifier.network,
        "generator": record.generator or "none",
        "protocol": record.protocol,
        **{as_key(key): str(value) for key, value in record.settings.items()},
    }


def log_cell(connection: Connection, cell: FinishedCell, *, parent: str, study_id: str) -> None:
    """Log a cell as a child run. A run that was interrupted is deleted and logged again by the next bench.

    Args:
        connection: To be called within its :meth:`~Connection.attempt`.
        cell: What is logged.
        parent: Id of the study's run.
        study_id: Of the study.
    """
    record, client = cell.record, connection.connect()
    now, tags = int(1000 * time.time()), tags_of(record, cell.config)
    table = [{"path": PREDICTIONS, "type": "table"}]
    own = {PARENT: parent, "mlflow.runName": name_of(record), "mlflow.loggedArtifacts": json.dumps(table)}
    started = now - int(1000 * record.seconds)
    all_tags = {**SOURCE, **own, "study_id": study_id, **tags}
    run_id = client.create_run(connection.find_experiment(), start_time=started, tags=all_tags).info.run_id
    inputs = [_dataset_input(each, connection.out) for each in record.datasets]
    if inputs:
        client.log_inputs(run_id, inputs)
    model_id = _log_model(connection, cell, run_id, tags) if cell.weights.is_file() else None
    tested = next((each.dataset for each in inputs if each.tags[0].value == "test"), None)
    client.log_batch(run_id, metrics=metrics_of(record, now, model_id, tested), params=as_params(_params_of(cell)))
    client.log_text(run_id, _table_of(record), PREDICTIONS)
    client.set_terminated(run_id)


def metrics_of(
    record: CellRecord, time_ms: int, model_id: str | None = None, tested: Dataset | None = None
) -> list[Metric]:
    """Test metrics (linked to model and data set), choices, costs and training curves."""
    on = {} if tested is None else {"dataset_name": tested.name, "dataset_digest": tested.digest}
    metrics = [
        Metric(f"test/{name}", value, time_ms, 0, model_id=model_id, **on) for name, value in record.metrics.items()
    ]
    metrics += [Metric(f"choice/{name}", getattr(record, name), time_ms, 0) for name in CHOSEN]
    metrics.append(Metric("cost/seconds", record.seconds, time_ms, 0))
    return metrics + [
        Metric(f"training/{name}", float(value), time_ms, int(point["step"]))
        for point in record.history
        for name, value in point.items()
        if name != "step" and isinstance(value, int | float)
    ]


def delete_cell(connection: Connection, run: Run) -> None:
    """Delete an interrupted run with its model."""
    for model in connection.connect().search_logged_models(
        [connection.find_experiment()], filter_string=f"source_run_id = '{run.info.run_id}'"
    ):
        connection.connect().delete_logged_model(model.model_id)
    connection.connect().delete_run(run.info.run_id)


def _params_of(cell: FinishedCell) -> dict[str, Any]:
    """Parameters in which cells differ; the run of the study has all settings."""
    flat = flatten({"classifier": asdict(cell.config.classifier)})
    return {**flat, **cell.record.settings, **{key: getattr(cell.record, key) for key in SHOWN}}


def _log_model(connection: Connection, cell: FinishedCell, run_id: str, tags: Mapping[str, str]) -> str:
    client, config = connection.connect(), cell.config
    name = re.sub(r"[^\w -]+", "_", name_of(cell.record))  # what MLflow takes in a name of a model
    model = client.create_logged_model(
        connection.find_experiment(), name, run_id, tags=dict(tags), params={"network": config.classifier.network}
    )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, cell.record.chosen_step)])
    with tempfile.TemporaryDirectory() as folder:
        write_model(
            Path(folder) / "model",
            cell.weights,
            shape=(len(config.data.images), *config.preprocess.shape),
            classes=cell.record.classes,
            model_id=model.model_id,
            run_id=run_id,
        )
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    return model.model_id


def _dataset_input(told: Mapping[str, Any], out: Path) -> DatasetInput:
    """MLflow data set by name and content hash, without voxels."""
    kind, source = "code", json.dumps({"tags": {"mlflow.source.name": "synthaug.data.phantom"}})
    if told["source"] is not None:
        kind, source = "local", json.dumps({"uri": str(out / told["source"])})
    profile = {"num_rows": sum(told["classes"].values()), "classes": told["classes"]}
    dataset = Dataset(told["name"], told["digest"], kind, source, profile=json.dumps(profile))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", told["context"])])


def _table_of(record: CellRecord) -> str:
    names = ["subject_id", "patient_id", "label"]
    classes = [f"probability_{number}" for number in range(record.classes)]
    data = [[*(getattr(row, name) for name in names), *row.probabilities] for row in record.predictions]
    return json.dumps({"columns": [*names, *classes], "data": data})
