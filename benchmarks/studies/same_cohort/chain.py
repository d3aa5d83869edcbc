"""Where what a report says is lost on its way to a classifier: report, volume, linear reader.

    python benchmarks/studies/same_cohort/chain.py --runs runs/same-cohort-study/n16-0 runs/same-cohort-study/n32-0

Of the generator in each folder 128 volumes are drawn for sizes spread evenly over 2,500 to 4,200 mm3, at several scales
of guidance. Ridge regressions on voxels of 4 mm stand for classifiers. All real volumes are of people who do not test:

    read        correlation of the size asked for with the size that a regression of real volumes reads
    pool        AUROC of the class, on people whom the generator did not see, of a regression of the drawn volumes
    real        the same of a regression of the generator's own training volumes
    zoomed      the same with nine zooms of each, class and size rewritten (labelled augmentation without a generator)

The people of validation and the learners left over are read; nobody of the test part is.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score

from synthaug import CCELLAPipeline
from synthaug.bench.options.parsing import read_config
from synthaug.config import Config, DataConfig
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import read_columns
from synthaug.data.reports.writers import write_measurement_report
from synthaug.data.splits import keep_training
from synthaug.data.voxels.geometry import Geometry, apply_geometry
from synthaug.ground.errors import InputError
from synthaug.ground.files import write_json
from synthaug.ground.seeding import derive_seed, numpy_generator
from synthaug.study.grid import settings_of
from synthaug.study.stages.cohort import draw_split, load_subjects

HERE = Path(__file__).parent
SIZE, SIDE, IMAGE = "volume_mm3", "side", "t1"
VOLUMES, STEPS = 128, 8
GUIDANCE = (1.0, 2.0, 4.0)
SIZES_MM3 = (2500, 4200)
LIMIT_MM3 = 3300
"""Asked-for sizes below it are of class 1; it lies between the classes of all people."""
ZOOMS = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
ALPHAS = np.logspace(0, 5, 11)


def seen(volumes: Sequence[torch.Tensor]) -> np.ndarray:
    """What a linear reader sees: volumes (1, X, Y, Z) averaged over 2 x 2 x 2 voxels, as rows.

    Example:
        >>> seen([torch.ones(1, 4, 4, 2)] * 3).shape
        (3, 4)
    """
    return np.stack([torch.nn.functional.avg_pool3d(each[None].float(), 2).flatten().numpy() for each in volumes])


def auroc_of(trained: np.ndarray, labels: np.ndarray, shown: np.ndarray, truth: np.ndarray) -> float:
    """Of the class, by a regression of ``labels`` on ``trained``, read in ``shown``."""
    return float(roc_auc_score(truth, RidgeCV(ALPHAS).fit(trained, labels).predict(shown)))


def ask(data: DataConfig) -> tuple[list[str], np.ndarray]:
    """Reports of sizes in a drawn order, sides in turn, and the sizes in mm3."""
    sizes = np.linspace(*SIZES_MM3, VOLUMES).round()
    sizes = numpy_generator("chain").permutation(sizes)
    rows = [{SIDE: ("left", "right")[number % 2], SIZE: size} for number, size in enumerate(sizes)]
    reports = [
        write_measurement_report(row, data.measurements, seed=derive_seed("chain", number))
        for number, row in enumerate(rows)
    ]
    return reports, sizes


def follow(config: Config, generator: Path) -> dict[str, Any]:
    """All figures of one training set."""
    # Those whom the size of the training set leaves out are read too.
    split = draw_split(replace(config.split, train=1.0), load_subjects(config.data), config.data)
    train = keep_training(split, config.split.train, seed=config.split.seed).train
    known = {subject["patient_id"] for subject in train}
    others = [subject for subject in [*split.train, *split.val] if subject["patient_id"] not in known]
    path = f"{config.data.root}/{config.data.manifest}"
    told = read_columns(path, [SIZE], subject=config.data.subject)[SIZE]

    def ready(subjects: Sequence[tio.Subject]) -> tuple[list[torch.Tensor], np.ndarray, np.ndarray]:
        made = preprocess(subjects, config.preprocess, [IMAGE])
        sizes = np.array([float(told[subject["subject_id"]]) for subject in made])
        return [subject[IMAGE].data for subject in made], sizes, np.array([subject["label"] for subject in made])

    volumes, sizes, labels = ready(train)
    unseen, unseen_sizes, truth = ready(others)
    shown = seen(unseen)
    zoomed = seen([apply_geometry(each, Geometry(zoom=zoom)) for zoom in ZOOMS for each in volumes])
    zoomed_labels = np.concatenate([sizes * zoom**3 < LIMIT_MM3 for zoom in ZOOMS]).astype(int)
    reader = RidgeCV(ALPHAS).fit(shown, unseen_sizes)
    reports, asked = ask(config.data)
    pipe = CCELLAPipeline.from_pretrained(str(generator)).with_scheduler("dpm_solver")
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for guidance in GUIDANCE:
        seeds = [derive_seed("chain", number) for number in range(VOLUMES)]
        drawn = pipe(reports, seeds=seeds, num_inference_steps=STEPS, guidance_scale=guidance).volumes
        synthetic = seen([*drawn])
        read = float(np.corrcoef(reader.predict(synthetic), asked)[0, 1])
        pool = auroc_of(synthetic, (asked < LIMIT_MM3).astype(int), shown, truth)
        rows.append({"guidance": guidance, "read": read, "pool": pool})
    return {
        "people": len(known),
        "steps": [level.steps for level in config.generator.levels or []],
        "batch": [level.batch_size for level in config.generator.levels or []],
        "real": auroc_of(seen(volumes), labels, shown, truth),
        "zoomed": auroc_of(zoomed, zoomed_labels, shown, truth),
        "n_unseen": len(others),
        "synthetic": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Follow the chain in every folder and write chain.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="output folders of one training set each")
    parser.add_argument("--out", type=Path, default=HERE / "chain.json")
    options = parser.parse_args(arguments)
    found = []
    for run in options.runs:
        [generator] = [each for each in run.glob("generator-*") if each.is_dir()] or [None]
        if generator is None:
            raise InputError(f"{run}: holds no generator; run the study first.")
        (_, config), *_ = settings_of(read_config(["--config", str(run / "config.yaml")], exits=False))
        found.append({"run": run.name, **follow(config, generator)})
        print(found[-1], flush=True)
    write_json(options.out, {"date": date.today().isoformat(), "volumes": VOLUMES, "steps": STEPS, "rows": found})


if __name__ == "__main__":
    main()
