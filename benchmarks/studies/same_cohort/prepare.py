"""Splits of all 170 people for generators that see nobody but the people who train the classifier.

    python benchmarks/studies/generator/prepare_hippocampus.py --data CROPS --out runs/hippocampus
    python benchmarks/studies/same_cohort/prepare.py --data runs/hippocampus --out runs/same-cohort

80 people test, the same in every repeat. Each repeat deals the 90 others anew: 16 choose the step of every classifier,
and ``split.train`` of the 74 that remain train both the generator and the classifier.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from synthaug.ground.files import atomic_path
from synthaug.ground.seeding import numpy_generator

REPEATS = 30
"""Splits that are written; ``study.yaml`` names as many of the first as it uses."""
TESTED, CHOOSING = 80, 16
"""People who test, and who choose in each repeat."""


def take(people: pd.Series, count: int, *seed: str | int) -> list[str]:
    """So many of the people, whose classes are ``people``, of each class as many as its share.

    Example:
        >>> people = pd.Series([0] * 6 + [1] * 4, index=list("abcdefghij"))
        >>> sorted(people[take(people, 5, "example")])
        [0, 0, 0, 1, 1]
    """
    draw = numpy_generator(*seed)
    order = []
    for label in (0, 1):
        members = draw.permutation(sorted(people.index[people == label]))
        order += list(zip((np.arange(len(members)) + 0.5) / len(members), members, strict=True))
    return [str(name) for _, name in sorted(order)[:count]]


def deal(people: pd.Series, repeat: int) -> dict[str, str]:
    """The part of each person, whose classes are ``people``, in a repeat.

    Example:
        >>> parts = pd.Series(deal(pd.Series([0, 1] * 85, index=[f"person-{k:03d}" for k in range(170)]), 0))
        >>> sorted(parts.value_counts().items())
        [('test', 80), ('train', 74), ('val', 16)]
    """
    tested = set(take(people, TESTED, "same cohort", "test"))
    others = people[~people.index.isin(tested)]
    choosing = set(take(others, CHOOSING, "same cohort", "choosing", repeat))
    return {str(name): "test" if name in tested else "val" if name in choosing else "train" for name in people.index}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/hippocampus"), help="by prepare_hippocampus.py")
    parser.add_argument("--out", type=Path, default=Path("runs/same-cohort"))
    options = parser.parse_args(arguments)
    manifest, split = (pd.read_csv(options.data / name) for name in ("manifest.csv", "split.csv"))
    crops = manifest.drop(columns="patient_id").merge(split, on="subject_id", validate="one_to_one")
    people = crops.groupby("patient_id")["label"].max()
    options.out.mkdir(parents=True, exist_ok=True)
    for repeat in range(REPEATS):
        rows = crops[["subject_id", "patient_id"]].assign(part=crops["patient_id"].map(deal(people, repeat)))
        with atomic_path(options.out / f"split-{repeat}.csv") as temporary:
            rows.to_csv(temporary, index=False)
    print(f"{len(people)} people, {len(crops)} crops, {REPEATS} splits")


if __name__ == "__main__":
    main()
