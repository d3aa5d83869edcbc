"""What the audit of a pool says of its volumes: which are copies of training patients, and whether they are left out.

The audit is made in the room ``bench``, which knows patients; what it found lies beside the pool as ``audit.json``.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json
from synthaug.pool.ledger import Entry

AUDIT = "audit.json"
"""Beside the pool's own files."""


@dataclass(frozen=True)
class Verdicts:
    """The verdict on each volume that was there when a pool was audited.

    Example:
        >>> verdicts = Verdicts(Path("pool/audit.json"), {"a": True, "b": False}, dropped=True)
        >>> verdicts.copies_among(["a", "b"])
        {'a'}
    """

    path: Path
    """The file they stand in."""
    volumes: dict[str, bool]
    """Id of a volume to whether it is a copy."""
    dropped: bool
    """Whether copies are left out when the pool is opened."""

    @classmethod
    def read(cls, folder: Path) -> "Verdicts | None":
        """The verdicts on a pool; None = it was not audited.

        Raises:
            InputError: The file is no audit.
        """
        path = folder / AUDIT
        if not path.is_file():
            return None
        record = read_json(path)
        if not _is_audit(record):
            raise InputError(f"{path}: is not the audit of a pool; delete it and run synthaug pool audit again.")
        volumes = {name: found["copy"] for name, found in record["volumes"].items()}
        return cls(path, volumes, record.get("dropped", False))

    def copies_among(self, ids: Collection[str]) -> set[str]:
        """Which of these volumes are copies.

        Raises:
            InputError: Some were not there when the pool was audited, so nothing is known of them.
        """
        unknown = sum(name not in self.volumes for name in ids)
        if unknown:
            raise InputError(
                f"{self.path}: does not know {unknown} volumes of the pool, which has grown since; "
                "run synthaug pool audit again."
            )
        return {name for name in ids if self.volumes[name]}


def dropped_among(folder: Path, entries: Iterable[Entry]) -> set[str]:
    """Ids of the copies among a pool's entries, if its audit says that they are left out.

    Raises:
        InputError: It says so, but does not know all volumes; or it is no audit.
    """
    verdicts = Verdicts.read(folder)
    if verdicts is None or not verdicts.dropped:
        return set()
    return verdicts.copies_among([entry["id"] for entry in entries if entry["label"] is not None])


def dropped_from(folder: Path) -> list[str]:
    """Ids of all copies that are left out of the pool in a folder, sorted; none where there is no pool yet."""
    verdicts = Verdicts.read(folder)
    if verdicts is None or not verdicts.dropped:
        return []
    return sorted(name for name, copied in verdicts.volumes.items() if copied)


def _is_audit(record: Any) -> bool:
    volumes = record.get("volumes") if isinstance(record, dict) else None
    return (
        isinstance(volumes, dict)
        and isinstance(record.get("dropped", False), bool)
        and all(isinstance(found, dict) and isinstance(found.get("copy"), bool) for found in volumes.values())
    )
