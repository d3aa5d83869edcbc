"""The only package that speaks to MLflow: a parent run for the study, one flat child for each cell.

What is logged comes from the files of the study's folder, and what MLflow already holds is not logged again: tracking
can be cut off at any moment and repeated, and a server that was away gets everything when the command runs again.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, which reads it

from synthaug.tracking.connection import require_address, stores_of
from synthaug.tracking.entries import flatten
from synthaug.tracking.listener import TrainingListener
from synthaug.tracking.studies import Tracker
from synthaug.tracking.trainings import TrainingRun

__all__ = ["Tracker", "TrainingListener", "TrainingRun", "flatten", "require_address", "stores_of"]
