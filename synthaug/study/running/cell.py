"""Run one cell: train a classifier on its regime, test it once, keep every patient's prediction."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synthaug.augment.batches import ShuffledSampler
from synthaug.augment.loading import BatchTransform
from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.augmentation import LabelledAugmentation, classical_batches
from synthaug.classify.calibration import apply_temperature
from synthaug.classify.prediction import predict_logits
from synthaug.classify.training import (
    Pretraining,
    TrainedClassifier,
    told_by_main,
    train_classifier,
)
from synthaug.classify.weights import SavedClassifier, require_whole, save_classifier
from synthaug.config import DataConfig
from synthaug.data.reading.manifest import class_counts
from synthaug.ground.files import write_json
from synthaug.metrics.classification import brier, calibration_error, classification_metrics
from synthaug.models.training.optimisation import OnStep
from synthaug.models.training.processes import processes
from synthaug.pool.pool import SyntheticPool
from synthaug.study.grid import Cell
from synthaug.study.records import CellRecord, Prediction
from synthaug.study.stages.leaks import SAME_COHORT
from synthaug.study.stages.preparation import Study

CONTEXTS = {"train": "training", "val": "validation", "test": "test"}
"""What a part of the split is for, in MLflow's words."""


def cell_path(out: Path, cell: Cell) -> Path:
    """Where a finished cell's record lies."""
    return out / "cells" / f"{cell.id}.json"


def weights_path(out: Path, cell: Cell) -> Path:
    """Where the classifier of a finished cell lies."""
    return cell_path(out, cell).with_suffix(".safetensors")


def run_cell(
    cell: Cell, study: Study, pool: SyntheticPool | None = None, *, on_step: OnStep | None = None
) -> CellRecord:
    """The record of a cell, computed or, when it was finished before, read.

    Processes that train together (``torchrun``) call it together; the main one writes.

    Args:
        cell: The cell.
        study: Its data.
        pool: Its synthetic volumes; None for cells of real data.
        on_step: Called after each training step.
    """
    path = cell_path(study.out, cell)
    # Asked once for all, so that no process finds what another has just written and leaves it to train alone.
    found = told_by_main(CellRecord.read(path) if path.is_file() else None)
    if found is not None:
        require_whole(weights_path(study.out, cell))
        return replace(found, **cell.describe())
    started = time.monotonic()
    finetuned = cell.regime == "finetuned"
    sampler = _sampler(cell, study, pool, fraction=None if finetuned else cell.synthetic_fraction)
    first = _sampler(cell, study, pool, fraction=1.0) if finetuned else None
    trained = _train(cell, study, sampler, first, on_step)
    if processes().is_main_process:
        _save_weights(cell, study, trained)  # before the record, which says that the cell is finished
    record = CellRecord(
        **cell.describe(),
        **_training_facts(cell, study, pool, sampler, first),
        steps_made=trained.steps,
        chosen_step=trained.chosen_step,
        temperature=trained.temperature,
        history=tuple(trained.history),
        **_test(cell, study, trained),
        seconds=round(time.monotonic() - started, 1),
    )
    if processes().is_main_process:
        write_json(path, record.to_json())
    return record


def _training_facts(
    cell: Cell, study: Study, pool: SyntheticPool | None, sampler: SyntheticSampler, first: SyntheticSampler | None
) -> dict[str, Any]:
    """What a record says of whom a cell was trained on, and for how long."""
    real, held = sum(sampler.real.values()), {} if pool is None else pool.counts
    # An epoch repeats the volumes of a small pool.
    synthetic = sum(min(count, held.get(label, 0)) for label, count in (first or sampler).synthetic.items())
    return {
        # Nothing but the training patients is behind a classifier of real data, whatever the generators of others saw.
        "protocol": SAME_COHORT if cell.synthetic_fraction is None else study.protocol,
        "n_train": len({subject["patient_id"] for subject in study.split.train}),
        "n_train_real": real,
        "n_train_synthetic": synthetic,
        "steps": cell.config.classifier.training.steps,
        "batch_size": sampler.batch_size,
        "pretrain_steps": _pretraining_steps(cell),
        "datasets": tuple(describe_inputs(study, pool if synthetic else None, real=real > 0, pool_id=cell.pool_id)),
    }


def _pretraining_steps(cell: Cell) -> int:
    """Steps on synthetic data before the others; at least one of each kind."""
    if cell.regime != "finetuned" or cell.synthetic_fraction is None:
        return 0
    steps = cell.config.classifier.training.steps
    return min(max(round(cell.synthetic_fraction * steps), 1), steps - 1)


def _sampler(cell: Cell, study: Study, pool: SyntheticPool | None, *, fraction: float | None) -> SyntheticSampler:
    """Batches with a share of synthetic subjects: exactly balanced, or (for class weights, or for nothing) as the set
    is."""
    config = cell.config.classifier
    kind = SyntheticSampler if config.balance == "oversampled" else ShuffledSampler
    return kind(
        study.split.train,
        None if fraction is None else pool,
        batch_size=config.batch_size(len(class_counts(study.split.train))),
        synthetic_fraction=fraction,
        seed=cell.training_seed,
        # Whole batches in every process: the training loop gives each its share of them.
        rank=0,
        ranks=1,
    )


def _train(
    cell: Cell, study: Study, sampler: SyntheticSampler, first: SyntheticSampler | None, on_step: OnStep | None
) -> TrainedClassifier:
    config = cell.config.classifier
    augmentation = _augmentation(cell, study)
    pretraining = None
    if first is not None:
        pretraining = Pretraining(first.loader(batch_transform=augmentation), _pretraining_steps(cell), _counts(first))
    return train_classifier(
        sampler.loader(batch_transform=augmentation),
        study.split.val,
        config,
        images=study.config.data.images,
        shape=study.config.preprocess.shape,
        seed=cell.training_seed,
        class_counts=_counts(sampler),
        pretraining=pretraining,
        checkpoint=cell_path(study.out, cell).with_suffix(".checkpoint"),
        on_step=on_step,
    )


def _augmentation(cell: Cell, study: Study) -> BatchTransform | None:
    config, preprocessing = cell.config.classifier, study.config.preprocess
    images = study.config.data.images
    if config.augment == "labelled":
        return LabelledAugmentation(study.relabeller(config.geometry, texts=False), images, preprocessing.spacing_mm)
    return classical_batches(preprocessing, images, config.moves) if config.moves else None


def _counts(sampler: SyntheticSampler) -> dict[int, int]:
    return {label: sampler.real[label] + sampler.synthetic[label] for label in sampler.real}


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
        "predictions": tuple(
            Prediction(subject["subject_id"], subject["patient_id"], subject["label"], tuple(row))
            for subject, row in zip(subjects, probabilities.tolist(), strict=True)
        ),
    }


def describe_inputs(study: Study, pool: SyntheticPool | None, *, real: bool, pool_id: str) -> list[dict[str, Any]]:
    """A row for each set of volumes behind a cell: context (training, validation, test), name, digest, source, classes.

    Args:
        study: The data.
        pool: The synthetic volumes that the classifier trained on; None = none.
        real: Whether it trained on the real training set.
        pool_id: Names the pool.

    Returns:
        The digest is the content hash of the set. The source is a path, relative for a pool in the study's folder, and
        None for phantoms. Classes count the volumes by label.
    """
    config = study.config
    rows = [
        {
            "context": CONTEXTS[part],
            "name": f"{_name_of(config.data)} {part}",
            "digest": study.part_ids[part],
            "source": None if config.data.root is None else str(Path(config.data.root, config.data.manifest).resolve()),
            "classes": _by_label(class_counts(group)),
        }
        for part, group in study.split.parts()
        if real or part != "train"
    ]
    if pool:
        given = config.pool.path
        rows.insert(
            int(real),
            {
                "context": "training",
                "name": "synthetic pool",
                "digest": pool_id,
                "source": str(Path(given).resolve()) if given else pool.path.name,
                "classes": _by_label(pool.counts),
            },
        )
    return rows


def _name_of(data: DataConfig) -> str:
    return "phantoms" if data.root is None else Path(data.root).resolve().name


def _by_label(counts: dict[int, int]) -> dict[str, int]:
    return {str(label): count for label, count in counts.items()}
