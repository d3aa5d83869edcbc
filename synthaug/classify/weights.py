"""A trained classifier as one safetensors file that says how to build and feed it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from synthaug.classify.prediction import predict_logits
from synthaug.config import ClassifierConfig, GeometryConfig, PreprocessConfig, TrainingConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.models.classifier import build_classifier
from synthaug.models.pretrained import load_strictly

KEY = "synthaug.classifier"
"""Of the file's metadata: the settings, as JSON."""


@dataclass
class SavedClassifier:
    """A classifier and what its volumes went through."""

    network: nn.Module
    """(B, C, X, Y, Z) in [0, 1] to logits (B, K)."""
    config: ClassifierConfig
    """How it was built and trained."""
    preprocess: PreprocessConfig
    """What every volume goes through first."""
    images: list[str]
    """Image names, in channel order."""
    classes: int
    """K."""
    temperature: float = 1.0
    """Divides the logits to make their probabilities honest."""

    def probabilities(self, volumes: torch.Tensor) -> np.ndarray:
        """Class probabilities (N, K) float64, before the temperature, as a study records them.

        Args:
            volumes: (N, C, X, Y, Z), preprocessed, in [0, 1].

        Raises:
            InputError: The volumes have another number of channels or another shape.
        """
        expected = (len(self.images), *self.preprocess.shape)
        if tuple(volumes.shape[1:]) != expected:
            raise InputError(f"Volumes are {tuple(volumes.shape)}; this classifier takes any number of {expected}.")
        subjects: list[Any] = [
            {name: {tio.DATA: volume[place : place + 1]} for place, name in enumerate(self.images)}
            for volume in volumes
        ]
        logits = predict_logits(self.network, subjects, self.images, flips=self.config.test_flips)
        return torch.softmax(logits.double(), dim=1).numpy()


def save_classifier(path: Path, classifier: SavedClassifier) -> None:
    """Write weights and settings to a ``.safetensors`` file in one step.

    Example:
        >>> import tempfile
        >>> config, preprocess = ClassifierConfig(channels=(4, 4, 8, 8)), PreprocessConfig(shape=(16, 16, 8))
        >>> network = build_classifier(config, in_channels=1, classes=2, shape=(16, 16, 8), seed=0)
        >>> path = Path(tempfile.mkdtemp()) / "classifier.safetensors"
        >>> save_classifier(path, SavedClassifier(network, config, preprocess, ["t2w"], classes=2))
        >>> load_classifier(path).probabilities(torch.zeros(3, 1, 16, 16, 8)).shape
        (3, 2)
    """
    settings = {
        "config": asdict(classifier.config),
        "preprocess": asdict(classifier.preprocess),
        "images": list(classifier.images),
        "classes": classifier.classes,
        "temperature": classifier.temperature,
    }
    state = {name: value.detach().cpu().contiguous() for name, value in classifier.network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={KEY: json.dumps(settings)})


def require_whole(path: Path) -> None:
    """InputError if a weights file that is there was cut or overwritten; the weights themselves are not read."""
    if not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as stream:
            whole = KEY in (stream.metadata() or {})
    except (SafetensorError, OSError):
        whole = False
    if not whole:
        raise InputError(
            f"{path}: the classifier's weights were cut or overwritten since they were saved; delete them and the "
            "record beside them to have the cell trained again."
        )


def load_classifier(path: str | Path) -> SavedClassifier:
    """Read a file of :func:`save_classifier`; no code is run from it.

    Raises:
        InputError: No such file, not such a file, or weights that do not fit the network it names.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file.")
    try:
        with safe_open(path, framework="pt") as stream:
            settings = json.loads((stream.metadata() or {})[KEY])
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
        training = TrainingConfig(**settings["config"]["training"])
        moves: dict[str, Any] = settings["config"].get("geometry", {})  # files of before there was one have none
        moves |= {key: tuple(moves[key]) for key in ("zooms", "rotations_deg") if key in moves}
        config = ClassifierConfig(**{**settings["config"], "training": training, "geometry": GeometryConfig(**moves)})
        preprocess = PreprocessConfig(**{**settings["preprocess"], "shape": tuple(settings["preprocess"]["shape"])})
        images, classes, temperature = settings["images"], settings["classes"], settings["temperature"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a classifier's safetensors file ({type(error).__name__}: {error}).") from error
    network = build_classifier(config, in_channels=len(images), classes=classes, shape=preprocess.shape, seed=0)
    load_strictly(network, state, source=str(path))
    return SavedClassifier(network.eval(), config, preprocess, images, classes, temperature)
