"""A folder of images without a table becomes a manifest that a person completes."""

import csv
import io
import os
import re
from collections import Counter
from pathlib import Path

from synthaug.data.reading.images import is_image
from synthaug.data.reading.series import is_dicom, series_in
from synthaug.ground.errors import InputError
from synthaug.ground.files import write_text

MOST_SEQUENCES = 6
MOST_CLASSES = 10
COMPLETE = 0.8
"""Share of the subjects that must have a sequence for it to be a column."""
SEQUENCE = re.compile(
    r"((ax|axial|tra|cor|sag)[_ -])?"
    r"(t1|t1[wc]|t1ce|t1gd|t2|t2[wf]|pd|pdw|flair|t2[_ -]flair|adc|dwi|dti|hbv|b\d{2,4}|dce|swi|mra)",
    re.IGNORECASE,
)
"""Names of folders that can only be sequences."""
CLASS = re.compile(
    r"\d+|(class|grade|stage|label|group)\W?\w+|normal|abnormal|healthy|controls?|sick|well|patients?|cases?|cancer|tumou?r|"
    r"benign|malignant|pos|positive|neg|negative|yes|no|train|training|test|val|validation",
    re.IGNORECASE,
)
"""Names of folders that are classes, or parts of a split, but no sequences."""


def find_images(folder: Path) -> list[Path]:
    """Every image below a folder, relative to it: files by suffix, DICOM by the folder of its series.

    Of a folder with several series, one file of each.
    """
    found: list[Path] = []
    for place, below, names in os.walk(folder):
        below.sort()
        here = Path(place)
        files = [here / name for name in sorted(names) if not name.startswith(".")]
        found += [path.relative_to(folder) for path in files if is_image(path)]
        if any(is_dicom(path) for path in files if not is_image(path)):
            found += [path.relative_to(folder) for path in _series_in(here)]
    return found


def draft_manifest(folder: Path) -> Path:
    """Write ``manifest.csv`` into a folder of images that has none: one row a subject, one column a sequence.

    Where subjects' folders hold the same names (``p01/t2w``, ``p01/adc``), these names are the columns. Where a few top
    folders do (``t2w/p01``, ``adc/p01``), the top folders are. Else each image is a row. Few top folders with several
    subjects each are taken as classes; else the column ``label`` is left empty.

    Raises:
        InputError: There is no image, two differ in their suffix alone, or the folder cannot be written to.
    """
    images = find_images(folder) if folder.is_dir() else []
    if not images:
        raise InputError(f"{folder}: neither a manifest, nor NIfTI, DICOM, MetaImage or NRRD images.")
    _refuse_twins(folder, images)
    around = Path(os.path.commonpath([path.parent for path in images]))  # such as images/ around all of them
    images = [path.relative_to(around) for path in images]
    told, found = _by_tree(images, told=True), _by_sequence(images)
    trees = told or ([] if found else _by_tree(images, told=False))
    rows = trees or found or [(path.parent / _stem(path), {"image": path}) for path in images]
    classed = not trees and _classed([subject for subject, _ in rows])
    anew = classed and len({subject.parts[1:] for subject, _ in rows}) < len(rows)  # each class counts from 001
    columns = sorted({name for _, paths in rows for name in paths})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject_id", "patient_id", *columns, "label"])
    for subject, paths in rows:
        parts = subject.parts[1:] if classed and not anew else subject.parts
        cells = [(around / paths[name]).as_posix() if name in paths else "" for name in columns]
        patient = "-".join(parts[: 1 + anew])
        writer.writerow(["-".join(parts), patient, *cells, subject.parts[0] if classed else ""])
    write_text(folder / "manifest.csv", text.getvalue())
    return folder / "manifest.csv"


def _refuse_twins(folder: Path, images: list[Path]) -> None:
    """InputError where one image lies there in two forms, such as before and after its conversion."""
    first: dict[Path, Path] = {}
    for path in images:
        other = first.setdefault(path.parent / _stem(path), path)
        if other != path:
            raise InputError(f"{folder}: {other} and {path.name} differ in their ending alone; rename or remove one.")


def _classed(subjects: list[Path]) -> bool:
    """Whether few top folders hold several subjects each, and all of them."""
    tops = Counter(subject.parts[0] for subject in subjects if len(subject.parts) > 1)
    return 2 <= len(tops) <= MOST_CLASSES and min(tops.values()) >= 2 and sum(tops.values()) == len(subjects)


def _by_tree(images: list[Path], *, told: bool) -> list[tuple[Path, dict[str, Path]]]:
    """Subjects with their images of a few top folders; none where these hold other names, or are rather classes.

    Args:
        images: Their paths.
        told: Top folders are named as sequences. Else they may have any names but those of classes. They must hold the
            images themselves then: folders of sites or classes hold patients' folders of the same names, too.
    """
    tops = {path.parts[0] for path in images}
    named = all(SEQUENCE.fullmatch(top) for top in tops)
    shallow = all(len(path.parts) == 2 for path in images) and not any(CLASS.fullmatch(top) for top in tops)
    if len(tops) < 2 or not (named if told else shallow and len(tops) <= MOST_SEQUENCES):
        return []
    subjects: dict[Path, dict[str, Path]] = {}
    for path in images:
        subjects.setdefault(_below(path, path.parts[0] if told else ""), {})[path.parts[0]] = path
    counts = Counter(top for held in subjects.values() for top in held)
    kept = sorted(top for top, count in counts.items() if count >= COMPLETE * len(subjects))
    if sum(counts.values()) < len(images) or not kept or (len(kept) < len(tops) and not told):
        return []
    return [(subject, {top: held[top] for top in kept if top in held}) for subject, held in sorted(subjects.items())]


def _below(path: Path, sequence: str) -> Path:
    """An image's place in its top folder, without the name of the sequence: ``t2w/p01/t2w.nii`` is of ``p01``."""
    stem = _stem(path)
    if sequence:
        bare = re.sub(rf"(^|[_ -]){re.escape(sequence)}$|^{re.escape(sequence)}[_ -]", "", stem, flags=re.IGNORECASE)
        stem = bare if bare or len(path.parts) > 2 else stem
    return Path(*path.parts[1:-1], stem)


def _by_sequence(images: list[Path]) -> list[tuple[Path, dict[str, Path]]]:
    """Subjects' folders with their sequences; none where folders do not hold the same names."""
    folders: dict[Path, dict[str, Path]] = {}
    for path in images:
        folders.setdefault(path.parent, {})[_stem(path)] = path
    counts = Counter(name for held in folders.values() for name in held)
    kept = sorted(name for name, count in counts.items() if count >= COMPLETE * len(folders))
    if len(folders) < 2 or not 1 <= len(kept) <= MOST_SEQUENCES or Path() in folders:
        return []
    return [(folder, {name: held[name] for name in kept if name in held}) for folder, held in sorted(folders.items())]


def _stem(path: Path) -> str:
    name = path.name
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else path.stem if is_image(path) else name


def _series_in(folder: Path) -> list[Path]:
    known = series_in(folder)
    return [folder] if len(known) == 1 else [Path(each[0]) for each in known]
