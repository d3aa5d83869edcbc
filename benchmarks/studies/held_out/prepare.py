"""Splits of the people whom builtin/ccella-hippocampus never saw, and the reports that its pool is drawn from.

    python benchmarks/studies/generator/prepare_hippocampus.py --data CROPS --out runs/hippocampus
    python benchmarks/studies/held_out/prepare.py --data runs/hippocampus --out runs/held-out

Each repeat deals the 74 held-out people anew, by the class of their first crop: 32 who may train, 10 who choose a
classifier's step, 32 who test it. The reports ask for volumes between those of the generator's own training people,
half of them below the limit between their classes; nothing of a held-out person enters them.
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
LEARNERS, CHOOSING = 32, 10
"""People of each repeat who may train, and who choose the step; the others test."""
REPORTS = 144
"""Of each class."""


def deal(people: pd.Series, repeat: int) -> dict[str, str]:
    """The part of each person, whose classes are ``people``, in a repeat; classes are dealt in proportion.

    Example:
        >>> parts = deal(pd.Series([0, 1] * 37, index=[f"person-{k}" for k in range(74)]), 0)
        >>> sorted(pd.Series(parts).value_counts().items())
        [('test', 32), ('train', 32), ('val', 10)]
    """
    draw = numpy_generator("held-out people", repeat)
    order = []
    for label in (0, 1):
        members = draw.permutation(sorted(people.index[people == label]))
        places = (np.arange(len(members)) + draw.random()) / len(members)
        order += list(zip(places, members, strict=True))
    names = [str(name) for _, name in sorted(order)]
    # Every seventh or so chooses, and the others learn and test in turn, so that no part lacks a class.
    choosing = set(np.linspace(0, len(names) - 1, CHOOSING).round().astype(int).tolist())
    others = [name for place, name in enumerate(names) if place not in choosing]
    learners = set(draw.permutation(others)[:LEARNERS].tolist())
    return {
        name: "val" if place in choosing else "train" if name in learners else "test"
        for place, name in enumerate(names)
    }


def write_reports(volumes_mm3: np.ndarray, limit_mm3: float, *, per_class: int = REPORTS) -> pd.DataFrame:
    """Reports and classes: sides in turn, volumes spread evenly over the ranks of those on each side of the limit."""
    rows = []
    for label, among in ((1, volumes_mm3[volumes_mm3 < limit_mm3]), (0, volumes_mm3[volumes_mm3 >= limit_mm3])):
        for k, volume in enumerate(np.quantile(among, (np.arange(per_class) + 0.5) / per_class)):
            side = ("Left", "Right")[k % 2]
            rows.append(
                {"report": f"{side} hippocampus, volume {volume:.0f} mm³.", "label": label, "patient_id": "none"}
            )
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the splits and the reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/hippocampus"), help="by prepare_hippocampus.py")
    parser.add_argument("--out", type=Path, default=Path("runs/held-out"))
    options = parser.parse_args(arguments)
    manifest, split = (pd.read_csv(options.data / name) for name in ("manifest.csv", "split.csv"))
    crops = manifest.drop(columns="patient_id").merge(split, on="subject_id", validate="one_to_one")
    held_out = crops[crops["part"] == "test"].drop(columns="part")
    training = crops[crops["part"] == "train"]
    options.out.mkdir(parents=True, exist_ok=True)
    people = held_out.groupby("patient_id")["label"].first()
    for repeat in range(REPEATS):
        rows = held_out[["subject_id", "patient_id"]].assign(part=held_out["patient_id"].map(deal(people, repeat)))
        _write(rows, options.out / f"split-{repeat}.csv")
    _write(manifest[manifest["subject_id"].isin(held_out["subject_id"])], options.data / "held-out.csv")
    small, large = (training.loc[training["label"] == label, "volume_mm3"] for label in (1, 0))
    limit = (small.max() + large.min()) / 2
    _write(write_reports(training["volume_mm3"].to_numpy(float), limit), options.out / "reports.csv")
    print(f"{len(people)} people, {len(held_out)} crops, {REPEATS} splits; limit between the classes {limit:.0f} mm3")


def _write(rows: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
