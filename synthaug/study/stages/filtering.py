"""Which volumes of a pool classifiers train on: those that rank first in their class by a measure.

Measures use the training patients, and validation patients to choose the step of a classifier. Test patients are not
used.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist

from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.augmentation import classical_batches
from synthaug.classify.prediction import predict_logits
from synthaug.classify.training import train_classifier
from synthaug.config import ClassifierConfig, TrainingConfig
from synthaug.data.reading.manifest import class_counts
from synthaug.ground.files import content_hash, read_json, write_json
from synthaug.metrics.features import seeded_extractor
from synthaug.metrics.realism.two_sample import realism_scores
from synthaug.metrics.volumes import VolumeSet
from synthaug.pool.pool import SyntheticPool
from synthaug.study.stages.preparation import Study

FOLDER = "filters"
"""In a study's folder: the scores of its pools' volumes, by id."""
AUDITOR = ClassifierConfig(
    loss="cross_entropy",
    augment=["rotate", "translate"],
    evaluate_every=25,
    training=TrainingConfig(steps=200, batch_size=8, learning_rate=1e-3, warmup=20),
)
"""The classifier that judges agreement: one for all cells, whatever classifiers they train."""


def filtered(study: Study, pool: SyntheticPool) -> SyntheticPool:
    """The volumes of a pool that the study's filter keeps; scores are computed once and kept in the study's folder.

    Raises:
        InputError: There are too few training patients to measure by.
    """
    settings = study.config.pool
    if settings.filter == "none":
        return pool
    scores = _scores(study, pool)
    kept: set[str] = set()
    for label in pool.classes:
        ids = [entry["id"] for entry in pool.entries(label)]
        ranked = sorted(ids, key=lambda name: (-scores[name], name))
        kept.update(ranked[: math.ceil(settings.keep * len(ids) - 1e-9)])
    return pool.only(kept)


def _scores(study: Study, pool: SyntheticPool) -> dict[str, float]:
    """Score of each volume by its id; higher = kept first."""
    named = {**study.filter_identity["filter"], "keep": None, "pool": pool.identity}
    path = study.out / FOLDER / f"{content_hash(named)}.json"
    if not path.is_file():
        ids = [entry["id"] for label in pool.classes for entry in pool.entries(label)]
        values = MEASURES[study.config.pool.filter](study, pool)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(zip(ids, values.tolist(), strict=True)))
    return read_json(path)


def agreement(study: Study, pool: SyntheticPool, auditor: ClassifierConfig = AUDITOR) -> np.ndarray:
    """Log-odds of each volume's own class, by a classifier of the real training patients."""
    images = study.config.data.images
    classes = len(class_counts(study.split.train))
    sampler = SyntheticSampler(study.split.train, None, batch_size=auditor.batch_size(classes), seed=0, rank=0, ranks=1)
    moves = classical_batches(study.config.preprocess, images, auditor.moves)
    trained = train_classifier(
        sampler.loader(batch_transform=moves),
        study.split.val,
        auditor,
        images=images,
        shape=study.config.preprocess.shape,
        seed=0,
    )
    subjects = list(pool.subjects())
    odds = predict_logits(trained.network, subjects, images).double().log_softmax(dim=1).numpy()
    own = odds[np.arange(len(subjects)), [subject["label"] for subject in subjects]]
    return own - np.log(np.maximum(-np.expm1(own), 1e-12))


def realism(study: Study, pool: SyntheticPool) -> np.ndarray:
    """The probability that each volume is a real training volume, by texture statistics, cross-validated."""
    images = study.config.data.images
    return realism_scores(VolumeSet.of(study.split.train, images), VolumeSet.of(list(pool.subjects()), images))


def distance(study: Study, pool: SyntheticPool) -> np.ndarray:
    """Distance of each volume's features to those of the nearest training volume."""
    images = study.config.data.images
    extractor = seeded_extractor(channels=len(images))
    known, drawn = (
        extractor.features(VolumeSet.of(subjects, images)) for subjects in (study.split.train, list(pool.subjects()))
    )
    spread = np.maximum(known.std(axis=0), 1e-12)
    return cdist(drawn / spread, known / spread).min(axis=1)


MEASURES: dict[str, Callable[[Study, SyntheticPool], np.ndarray]] = {
    "agreement": agreement,
    "realism": realism,
    "distance": distance,
}
"""Values of ``pool.filter`` and what ranks by them."""
