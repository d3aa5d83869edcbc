"""Deal the people of the hippocampus crops out for the study, and copy the crops beside the manifests of each part.

    python benchmarks/studies/hippocampus/prepare.py --data DATA/hippocampus [--out runs/hippocampus-data]

The folder's manifest calls every crop a patient; crops 1 and 2, 3 and 4, ... are the two sides of one person. Of the
170 people 90 have both sides there. They are dealt out so that no crop is left over and 64 people can train:

- the other cohort, 50 people with both sides, 100 crops: trains the generator, and no classifier ever sees it;
- the test, the other 40 people with both sides, 80 crops, the same in every repeat;
- the learners, the 80 people with one crop each: every repeat draws 64 to train on and 16 to choose the step by.

Where no generator needs the other cohort, 32 of its people join the 64 who train: 128 crops, in ``joined.csv``.
``everyone.csv`` holds all crops, with person and side, for ``configs/hippocampus.yaml``. ``development.csv`` holds the
other cohort and the learners: by it the generator is trained and its settings are chosen, without anybody of the test.
``study.csv`` holds the learners and the test. In ``reference.csv`` the other cohort's real crops train classifiers, the
choosing people of the first repeat choose, and the test is the same. Beside them stand split files for each.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.ground.seeding import derive_seed, numpy_generator

COHORT, CHOOSING = 50, 16
"""People of the other cohort; people of each repeat who choose the step."""
JOINING = 32
"""People of the other cohort who train beside the learners where no generator needs them: 64 + 2 x 32 crops."""
REPEATS = 10
"""Splits that are written; a study uses as many of the first as it names."""
SIZE_STEP_MM3 = 200
"""Volumes are told in steps of this. A report that one person alone has would teach a generator to copy that person;
so told, the 100 crops of the other cohort share some ten sizes. One limit between steps, 3300, is near the classes'."""


def read_crops(data: Path) -> pd.DataFrame:
    """The folder's manifest with each crop's person (``patient_id``), side and rounded volume (``size_mm3``).

    Raises:
        InputError: There is no manifest.
    """
    manifest = data / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{manifest}: no such manifest; give the folder of the crops as --data.")
    crops = pd.read_csv(manifest)
    numbers = crops["subject_id"].str.rpartition("_")[2].astype(int)
    crops["patient_id"] = [f"person-{(number + 1) // 2:03d}" for number in numbers]
    # Only that the two differ is known: headers lost the position, and crops of both sides were turned to look alike.
    crops["side"] = ["left" if number % 2 else "right" for number in numbers]
    crops["size_mm3"] = (crops["volume_mm3"] / SIZE_STEP_MM3).round().astype(int) * SIZE_STEP_MM3
    return crops


def deal_people(crops: pd.DataFrame, *, cohort: int = COHORT, seed: int = 0) -> dict[str, list[str]]:
    """Names of the people of ``cohort``, ``test`` and ``learners``; those with both sides are dealt by their classes.

    Raises:
        InputError: Too few people have both sides.
    """
    people = crops.groupby("patient_id")["label"].agg(["size", "sum"])
    both, one = people[people["size"] == 2], people[people["size"] == 1]
    if len(both) <= cohort:
        raise InputError(f"{len(both)} people have both sides; more than the {cohort} of the other cohort are needed.")
    first, second = train_test_split(
        sorted(both.index),
        train_size=cohort,
        stratify=both["sum"].sort_index(),
        random_state=derive_seed("hippocampus people", seed) % 2**32,
    )
    return {"cohort": sorted(first), "test": sorted(second), "learners": sorted(one.index)}


def choose_people(crops: pd.DataFrame, learners: Sequence[str], *, repeat: int, choosing: int = CHOOSING) -> set[str]:
    """The learners who choose the step in a repeat, as many of each class as its share."""
    labels = crops.set_index("patient_id")["label"].loc[list(learners)]
    chosen: set[str] = set()
    for label, count in (labels.value_counts(normalize=True) * choosing).round().astype(int).items():
        members = sorted(labels.index[labels == label])
        drawn = numpy_generator("hippocampus choosing", repeat, label).permutation(members)
        chosen |= set(drawn[:count].tolist())
    return chosen


def write_study(
    crops: pd.DataFrame, dealt: dict[str, list[str]], out: Path, *, choosing: int = CHOOSING, joining: int = JOINING
) -> None:
    """Write the manifests and every split file to ``out``."""
    learners = set(dealt["learners"])
    joined = set(numpy_generator("hippocampus joined").permutation(dealt["cohort"])[:joining].tolist())
    everyone = {"development": dealt["cohort"], "study": dealt["test"], "joined": [*joined, *dealt["test"]]}
    _write(crops, out / "everyone.csv")
    for name, others in everyone.items():
        _write(crops[crops["patient_id"].isin(learners | set(others))], out / f"{name}.csv")

    def write_split(name: str, *, val: set[str], train: set[str], test: set[str]) -> None:
        parts = {**dict.fromkeys(train, "train"), **dict.fromkeys(val, "val"), **dict.fromkeys(test, "test")}
        rows = crops[crops["patient_id"].isin(parts)][["subject_id", "patient_id"]]
        _write(rows.assign(part=rows["patient_id"].map(parts)), out / f"split-{name}.csv")

    for repeat in range(REPEATS):
        val = choose_people(crops, dealt["learners"], repeat=repeat, choosing=choosing)
        write_split(str(repeat), val=val, train=learners - val, test=set(dealt["test"]))
        write_split(f"joined-{repeat}", val=val, train=(learners - val) | joined, test=set(dealt["test"]))
        if repeat == 0:  # the learners who do not choose stand in for the test, which is not looked at
            write_split("development", val=val, train=set(dealt["cohort"]), test=learners - val)
            write_split("reference", val=val, train=set(dealt["cohort"]), test=set(dealt["test"]))
            _write(crops[~crops["patient_id"].isin(learners - val)], out / "reference.csv")


def _write(rows: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy, deal, write, and tell how many people and crops each part has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the crops with its manifest.csv")
    parser.add_argument("--out", type=Path, default=Path("runs/hippocampus-data"))
    options = parser.parse_args(arguments)
    crops = read_crops(options.data)
    for image in crops["t1"]:
        copy = options.out / image
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.data / image, copy)
    dealt = deal_people(crops)
    write_study(crops, dealt, options.out)
    for name, people in dealt.items():
        labels = crops[crops["patient_id"].isin(people)]["label"]
        print(f"{name}: {len(people)} people, {len(labels)} crops, {int(labels.sum())} of class 1")


if __name__ == "__main__":
    main()
