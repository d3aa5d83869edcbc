"""Put the T2 volumes of two cohorts on one small grid around the prostate, write their reports and deal them out.

    python benchmarks/studies/prostate_t2/prepare.py --data DATA [--out runs/prostate-t2-data]

DATA holds ``promise12`` and ``prostatex`` with their manifests; taps must be installed. promise12 was resampled to
128 x 128 x 24 voxels without keeping its voxel size, so the whole field of prostatex is put on as many voxels. Written
are the crops, ``manifest.csv`` with the reports and ``split.csv``: nothing of it may enter the repository.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchio as tio
from torch.nn import functional

from synthaug.config import MeasurementConfig, PreprocessConfig
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.images import read_image
from synthaug.data.reading.manifest import load_manifest, make_subject
from synthaug.data.reports.writers import write_measurement_report
from synthaug.data.splits import save_split, split_subjects
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.ground.seeding import derive_seed
from synthaug.models.extractors.taps import gland_centre_mm, measure_glands_ml

GRID = (128, 128, 24)
"""Voxels that a whole field is put on: those of promise12."""
PREPROCESS = PreprocessConfig(spacing_mm=(1.0, 1.0, 3.0), shape=(64, 64, 16), percentiles=(0, 99.5), centre="prostate")
"""Nominal voxels of promise12, and the crop."""
SEARCHED = (96, 96, 24)
"""Central voxels of the field that taps looks for the gland in, where no expert has outlined it."""
MEASURED_MM = (1.5, 1.5, 3.0)
"""Voxels that taps is told when it measures a gland: the field of prostatex, 192 mm, over 128. So told, it sees glands
as large as those that it was trained on; real sizes of promise12 are not known, so that ml are nominal."""
GLAND = MeasurementConfig("prostate volume", "ml")
"""How a report tells the gland."""
GLAND_STEPS = (20, 30, 40, 50, 60, 75, 100)
"""Volumes are told as the nearest of these: a report that one patient alone has would teach a generator to copy him."""
SHARP = 0.25
"""Mean step between neighbouring voxels in the plane, in deviations of the volume, above which it is called sharp."""
HELD_OUT, CHOOSING = 20 / 87, 5 / 87
"""Shares of the patients in the test and validation parts; both are held out, no setting is chosen by either."""


def read_cohorts(data: Path) -> pd.DataFrame:
    """A row a patient: subject_id, cohort, file, and label, which is 1 where an endorectal coil is visible.

    Raises:
        InputError: A manifest is missing.
    """
    parts = []
    for cohort in ("promise12", "prostatex"):
        path = data / cohort / "manifest.csv"
        if not path.is_file():
            raise InputError(f"{path}: no such manifest; give the folder of both cohorts as --data.")
        rows = pd.read_csv(path)
        # The label of prostatex is another one (cancer); none of its twelve patients has a coil, read by eye.
        coil = rows["label"] if cohort == "promise12" else 0
        files = [str(data / cohort / file) for file in rows["t2w"]]
        found = pd.DataFrame({"subject_id": rows["subject_id"], "cohort": cohort, "file": files, "label": coil})
        if "prostate_mask" in rows:
            masks = [str(data / cohort / file) if isinstance(file, str) else "" for file in rows["prostate_mask"]]
            found = found.assign(mask=masks, outlined_voxels=rows["gland_voxels"])
        parts.append(found)
    return pd.concat(parts, ignore_index=True).fillna({"mask": ""})


def onto_grid(volume: torch.Tensor, grid: Sequence[int] = GRID) -> torch.Tensor:
    """The whole field of a volume (1, X, Y, Z) on other voxels: means in the plane, linear between slices.

    Example:
        >>> onto_grid(torch.arange(16.0).reshape(1, 4, 4, 1), (2, 2, 1)).flatten().tolist()
        [2.5, 4.5, 10.5, 12.5]
    """
    x, y, z = grid
    plane = functional.interpolate(volume[None].float(), (x, y, volume.shape[3]), mode="area")
    return functional.interpolate(plane, (x, y, z), mode="trilinear")[0]


def gland_centre(image: tio.ScalarImage, mask: str) -> tuple[float, float, float]:
    """Centre of the gland in a field on the grid, mm: of the expert's mask where there is one, else as taps sees it."""
    if not mask:
        return gland_centre_mm(tio.CropOrPad(SEARCHED)(image))
    outlined = tio.ToCanonical()(tio.LabelMap(mask)).data[0].numpy() > 0
    x, y, z = np.argwhere(outlined).mean(axis=0) * PREPROCESS.spacing_mm
    return float(x), float(y), float(z)


def crop(rows: pd.DataFrame) -> list[tio.Subject]:
    """Every patient's T2 volume in [0, 1], cropped around the gland."""
    affine = np.diag([*PREPROCESS.spacing_mm, 1.0])
    subjects = []
    for row in rows.to_dict("records"):
        whole = tio.ToCanonical()(read_image(Path(row["file"])))
        image = tio.ScalarImage(tensor=onto_grid(whole.data), affine=affine)
        names = {"subject_id": row["subject_id"], "patient_id": row["subject_id"]}
        subject = make_subject({"t2w": image}, label=row["label"], **names)
        subjects += preprocess([subject], PREPROCESS, ["t2w"], centre=partial(gland_centre, mask=row["mask"]))
    return subjects


def roughness(volume: torch.Tensor) -> float:
    """Mean absolute step between neighbouring voxels in the plane of (1, X, Y, Z), in deviations of the volume.

    Example:
        >>> roughness(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).reshape(1, 2, 2, 1))
        2.0
    """
    steps = (volume.diff(dim=axis).abs().mean() for axis in (1, 2))
    return float(sum(steps) / 2 / volume.std(correction=0))


def nearest_step(volume_ml: float) -> int:
    """The volume as a report tells it.

    Example:
        >>> nearest_step(13.0), nearest_step(200.0)
        (20, 100)
    """
    return min(GLAND_STEPS, key=lambda step: abs(step - volume_ml))


def write_report(row: dict[str, Any]) -> str:
    """What a row's columns ``label``, ``rough`` and ``gland_ml`` say; the same findings in the same words.

    Example:
        >>> write_report({"label": 1, "rough": 0.3, "gland_ml": 40})
        'Coil. Sharp. Prostate volume 40 ml. Impression: prostate volume 40 ml.'
    """
    coil = "Coil." if row["label"] else "No coil."
    images = "Sharp." if row["rough"] > SHARP else "Soft."
    words = derive_seed("prostate t2 report", row["label"], images, row["gland_ml"])
    return f"{coil} {images} {write_measurement_report(row, {'gland_ml': GLAND}, seed=words)}"


def save_crops(rows: pd.DataFrame, out: Path) -> None:
    """Write the crops, and beside them ``crops.csv`` with what is measured in each; what is there is not made again."""
    if (out / "crops.csv").is_file():
        return
    (out / "images").mkdir(parents=True, exist_ok=True)
    subjects = crop(rows)
    table = rows.drop(columns=["file", "mask"]).assign(
        t2w=[f"images/{name}.nii.gz" for name in rows["subject_id"]],
        measured_ml=measure_glands_ml((subject["t2w"].data for subject in subjects), MEASURED_MM),
        rough=[roughness(subject["t2w"].data) for subject in subjects],
    )
    for subject, file in zip(subjects, table["t2w"], strict=True):
        with atomic_path(out / file) as temporary:
            subject["t2w"].save(temporary)
    with atomic_path(out / "crops.csv") as temporary:
        table.to_csv(temporary, index=False)


def share_steps(table: pd.DataFrame) -> pd.Series:
    """The step of ``gland_ml`` of each row; where one row alone has its findings, that of the nearest gland.

    Nearest among the rows of the same coil and sharpness.

    Example:
        >>> rows = {"label": [0, 0, 0], "rough": [0.1, 0.2, 0.2], "measured_ml": [29.0, 31.0, 61.0]}
        >>> share_steps(pd.DataFrame(rows)).tolist()
        [30, 30, 30]
    """
    alike = [table["label"], table["rough"] > SHARP]
    steps = table["measured_ml"].map(nearest_step)
    alone = steps.groupby([*alike, steps]).transform("size") == 1
    for row in table.index[alone]:
        others = table.index[(alike[0] == alike[0][row]) & (alike[1] == alike[1][row]) & ~alone]
        if len(others):
            steps[row] = steps[(table["measured_ml"][others] - table["measured_ml"][row]).abs().idxmin()]
    return steps


def deal_out(out: Path, *, seed: int) -> pd.DataFrame:
    """Write ``split.csv`` and ``manifest.csv``, which is ``crops.csv`` with the reports; returns it with ``part``."""
    table = pd.read_csv(out / "crops.csv")
    split = split_subjects(load_manifest(out / "crops.csv", ["t2w"]), test=HELD_OUT, val=CHOOSING, seed=seed)
    save_split(split, out / "split.csv")
    part_of = {subject["subject_id"]: part for part, members in split.parts() for subject in members}
    table["part"] = table["subject_id"].map(part_of)
    # Held-out patients apart: their reports teach and prompt nothing, and nothing of them may move a training report.
    trained = table["part"] == "train"
    table["gland_ml"] = pd.concat([share_steps(table[trained]), table["measured_ml"][~trained].map(nearest_step)])
    table["report"] = [write_report(row) for row in table.to_dict("records")]
    with atomic_path(out / "manifest.csv") as temporary:
        table.drop(columns="part").to_csv(temporary, index=False)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Crop, measure, report, deal out, and tell how many patients and reports each part has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of promise12 and prostatex")
    parser.add_argument("--out", type=Path, default=Path("runs/prostate-t2-data"))
    parser.add_argument("--seed", type=int, default=0, help="names the split")
    options = parser.parse_args(arguments)
    save_crops(read_cohorts(options.data), options.out)
    table = deal_out(options.out, seed=options.seed)
    for part, members in table.groupby("part"):
        told = members["report"].value_counts()
        print(
            f"{part}: {len(members)} patients, {members['label'].sum()} with a coil, {len(told)} different reports, "
            f"{(told == 1).sum()} of one patient alone"
        )
    outlined = table[table["outlined_voxels"].notna()]
    rank = outlined["measured_ml"].corr(outlined["outlined_voxels"], method="spearman")
    print(
        f"glands of {table['measured_ml'].min():.0f} to {table['measured_ml'].max():.0f} ml; rank correlation with "
        f"{len(outlined)} expert masks {rank:.2f}"
    )


if __name__ == "__main__":
    main()
