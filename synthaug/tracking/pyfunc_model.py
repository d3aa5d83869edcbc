"""A cell's classifier as an MLflow model: safetensors weights and this module to read them, no pickle."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from synthaug import __version__
from synthaug.classify.weights import SavedClassifier, load_classifier

LIBRARIES = ("torch", "monai", "safetensors")
"""What the model needs beside this package."""


class ClassifierModel:
    """What ``mlflow.pyfunc.load_model`` gives: its ``predict`` are the probabilities that the study recorded."""

    def __init__(self, classifier: SavedClassifier) -> None:
        self.classifier = classifier

    def predict(self, volumes: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Class probabilities (N, K) of preprocessed volumes (N, C, X, Y, Z), float32 in [0, 1]."""
        return self.classifier.probabilities(torch.as_tensor(np.asarray(volumes, dtype=np.float32)))


def _load_pyfunc(path: str) -> ClassifierModel:
    """MLflow's entry: ``path`` is the weights file."""
    return ClassifierModel(load_classifier(path))


def write_model(folder: Path, weights: Path, *, shape: Sequence[int], classes: int, model_id: str, run_id: str) -> None:
    """Write MLflow's folder of a model.

    Args:
        folder: Made here.
        weights: File of :func:`synthaug.classify.weights.save_classifier`; copied.
        shape: (C, X, Y, Z) of a volume.
        classes: K.
        model_id: Of the logged model.
        run_id: Of the run that it comes from.
    """
    from mlflow import pyfunc  # late: it takes half a second, and not every bench logs a model

    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("float32"), (-1, *shape))]),
        Schema([TensorSpec(np.dtype("float64"), (-1, classes))]),
    )
    pyfunc.save_model(
        folder,
        loader_module=__name__,
        data_path=weights,
        signature=signature,
        pip_requirements=[f"synthaug=={__version__}", *(f"{name}=={version(name)}" for name in LIBRARIES)],
        mlflow_model=Model(model_id=model_id, run_id=run_id),
    )
