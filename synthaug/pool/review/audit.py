"""Audit of a pool for copies of training patients; its result lies beside the pool."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torchio as tio
from matplotlib.figure import Figure

from synthaug.config import MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, write_json
from synthaug.ground.people import hashes_of, patient_hash
from synthaug.metrics.copies.memorisation import LEFT_RIGHT, CopyAudit, CopyDetector
from synthaug.metrics.features import Extractor, seeded_extractor
from synthaug.metrics.volumes import VolumeSet
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.review.slices import SHOWN, draw_slice, require_png
from synthaug.pool.verdicts import AUDIT, Verdicts

LEAST_HELD_OUT = 9
"""With n held-out patients the false-alarm rate can be bounded by 3 / (n + 1): with nine, by 0.3."""


def audit_pool(
    pool: SyntheticPool,
    training: Sequence[tio.Subject],
    held_out: Sequence[tio.Subject],
    *,
    extractor: Extractor | None = None,
    false_alarms: float = 0.01,
    drop: bool = False,
    pictures: str | Path | None = None,
) -> CopyAudit:
    """Compare each volume of a pool with the generator's training patients and mark copies in ``audit.json``.

    The file names training patients by hash only, so that the pool can be shared with it. Pictures show patients and
    are drawn on request only. A pool that excludes copies still does after another audit.

    Args:
        pool: The pool; its volumes are not modified.
        training: Training patients of the generator, preprocessed as its volumes are.
        held_out: Real subjects of other patients, preprocessed alike, from which the limits are set.
        extractor: Features in which distances are measured; None = the seeded extractor.
        false_alarms: Share of unseen real patients that may be called copies, in (0, 1).
        drop: Exclude the copies whenever the pool is opened.
        pictures: PNG file in which each copy is drawn beside its original.

    Returns:
        The audit, in the order of ``subjects()`` of the whole pool.

    Raises:
        InputError: ``pictures`` is no PNG; or as :func:`find_copies`.
    """
    if pictures is not None:
        require_png(pictures)
    pool, earlier = SyntheticPool.open(pool.path, whole=True), Verdicts.read(pool.path)
    extractor = extractor or seeded_extractor(channels=len(pool.images))
    audit = find_copies(pool, training, held_out, extractor=extractor, false_alarms=false_alarms)
    dropped = drop or (earlier is not None and earlier.dropped)
    write_json(pool.path / AUDIT, _record(pool, audit, extractor, training) | {"dropped": dropped})
    if pictures is not None and audit.copies.any():
        _draw_pairs(Path(pictures), pool, training, audit)
    return audit


def find_copies(
    pool: SyntheticPool,
    training: Sequence[tio.Subject],
    held_out: Sequence[tio.Subject],
    *,
    extractor: Extractor,
    false_alarms: float = 0.01,
) -> CopyAudit:
    """As :func:`audit_pool`, of the volumes of the open pool, without writing.

    Raises:
        InputError: A patient is on both sides; or as :func:`find_obstacle` and :class:`CopyDetector`.
    """
    shared = {subject["patient_id"] for subject in training} & {subject["patient_id"] for subject in held_out}
    if shared:
        raise InputError(f"Patient {min(shared)!r} is both a training and a held-out patient: split them first.")
    obstacle = find_obstacle(pool, training, held_out)
    if obstacle:
        raise InputError(f"{pool.path}: {obstacle}")
    known, unseen, drawn = (VolumeSet.of(part, pool.images) for part in (training, held_out, list(pool.subjects())))
    return CopyDetector(known, unseen, extractor, false_alarms=false_alarms).audit(drawn)


def find_obstacle(pool: SyntheticPool, training: Sequence[tio.Subject], held_out: Sequence[tio.Subject]) -> str | None:
    """Why an audit of the pool against these patients would say nothing, in one sentence; None = it says something."""
    if not len(pool):
        return "the pool has no volumes to audit; build it first."
    patients = len({subject["patient_id"] for subject in held_out})
    if patients < LEAST_HELD_OUT:
        return (
            f"{patients} held-out patients are too few to tell copies from likenesses; "
            f"hold out at least {LEAST_HELD_OUT} (split.val and split.test)."
        )
    seen = pool.header["trained_on_patients"]
    if seen and not _hashes(training) & set(seen):
        return (
            f"its generator was trained on {len(seen)} other patients, none of them here, and copies could not be "
            "found. Give the data and split that it was trained on."
        )
    return None


def measure_copies(
    pool: SyntheticPool, training: Sequence[tio.Subject], held_out: Sequence[tio.Subject], config: MetricsConfig
) -> dict[str, Any]:
    """Share of copies with its interval, as a row of the image metrics and as a sentence.

    Raises:
        InputError: As :func:`find_copies`.
    """
    extractor = seeded_extractor(channels=len(pool.images), seed=config.extractor_seed)
    audit = find_copies(pool, training, held_out, extractor=extractor)
    share, low, high = audit.share(config.confidence)
    return {
        "metric": "copies",
        "value": share,
        "ci_low": low,
        "ci_high": high,
        "false_alarms": audit.false_alarms,
        "expected_false_alarms": audit.expected_false_alarms,
        "n_real": audit.n_training,
        "n_held_out": audit.n_held_out,
        "n_synthetic": len(audit.copies),
        "n_not_compared": _count_not_compared(pool, training),
        "larger_is_better": False,
        "fingerprint": audit.fingerprint,
        "extractor": extractor.name,
        "sentence": tell_copies(pool, audit, training, confidence=config.confidence),
        "nearest": _nearest_of_first(pool, audit, training),
    }


def _nearest_of_first(pool: SyntheticPool, audit: CopyAudit, training: Sequence[tio.Subject]) -> list[dict[str, Any]]:
    """The training subject most alike to each of the volumes of a class that the report shows."""
    places = [(label, index) for label in pool.classes for index in range(pool.counts[label])]
    return [
        {
            "label": label,
            "index": index,
            "nearest_subject": training[int(audit.nearest[row])]["subject_id"],
            "mirrored": bool(audit.mirrored[row]),
            "correlation": float(audit.correlation[row]),
            "copy": bool(audit.copies[row]),
        }
        for row, (label, index) in enumerate(places)
        if index < SHOWN
    ]


def tell_copies(
    pool: SyntheticPool, audit: CopyAudit, training: Sequence[tio.Subject], *, confidence: float = 0.95
) -> str:
    """Result of an audit, its limits and what it could not compare, in one line."""
    share, low, high = audit.share(confidence)
    missing = _count_not_compared(pool, training)
    gap = f"; {missing} other patients that the generator was trained on could not be compared" if missing else ""
    return (
        f"{audit.copies.sum()} of {len(audit.copies)} volumes ({share:.1%}, {100 * confidence:g} % interval {low:.1%} "
        f"to {high:.1%}) are called copies of one of {audit.n_training} training volumes; of unseen real patients "
        f"about {audit.expected_false_alarms:.1%} would be, {audit.false_alarms:.1%} at most "
        f"({audit.n_held_out} held out){gap}"
    )


def marked_copies(pool: SyntheticPool) -> set[str]:
    """Ids of the volumes that the audit of a pool calls copies.

    Raises:
        InputError: The pool was not audited, or has grown since.
    """
    verdicts = Verdicts.read(pool.path)
    if verdicts is None:
        raise InputError(f"{pool.path / AUDIT}: no such file; the pool was not audited for copies.")
    return verdicts.copies_among(_ids(pool))


def without_copies(pool: SyntheticPool) -> list[tio.Subject]:
    """The subjects of an audited pool that are no copies.

    Raises:
        InputError: As :func:`marked_copies`.
    """
    copies = marked_copies(pool)
    return [subject for name, subject in zip(_ids(pool), pool.subjects(), strict=True) if name not in copies]


def _ids(pool: SyntheticPool) -> list[str]:
    """In the order of ``pool.subjects()``."""
    return [entry["id"] for label in pool.classes for entry in pool.entries(label)]


def _hashes(subjects: Sequence[tio.Subject]) -> set[str]:
    return set[str]().union(*(hashes_of(subject["patient_id"]) for subject in subjects))


def _count_not_compared(pool: SyntheticPool, training: Sequence[tio.Subject]) -> int:
    """Training patients of the generator whose images are not available to the memorisation check."""
    return len(set(pool.header["trained_on_patients"]) - _hashes(training))


def _record(
    pool: SyntheticPool, audit: CopyAudit, extractor: Extractor, training: Sequence[tio.Subject]
) -> dict[str, Any]:
    share, low, high = audit.share()
    volumes = {
        name: {
            "copy": bool(audit.copies[row]),
            "correlation": float(audit.correlation[row]),
            "feature_distance": float(audit.feature_distance[row]),
            "moved_correlation": float(audit.moved_correlation[row]),
            "nearest_patient": patient_hash(training[int(audit.nearest[row])]["patient_id"]),
            "mirrored": bool(audit.mirrored[row]),
        }
        for row, name in enumerate(_ids(pool))
    }
    return {
        "format": 1,
        "checkpoint": pool.header["checkpoint"],
        "extractor": extractor.name,
        "fingerprint": audit.fingerprint,
        "false_alarms": audit.false_alarms,
        "expected_false_alarms": audit.expected_false_alarms,
        "correlation_limit": audit.correlation_limit,
        "distance_limit": audit.distance_limit,
        "moved_limit": audit.moved_limit,
        "n_training": audit.n_training,
        "n_held_out": audit.n_held_out,
        "n_not_compared": _count_not_compared(pool, training),
        "share": share,
        "share_interval": [low, high],
        "volumes": volumes,
    }


def _draw_pairs(path: Path, pool: SyntheticPool, training: Sequence[tio.Subject], audit: CopyAudit) -> None:
    """Copy | original (mirrored if copied so), at most sixteen rows, the most alike first."""
    drawn, known = VolumeSet.of(list(pool.subjects()), pool.images), VolumeSet.of(training, pool.images)
    rows = np.flatnonzero(audit.copies)
    rows = rows[np.argsort(-audit.correlation[rows])][:16]
    figure = Figure(figsize=(5, 2.5 * len(rows)))
    for place, (left, right) in enumerate(figure.subplots(len(rows), 2, squeeze=False)):
        row = rows[place]
        original = known[int(audit.nearest[row])]
        draw_slice(left, drawn[int(row)][0])
        draw_slice(right, (original.flip(LEFT_RIGHT - 1) if audit.mirrored[row] else original)[0])
        left.set_title(f"synthetic, correlation {audit.correlation[row]:.2f}", fontsize=8)
        right.set_title("training, mirrored" if audit.mirrored[row] else "training", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
