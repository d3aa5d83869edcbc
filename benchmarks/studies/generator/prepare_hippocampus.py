"""Lay out the hippocampus crops for configs/hippocampus.yaml: a manifest with person and side, and a split by person.

    python benchmarks/studies/generator/prepare_hippocampus.py --data FOLDER [--out runs/hippocampus]

FOLDER holds the crops, their manifest.csv and builtin_split.csv. The 96 people who may train a generator are dealt into
training and validation; the 74 others are the test part, which no training reads. Crops 2k - 1 and 2k are the two sides
of person k; which of them is the left one is not known from the data set, so that odd numbers are called left.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.ground.people import public_id
from synthaug.ground.seeding import numpy_generator

DATA_SET = "MSD Task04 Hippocampus"
"""``data.public`` of the config: the split file names people as the study does."""
VALIDATION = 16
"""People, of the 96, who choose weights and sampler."""


def lay_out(crops: pd.DataFrame, people: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest, with ``patient_id`` and ``side``, and the split file.

    Example:
        >>> crops = pd.DataFrame({"subject_id": ["h_001", "h_004"], "volume_mm3": [3000, 3100]})
        >>> people = crops[["subject_id"]].assign(patient_id=["a", "b"], part=["train", "held-out"])
        >>> manifest, split = lay_out(crops, people)
        >>> manifest["side"].tolist(), split["part"].tolist()
        (['left', 'right'], ['val', 'test'])
    """
    rows = crops.merge(people, on="subject_id", validate="one_to_one")
    numbers = rows["subject_id"].str.rpartition("_")[2].astype(int)
    rows["side"] = ["left" if number % 2 else "right" for number in numbers]
    training = sorted(rows.loc[rows["part"] == "train", "patient_id"].unique())
    chosen = numpy_generator("hippocampus validation").permutation(training)[:VALIDATION].tolist()
    held_out = rows["part"] != "train"
    part = rows["patient_id"].isin(chosen).map({True: "val", False: "train"}).mask(held_out, "test")
    people_of = [public_id(DATA_SET, name) for name in rows["patient_id"]]
    return rows.drop(columns="part"), rows[["subject_id"]].assign(patient_id=people_of, part=part)


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy the images, write both files, and tell how many people and crops each part has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the crops")
    parser.add_argument("--out", type=Path, default=Path("runs/hippocampus"))
    options = parser.parse_args(arguments)
    for name in ("manifest.csv", "builtin_split.csv"):
        if not (options.data / name).is_file():
            raise InputError(f"{options.data / name}: no such file; give the folder of the crops as --data.")
    manifest, split = lay_out(
        pd.read_csv(options.data / "manifest.csv"), pd.read_csv(options.data / "builtin_split.csv")
    )
    for image in manifest["t1"]:
        (options.out / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.data / image, options.out / image)
    for name, rows in (("manifest.csv", manifest), ("split.csv", split)):
        with atomic_path(options.out / name) as temporary:
            rows.to_csv(temporary, index=False)
    for part, rows in split.groupby("part"):
        print(f"{part}: {rows['patient_id'].nunique()} people, {len(rows)} crops")


if __name__ == "__main__":
    main()
