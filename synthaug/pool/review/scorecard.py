"""The scorecard of a pool is filled: each entry is a figure that is computed here, or what is missing to compute it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torchio as tio

from synthaug.classify.weights import SavedClassifier
from synthaug.data.reading.manifest import stack_images
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.record import patients_known, versions
from synthaug.generate.stored.told import cut_reports
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.metrics.comparison import ALL, ImageReport, compare_images
from synthaug.metrics.distances.estimates import metrics_for
from synthaug.metrics.fidelity import class_fidelity
from synthaug.metrics.realism.judgement import ENOUGH
from synthaug.pool.ledger import Entry as Volume
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.review.audit import find_obstacle
from synthaug.pool.review.criteria import CRITERIA, Entry, Scorecard
from synthaug.pool.verdicts import Verdicts

DOCUMENTED = ("checkpoint", "preprocessing", "prompts", "labels", "sampling", "seed", "trained_on_patients")
"""Keys of a pool's header without which a volume could not be made again, or its origin not be told."""
NEED_REAL = "real volumes that the generator never saw: --data.root and --split.file"
NEED_MORE = "more volumes: {} a side"
NEED_GENERATOR = "the generator's folder: --generator"


@dataclass(frozen=True)
class RealSide:
    """Real subjects, preprocessed as the pool's volumes are."""

    held_out: Sequence[tio.Subject]
    """The generator never saw them."""
    training: Sequence[tio.Subject] = ()
    """It was trained on them."""


def score_pool(
    pool: SyntheticPool,
    *,
    real: RealSide | None = None,
    generator: CCELLAPipeline | None = None,
    auditor: SavedClassifier | None = None,
    resamples: int = 200,
) -> Scorecard:
    """Fill the card with all that can be computed from what is given.

    Args:
        pool: Any pool.
        real: Real subjects; None = entries that need them are not measured.
        generator: That drew the pool; tells licence, card and how long a report may be.
        auditor: A classifier of real volumes that judges the class.
        resamples: Half-samples behind an interval of a distance.

    Raises:
        InputError: The pool is empty or a volume was altered, or generator, auditor or real subjects do not fit it.
    """
    if not len(pool):
        raise InputError(f"{pool.path}: the pool has no volumes; build it first.")
    if generator is not None and generator.fingerprint != pool.header["checkpoint"]:
        raise InputError(
            f"{pool.path}: was drawn by generator {pool.header['checkpoint']}, not by {generator.fingerprint}; give "
            "the folder of the former."
        )
    report = _compared(pool, real, resamples=resamples)
    entries = [
        *_distribution(report, real, pool),
        *_constraints(pool, auditor),
        *_completeness(pool, generator),
        *_compliance(pool, real, report, generator),
        *_comprehension(pool, generator),
        *_consistency(pool, report),
    ]
    facts = {
        "volumes of each class": {str(label): count for label, count in pool.counts.items()},
        "images": pool.images,
        "shape": pool.header["shape"],
        "spacing_mm": pool.header["spacing_mm"],
        "generator": pool.header["checkpoint"],
        "identity": pool.identity,
        "real volumes": len(real.held_out) if real else 0,
        "training volumes": len(real.training) if real else 0,
        "extractor": report.extractor if report else "",
        "versions": versions(),
    }
    order = list(CRITERIA)
    return Scorecard(pool.path.name, facts, sorted(entries, key=lambda entry: order.index(entry.criterion)))


def _compared(pool: SyntheticPool, real: RealSide | None, *, resamples: int) -> ImageReport | None:
    """Synthetic against real volumes; None where there are none, or too few for any distance."""
    if real is None or not metrics_for(min(len(real.held_out), len(pool))):
        return None
    looks_for_copies = real.training and find_obstacle(pool, real.training, real.held_out) is None
    return compare_images(
        real.held_out,
        list(pool.subjects()),
        images=pool.images,
        training=real.training if looks_for_copies else None,
        resamples=resamples,
    )


def _distribution(report: ImageReport | None, real: RealSide | None, pool: SyntheticPool) -> Iterator[Entry]:
    """Distances, realism and variety."""
    few = NEED_REAL if real is None else NEED_MORE.format(4)
    distances = {
        "fid": ("congruence", "Fréchet distance of features"),
        "kid": ("congruence", "kernel distance of features, unbiased"),
        "recall": ("coverage", "share of real volumes that lie among synthetic ones"),
        "coverage": ("coverage", "share of real volumes with a synthetic one near"),
        "precision": ("constraint", "share of synthetic volumes that lie among real ones"),
    }
    found = report.distances[ALL] if report else {}
    for name, (criterion, meaning) in distances.items():
        result = found.get(name)
        if result is None:
            yield Entry(criterion, name, meaning, needs=few if report is None else NEED_MORE.format(12))
            continue
        yield Entry(criterion, name, meaning, result.value, result.ci_low, result.ci_high, result.floor)
    told = "AUROC of real against synthetic volumes by texture statistics; 0.5 = cannot be told apart"
    judged = report.realism if report else None
    if judged is None or judged.statistics is None or min(judged.n_real, judged.n_synthetic) < ENOUGH:
        yield Entry("congruence", "realism", told, needs=NEED_REAL if real is None else NEED_MORE.format(ENOUGH))
    else:
        part, floor = judged.statistics, judged.statistics_floor
        yield Entry("congruence", "realism", told, part.value, part.low, part.high, floor.value if floor else None)
    similar = (report.similarities.get(ALL, {}) if report else {}).get
    told = "mean MS-SSIM of pairs of synthetic volumes, beside that of real ones; lower = more variety"
    own, theirs = similar("synthetic"), similar("real")
    if own is None:
        yield Entry("coverage", "similarity", told, needs=few)
    else:
        reference = theirs.value if theirs else None
        yield Entry("coverage", "similarity", told, own.value, own.ci_low, own.ci_high, reference)
    reports = [volume["recipe"]["report"] for volume in _volumes(pool)]
    yield Entry("coverage", "different_reports", "share of reports that differ", len(set(reports)) / len(reports))


def _constraints(pool: SyntheticPool, auditor: SavedClassifier | None) -> Iterator[Entry]:
    """Classes and intensities, volume by volume."""
    inside, probabilities = [], []
    for subject in pool.subjects():
        volume = stack_images(subject, pool.images).float()
        inside.append(bool(volume.isfinite().all() and volume.min() >= 0 and volume.max() <= 1))
        if auditor is not None:
            probabilities.append(auditor.probabilities(volume[None])[0])
    yield Entry(
        "constraint", "intensities", "share of volumes that are finite and within [0, 1]", float(np.mean(inside))
    )
    read = [volume["class_probabilities"] for volume in _volumes(pool)]
    told = "share of volumes whose report the generator reads as the requested class"
    if all(read):
        asked = [volume["recipe"].get("requested_class", volume["label"]) for volume in _volumes(pool)]
        agreed = float(np.mean([int(np.argmax(each)) == label for each, label in zip(read, asked, strict=True)]))
        yield Entry("constraint", "class_read", told, agreed)
    else:
        yield Entry("constraint", "class_read", told, needs="a generator that reads a class from the report")
    told = "share of volumes in which a classifier of real volumes sees the requested class"
    if auditor is None:
        yield Entry("constraint", "class_seen", told, needs="a classifier of real volumes: --classifier")
        return
    lines = [subject["provenance"] for subject in pool.subjects()]
    share, low, high = class_fidelity(lines, np.array(probabilities)).agreement["requested against audited"]
    yield Entry("constraint", "class_seen", told, share, low, high)


def _completeness(pool: SyntheticPool, generator: CCELLAPipeline | None) -> Iterator[Entry]:
    summary, bad = pool.summary(), pool.bad_files()
    requested, kept = (sum(summary[name].values()) for name in ("requested", "kept"))
    yield Entry("completeness", "filled", "volumes kept, as a share of those requested", kept / requested)
    files = sum(len(volume["files"]) for volume in _volumes(pool))
    yield Entry("completeness", "whole", "share of files that are as they were written", 1 - len(bad) / files)
    reports = [volume["recipe"]["report"] for volume in _volumes(pool)]
    yield Entry("completeness", "reports", "share of volumes with a report", float(np.mean([*map(bool, reports)])))
    told = "share of different reports that were longer than the generator reads"
    if generator is None:
        yield Entry("completeness", "cut_reports", told, needs=NEED_GENERATOR)
    elif generator.denoiser.conditioning.text:
        cut = cut_reports(generator.tokenizer, reports) / len(set(reports))
        yield Entry("completeness", "cut_reports", told, cut)


def _compliance(
    pool: SyntheticPool, real: RealSide | None, report: ImageReport | None, generator: CCELLAPipeline | None
) -> Iterator[Entry]:
    told = "share of volumes that are called copies of training patients, beside that of unseen patients"
    copies, verdicts = report.copies if report else None, Verdicts.read(pool.path)
    if copies:
        share, low, high = copies.share()
        yield Entry("compliance", "copies", told, share, low, high, copies.expected_false_alarms)
        nearest = "median correlation with the nearest training volume, beside that from which it is called a copy"
        value, limit = float(np.median(copies.correlation)), copies.correlation_limit
        yield Entry("compliance", "nearest_training", nearest, value, reference=limit)
    else:
        obstacle = real and find_obstacle(pool, real.training, real.held_out)
        needs = obstacle or "the generator's training patients and others: --data.root and --split.file"
        if verdicts is not None:  # of an earlier audit, which lies beside the pool
            marked = len(verdicts.copies_among([volume["id"] for volume in _volumes(pool)])) / len(pool)
            yield Entry("compliance", "copies", f"{told}; by the audit beside the pool", marked)
        else:
            yield Entry("compliance", "copies", told, needs=needs)
    yield Entry(
        "compliance",
        "membership",
        "AUROC of telling training patients from others by the generator, beside a blind generator",
        needs="generators trained around known people: benchmarks/studies/privacy/run.py",
    )
    known = patients_known(pool.header)
    people = f"{len(pool.header['trained_on_patients'])} patients, by hash" if known else "not known"
    yield Entry("compliance", "training_patients", "whom the generator was trained on", people)
    told = "licence of the generator's weights"
    if generator is None:
        yield Entry("compliance", "licence", told, needs=NEED_GENERATOR)
    else:
        yield Entry("compliance", "licence", told, str(generator.record.get("license") or "none recorded"))


def _comprehension(pool: SyntheticPool, generator: CCELLAPipeline | None) -> Iterator[Entry]:
    documented = float(np.mean([bool(pool.header.get(key)) or pool.header.get(key) == 0 for key in DOCUMENTED]))
    yield Entry("comprehension", "documented", f"share written down of: {', '.join(DOCUMENTED)}", documented)
    origin = pool.header["prompts"].get("policy", "not recorded")
    yield Entry("comprehension", "prompts", "where the reports come from", str(origin))
    yield Entry("comprehension", "labels", "what a volume's class is", str(pool.header["labels"]))
    told = "what the generator's card measured"
    if generator is None:
        yield Entry("comprehension", "model_card", told, needs=NEED_GENERATOR)
    else:
        measured = generator.record.get("evaluation") or {}
        yield Entry("comprehension", "model_card", told, str(measured.get("summary") or "nothing"))


def _consistency(pool: SyntheticPool, report: ImageReport | None) -> Iterator[Entry]:
    counts, doubts = pool.counts, pool.doubts()
    balance = min(counts.values()) / max(counts.values())
    yield Entry("consistency", "class_balance", "volumes of the rarest class over those of the commonest", balance)
    told = "largest Fréchet distance of a class over the smallest"
    by_class = [found["fid"].value for group, found in (report.distances if report else {}).items() if group != ALL]
    if len(by_class) > 1 and min(by_class) > 0:
        yield Entry("consistency", "distance_by_class", told, max(by_class) / min(by_class))
    else:
        yield Entry("consistency", "distance_by_class", told, needs="4 real and synthetic volumes of each class")
    own = np.mean([content_hash(volume["recipe"]) == volume["id"] for volume in _volumes(pool)])
    yield Entry("consistency", "own_recipe", "share of volumes whose id is the hash of their recipe", float(own))
    unlike = doubts["unlike"] / len(pool)
    yield Entry("consistency", "unlike_reports", "share of reports unlike those of the generator's training", unlike)


def _volumes(pool: SyntheticPool) -> list[Volume]:
    return [volume for label in pool.classes for volume in pool.entries(label)]
