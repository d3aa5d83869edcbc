"""Lay out two cohorts of the prostate on one grid: T2 alone to begin with, and T2, ADC and high-b together.

    python benchmarks/studies/three_sequences/lay_out.py --data DATA [--out runs/three-sequences]

DATA holds ``promise12`` and ``prostatex`` with their manifests; taps must be installed. Written are ``t2``, the 75
patients of PROMISE12 (class 1 = a coil is seen), and ``all``, the 11 PROSTATEx patients whose class is known (1 =
clinically significant cancer). The crops are those of the study prostate_t2; ADC and high-b are resampled to the T2
first. The gland's volume is nominal in PROMISE12, which lost its voxel size, and that of the clinic in PROSTATEx.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torchio as tio

sys.path.insert(0, str(Path(__file__).parent.parent / "generator"))
sys.path.insert(0, str(Path(__file__).parent.parent / "prostate_t2"))
from prepare import PREPROCESS, gland_centre, onto_grid, read_cohorts, save_crops
from prepare_prostate_t2 import lay_out

from synthaug.data.preprocess import preprocess
from synthaug.data.reading.images import read_image
from synthaug.data.reading.manifest import make_subject
from synthaug.ground.files import atomic_path

SEQUENCES = ("t2w", "adc", "hbv")


def crop_together(row: dict[str, str], folder: Path) -> tio.Subject:
    """A patient's sequences in [0, 1] on the grid of the T2, cropped around the gland that the T2 shows."""
    whole = {name: tio.ToCanonical()(read_image(folder / row[name])) for name in SEQUENCES}
    onto_t2 = tio.Resample(whole["t2w"])
    affine = np.diag([*PREPROCESS.spacing_mm, 1.0])
    images = {
        name: tio.ScalarImage(tensor=onto_grid((image if name == "t2w" else onto_t2(image)).data), affine=affine)
        for name, image in whole.items()
    }
    name = row["subject_id"]
    subject = make_subject(images, label=int(row["label"]), subject_id=name, patient_id=name)
    (cropped,) = preprocess([subject], PREPROCESS, list(SEQUENCES), centre=partial(gland_centre, mask=""))
    return cropped


def save_together(data: Path, out: Path) -> pd.DataFrame:
    """Write the crops and the manifest of PROSTATEx; returns its rows."""
    table = pd.read_csv(data / "manifest.csv")
    table = table[table["label"].notna()].reset_index(drop=True)
    for row in table.to_dict("records"):
        for name, image in crop_together(row, data).get_images_dict(intensity_only=True).items():
            path = out / "images" / f"{row['subject_id']}_{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                image.save(temporary)
    files = {name: [f"images/{subject}_{name}.nii.gz" for subject in table["subject_id"]] for name in SEQUENCES}
    told = {"gland_ml": table["prostate_volume_ml"], "psa": table["psa"], "coils": 0}
    rows = table[["subject_id"]].assign(patient_id=table["subject_id"], **files, label=table["label"].astype(int))
    with atomic_path(out / "manifest.csv") as temporary:
        rows.assign(**told).to_csv(temporary, index=False)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Crop, write, and tell how many patients there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of promise12 and prostatex")
    parser.add_argument("--out", type=Path, default=Path("runs/three-sequences"))
    options = parser.parse_args(arguments)
    cohorts = read_cohorts(options.data)
    alone = options.out / "t2"
    save_crops(cohorts[cohorts["cohort"] == "promise12"].reset_index(drop=True), alone)
    table = lay_out(pd.read_csv(alone / "crops.csv"))
    with atomic_path(alone / "manifest.csv") as temporary:
        table.to_csv(temporary, index=False)
    together = save_together(options.data / "prostatex", options.out / "all")
    print(f"t2: {len(table)} patients; all: {len(together)} patients, {together['label'].sum()} of class 1")


if __name__ == "__main__":
    main()
