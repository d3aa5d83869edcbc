"""Runs of the trainings of autoencoders and generators, kept on disk first and sent from there."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mlflow.entities import Metric, Run

from synthaug.ground.files import atomic_path, read_json, write_json
from synthaug.tracking.connection import Connection, connect
from synthaug.tracking.entries import PARENT, SOURCE, as_params

FOLDER = "trainings"
"""Of the study's folder: a folder for each training, with a file for each look at it."""


class TrainingRun:
    """One training of an autoencoder or a generator, as a run below the study's where there is one.

    Args:
        out: The study's folder.
        experiment: Name of the experiment.
        stage: "autoencoder" or "generator".
        stage_id: Hash of all that the training depends on: a killed training goes on in its run.
        params: Settings of the stage, flat.
        private: Whether its pictures, which show validation patients, stay in the folder.
    """

    def __init__(
        self,
        out: Path,
        *,
        experiment: str,
        stage: str,
        stage_id: str,
        params: Mapping[str, Any],
        private: bool = False,
    ) -> None:
        self.connection = connect(out, experiment)
        self.folder = out / FOLDER / f"{stage}-{stage_id}"
        self.about = {
            "stage": stage,
            "stage_id": stage_id,
            "params": dict(params),
            "finished": False,
            "private": private,
        }
        write_json(self.folder / "training.json", self.about)
        self._waiting = sorted(self.folder.glob("step-*.json"))
        self._run_id: str | None = None
        self.connection.attempt(self._send)

    def log(self, step: int, values: Mapping[str, float], *, figure: Figure) -> None:
        """Log a look at the training: its values and its picture at a step."""
        path = self.folder / f"step-{step:06d}.json"
        with atomic_path(path.with_suffix(".png")) as temporary:
            figure.savefig(temporary)
        made = {"step": step, "time_ms": int(1000 * time.time()), "values": _plain(values)}
        write_json(path, made)
        self._waiting.append(path)
        self.connection.attempt(self._send)

    def finish(self) -> None:
        """Mark the run as finished."""
        self.about["finished"] = True
        write_json(self.folder / "training.json", self.about)
        self.connection.attempt(self._send)

    def _send(self) -> None:
        if self._run_id is None:
            self._run_id = _run_of(self.connection, self.about).info.run_id
        while self._waiting:
            _send_look(self.connection, self._run_id, self._waiting[0], picture=not self.about["private"])
            self._waiting.pop(0)
        if self.about["finished"]:
            self.connection.connect().set_terminated(self._run_id)


def send_trainings(connection: Connection, known: Mapping[str, Run]) -> None:
    """Send the finished trainings of a study's folder that the server lacks.

    Args:
        connection: To be called within its :meth:`~Connection.attempt`.
        known: Runs of trainings by their stage's id.
    """
    for path in sorted((connection.out / FOLDER).glob("*/training.json")):
        about = read_json(path)
        run = known.get(about["stage_id"])
        if run and connection.parent and run.data.tags.get(PARENT) != connection.parent:
            connection.connect().set_tag(run.info.run_id, PARENT, connection.parent)
        if not about["finished"] or (run and run.info.status == "FINISHED"):
            continue
        run_id = _run_of(connection, about).info.run_id
        for look in sorted(path.parent.glob("step-*.json")):
            _send_look(connection, run_id, look, picture=not about.get("private", True))
        connection.connect().set_terminated(run_id)


def _run_of(connection: Connection, about: Mapping[str, Any]) -> Run:
    found = connection.runs(stage_id=about["stage_id"])
    if found:
        return found[0]
    stage = about["stage"]
    tags = {**SOURCE, "mlflow.runName": f"{stage} training", "kind": stage, "stage_id": about["stage_id"]}
    tags |= {PARENT: connection.parent} if connection.parent else {}
    run = connection.connect().create_run(connection.find_experiment(), tags=tags)
    connection.connect().log_batch(run.info.run_id, params=as_params(about["params"]))
    return run


def _send_look(connection: Connection, run_id: str, path: Path, *, picture: bool) -> None:
    """Sent twice it is still one: the server knows a metric by its name, value, step and time."""
    look = read_json(path)
    values = {name: float(value) for name, value in look["values"].items()}
    metrics = [Metric(name, value, look["time_ms"], look["step"]) for name, value in values.items()]
    connection.connect().log_batch(run_id, metrics=metrics)
    if picture:
        connection.connect().log_artifact(run_id, str(path.with_suffix(".png")), "montages")


def _plain(values: Mapping[str, float]) -> dict[str, float | str]:
    """JSON has no word for what is not finite; text is read back by ``float``."""
    return {name: value if abs(value) < float("inf") else str(value) for name, value in values.items()}
