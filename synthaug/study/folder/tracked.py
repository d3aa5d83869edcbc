"""Where a study is seen in MLflow's interface: addresses below that of the server."""

import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

from synthaug.ground.files import read_json, sqlite_address, write_json

STORE = "mlflow.db"
"""MLflow's SQLite file in a study's folder."""
PLACES = "mlflow.json"
"""Of a study's folder: the id of its experiment on each server."""
TRAINING = "workflowType=machine_learning"
"""With it MLflow 3.17 shows its pages for trainings of models, without it those for language models."""
LOCAL = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` shows what it shows, unless told otherwise."""


def runs_page(experiment: str) -> str:
    """The runs of an experiment as a table, as MLflow shows trainings of models.

    Example:
        >>> runs_page("3")
        '#/experiments/3/runs?workflowType=machine_learning'
    """
    return f"#/experiments/{experiment}/runs?{TRAINING}"


def artifact_link(experiment: str, run_id: str, path: str) -> str:
    """A file of a run, on whatever server the note stands.

    Example:
        >>> artifact_link("3", "ab", "report.html")
        '#/experiments/3/runs/ab/artifacts/report.html?workflowType=machine_learning'
    """
    return f"#/experiments/{experiment}/runs/{run_id}/artifacts/{path}?{TRAINING}"


def remember_place(out: Path, server: str, experiment: str) -> None:
    """Keep the experiment's id on a server, so that the link can be told without asking."""
    known = _places(out)
    if known.get(server) != experiment:
        write_json(out / PLACES, {**known, server: experiment})


def tell_place(out: Path, name: str) -> list[str]:
    """How to see a study in MLflow: a command, where one is needed, and the address of its runs.

    Args:
        out: The study's folder.
        name: Of the experiment.
    """
    server = os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        command = f"mlflow ui --backend-store-uri {shlex.quote(sqlite_address(out / STORE))}"
        local = _local_experiment(out / STORE, name)
        return [command, f"{LOCAL}/{runs_page(local)}"] if local else [command]
    shown = without_password(server)
    experiment = _places(out).get(shown)
    if experiment and shown.startswith("http"):
        return [f"{shown.rstrip('/')}/{runs_page(experiment)}"]
    return ["on the server of MLFLOW_TRACKING_URI"]


def without_password(address: str) -> str:
    """An address without the user and password that may stand in it.

    Example:
        >>> without_password("https://me:secret@tracking.example:5000")
        'https://tracking.example:5000'
    """
    before, separator, rest = address.partition("//")
    host, slash, path = rest.partition("/")
    return f"{before}{separator}{host.rpartition('@')[2]}{slash}{path}"


def _places(out: Path) -> dict[str, str]:
    return read_json(out / PLACES) if (out / PLACES).is_file() else {}


def _local_experiment(store: Path, name: str) -> str:
    """Id of an experiment, read without MLflow, whose import takes a second; "" = not there."""
    if not store.is_file():
        return ""
    try:
        with closing(sqlite3.connect(f"file:{store.as_posix()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", [name]).fetchone()
    except sqlite3.Error:
        return ""
    return str(found[0]) if found else ""
