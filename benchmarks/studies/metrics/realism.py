"""Power and floor of the judge of realism on real volumes, some of them spoilt.

    python benchmarks/studies/metrics/realism.py --data FOLDER --out realism.json

The people of a cohort are dealt into two halves: one stays real, the other plays the generator, as it is (the floor)
or spoilt. Each row is the AUROC of one kind of spoiling in one split, with its interval.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from cohorts import COHORTS, Cohort, Sample, read_cohort
from scipy.ndimage import uniform_filter

from synthaug.ground.files import write_json
from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.realism.judgement import judge_realism

MIDDLE = {"promise12": (64, 64, 16)}
"""Central voxels that are judged, where not all are."""


def noise(volume: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Normal noise of deviation 0.02 of the intensity range."""
    return volume + draw.normal(scale=0.02, size=volume.shape)


def blur(volume: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Mean over 3 x 3 x 3 voxels."""
    return uniform_filter(volume, 3, mode="nearest")


def patches(volume: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """An offset of deviation 0.02 for each patch of 4 x 4 x 4 voxels."""
    offsets = draw.normal(scale=0.02, size=[-(-side // 4) for side in volume.shape])
    for axis in range(3):
        offsets = np.repeat(offsets, 4, axis)
    return volume + offsets[tuple(slice(side) for side in volume.shape)]


def unchanged(volume: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Unseen real volumes."""
    return volume


SPOILT: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (unchanged, noise, blur, patches)


def halves(cohort: Cohort, sample: Sample, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the volumes of either half of the people."""
    people = numpy_generator("realism study", cohort.name, split).permutation(np.unique(sample.people))
    first = np.isin(sample.people, people[: len(people) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def middle(cohort: Cohort, volume: torch.Tensor) -> np.ndarray:
    """The voxels (X, Y, Z) that are judged."""
    image = volume[0].numpy()
    shape = MIDDLE.get(cohort.name, image.shape)
    first = [(side - wanted) // 2 for side, wanted in zip(image.shape, shape, strict=True)]
    return image[tuple(slice(start, start + wanted) for start, wanted in zip(first, shape, strict=True))]


def measure(cohort: Cohort, sample: Sample, splits: int, *, network: bool, most: int) -> list[dict]:
    """One row a split and kind of spoiling."""
    images = [middle(cohort, volume) for volume in sample.volumes]
    rows = []
    for split in range(splits):
        real, others = (places[:most] for places in halves(cohort, sample, split))
        for spoil in SPOILT:
            draw = numpy_generator("realism study", cohort.name, split, spoil.__name__)
            spoilt = [torch.from_numpy(spoil(images[place], draw).clip(0, 1)).float()[None] for place in others]
            started = time.process_time()
            report = judge_realism(
                [torch.from_numpy(images[place])[None] for place in real],
                spoilt,
                real_groups=[str(person) for person in sample.people[real]],
                synthetic_groups=[str(person) for person in sample.people[others]],
                seed=split,
                cnn=network,
            )
            row = {"cohort": cohort.name, "split": split, "spoilt_by": spoil.__name__, **report.to_dict()}
            rows.append({**row, "cpu_seconds": round(time.process_time() - started, 1)})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the cohorts")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--cohorts", nargs="+", default=[cohort.name for cohort in COHORTS])
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--most", type=int, default=100, help="volumes a side")
    parser.add_argument("--network", action="store_true", help="the network judges too")
    options = parser.parse_args(arguments)
    chosen = [cohort for cohort in COHORTS if cohort.name in options.cohorts]
    found = []
    for cohort in chosen:
        sample = read_cohort(cohort, options.data)
        found += measure(cohort, sample, options.splits, network=options.network, most=options.most)
        write_json(options.out, {"rows": found})


if __name__ == "__main__":
    main()
