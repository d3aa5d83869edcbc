"""The only module that speaks to MLflow: a parent run for the study, one flat child for each cell.

What is logged comes from the records on disk, and a cell that MLflow already holds is not logged again, so tracking
can be cut off at any moment and repeated.
"""

import contextlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, which reads it

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

SOURCE = {"mlflow.source.name": "synthaug.bench", "mlflow.source.type": "LOCAL"}
STATISTICS = ("value", "ci_low", "ci_high")


class Tracker:
    """Logs one study. Metric names group by what is before the slash, as the interface's chart sections do.

    Args:
        out: The study's folder; holds ``mlflow.db`` and ``mlartifacts`` unless MLFLOW_TRACKING_URI names a server.
        experiment: Name of the experiment.
        study_id: Hash of the study's config: the same study finds its runs again.
        params: Settings of the study, flat.
    """

    def __init__(self, out: Path, *, experiment: str, study_id: str, params: Mapping[str, Any]) -> None:
        with _quiet():
            self.uri, self.client, self.experiment = _connect(out, experiment)
            self.study_id = study_id
            self.parent = self._study_run(experiment, params)

    def log_cell(self, record: Mapping[str, Any], *, params: Mapping[str, Any]) -> None:
        """Log a finished cell as a child run: parameters, curves, test metrics, tags, predictions."""
        with _quiet():
            for run in self._find("cell_id", record["id"]):
                if run.info.status == "FINISHED":
                    return
                self.client.delete_run(run.info.run_id)
            names = [f"{key.split('.')[-1]} {value}" for key, value in record["settings"].items()]
            tags = {
                **SOURCE,
                "mlflow.parentRunId": self.parent.info.run_id,
                "mlflow.runName": "-".join([record["regime"], *names, f"seed{record['seed']}"]),
                "study_id": self.study_id,
                "cell_id": record["id"],
                "kind": "cell",
                "regime": record["regime"],
                "seed": str(record["seed"]),
                "protocol": record["protocol"],
                "n_train": str(record["n_train"]),
                **{key: str(value) for key, value in record["settings"].items()},
            }
            now = int(1000 * time.time())
            started = now - int(1000 * record["seconds"])
            run_id = self.client.create_run(self.experiment, start_time=started, tags=tags).info.run_id
            shown = ("regime", "seed", "synthetic_fraction", "n_train_real", "n_train_synthetic", "steps")
            flat = {**params, **record["settings"], **{key: record[key] for key in shown}}
            metrics = [Metric(f"test/{name}", value, now, 0) for name, value in record["metrics"].items()]
            metrics += [
                Metric("training/chosen_step", record["chosen_step"], now, 0),
                Metric("training/temperature", record["temperature"], now, 0),
                Metric("training/seconds", record["seconds"], now, 0),
            ]
            metrics += [
                Metric(f"training/{name}", point[name], now, int(point["step"]))
                for point in record["history"]
                for name in ("train_loss", "val_loss")
            ]
            self.client.log_batch(run_id, metrics=metrics, params=_params(flat))
            self.client.log_text(run_id, json.dumps(record["predictions"], indent=1), "predictions.json")
            self.client.set_terminated(run_id)

    def log_study(self, summary: Mapping[str, Any], *, artifacts: Sequence[Path]) -> None:
        """Log the study's statistics, verdict and files to the parent run and end it."""
        with _quiet():
            run_id, now = self.parent.info.run_id, int(1000 * time.time())
            metrics = [
                Metric(
                    f"regimes/{regime['regime']}_{metric}{'' if part == 'value' else '_' + part}", values[part], 0, 0
                )
                for regime in summary["regimes"]
                for metric, values in regime.items()
                if isinstance(values, Mapping) and "value" in values
                for part in STATISTICS
            ]
            for contrast in summary["contrasts"]:
                name = f"effect/{contrast['contrast'].replace(' - ', '_minus_')}_{contrast['metric']}"
                metrics += [
                    Metric(name, contrast["difference"], now, 0),
                    Metric(f"{name}_ci_low", contrast["ci_low"], now, 0),
                    Metric(f"{name}_ci_high", contrast["ci_high"], now, 0),
                    Metric(f"{name}_p_holm", contrast["p_holm"], now, 0),
                ]
            for image in summary["image_metrics"]:
                name = f"images/{image['source']} {image['metric']}".replace("/ ", "/")
                metrics += [Metric(name, image["value"], now, 0)]
                parts = [part for part in ("floor", "false_alarms", "ci_low", "ci_high") if part in image]
                metrics += [Metric(f"{name}_{part}", image[part], now, 0) for part in parts]
            self.client.log_batch(run_id, metrics=metrics, tags=[RunTag("verdict", summary["verdict"])])
            self.client.set_tag(run_id, "mlflow.note.content", summary["verdict"])
            for path in artifacts:
                self.client.log_artifact(run_id, str(path))
            self.client.set_terminated(run_id, "FAILED" if summary["failed"] else "FINISHED")

    def _study_run(self, name: str, params: Mapping[str, Any]) -> Run:
        found = [run for run in self._find("study_id", self.study_id) if run.data.tags.get("kind") == "study"]
        if found:
            return found[0]
        tags = {**SOURCE, "mlflow.runName": f"{name} (study)", "study_id": self.study_id, "kind": "study"}
        run = self.client.create_run(self.experiment, tags=tags)
        self.client.log_batch(run.info.run_id, params=_params(params))
        return run

    def _find(self, tag: str, value: str) -> list[Run]:
        return list(self.client.search_runs([self.experiment], f"tags.{tag} = '{value}'"))


class TrainingRun:
    """One training of an autoencoder or a generator, as a run beside the study's.

    Args:
        out: The study's folder.
        experiment: Name of the experiment.
        stage: "autoencoder" or "generator".
        stage_id: Hash of all that the training depends on: a killed training goes on in its run.
        params: Settings of the stage, flat.
    """

    def __init__(self, out: Path, *, experiment: str, stage: str, stage_id: str, params: Mapping[str, Any]) -> None:
        with _quiet():
            _, self.client, where = _connect(out, experiment)
            found = self.client.search_runs([where], f"tags.stage_id = '{stage_id}'")
            if found:
                self.run_id = found[0].info.run_id
                return
            tags = {**SOURCE, "mlflow.runName": f"{stage} training", "kind": stage, "stage_id": stage_id}
            self.run_id = self.client.create_run(where, tags=tags).info.run_id
            self.client.log_batch(self.run_id, params=_params(params))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values at a step."""
        now = int(1000 * time.time())
        with _quiet():
            self.client.log_batch(
                self.run_id, metrics=[Metric(name, float(value), now, step) for name, value in values.items()]
            )

    def figure(self, name: str, figure: Any) -> None:
        """Log a matplotlib figure under ``name``."""
        with _quiet():
            self.client.log_figure(self.run_id, figure, name)

    def finish(self) -> None:
        """Mark the run as finished."""
        with _quiet():
            self.client.set_terminated(self.run_id)


def _connect(out: Path, experiment: str) -> tuple[str, MlflowClient, str]:
    """(tracking address, client, id of the experiment), the experiment made where it is missing."""
    server = os.environ.get("MLFLOW_TRACKING_URI")
    uri = server or f"sqlite:///{out.resolve() / 'mlflow.db'}"
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(experiment)
    if known:
        return uri, client, known.experiment_id
    location = None if server else (out.resolve() / "mlartifacts").as_uri()
    # MLflow's own word for training of models, as against work on language-model applications.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return uri, client, client.create_experiment(experiment, artifact_location=location, tags=tags)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys.

    Example:
        >>> flatten({"a": {"b": 1}, "c": [2]})
        {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _params(settings: Mapping[str, Any]) -> list[Param]:
    return [Param(key, str(value)[:500]) for key, value in settings.items()]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow and its migrations tell of every table they make; a normal run should not."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
