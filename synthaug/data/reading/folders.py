"""A folder of images without a table becomes a manifest that a person completes."""

import csv
import io
import os
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

    Where subjects' folders hold the same names (``p01/t2w``, ``p01/adc``), these are the columns; else each image is a
    row. Few top folders with several subjects each are taken as classes; else the column ``label`` is left empty.

    Raises:
        InputError: There is no image, or the folder cannot be written to.
    """
    images = find_images(folder) if folder.is_dir() else []
    if not images:
        raise InputError(f"{folder}: neither a manifest, nor NIfTI, DICOM, MetaImage or NRRD images.")
    rows = _by_sequence(images) or [(path.parent / _stem(path), {"image": path}) for path in images]
    tops = Counter(subject.parts[0] for subject, _ in rows if len(subject.parts) > 1)
    classed = 2 <= len(tops) <= MOST_CLASSES and min(tops.values()) >= 2 and sum(tops.values()) == len(rows)
    columns = list(rows[0][1])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject_id", "patient_id", *columns, "label"])
    for subject, paths in rows:
        parts = subject.parts[1:] if classed else subject.parts
        cells = [paths[name].as_posix() if name in paths else "" for name in columns]
        writer.writerow(["-".join(parts), parts[0], *cells, subject.parts[0] if classed else ""])
    write_text(folder / "manifest.csv", text.getvalue())
    return folder / "manifest.csv"


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
