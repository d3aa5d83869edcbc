"""What a ridge regression of the hippocampal volume reads in a pool: the quick look by which the generator was chosen.

    python benchmarks/studies/hippocampus/ridge.py --pool runs/hippocampus-generator/pool-… [--out FILE.json]

Of people of no test. Trained on the other cohort, it reads learners and pool: does the pool show the size that was
asked for, and as spread? Trained on the pool, it reads learners: does the pool teach it?
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torchio as tio
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import load_manifest, read_columns
from synthaug.data.splits import load_split
from synthaug.ground.files import write_json
from synthaug.pool.pool import SyntheticPool
from synthaug.study.stages.pools import preprocessing_of

IMAGE, SIZE = "t1", "size_mm3"
SMOOTHING_VOXELS, PENALTY = 1.0, 100.0


@dataclass(frozen=True)
class Rows:
    """Smoothed volumes (n, voxels), their sizes in mm3 and classes (n,)."""

    values: np.ndarray
    sizes_mm3: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, subjects: Sequence[tio.Subject], sizes_mm3: Sequence[float]) -> "Rows":
        """Of preprocessed subjects."""
        volumes = [gaussian_filter(subject[IMAGE].data[0].float().numpy(), SMOOTHING_VOXELS) for subject in subjects]
        labels = np.array([subject["label"] for subject in subjects])
        return cls(np.stack(volumes).reshape(len(volumes), -1), np.array(sizes_mm3, dtype=float), labels)


def read_size(trained: Rows, shown: Rows) -> dict[str, float]:
    """How a regression trained on some reads the others: correlation, AUROC of the class, spread of what it reads."""
    read = Ridge(alpha=PENALTY).fit(trained.values, trained.sizes_mm3).predict(shown.values)
    return {
        "correlation": float(np.corrcoef(read, shown.sizes_mm3)[0, 1]),
        "auroc": float(roc_auc_score(shown.labels, -read)),
        "deviation_mm3": float(read.std()),
        "asked_deviation_mm3": float(shown.sizes_mm3.std()),
    }


def roughness(subjects: Sequence[tio.Subject]) -> float:
    """Mean absolute step between neighbouring voxels."""
    volumes = [subject[IMAGE].data[0].float().numpy() for subject in subjects]
    return float(np.mean([np.abs(np.diff(volume, axis=axis)).mean() for volume in volumes for axis in range(3)]))


def asked_sizes(subjects: Sequence[tio.Subject]) -> list[float]:
    """The size that each report tells.

    Example:
        >>> asked_sizes([{"report": "Small hippocampal volume (3200 mm3). Impression: small hippocampal volume."}])
        [3200.0]
    """
    return [float(re.findall(r"\d+", subject["report"])[0]) for subject in subjects]


def look(pool: SyntheticPool, data: Path) -> dict[str, Any]:
    """All figures of a pool, by people of the development manifest."""
    config = preprocessing_of(pool)
    manifest = data / "development.csv"
    split = load_split(data / "split-development.csv", load_manifest(manifest, [IMAGE]))
    told = read_columns(manifest, [SIZE])[SIZE]

    def real(subjects: Sequence[tio.Subject]) -> tuple[Rows, float]:
        done = preprocess(subjects, config, [IMAGE])
        return Rows.of(done, [float(told[subject["subject_id"]]) for subject in done]), roughness(done)

    (cohort, _), (learners, rough) = real(split.train), real([*split.val, *split.test])
    drawn = list(pool.subjects())
    synthetic = Rows.of(drawn, asked_sizes(drawn))
    return {
        "cohort_to_learners": read_size(cohort, learners),
        "cohort_to_pool": read_size(cohort, synthetic),
        "pool_to_learners": read_size(synthetic, learners),
        "roughness": {"learners": rough, "pool": roughness(drawn)},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as JSON, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("runs/hippocampus-data"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    figures = look(SyntheticPool.open(options.pool), options.data)
    print(json.dumps(figures, indent=2))
    if options.out:
        write_json(options.out, figures)


if __name__ == "__main__":
    main()
