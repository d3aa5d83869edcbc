"""Which volumes of a pool are copies of training patients? Found once, written beside the pool, left out on demand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torchio as tio
from matplotlib.figure import Figure

from synthaug.augment.pool import SyntheticPool
from synthaug.bench.report import draw_slice
from synthaug.errors import InputError
from synthaug.files import atomic_path, read_json, write_json
from synthaug.generate.record import patient_hash
from synthaug.metrics.features import Extractor, seeded_extractor
from synthaug.metrics.memorisation import LEFT_RIGHT, CopyAudit, CopyDetector
from synthaug.metrics.volumes import VolumeSet

AUDIT = "audit.json"
"""Beside the pool's own files."""


def audit_pool(
    pool: SyntheticPool,
    training: Sequence[tio.Subject],
    held_out: Sequence[tio.Subject],
    *,
    extractor: Extractor | None = None,
    false_alarms: float = 0.01,
    pictures: str | Path | None = None,
) -> CopyAudit:
    """Look for each volume of a pool among the generator's training patients and mark the copies in ``audit.json``.

    The file names training patients by hash alone, so that a pool can be handed on with it. Pictures show patients:
    they are drawn only where a file for them is named.

    Args:
        pool: Any pool; its volumes stay as they are.
        training: The patients that the generator was trained on, preprocessed as its volumes are.
        held_out: Real subjects of other patients, preprocessed alike; they set the limits.
        extractor: Where feature distances are measured; None = the seeded one.
        false_alarms: Share of unseen real patients that may be called copies, in (0, 1).
        pictures: PNG file to draw each copy beside its original in.

    Returns:
        What was found, in the order of ``pool.subjects()``.

    Raises:
        InputError: An empty pool, patients on both sides, or what :class:`CopyDetector` refuses.
    """
    ids = _ids(pool)
    if not ids:
        raise InputError(f"{pool.path}: the pool has no volumes to audit; build it first.")
    shared = {subject["patient_id"] for subject in training} & {subject["patient_id"] for subject in held_out}
    if shared:
        raise InputError(f"Patient {min(shared)!r} is both a training and a held-out patient: split them first.")
    known, unseen, drawn = (VolumeSet.of(part, pool.images) for part in (training, held_out, list(pool.subjects())))
    extractor = extractor or seeded_extractor(channels=len(pool.images))
    audit = CopyDetector(known, unseen, extractor, false_alarms=false_alarms).audit(drawn)
    write_json(pool.path / AUDIT, _record(pool, ids, audit, extractor, training))
    if pictures is not None and audit.copies.any():
        _draw_pairs(Path(pictures), drawn, known, audit)
    return audit


def marked_copies(pool: SyntheticPool) -> set[str]:
    """Ids of the volumes that the audit of a pool calls copies.

    Raises:
        InputError: The pool was not audited, or has grown since.
    """
    path = pool.path / AUDIT
    if not path.is_file():
        raise InputError(f"{path}: no such file; the pool was not audited for copies.")
    record = read_json(path)
    unknown = set(_ids(pool)) - set(record["volumes"])
    if unknown:
        raise InputError(f"{path}: does not know {len(unknown)} volumes of the pool; audit it again.")
    return {name for name, found in record["volumes"].items() if found["copy"]}


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


def _record(
    pool: SyntheticPool, ids: list[str], audit: CopyAudit, extractor: Extractor, training: Sequence[tio.Subject]
) -> dict[str, Any]:
    share, low, high = audit.share()
    volumes = {
        name: {
            "copy": bool(audit.copies[row]),
            "correlation": float(audit.correlation[row]),
            "feature_distance": float(audit.feature_distance[row]),
            "nearest_patient": patient_hash(training[int(audit.nearest[row])]["patient_id"]),
            "mirrored": bool(audit.mirrored[row]),
        }
        for row, name in enumerate(ids)
    }
    return {
        "format": 1,
        "checkpoint": pool.header["checkpoint"],
        "extractor": extractor.name,
        "fingerprint": audit.fingerprint,
        "false_alarms": audit.false_alarms,
        "correlation_limit": audit.correlation_limit,
        "distance_limit": audit.distance_limit,
        "n_training": audit.n_training,
        "n_held_out": audit.n_held_out,
        "share": share,
        "share_interval": [low, high],
        "volumes": volumes,
    }


def _draw_pairs(path: Path, drawn: VolumeSet, known: VolumeSet, audit: CopyAudit) -> None:
    """Copy | its original (mirrored if it is copied so), at most sixteen rows, the likest first."""
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
