"""Splits by patient, stratified by class."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torchio as tio
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from synthaug.data.reading.manifest import class_index, value_of
from synthaug.data.reading.tables import Table, read_table
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.ground.people import can_be_checked, seal
from synthaug.ground.seeding import derive_seed, numpy_generator

PARTS = ("train", "val", "test")
SEAL = "seal"
"""Column of a saved split."""


@dataclass
class Split:
    """Training, validation and test subjects."""

    train: list[tio.Subject]
    val: list[tio.Subject]
    test: list[tio.Subject]

    def parts(self) -> Iterator[tuple[str, list[tio.Subject]]]:
        """Pairs of part name and subjects."""
        return ((part, getattr(self, part)) for part in PARTS)

    def subjects(self) -> list[tio.Subject]:
        """The subjects of all parts."""
        return [subject for _, part in self.parts() for subject in part]


def split_subjects(
    subjects: Sequence[tio.Subject],
    *,
    test: float = 0.3,
    val: float = 0.15,
    group: str = "patient_id",
    seed: int = 0,
) -> Split:
    """Split by ``group``, stratified by class. The class of a patient is the highest of its subjects.

    Args:
        subjects: Subjects under the convention.
        test: Share of test patients, in (0, 1).
        val: Share of validation patients, in (0, 1).
        group: Key whose values must not be split.
        seed: Seed of the split.

    Raises:
        InputError: A class has too few patients to stand in every part.
    """
    class_of = patient_classes(subjects, group)
    patients = sorted(class_of)
    state = derive_seed("split", seed) % 2**32
    try:
        rest, tested = train_test_split(
            patients, test_size=test, stratify=[class_of[patient] for patient in patients], random_state=state
        )
    except ValueError as error:
        raise _unsplittable(class_of, "three parts", error) from error
    return deal_out(subjects, class_of, group=group, rest=rest, tested=tested, val=val / (1 - test), state=state)


def fold_subjects(
    subjects: Sequence[tio.Subject],
    *,
    folds: int,
    fold: int,
    val: float = 0.15,
    group: str = "patient_id",
    seed: int = 0,
) -> Split:
    """One split of a cross-validation: the folds of a seed test every patient once.

    Folds are by ``group`` and stratified by class (scikit-learn's ``StratifiedGroupKFold``). Validation patients are
    drawn for each fold from the patients that it does not test.

    Args:
        subjects: Subjects under the convention.
        folds: Number of folds, at least 2.
        fold: Index of the test fold, from 0.
        val: Share of validation patients among all; val + 1 / folds must be below 1.
        group: Key whose values must not be split.
        seed: Seed of the folds.

    Raises:
        InputError: There is no such fold, or a class has too few patients to stand in every part.

    Example:
        >>> patients = [{"patient_id": str(n), "label": n % 2} for n in range(20)]
        >>> tested = [fold_subjects(patients, folds=4, fold=fold).test for fold in range(4)]
        >>> [len(part) for part in tested], len({patient["patient_id"] for part in tested for patient in part})
        ([5, 5, 5, 5], 20)
    """
    if not (folds >= 2 and 0 <= fold < folds and 0 < val < 1 - 1 / folds):
        raise InputError(
            f"fold={fold} of folds={folds} with val={val} cannot be: fold must lie in 0..folds-1, folds be at least 2, "
            "and val + 1/folds stay below 1."
        )
    class_of = patient_classes(subjects, group)
    patients = sorted(class_of)
    classes = [class_of[patient] for patient in patients]
    if min(map(classes.count, classes)) < folds:
        raise _unsplittable(class_of, f"{folds} folds", "every fold needs one of each class")
    state = derive_seed("folds", seed) % 2**32
    dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=state).split(patients, classes, groups=patients)
    kept, held_out = next(itertools.islice(dealt, fold, None))
    rest, tested = ([patients[place] for place in places] for places in (kept, held_out))
    state = derive_seed("folds", seed, fold) % 2**32
    return deal_out(subjects, class_of, group=group, rest=rest, tested=tested, val=val / (1 - 1 / folds), state=state)


def deal_out(
    subjects: Sequence[tio.Subject],
    class_of: dict[str, int],
    *,
    group: str,
    rest: list[str],
    tested: list[str],
    val: float,
    state: int,
) -> Split:
    """Test subjects of the patients ``tested``; of the ``rest`` the share ``val`` is validation, the others train."""
    try:
        trained, chosen = train_test_split(
            rest, test_size=val, stratify=[class_of[patient] for patient in rest], random_state=state
        )
    except ValueError as error:
        raise _unsplittable(class_of, "three parts", error) from error
    part_of = dict.fromkeys(trained, "train") | dict.fromkeys(chosen, "val") | dict.fromkeys(tested, "test")
    split = Split(*([s for s in subjects if part_of[s[group]] == part] for part in PARTS))
    _require_every_class(split)
    return split


def patient_classes(subjects: Sequence[tio.Subject], group: str) -> dict[str, int]:
    """The class of each patient: the highest of its subjects'."""
    class_of: dict[str, int] = {}
    for subject in subjects:
        patient = value_of(subject, group)
        class_of[patient] = max(class_index(value_of(subject, "label")), class_of.get(patient, 0))
    return class_of


def _unsplittable(class_of: dict[str, int], parts: str, reason: object) -> InputError:
    classes = list(class_of.values())
    counts = {label: classes.count(label) for label in sorted(set(classes))}
    return InputError(f"Cannot split patients per class {counts} into {parts}: {reason}")


def keep_training(split: Split, size: float, *, group: str = "patient_id", seed: int = 0) -> Split:
    """The split with fewer training patients; validation and test stay.

    Patients are taken in one order whose every prefix is stratified by class, so that smaller sets are nested in larger
    ones.

    Args:
        split: The whole split.
        size: Share of the training patients in (0, 1], or, above 1, their number.
        group: Key that names the patient.
        seed: Another seed, other patients.

    Raises:
        InputError: More patients than there are, or fewer than classes.

    Example:
        >>> patients = [{"patient_id": str(n), "label": n % 4 == 0} for n in range(16)]
        >>> kept = keep_training(Split(patients, [], []), 0.5).train
        >>> len(kept), sum(patient["label"] for patient in kept)
        (8, 2)
    """
    class_of = patient_classes(split.train, group)
    count = round(size * len(class_of)) if size <= 1 else int(size)
    classes = sorted(set(class_of.values()))
    if not len(classes) <= count <= len(class_of):
        raise InputError(
            f"split.train={size:g} asks for {count} training patients; possible are {len(classes)} (one a class) to "
            f"{len(class_of)}."
        )
    places: list[tuple[float, int, str]] = []
    for label in classes:
        members = sorted(patient for patient, of in class_of.items() if of == label)
        shuffled = numpy_generator("training patients", seed, label).permutation(members).tolist()
        # The first of each class comes before all others, the rest in even strides.
        places += [((n + 0.5) / len(members) if n else 0.0, label, patient) for n, patient in enumerate(shuffled)]
    kept = {patient for _, _, patient in sorted(places)[:count]}
    return Split([subject for subject in split.train if subject[group] in kept], split.val, split.test)


def save_split(split: Split, path: str | Path) -> None:
    """Write the split as CSV: subject_id, patient_id, part, and a seal that shows whether a row was changed since."""
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(split_table(split), encoding="utf-8")


def split_table(split: Split) -> str:
    """What :func:`save_split` writes."""
    rows = [
        {
            "subject_id": subject["subject_id"],
            "patient_id": subject["patient_id"],
            "part": part,
            SEAL: seal(subject["patient_id"], subject["subject_id"], part),
        }
        for part, subjects in split.parts()
        for subject in subjects
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def load_split(path: str | Path, subjects: Sequence[tio.Subject]) -> Split:
    """Read a saved split and deal the subjects out by it.

    Raises:
        InputError: The file is unreadable, its subjects or patients differ from the manifest's, a part is unknown, or a
            patient is in two parts.
    """
    table = read_table(Path(path), what="split file", mend="set split.file")
    table.require("subject_id", "part")
    for column in ("subject_id", "part"):
        table.refuse_empty(column, "name the subject and its part")
    for column in ("subject_id", "patient_id"):
        if table.has(column):
            table.refuse_rounded(column)
    table.refuse_repeats("subject_id")
    for number, row in table.rows.items():
        if row["part"] not in PARTS:
            raise InputError(f"{table.where(number)}: unknown part {row['part']!r}; parts are {', '.join(PARTS)}.")
    part_of = {row["subject_id"]: row["part"] for row in table.rows.values()}
    strangers = sorted(set(part_of) ^ {subject["subject_id"] for subject in subjects})
    if strangers:
        raise InputError(f"{path}: subject {strangers[0]!r} is not in both the split and the manifest.")
    if table.has("patient_id"):
        _require_same_patients(table, subjects)
    split = Split(*([s for s in subjects if part_of[s["subject_id"]] == part] for part in PARTS))
    refuse_shared_patients(split, source=str(path))
    if table.has("patient_id"):
        _refuse_moved_patients(table)
    _require_every_class(split, source=f"{path}: ")
    return split


def _require_same_patients(table: Table, subjects: Sequence[tio.Subject]) -> None:
    """InputError where a split file gives a subject to another patient than the manifest does."""
    patient_of = {subject["subject_id"]: subject["patient_id"] for subject in subjects}
    for number, row in table.rows.items():
        if row["patient_id"] != patient_of[row["subject_id"]]:
            raise InputError(
                f"{table.where(number)}: subject {row['subject_id']!r} is of patient {row['patient_id']!r} here and of "
                f"{patient_of[row['subject_id']]!r} in the manifest; mend the one that is wrong."
            )


def _refuse_moved_patients(table: Table) -> None:
    """InputError where a row of a split file that was written by :func:`save_split` was changed since."""
    if not table.has(SEAL):
        return
    for number, row in table.rows.items():
        written = row[SEAL]
        if not written or not can_be_checked(written):
            continue
        before = [part for part in PARTS if seal(row["patient_id"], row["subject_id"], part) == written]
        if before != [row["part"]]:
            was = f"was in the part {before[0]}" if before else "had another name"
            raise InputError(
                f"{table.where(number)}: subject {row['subject_id']!r} of patient {row['patient_id']!r} {was} when "
                f"this split was written, and is in {row['part']} now. Put it back, or delete the column {SEAL!r} to "
                "make the split your own."
            )


def refuse_shared_patients(split: Split, *, source: str = "split") -> None:
    """InputError if a patient stands in two parts."""
    home: dict[str, str] = {}
    for part, subjects in split.parts():
        for subject in subjects:
            patient = subject["patient_id"]
            if home.setdefault(patient, part) != part:
                raise InputError(f"{source}: patient {patient!r} stands in both {home[patient]} and {part}.")


def _require_every_class(split: Split, *, source: str = "") -> None:
    every = {int(subject["label"]) for _, subjects in split.parts() for subject in subjects}
    for part, subjects in split.parts():
        absent = every - {int(subject["label"]) for subject in subjects}
        if absent:
            raise InputError(
                f"{source}The {part} part has no subject of class {min(absent)}; enlarge it or use more data."
            )
