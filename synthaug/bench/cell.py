"""Run one cell: train a classifier on its regime, test it once, keep every patient's prediction."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from synthaug.augment.sampler import SyntheticSampler
from synthaug.bench.grid import Cell
from synthaug.bench.preparation import Study
from synthaug.classify.prediction import predict_logits
from synthaug.classify.training import classical_augmentation, train_classifier
from synthaug.files import read_json, write_json
from synthaug.metrics.classification import classification_metrics
from synthaug.models.optimisation import OnStep


def cell_path(out: Path, cell: Cell) -> Path:
    """Where a finished cell's record lies."""
    return out / "cells" / f"{cell.id}.json"


def run_cell(cell: Cell, study: Study, *, on_step: OnStep | None = None) -> dict[str, Any]:
    """The record of a cell, computed or, when it was finished before, read.

    Returns:
        regime, seed, numbers of training subjects, metrics, chosen step, history, seconds, and for each test
        subject its id, patient, label and class probabilities.
    """
    path = cell_path(study.out, cell)
    if path.is_file():
        return read_json(path)
    config = study.config
    started = time.monotonic()
    sampler = SyntheticSampler(
        study.split.train,
        None if cell.synthetic_fraction is None else study.pool,
        batch_size=config.classifier.training.batch_size,
        synthetic_fraction=cell.synthetic_fraction,
        seed=cell.seed,
    )
    transform = classical_augmentation(config.preprocess) if config.classifier.augment else None
    trained = train_classifier(
        sampler.loader(transform=transform),
        study.split.val,
        config.classifier,
        images=config.data.images,
        shape=config.preprocess.shape,
        seed=cell.seed,
        on_step=on_step,
    )
    logits = predict_logits(trained.network, study.split.test, config.data.images)
    probabilities = torch.softmax(logits.double(), dim=1)
    labels = torch.tensor([subject["label"] for subject in study.split.test])
    record = {
        **asdict(cell),
        "n_train_real": sum(sampler.real.values()),
        "n_train_synthetic": sum(sampler.synthetic.values()),
        "steps": config.classifier.training.steps,
        "chosen_step": trained.chosen_step,
        "metrics": classification_metrics(labels.numpy(), probabilities.numpy()),
        "history": trained.history,
        "seconds": round(time.monotonic() - started, 1),
        "predictions": [
            {
                "subject_id": subject["subject_id"],
                "patient_id": subject["patient_id"],
                "label": subject["label"],
                "probabilities": row,
            }
            for subject, row in zip(study.split.test, probabilities.tolist(), strict=True)
        ],
    }
    write_json(path, record)
    return record
