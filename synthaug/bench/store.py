"""MLflow's SQLite file of a study, whole or absent."""

import os
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, which reads it

from mlflow.tracking import MlflowClient

from synthaug.files import atomic_path


def make_store(path: Path) -> None:
    """Make MLflow's tables where there are none: beside their place first, as a killed migration cannot go on.

    Args:
        path: The SQLite file.
    """
    if path.is_file():
        return
    with atomic_path(path.resolve()) as temporary:
        MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
