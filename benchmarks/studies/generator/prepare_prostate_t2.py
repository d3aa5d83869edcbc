"""Lay out the prostate T2 cohorts for configs/prostate-t2.yaml: crops, coil, and the gland where an expert outlined it.

    python benchmarks/studies/generator/prepare_prostate_t2.py --data DATA [--out runs/prostate-t2]

DATA holds ``promise12`` and ``prostatex`` with their manifests; taps must be installed. The crops are those of the
study prostate_t2 (87 patients, 64 x 64 x 16 voxels around the gland). The report tells how many endorectal coils are
seen and, for the 46 patients with an expert's mask, the gland's volume in nominal ml: PROMISE12 lost its voxel size.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent / "prostate_t2"))
from prepare import MEASURED_MM, read_cohorts, save_crops

from synthaug.ground.files import atomic_path


def lay_out(crops: pd.DataFrame) -> pd.DataFrame:
    """The manifest: what reports are written from, beside the class (1 = a coil is seen).

    Example:
        >>> crops = pd.DataFrame({"subject_id": ["a", "b"], "label": [1, 0], "outlined_voxels": [8000, float("nan")]})
        >>> table = lay_out(crops.assign(t2w=["a.nii.gz", "b.nii.gz"]))
        >>> table["coils"].tolist(), table["gland_ml"].tolist()
        ([1, 0], [54.0, nan])
    """
    x, y, z = MEASURED_MM
    gland_ml = (crops["outlined_voxels"] * x * y * z / 1000).round(1)
    table = crops[["subject_id", "t2w", "label"]]
    return table.assign(patient_id=crops["subject_id"], coils=crops["label"], gland_ml=gland_ml)


def main(arguments: Sequence[str] | None = None) -> None:
    """Crop, write, and tell how many patients there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of promise12 and prostatex")
    parser.add_argument("--out", type=Path, default=Path("runs/prostate-t2"))
    options = parser.parse_args(arguments)
    save_crops(read_cohorts(options.data), options.out)
    table = lay_out(pd.read_csv(options.out / "crops.csv"))
    with atomic_path(options.out / "manifest.csv") as temporary:
        table.to_csv(temporary, index=False)
    print(
        f"{len(table)} patients, {table['label'].sum()} with a coil, {table['gland_ml'].notna().sum()} glands measured"
    )


if __name__ == "__main__":
    main()
