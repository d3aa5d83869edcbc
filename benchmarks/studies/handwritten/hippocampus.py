"""Judge a generator of hippocampi by reports written by hand: are size and side understood as well as in the template?

    python benchmarks/studies/handwritten/hippocampus.py --config configs/hippocampus.yaml --pipeline FOLDER \\
        --out figures.json

Each handwritten report has a twin by the template that states the same side and volume; both are drawn from the same
noise. ``--styles`` puts reports of the same numbers in every style of the report grammar in their place. Linear readers
of volume and side are fitted on real volumes of the split's test part, which no training reads.
"""

import argparse
import itertools
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reports import HippocampusRow, hippocampus_rows
from scipy import stats
from sklearn.linear_model import LogisticRegression, Ridge

from synthaug import CCELLAPipeline
from synthaug.bench.options.parsing import read_config
from synthaug.config import Config, MeasurementConfig
from synthaug.config.data import ReportStyle
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import read_columns, stack_images
from synthaug.data.reports.wording.styles import STYLES
from synthaug.data.reports.writers import side_in, write_measurement_report
from synthaug.generate.stored.told import cut_reports
from synthaug.ground.files import write_json
from synthaug.ground.seeding import derive_seed
from synthaug.study.stages.cohort import draw_split, load_subjects

KEPT = 0.9
"""Share of the template's correlation that other wordings shall keep."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, judge, print and write."""
    options = _options(arguments)
    config = read_config(["--config", options.config, *(["--data.root", options.root] if options.root else [])])
    rows = hippocampus_rows()[:: 8 if options.quick else 1]
    pipeline = CCELLAPipeline.from_pretrained(options.pipeline).with_scheduler(options.scheduler)
    pipeline.set_progress_bar_config(disable=options.quiet)
    volumes, sizes, sides = held_out(config, size=options.size, side=options.side)
    read_size = Ridge(alpha=100.0).fit(pooled(volumes), sizes)
    read_side = LogisticRegression(C=0.01, max_iter=2000).fit(pooled(volumes), sides == "left")
    columns = {"size": options.size, "side": options.side}
    texts = {"handwritten": [row.report for row in rows]}
    if options.styles:
        texts = {style: [twin_of(row, config.data.measurements, style, **columns) for row in rows] for style in STYLES}
    texts["template"] = [twin_of(row, config.data.measurements, "template", **columns) for row in rows]
    asked = [row for row in rows for _ in range(options.draws)]
    record: dict[str, Any] = {
        "pipeline": Path(options.pipeline).name,
        "fingerprint": pipeline.fingerprint,
        "date": date.today().isoformat(),
        "settings": {
            name: getattr(options, name)
            for name in ("draws", "steps", "scheduler", "guidance", "guided_levels", "styles", "quick")
        },
        "n": {"reports": len(rows), "volumes": len(asked), "real": len(volumes)},
        "cut_reports": cut_reports(pipeline.tokenizer, itertools.chain(*texts.values())),
    }
    for kind, reports in texts.items():
        drawn = pipeline(
            [report for report in reports for _ in range(options.draws)],
            seeds=[derive_seed("handwritten", row.name, k) for row in rows for k in range(options.draws)],
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            guided_levels=options.guided_levels,
        )
        shown = pooled(list(drawn.volumes))
        record[kind] = judged(asked, read_size.predict(shown), read_side.predict(shown), drawn.class_probabilities)
    record["goals"] = goals(record)
    write_json(options.out, record)
    for name, goal in record["goals"].items():
        print(f"{name}: {goal['value']:.3f}, target {goal['target']:.3f}: {'holds' if goal['holds'] else 'does not'}")


def held_out(config: Config, *, size: str, side: str) -> tuple[list[torch.Tensor], np.ndarray, np.ndarray]:
    """Preprocessed volumes (C, X, Y, Z) of the split's test part, their sizes and sides (n,)."""
    subjects = draw_split(config.split, load_subjects(config.data)).test
    told = read_columns(f"{config.data.root}/{config.data.manifest}", [size, side], subject=config.data.subject)
    names = [subject["subject_id"] for subject in subjects]
    done = preprocess(subjects, config.preprocess, config.data.images)
    volumes = [stack_images(subject, config.data.images).float() for subject in done]
    sides = [side_in({side: told[side][name]}, side) for name in names]
    return volumes, np.array([float(told[size][name]) for name in names]), np.array(sides)


def twin_of(
    row: HippocampusRow, measurements: dict[str, MeasurementConfig], style: ReportStyle, *, size: str, side: str
) -> str:
    """A report of the same numbers in another style."""
    told = {size: row.volume_mm3, side: row.side}
    return write_measurement_report(told, measurements, seed=derive_seed(row.name), style=style)


def pooled(volumes: Sequence[torch.Tensor]) -> np.ndarray:
    """What a linear reader sees: volumes averaged over 2 x 2 x 2 voxels (N, voxels)."""
    return np.stack([torch.nn.functional.avg_pool3d(volume[None], 2).flatten().numpy() for volume in volumes])


def judged(
    rows: Sequence[HippocampusRow], sizes: np.ndarray, is_left: np.ndarray, probabilities: torch.Tensor | None
) -> dict[str, float]:
    """Correlation of the read size with the asked one, share of sides read right, the class head against the size."""
    asked = np.array([row.volume_mm3 for row in rows])
    left = np.array([row.side == "left" for row in rows])
    found = {
        "size_pearson": _or_zero(stats.pearsonr, asked, sizes),
        "size_spearman": _or_zero(stats.spearmanr, asked, sizes),
        "side_right": float((is_left == left).mean()),
        "side_phi": _or_zero(stats.pearsonr, left.astype(float), is_left.astype(float)),
    }
    if probabilities is not None:
        small = probabilities[:, 1].numpy()
        found["class_against_size_spearman"] = _or_zero(stats.spearmanr, -asked, small)
    return found


def _or_zero(correlation: Callable[..., Any], one: np.ndarray, other: np.ndarray) -> float:
    """A correlation; 0 where one side does not vary."""
    return float(correlation(one, other).statistic) if np.ptp(one) and np.ptp(other) else 0.0


def goals(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Whether reports of every other kind keep their share of the template's correlations."""
    found = {}
    for kind in record.keys() & {"handwritten", *STYLES}:
        for name in ("size_pearson", "size_spearman", "side_phi"):
            value, target = record[kind][name], KEPT * record["template"][name]
            called = name if kind == "handwritten" else f"{kind} {name}"
            found[called] = {"value": value, "target": target, "holds": bool(value >= target)}
    return dict(sorted(found.items()))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", required=True, help="folder or builtin name")
    parser.add_argument("--config", default="configs/hippocampus.yaml")
    parser.add_argument("--root", help="folder of the manifest, in place of the config's")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--size", default="volume_mm3", help="column of the volume")
    parser.add_argument("--side", default="side", help="column of the side")
    parser.add_argument("--styles", action="store_true", help="the grammar's styles, not the reports written by hand")
    parser.add_argument("--draws", type=int, default=4, help="volumes of each report")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--guided-levels", type=int, help="that guidance leads, from the coarsest; default: all")
    parser.add_argument("--scheduler", default="dpm_solver_sde")
    parser.add_argument("--quick", action="store_true", help="three reports")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
