"""Run one cell: train a classifier on its regime, test it once, keep every patient's prediction."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synthaug.augment.sampler import SyntheticSampler
from synthaug.bench.batches import ShuffledSampler
from synthaug.bench.grid import Cell
from synthaug.bench.inputs import describe_inputs
from synthaug.bench.preparation import Study
from synthaug.classify.calibration import apply_temperature
from synthaug.classify.prediction import predict_logits
from synthaug.classify.training import TrainedClassifier, classical_augmentation, train_classifier
from synthaug.classify.weights import SavedClassifier, save_classifier
from synthaug.config import Config
from synthaug.data.manifest import class_counts
from synthaug.files import read_json, write_json
from synthaug.metrics.classification import brier, calibration_error, classification_metrics
from synthaug.models.optimisation import OnStep


def cell_path(out: Path, cell: Cell) -> Path:
    """Where a finished cell's record lies."""
    return out / "cells" / f"{cell.id}.json"


def weights_path(out: Path, cell: Cell) -> Path:
    """Where the classifier of a finished cell lies."""
    return cell_path(out, cell).with_suffix(".safetensors")


def protocol_of(config: Config) -> str:
    """Whom the generator was trained on: the classifier's training patients only, or others too."""
    return "other cohort" if config.generator.pretrained or config.pool.path else "same cohort"


def run_cell(cell: Cell, study: Study, *, on_step: OnStep | None = None) -> dict[str, Any]:
    """The record of a cell, computed or, when it was finished before, read.

    Returns:
        regime, seed, settings, numbers of training subjects, protocol, metrics, temperature, chosen step, history,
        seconds, and for each test subject its id, patient, label and class probabilities (before the temperature).
    """
    path = cell_path(study.out, cell)
    if path.is_file():
        return {**read_json(path), **cell.describe()}
    started = time.monotonic()
    sampler = _sampler(cell, study)
    trained = _train(cell, study, sampler, on_step)
    _save_weights(cell, study, trained)  # before the record, which says that the cell is finished
    patients = {subject["patient_id"] for subject in study.split.train}
    record = {
        **cell.describe(),
        "protocol": protocol_of(cell.config),
        "augment": cell.config.classifier.augment,
        "n_train": len(patients),
        "n_train_real": sum(sampler.real.values()),
        "n_train_synthetic": sum(sampler.synthetic.values()),
        "steps": cell.config.classifier.training.steps,
        "steps_made": trained.steps,
        "chosen_step": trained.chosen_step,
        "temperature": trained.temperature,
        "history": trained.history,
        "datasets": describe_inputs(
            study, real=sum(sampler.real.values()) > 0, synthetic=sum(sampler.synthetic.values()) > 0
        ),
        **_test(cell, study, trained),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(path, record)
    return record


def _sampler(cell: Cell, study: Study) -> SyntheticSampler:
    """Batches of the cell's regime: exactly balanced, or (for class weights, or for nothing) as the set is."""
    config = cell.config.classifier
    kind = SyntheticSampler if config.balance == "oversampled" else ShuffledSampler
    return kind(
        study.split.train,
        None if cell.synthetic_fraction is None else study.pool,
        batch_size=config.training.batch_size,
        synthetic_fraction=cell.synthetic_fraction,
        seed=cell.seed,
    )


def _train(cell: Cell, study: Study, sampler: SyntheticSampler, on_step: OnStep | None) -> TrainedClassifier:
    config = cell.config.classifier
    transform = classical_augmentation(study.config.preprocess) if config.augment else None
    return train_classifier(
        sampler.loader(transform=transform),
        study.split.val,
        config,
        images=study.config.data.images,
        shape=study.config.preprocess.shape,
        seed=cell.seed,
        class_counts={label: sampler.real[label] + sampler.synthetic[label] for label in sampler.real},
        checkpoint=cell_path(study.out, cell).with_suffix(".checkpoint"),
        on_step=on_step,
    )


def _save_weights(cell: Cell, study: Study, trained: TrainedClassifier) -> None:
    saved = SavedClassifier(
        trained.network,
        cell.config.classifier,
        study.config.preprocess,
        study.config.data.images,
        classes=len(class_counts(study.split.val)),
        temperature=trained.temperature,
    )
    save_classifier(weights_path(study.out, cell), saved)


def _test(cell: Cell, study: Study, trained: TrainedClassifier) -> dict[str, Any]:
    """Metrics and predictions on the test subjects, which are looked at here and nowhere else."""
    subjects = study.split.test
    logits = predict_logits(
        trained.network, subjects, study.config.data.images, flips=cell.config.classifier.test_flips
    )
    probabilities = torch.softmax(logits.double(), dim=1).numpy()
    labels = np.array([subject["label"] for subject in subjects])
    # What ranks and decides is left as it is; only where the confidence itself is judged does the temperature count.
    calibrated = apply_temperature(probabilities, trained.temperature)
    honest = {"brier": brier(labels, calibrated), "ece": calibration_error(labels, calibrated)}
    return {
        "metrics": classification_metrics(labels, probabilities)
        | {f"{name}_calibrated": value for name, value in honest.items()},
        "predictions": [
            {
                "subject_id": subject["subject_id"],
                "patient_id": subject["patient_id"],
                "label": subject["label"],
                "probabilities": row,
            }
            for subject, row in zip(subjects, probabilities.tolist(), strict=True)
        ],
    }
