"""The only package that imports MLflow: a parent run per study, and a child run per cell.

Runs are logged from the files of the study's folder, and nothing is logged twice. Tracking can therefore be interrupted
and repeated, and a server that was away gets everything when the command runs again.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, which reads it

from synthaug.tracking.connection import require_address, stores_of
from synthaug.tracking.entries import flatten
from synthaug.tracking.listener import TrainingListener
from synthaug.tracking.studies import Tracker
from synthaug.tracking.trainings import TrainingRun

__all__ = ["Tracker", "TrainingListener", "TrainingRun", "flatten", "require_address", "stores_of"]
