"""Features that know the class: those of a classifier that was trained on patients whom the table does not measure."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torchio as tio
from cohorts import Cohort, Sample
from torch import nn
from versions import as_subjects

from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.augmentation import classical_augmentation
from synthaug.classify.training import train_classifier
from synthaug.classify.weights import SavedClassifier, load_classifier, save_classifier
from synthaug.config import ClassifierConfig, TrainingConfig
from synthaug.data.reading.manifest import class_counts
from synthaug.data.splits import Split, split_subjects
from synthaug.ground.files import content_hash
from synthaug.metrics.features import Extractor, module_extractor

IMAGES = ["image"]
MEASURED, CHOOSING = 0.5, 0.1
"""Shares of the people who are measured, and by whom the step of the training is chosen; the rest trains."""
CONFIG = ClassifierConfig(
    evaluate_every=25, training=TrainingConfig(steps=400, batch_size=8, learning_rate=1e-3, warmup=20)
)
"""As configs/hippocampus.yaml trains its classifier."""


def classifier_extractor(
    cohort: Cohort,
    everyone: Sample,
    *,
    logits: bool,
    cache: Path,
    seed: int,
    config: ClassifierConfig = CONFIG,
) -> tuple[Extractor, Sample]:
    """What a classifier computes for a volume, and the people it has never seen, neither side of them.

    ``logits`` are its last layer, which knows the class and nothing else; else it is the layer before.
    """
    split = deal_people(everyone, cohort.preprocess.spacing_mm, seed=seed)
    seen = [*split.train, *split.val]
    classifier = remembered_classifier(cohort, split, cache=cache, seed=seed, config=config)
    if not logits:
        classifier.network.fc = nn.Identity()
    name = f"classifier-{config.network}{' logits' if logits else ''}, trained on {len(seen)} other volumes"
    extractor = module_extractor(classifier.network, name, preprocessing=content_hash(cohort.preprocess))
    return extractor, everyone.at([subject["place"] for subject in split.test])


def deal_people(everyone: Sample, spacing_mm: Sequence[float], *, seed: int) -> Split:
    """All volumes as subjects: those to train on, to choose the step by, and to measure; people stay on one side."""
    subjects = as_subjects(everyone.volumes, everyone.labels, spacing_mm)
    for place, (subject, person) in enumerate(zip(subjects, everyone.people.tolist(), strict=True)):
        subject["place"], subject["person"] = place, person
    return split_subjects(subjects, test=MEASURED, val=CHOOSING, group="person", seed=seed)


def remembered_classifier(
    cohort: Cohort, split: Split, *, cache: Path, seed: int, config: ClassifierConfig
) -> SavedClassifier:
    """The classifier of a split, trained unless ``cache`` holds it."""
    seen = {part: _places(subjects) for part, subjects in split.parts()}
    recipe = [cohort.name, asdict(cohort.preprocess), asdict(config), seen, seed]
    file = cache / f"classifier-{cohort.name}-{content_hash(recipe)}.safetensors"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        save_classifier(file, _train(cohort, split, seed=seed, config=config))
    return load_classifier(file)


def _train(cohort: Cohort, split: Split, *, seed: int, config: ClassifierConfig) -> SavedClassifier:
    sampler = SyntheticSampler(split.train, None, batch_size=config.training.batch_size, seed=seed)
    trained = train_classifier(
        sampler.loader(transform=classical_augmentation(cohort.preprocess)),
        split.val,
        config,
        images=IMAGES,
        shape=cohort.preprocess.shape,
        seed=seed,
    )
    classes = len(class_counts(split.train))
    return SavedClassifier(trained.network, config, cohort.preprocess, IMAGES, classes, trained.temperature)


def _places(subjects: Sequence[tio.Subject]) -> list[int]:
    return [subject["place"] for subject in subjects]
