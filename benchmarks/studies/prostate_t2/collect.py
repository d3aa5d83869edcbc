"""What run.py drew becomes results.csv, summary.json, figures.svg and the table of the README.

    C=benchmarks/studies/prostate_t2
    python $C/collect.py --config $C/base.yaml --out runs/prostate-t2

Arms that are finished are read; held-out patients are those that run.py trained nothing on. Figures only.
"""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torchio as tio
from figures import draw
from run import ARMS, GLAND_EVERY, file_name, read_options, taps_features, volumes_of

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

from table import BEGIN, END  # noqa: E402

import synthaug as sa  # noqa: E402
from synthaug.bench.studies.progress import Bars  # noqa: E402
from synthaug.ground.files import atomic_path, write_json, write_text  # noqa: E402
from synthaug.ground.seeding import numpy_generator  # noqa: E402
from synthaug.metrics.comparison import ALL  # noqa: E402
from synthaug.metrics.features import Extractor  # noqa: E402
from synthaug.metrics.fidelity import gland_volume_fidelity, stated_volume_ml  # noqa: E402
from synthaug.metrics.frechet import frechet_of_rows  # noqa: E402
from synthaug.pool.pool import SyntheticPool  # noqa: E402
from synthaug.study.stages.preparation import Study  # noqa: E402

SHOWN = ("fid", "kid", "precision", "recall", "density", "coverage")
"""Metrics of the table."""
BASELINE = "maisi"
"""What the goal holds CCELLA's distance against."""
DRAWS = 200
"""Random parts behind a distance at equal numbers and behind the interval of a ratio."""
RATIO_GOAL, COPIES_GOAL, GLAND_GOAL = 0.36, 0.01, 0.6


def equal_sized(real: np.ndarray, others: np.ndarray, *, seed: int = 0) -> float:
    """Mean FID of the held-out rows (n, d) to as many rows of others, over random parts of the others."""
    distance, rng = frechet_of_rows(real, others), numpy_generator("prostate equal", seed)
    every = np.arange(len(real))
    return float(np.mean([distance(every, rng.permutation(len(others))[: len(real)])[0] for _ in range(DRAWS)]))


def ratio_interval(
    real: np.ndarray, ours: np.ndarray, theirs: np.ndarray, *, seed: int = 0
) -> tuple[float, float, float]:
    """FID of ``ours`` over that of ``theirs`` to the same real rows, with the 95 % interval of half-samples.

    As in ``distance_report``, halves without replacement spread as the whole does; the real half is the same for both.
    """
    one, other = frechet_of_rows(real, ours), frechet_of_rows(real, theirs)
    rows = [np.arange(len(each)) for each in (real, ours, theirs)]
    value = np.log(one(rows[0], rows[1])[0] / other(rows[0], rows[2])[0])
    rng, found = numpy_generator("prostate ratio", seed), []
    for _ in range(DRAWS):
        a, b, c = (rng.permutation(each)[: len(each) // 2] for each in rows)
        found.append(np.log(one(a, b)[0] / other(a, c)[0]))
    low, high = np.quantile(found, [0.025, 0.975]) - np.mean(found)
    return float(np.exp(value)), float(np.exp(value + low)), float(np.exp(value + high))


def measure(arm: str, subjects: Sequence[tio.Subject], study: Study, features: Extractor) -> dict[str, Any]:
    """Distances to the held-out patients, and copies of training patients where the volumes are synthetic."""
    held_out, real = [*study.split.val, *study.split.test], arm == "real"
    known = None if real else study.split.train
    report = sa.compare_images(held_out, subjects, features, images=["t2w"], resamples=DRAWS, pairs=2, training=known)
    rows = [features.features([s["t2w"].data.float() for s in part]) for part in (held_out, subjects)]
    found = {
        "arm": arm,
        "metrics": {name: asdict(report.distances[ALL][name]) for name in SHOWN},
        "fid_equal_sized": equal_sized(*rows),
        "by_class": {
            group: {name: asdict(result) for name, result in metrics.items() if name in ("fid", "kid")}
            for group, metrics in report.distances.items()
            if group != ALL
        },
    }
    if report.copies:
        share, low, high = report.copies.share()
        found["copies"] = {"share": share, "ci_low": low, "ci_high": high, "n": len(report.copies.copies)}
        found["copies"] |= {"false_alarms_at_most": report.copies.false_alarms}
    return found


def follow_glands(pool: SyntheticPool, measured_ml: np.ndarray) -> dict[str, Any]:
    """Gland asked for in the report against gland that taps outlines: over what was measured, and by class."""
    seen = list(pool.subjects())[::GLAND_EVERY]
    stated = np.array([stated_volume_ml(subject["report"]) for subject in seen], dtype=float)
    labels = np.array([subject["label"] for subject in seen])
    within = {
        str(label): asdict(gland_volume_fidelity(stated[labels == label], measured_ml[labels == label]))
        for label in np.unique(labels)
    }
    return {**asdict(gland_volume_fidelity(stated, measured_ml)), "within_class": within}


def collect(study: Study, features: Extractor, *, volumes: int) -> list[dict[str, Any]]:
    """What is found of the training patients themselves ("real") and of every finished arm."""
    found = [measure("real", study.split.train, study, features)]
    rows_of = {}
    for arm in ARMS:
        folder, glands = study.out / f"pool-{file_name(arm)}", study.out / f"glands-{file_name(arm)}.npy"
        pool = SyntheticPool.open(folder) if folder.is_dir() else None
        if pool is None or len(pool) < volumes:
            continue
        rows_of[arm] = features.features(volumes_of(pool))
        found.append(measure(arm, list(pool.subjects()), study, features))
        if glands.is_file():
            found[-1]["glands"] = follow_glands(pool, np.load(glands))
    held_out = features.features([s["t2w"].data.float() for s in [*study.split.val, *study.split.test]])
    for row in found:
        if row["arm"] in rows_of and BASELINE in rows_of and row["arm"] != BASELINE:
            value, low, high = ratio_interval(held_out, rows_of[row["arm"]], rows_of[BASELINE])
            row["ratio_to_maisi"] = {"value": value, "ci_low": low, "ci_high": high}
    return found


def judge(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The goals, and whether CCELLA holds them."""
    arms = {row["arm"]: row for row in found}
    ours, drawn = arms["ccella"], [row for row in found if row["arm"] != "real"]
    goals = [{"goal": f"copies at most {COPIES_GOAL:.0%}", **_shown(ours["copies"], "share")}]
    goals[0]["holds"] = ours["copies"]["share"] <= COPIES_GOAL
    rank = ours["glands"]["spearman"]
    goals.append({"goal": f"gland rank correlation at least {GLAND_GOAL}", "value": rank, "holds": rank >= GLAND_GOAL})
    lowest = min(drawn, key=lambda row: row["metrics"]["fid"]["value"])["arm"]
    goals.append({"goal": "lowest FID of all", "value": lowest, "holds": lowest == "ccella"})
    if "ratio_to_maisi" in ours:
        ratio = ours["ratio_to_maisi"]
        told = _shown(ratio, "value") | {"holds": ratio["value"] <= RATIO_GOAL}
        goals.append({"goal": f"FID at most {RATIO_GOAL} of MAISI's", **told})
    return goals


def _shown(values: dict[str, float], key: str) -> dict[str, Any]:
    return {"value": values[key], "ci_low": values["ci_low"], "ci_high": values["ci_high"]}


def to_table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row an arm."""
    lines = [
        "| drawn by | FID | FID, 25 a side | of MAISI's | KID | coverage | copies | gland asked and seen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        fid, kid, coverage = (row["metrics"][name] for name in ("fid", "kid", "coverage"))
        ratio, copies, glands = (row.get(key) for key in ("ratio_to_maisi", "copies", "glands"))
        cells = [
            "other real patients" if row["arm"] == "real" else row["arm"],
            f"{fid['value']:.0f} ({fid['ci_low']:.0f} to {fid['ci_high']:.0f})",
            f"{row['fid_equal_sized']:.0f}",
            f"{ratio['value']:.2f} ({ratio['ci_low']:.2f} to {ratio['ci_high']:.2f})" if ratio else "",
            f"{kid['value']:.1f} ({kid['ci_low']:.1f} to {kid['ci_high']:.1f})",
            f"{coverage['value']:.2f}",
            f"{copies['share']:.1%} ({copies['ci_low']:.1%} to {copies['ci_high']:.1%})" if copies else "",
            f"{glands['spearman']:.2f} ({glands['spearman_interval'][0]:.2f} to {glands['spearman_interval'][1]:.2f})"
            if glands
            else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def to_frame(found: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """results.csv: a row an arm and metric."""
    rows = []
    for row in found:
        rows += [{"arm": row["arm"], **metric} for metric in row["metrics"].values()]
        rows.append({"arm": row["arm"], "metric": "fid_equal_sized", "value": row["fid_equal_sized"]})
        for name, key in (("ratio_to_maisi", "value"), ("copies", "share")):
            if name in row:
                rows.append({"arm": row["arm"], "metric": name, **_shown(row[name], key)})
        if "glands" in row:
            low, high = row["glands"]["spearman_interval"]
            gland = {"value": row["glands"]["spearman"], "ci_low": low, "ci_high": high}
            rows.append({"arm": row["arm"], "metric": "gland_spearman", **gland})
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, reckon, and write the files beside this script."""
    config, options = read_options(arguments, __doc__)
    study = Study.read(config, options.out, Bars().stage)
    features = taps_features(config, study.out)
    found = collect(study, features, volumes=options.volumes)
    features.save()
    summary = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, one thread",
        "extractor": {"name": features.name, "fingerprint": features.fingerprint},
        "patients": {part: len(members) for part, members in study.split.parts()},
        "goals": judge(found),
        "arms": found,
    }
    write_json(HERE / "summary.json", summary)
    write_text(HERE / "results.csv", to_frame(found).to_csv(index=False, float_format="%.6g"))
    with atomic_path(HERE / "figures.svg") as temporary:
        draw(found).savefig(temporary, format="svg", metadata={"Date": None})
    page = HERE / "README.md"
    if page.is_file():
        before, rest = page.read_text(encoding="utf-8").split(BEGIN)
        write_text(page, f"{before}{BEGIN}\n{to_table(found)}\n{END}{rest.split(END)[1]}")
    print(to_table(found))
    for goal in summary["goals"]:
        print(goal)


if __name__ == "__main__":
    main()
