"""What a check of data says: what is there, and what keeps it from being used."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from synthaug.data.reading.manifest import PROVENANCE_COLUMN
from synthaug.data.reading.survey import Look, Problem, Survey
from synthaug.data.reading.tables import spellings_of_one

SHOWN = 40
"""Problems that are shown."""
NAMED = 8
"""Rows that are named one by one."""
HIGHEST = "a patient counts in the highest class of its subjects"


def describe(found: Survey) -> list[str]:
    """What was read: rows, classes, patients, and what the images look like."""
    names = {number: name for number, name in enumerate(found.classes) if name != str(number)}
    classes = ", ".join(
        f"{number}{f' = {names[number]}' if number in names else ''}: {count} subjects of "
        f"{found.patients[number]} patients"
        for number, count in found.counts.items()
    )
    lines = [f"{found.manifest}: {found.rows} rows, {len(found.subjects)} usable; images {', '.join(found.images)}"]
    told = [f"classes: {classes or 'none'}", *([HIGHEST] if _lies_in_several(found) else [])]
    told += [f"without a class: {tell_rows(found.unlabelled)}"] if found.unlabelled else []
    lines.append("; ".join(told))
    for name, looks in found.looks.items():
        lines += _describe_images(name, looks) if looks else []
    return lines + [f"remark: {line}" for line in found.remarks]


def _lies_in_several(found: Survey) -> bool:
    """Whether a patient has subjects of several classes."""
    pairs = {(subject["patient_id"], subject["label"]) for subject in found.subjects}
    return len(pairs) > sum(found.patients.values())


def _describe_images(name: str, looks: Sequence[Look]) -> list[str]:
    shapes, spacings, levels = (
        np.array([getattr(look, what) for look in looks]) for what in ("shape", "spacing_mm", "percentiles")
    )
    turns = Counter(look.orientation for look in looks)
    return [
        f"{name}: {len(looks)} images; oriented {', '.join(f'{key} ({count})' for key, count in turns.most_common())}",
        f"  size, voxels     {_spread(shapes, '.0f')}",
        f"  voxel size, mm   {_spread(spacings, '.3g')}",
        f"  intensity        {', '.join(f'{value:.3g}' for value in np.median(levels, axis=0))} "
        f"(medians of the percentiles 0.5, 50, 99.5); 99.5 from {levels[:, 2].min():.3g} to {levels[:, 2].max():.3g}",
    ]


def _spread(values: np.ndarray, form: str) -> str:
    low, middle, high = (
        " x ".join(format(float(each), form) for each in part)
        for part in (values.min(axis=0), np.median(values, axis=0), values.max(axis=0))
    )
    return middle if low == high else f"median {middle}; from {low} to {high}"


def tell_rows(rows: Sequence[int]) -> str:
    """Rows of a table as a spreadsheet counts them.

    Example:
        >>> tell_rows([3]), tell_rows([3, 7]), tell_rows(range(2, 14))
        ('row 3', 'rows 3, 7', 'rows 2, 3, 4, 5, 6, 7, 8, 9 and 4 more')
    """
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows[:NAMED]))}{more}"


def tell_problems(problems: Sequence[Problem]) -> list[str]:
    """One table: row, file, problem."""
    if not problems:
        return ["problems: none"]
    width = max(len(each.file) for each in problems[:SHOWN])
    rows = [f"  {each.row or '-':>5}  {each.file:<{width}}  {each.what}" for each in problems[:SHOWN]]
    more = [f"  and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return [f"problems: {len(problems)}", f"  {'row':>5}  {'file':<{width}}  problem", *rows, *more]


def tell_texts(found: Survey) -> list[str]:
    """A remark on files of text that may be the reports, one for two rows or more, where no column holds any."""
    if found.report or found.measurements or found.wordy:
        return []
    texts = sorted(found.manifest.parent.rglob("*.[tT][xX][tT]"))
    if not texts or 2 * len(texts) < found.rows:
        return []
    return [
        f"{len(texts)} files of text, such as {texts[0].name}, are not read. Reports stand in a column of "
        f"{found.manifest.name}: write each text into its row, in a column report (quotes around it)."
    ]


def too_few(found: Survey) -> list[Problem]:
    """What keeps a study from being run though each row can be read."""
    patients = found.patients
    where = found.manifest.name
    if made := sum(subject["synthetic"] for subject in found.subjects):
        told = f"{made} of {found.rows} rows are synthetic volumes (column {PROVENANCE_COLUMN}), and a study tests real"
        return [Problem(where, None, f"{told} patients: take them out, and give their pool as pool.path.")]
    if found.subjects and len(patients) < 2:
        return [Problem(where, None, "all usable rows are of one class; a study needs two.")]
    if found.subjects and sorted(patients) != list(range(len(patients))):
        listed = ", ".join(f'"{number}"' for number in sorted(patients))
        order = "" if found.classes else f", or name them in their order: --classes '[{listed}]'"
        return [Problem(where, None, f"classes are {sorted(patients)}; number them from 0 without gaps{order}.")]
    if twice := [name for alike in spellings_of_one(found.classes) for name in alike]:
        return [Problem(where, None, f"classes {', '.join(twice)} differ only in case or form; write one class alike.")]
    rarest = min(patients, key=lambda number: patients[number], default=0)
    rare = patients.get(rarest, 0)
    if len(found.unlabelled) == found.rows:
        return [Problem(where, None, "no row has a class; fill in the column of the class, by number or name.")]
    if patients and rare < 3:
        name = f"class {found.classes[rarest] if found.classes else rarest}"
        counted = f" ({HIGHEST})" if _lies_in_several(found) else ""
        told = f"{name} has {rare} {'patient' if rare == 1 else 'patients'}{counted}; three are the fewest"
        return [Problem(where, None, f"{told}, to train, choose and test: leave its rows out, or join classes.")]
    return []
