"""Volumes that another system drew become a pool: checked, on a study's grid, with provenance "adopted"."""

import contextlib
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torchio as tio

from synthaug.config import PreprocessConfig
from synthaug.data.duplicates import image_hash
from synthaug.data.preprocess import Centre, preprocess
from synthaug.data.reading.manifest import make_subject
from synthaug.data.reading.survey import Survey, survey_manifest
from synthaug.data.reading.tables import read_table
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash, file_hash, usable_folder, without_new_folders
from synthaug.pool.building.builder import FORMAT
from synthaug.pool.consistency import refuse_altered
from synthaug.pool.ledger import CLAIMS, HEADER, LOCK, MANIFEST, VOLUMES, Ledger, match_header, write_volume
from synthaug.pool.ledger import place as pool_place
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.recipe import volume_affine

logger = logging.getLogger(__name__)
POLICY = "adopted"
"""What a header says in place of where prompts came from."""
PROMPTS: dict[str, Any] = {"policy": POLICY, "patients": []}


def adopt_pool(
    folder: str | Path,
    labels: str | Path,
    out: str | Path,
    preprocessing: PreprocessConfig,
    *,
    images: Sequence[str] = (),
    label: str = "label",
    classes: Sequence[str] = (),
    report: str | None = None,
    centre: Centre | None = None,
    on_volume: Callable[[], None] = lambda: None,
) -> SyntheticPool:
    """Take volumes of any system over into a pool.

    The training patients of that system are unknown, so that studies report an unknown cohort. Copies of training
    patients are searched as in any pool.

    Args:
        folder: Where the volumes lie.
        labels: CSV with one row a volume: its file (or one of each sequence) inside ``folder``, and its class.
        out: Folder of the pool; an adoption that was stopped goes on there.
        preprocessing: What the real volumes of the study go through, and these with them.
        images: Columns of the files, in channel order, named as the study names them; none = those that name images.
        label: Column of the class.
        classes: Names of the classes in the order that numbers them; none = sorted, where the column holds names.
        report: Column of the reports; None = "report", where there is one.
        centre: As :func:`synthaug.data.preprocess.preprocess` takes it.
        on_volume: Called after each volume.

    Raises:
        InputError: A row cannot be used. Two files hold the same volume. The folder holds another pool, such as one
            that was adopted with other classes or reports.
    """
    place = Path(out)
    begun = (place / HEADER).is_file()
    with without_new_folders(place / CLAIMS), without_new_folders(place / VOLUMES):
        usable_folder(place)  # before all volumes are read
        if begun:
            match_header(place, {"prompts": PROMPTS, "preprocessing": preprocessing.recorded()})
        names, subjects = _adopted(Path(folder), labels, images=images, label=label, classes=classes, report=report)
        sources = [{name: _source_hash(Path(subject[name].path)) for name in names} for subject in subjects]
        files, volumes = _Distinct(labels), _Distinct(labels)
        for subject, hashes in zip(subjects, sources, strict=True):
            files.add(hashes[names[0]], subject)
        entries = _planned(subjects, sources, source=Path(folder), images=names, preprocessing=preprocessing)
        for name in (CLAIMS, VOLUMES):
            (place / name).mkdir(exist_ok=True)
        match_header(place, _header(names, preprocessing, sources))
        ledger = Ledger(place)
        with contextlib.closing(ledger):
            ledger.refresh()
            _require_same_rows(ledger, entries, labels)
            refuse_altered(ledger, preprocessing.shape)
            for subject, entry in zip(subjects, entries, strict=True):
                with _taken_back_if_refused(ledger, begun=begun):
                    (ready,) = preprocess([subject], preprocessing, names, centre=centre)
                    volumes.add(image_hash(ready[names[0]].data), subject)
                if not ledger.holds(entry["id"]):
                    ledger.append({**entry, **_written(place, entry["id"], ready, names)})
                on_volume()
            ledger.settle()
    return SyntheticPool.open(place)


def _adopted(
    source: Path,
    labels: str | Path,
    *,
    images: Sequence[str],
    label: str,
    classes: Sequence[str],
    report: str | None,
) -> tuple[tuple[str, ...], list[tio.Subject]]:
    """The names of the images, and the subjects with them; arguments as of :func:`adopt_pool`."""
    found = _surveyed(source, Path(labels), images=images, label=label, classes=classes, report=report)
    if found.classes and not classes:
        numbers = ", ".join(f"{number} = {name}" for number, name in enumerate(found.classes))
        logger.warning(
            "%s: classes are numbered %s, in the order of their names; --classes sets another.", labels, numbers
        )
    names = tuple(images) or tuple(found.images)
    if len(names) != len(found.images):
        raise InputError(
            f"{labels}: columns {', '.join(found.images)} name images, not one for {names[0]}; give --images."
        )
    return names, [_renamed(subject, found.images, names) for subject in found.subjects]


@contextlib.contextmanager
def _taken_back_if_refused(ledger: Ledger, *, begun: bool) -> Iterator[None]:
    """Remove a pool that was not there before where the block refuses a volume: no mended table goes on with it."""
    try:
        yield
    except InputError:
        if not begun:
            ledger.refresh()
            files = [file for entry in ledger.entries.values() for file in entry["files"].values()]
            ledger.close()
            for name in (HEADER, *files, MANIFEST, LOCK):
                (ledger.folder / name).unlink(missing_ok=True)
        raise


class _Distinct:
    """Refuses a second volume of one hash."""

    def __init__(self, labels: str | Path) -> None:
        self.labels = labels
        self.seen: dict[str, str] = {}

    def add(self, digest: str, subject: tio.Subject) -> None:
        first = self.seen.setdefault(digest, subject["subject_id"])
        if first != subject["subject_id"]:
            raise InputError(f"{self.labels}: {first} and {subject['subject_id']} hold one volume; take one row out.")


def _planned(
    subjects: Sequence[tio.Subject],
    sources: Sequence[dict[str, str]],
    *,
    source: Path,
    images: Sequence[str],
    preprocessing: PreprocessConfig,
) -> list[dict[str, Any]]:
    """The entry of each row, without its files."""
    entries, index = [], Counter[int]()
    for subject, hashes in zip(subjects, sources, strict=True):
        recipe, label = _recipe(subject, source, images, preprocessing, hashes), subject["label"]
        entries.append({"id": content_hash(recipe), "label": label, "index": index[label], "attempt": 0})
        entries[-1]["recipe"] = recipe
        index[label] += 1
    return entries


def _require_same_rows(ledger: Ledger, entries: Sequence[dict[str, Any]], labels: str | Path) -> None:
    """InputError where the pool lists a volume otherwise than the table does now: it would be listed twice."""
    wanted = {entry["id"]: pool_place(entry) for entry in entries}
    for known in ledger.entries.values():
        if wanted.get(known["id"]) != pool_place(known):
            files = ", ".join(known["recipe"].get("adopted", {}).values())
            raise InputError(
                f"{ledger.folder}: was adopted while {labels} gave {files or known['id']} another class, report or "
                "place; choose another folder, or delete this one."
            )


def _surveyed(
    source: Path, labels: Path, *, images: Sequence[str], label: str, classes: Sequence[str], report: str | None
) -> Survey:
    """The table of labels and every file that it names; InputError where a row cannot be used."""
    if not source.is_dir():
        raise InputError(f"{source}: no such folder.")
    columns = read_table(labels, what="table of labels", mend="name the CSV of the labels").columns
    missing = [name for name in images if name not in columns]
    if missing and len(images) > 1:
        raise InputError(
            f"{labels}: no column {missing[0]!r}; the files of {', '.join(images)} are looked for in columns of these "
            f"names, and the columns are {', '.join(columns)}. Rename them, or give --images."
        )
    found = survey_manifest(
        labels,
        folder=source,
        images=() if len(images) == 1 and images[0] not in columns else images,
        label=label,
        classes=classes,
        report=report,
        by_file=True,
    )
    _refuse_problems(found, labels)
    return found


def _refuse_problems(found: Survey, labels: Path) -> None:
    if found.problems:
        first = found.problems[0]
        row = f", row {first.row}" if first.row else ""
        more = f" ({len(found.problems)} rows have problems)" if len(found.problems) > 1 else ""
        file = "" if first.file == labels.name else f" {first.file}:"
        raise InputError(f"{labels}{row}:{file} {first.what}{more}")
    if found.unlabelled or not found.subjects:
        raise InputError(f"{labels}: {len(found.unlabelled) or 'all'} rows have no class; an adopted volume needs one.")


def _renamed(subject: tio.Subject, columns: Sequence[str], names: Sequence[str]) -> tio.Subject:
    """The subject with its images under the study's names."""
    return make_subject(
        {name: subject[column] for name, column in zip(names, columns, strict=True)},
        label=subject["label"],
        subject_id=subject["subject_id"],
        patient_id=subject["patient_id"],
        report=subject["report"],
    )


def _written(place: Path, volume_id: str, subject: tio.Subject, images: Sequence[str]) -> dict[str, Any]:
    files = {name: f"{VOLUMES}/{volume_id}_{name}.nii" for name in images}
    affine = volume_affine(subject[images[0]].spatial_shape, subject[images[0]].spacing)
    hashes = {name: write_volume(place / file, subject[name].data[0].numpy(), affine) for name, file in files.items()}
    return {"files": files, "sha256": hashes, "class_probabilities": None}


def _recipe(
    subject: tio.Subject, source: Path, images: Sequence[str], preprocessing: PreprocessConfig, hashes: dict[str, str]
) -> dict[str, Any]:
    """What is known of a volume: its files by content, and what was done to them here."""
    return {
        "adopted": {name: os.path.relpath(subject[name].path, source) for name in images},
        "source_sha256": hashes,
        "preprocessing": preprocessing.recorded(),
        "report": subject["report"],
        "requested_class": subject["label"],
    }


def _header(
    images: Sequence[str], preprocessing: PreprocessConfig, sources: Sequence[dict[str, str]]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "images": list(images),
        "spacing_mm": list(preprocessing.spacing_mm),
        "shape": list(preprocessing.shape),
        "preprocessing": preprocessing.recorded(),
        "checkpoint": f"{POLICY}-{content_hash(list(sources))}",
        "trained_on_patients": [],
        "patients_known": False,
        "prompts": PROMPTS,
        "override_class": False,
        "labels": "requested",
        "attempts": 1,
        "seed": 0,
    }


def _source_hash(path: Path) -> str:
    """Of a file, or of the files of a series' folder."""
    if not path.is_dir():
        return file_hash(path)
    files = sorted(each for each in path.iterdir() if each.is_file())
    return hashlib.sha256("".join(file_hash(each) for each in files).encode()).hexdigest()
