"""Whether a pool's header and manifest agree: looked at whenever a pool is opened, before a volume is read."""

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from synthaug.config import LabelPolicy, PreprocessConfig
from synthaug.generate.stored.record import ALIASES, PUBLIC_SETS, preprocessing_of_record
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash, file_hash, inside, read_json
from synthaug.pool.building.order import final_label
from synthaug.pool.ledger import CLAIMS, HEADER, VOLUMES, Entry, Ledger, class_read, place

SHA256 = re.compile("[0-9a-f]{64}")
VOLUME_HEADER = 352
"""Bytes before the voxels of an uncompressed NIfTI file without extensions."""
DEFAULTS: dict[str, Any] = {"labels": "requested", "override_class": False, "prompts": {}}
"""Of headers that earlier versions wrote."""


def _sides(value: Any, *kinds: type) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(side) in kinds and 0 < side < 1e6 for side in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _prompts(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("policy", ""), str):
        return False
    return value.get("patients") is None or _texts(value["patients"])


def _preprocessing(value: Any) -> bool:
    try:
        return value is None or bool(preprocessing_of_record(value))
    except InputError:
        return False


FIELDS: dict[str, Callable[[Any], bool]] = {
    "images": lambda value: _texts(value) and all(value) and len({*value}) == len(value) > 0,
    "shape": lambda value: _sides(value, int),
    "spacing_mm": lambda value: _sides(value, int, float),
    "preprocessing": _preprocessing,
    "checkpoint": lambda value: isinstance(value, str),
    "trained_on_patients": _texts,
    "patients_known": lambda value: value is None or isinstance(value, bool),
    PUBLIC_SETS: lambda value: value is None or _texts(value),
    ALIASES: lambda value: value is None or _texts(value),
    "prompts": _prompts,
    "override_class": lambda value: isinstance(value, bool),
    "labels": lambda value: isinstance(value, str) and value in get_args(LabelPolicy),
}
"""Keys that others read from a header, and what they can be."""


def read_header(folder: Path) -> dict[str, Any]:
    """A pool's header; InputError where it is none."""
    header = {**DEFAULTS, **read_json(folder / HEADER)}
    for key, can_be in FIELDS.items():
        if not can_be(header.get(key)):
            told = f"{header[key]!r:.100}" if key in header else "missing"
            raise InputError(f"{folder / HEADER}: {key} is {told}; this is not the header of a pool.")
    return header


def read_entries(folder: Path, header: Mapping[str, Any]) -> list[Entry]:
    """What the manifest in a pool's folder lists; InputError as :func:`consistent_entries`."""
    ledger = Ledger(folder)
    with contextlib.closing(ledger):
        ledger.refresh()
        return consistent_entries(ledger, header)


def consistent_entries(ledger: Ledger, header: Mapping[str, Any]) -> list[Entry]:
    """The entries that were read.

    Raises:
        InputError: A line in the middle is torn, so that a volume is lost. An entry contradicts its recipe, the pool's
            label policy or its images. Two entries stand at one place.
    """
    if ledger.torn:
        raise InputError(
            f"{ledger.path}, line {ledger.torn[0]}: is no JSON, and the volume that it listed is lost; run the build "
            "again, which makes it anew."
        )
    entries = list(ledger.entries.values())
    at: dict[tuple[int, int, int], str] = {}
    for entry in entries:
        fault = _fault(entry, header)
        if fault:
            raise InputError(f"{ledger.path}: volume {entry['id']}: {fault}; take the line out and build again.")
        other = at.setdefault(place(entry), entry["id"])
        if other != entry["id"]:
            raise InputError(
                f"{ledger.path}: volumes {other} and {entry['id']} stand at one place, class {place(entry)[0]} index "
                f"{entry['index']}; take one line out."
            )
    return entries


def _fault(entry: Entry, header: Mapping[str, Any]) -> str:
    """What of an entry cannot be; "" = nothing."""
    label, recipe, probabilities = entry["label"], entry["recipe"], entry["class_probabilities"]
    requested, policy = recipe.get("requested_class", label), header.get("labels", "requested")
    if not isinstance(requested, int) or isinstance(requested, bool) or requested < 0:
        return f"has requested class {requested!r}, which is none"
    if not isinstance(entry["index"], int) or isinstance(entry["index"], bool) or entry["index"] < 0:
        return f"has index {entry['index']!r}, which is no place"
    if not isinstance(entry.get("attempt", 0), int) or not isinstance(recipe.get("report", ""), str):
        return f"has attempt {entry.get('attempt')!r} and report {recipe.get('report')!r:.100}"
    told = isinstance(probabilities, list) and all(isinstance(each, int | float) for each in probabilities)
    if probabilities is not None and not told:
        return f"has class probabilities {probabilities!r:.100}, which are none"
    if policy != "requested" and not (told and probabilities):
        return f"labels={policy}, and its class probabilities are {probabilities!r}"
    wanted = final_label(requested, probabilities, policy)
    if type(label) is not type(wanted) or label != wanted:
        return f"has label {label!r}, and its recipe, by labels={policy}, makes it {wanted!r}"
    images = [] if label is None else header["images"]
    files, hashes = entry["files"], entry["sha256"]
    if sorted(files) != sorted(images) or sorted(hashes) != sorted(images):
        return f"lists {sorted(files)} with hashes of {sorted(hashes)}, and the pool has the images {images}"
    if not all(isinstance(value, str) and SHA256.fullmatch(value) for value in hashes.values()):
        return "has what is no SHA-256"
    return ""


def counts_among(made: Sequence[Entry], turned_down: Sequence[Entry]) -> dict[str, dict[int, int]]:
    """By class: places ``requested``, volumes ``generated``, and those ``turned_down``.

    Args:
        made: Volumes of a class.
        turned_down: Volumes of none.
    """
    every = [*turned_down, *made]
    requested = Counter(label for label, _ in {place(entry)[:2] for entry in every})
    generated, refused = (Counter(place(entry)[0] for entry in entries) for entries in (every, turned_down))
    counts = {"requested": requested, "generated": generated, "turned_down": refused}
    return {name: dict(sorted(count.items())) for name, count in counts.items()}


def doubts_among(entries: Sequence[Entry]) -> dict[str, int]:
    """Numbers of volumes whose report was read as another class than requested, or is unlike the training reports."""
    return {
        "contradicts": sum(class_read(entry) not in (None, place(entry)[0]) for entry in entries),
        "unlike": sum(bool(entry.get("unlike")) for entry in entries),
    }


def altered_files(folder: Path, entries: Sequence[Entry]) -> list[Path]:
    """Every file of these volumes that is missing, truncated or altered since it was generated."""
    listed = [
        (inside(folder, file), entry["sha256"][name]) for entry in entries for name, file in entry["files"].items()
    ]
    return [path for path, sha256 in listed if not path.is_file() or file_hash(path) != sha256]


def refuse_altered(ledger: Ledger, shape: Sequence[int]) -> None:
    """Look at the size and time of every listed volume, as a build must not call an altered pool finished.

    A volume is written before its line. One that is older than the manifest and as long as the others is taken for
    unaltered: hashing all would take longer than reading the pool. The hash is taken of the rest. A file that was
    altered with its old size and time is found by :meth:`SyntheticPool.verify` alone.

    Args:
        ledger: Refreshed; files that are missing are passed over.
        shape: Of the volumes.

    Raises:
        InputError: A volume has other bytes than were written.
    """
    if not ledger.entries:
        return
    written, size = ledger.path.stat().st_mtime_ns, VOLUME_HEADER + 4 * math.prod(shape)
    altered = []
    for entry in ledger.entries.values():
        for name, file in entry["files"].items():
            with contextlib.suppress(FileNotFoundError):  # it is made again
                path = inside(ledger.folder, file)
                found = path.stat()
                doubtful = found.st_size != size or found.st_mtime_ns >= written
                if doubtful and file_hash(path) != entry["sha256"][name]:
                    altered.append(path.name)
    if altered:
        raise InputError(
            f"{ledger.folder}: {len(altered)} files altered or truncated since they were written "
            f"({', '.join(altered)}); delete them, and the same command makes them again."
        )


def unlisted_files(folder: Path, entries: Sequence[Entry]) -> tuple[list[Path], list[Path]]:
    """Files among a pool's volumes that its manifest does not list.

    Args:
        folder: The pool.
        entries: What is known to be listed; the manifest is read anew only where that does not hold all files.

    Returns:
        Files whose lines are lost; and those that a builder is at, or was killed at.
    """
    known = _names_of(entries)
    more = [path for path in sorted((folder / VOLUMES).glob("*.nii")) if path.name not in known]
    # In this order: a claim is given back after the line was written.
    claimed = {path.name for path in (folder / CLAIMS).glob("*")}
    ledger = Ledger(folder)
    with contextlib.closing(ledger):
        if more:
            ledger.refresh()
        listed = _names_of(ledger.entries.values())
    more = [path for path in more if path.name not in listed]
    begun = [path for path in more if path.name.partition("_")[0] in claimed]
    return [path for path in more if path not in begun], begun


def _names_of(entries: Iterable[Entry]) -> set[str]:
    return {Path(file).name for entry in entries for file in entry["files"].values()}


def require_own_recipe(entry: Entry, *, source: Path) -> None:
    """InputError unless the id of a volume is the hash of its recipe: neither was changed after it was made."""
    if content_hash(entry["recipe"]) != entry["id"]:
        raise InputError(
            f"{source}: volume {entry['id']} has another recipe than the one that it was made by; take its line out of "
            "the manifest and build again."
        )


def require_preprocessing(header: Mapping[str, Any], preprocessing: PreprocessConfig, *, source: str) -> None:
    """InputError if volumes are born under another preprocessing, as far as it is known.

    Args:
        header: Of a pool, or what a generator's would say; released generators record shape and spacing only.
        preprocessing: What real volumes go through.
        source: Whose header it is.
    """
    born = header.get("preprocessing")
    if born:
        born = {"centre": PreprocessConfig.centre} | born  # only another one is recorded
    else:
        born = {name: list(header[name]) for name in ("shape", "spacing_mm")}
    wanted = json.loads(json.dumps(asdict(preprocessing)))  # as it reads back: tuples are lists
    for key, value in born.items():
        if wanted.get(key) != value:
            raise InputError(
                f"{source}: its volumes are born with preprocessing {key} {value}, not {wanted.get(key)}; use the same "
                "preprocessing or another source."
            )
