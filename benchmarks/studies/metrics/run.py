"""Every image metric on real volumes: real against real, and against versions that it should tell from real.

    python benchmarks/studies/metrics/run.py --data DATA --cache FOLDER [--extractors seeded] [--parts metrics gate]

DATA holds ``hippocampus``, ``promise12`` and ``prostatex`` with their manifests; taps, where asked for, is installed.
Writes metrics.csv, classes.csv, swaps.csv, reaches.csv, readouts.csv, gate.csv, glands.csv and summary.json beside this
script: figures only. A part or an extractor that is not asked for keeps the rows that it has.
"""

import argparse
import datetime
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from classes import tell_classes
from cohorts import COHORTS, Cohort, Remembering, Sample, halves, read_cohort
from gate import try_gate
from glands import compare_glands
from readout import readout_extractor
from swaps import WORSE, swap_often, try_reaches
from thirds import classings
from trained import classifier_extractor
from versions import VERSIONS, as_subjects

import synthaug as sa
from synthaug.ground.files import read_json, write_json, write_text
from synthaug.metrics.comparison import ALL, ImageReport
from synthaug.metrics.distances.manifold import NEIGHBOURS
from synthaug.metrics.extractors import build_extractor
from synthaug.metrics.features import Extractor

HERE = Path(__file__).parent
PARTS = ("metrics", "classes", "swaps", "gate", "glands")
SWAPPED = "swapped classes"
SIMILARITY = {
    "ms_ssim_synthetic": {"blurred": 1, "noisy": -1, "shuffled slices": -1, SWAPPED: 0},
    "ms_ssim_real_to_synthetic": {"blurred": 1, "noisy": -1, "shuffled slices": -1, SWAPPED: 0},
}
"""MS-SSIM measures likeness, not truth: blur makes volumes alike, noise and shuffling unlike."""


def compare_versions(
    cohort: Cohort, sample: Sample, extractor: Remembering, *, seed: int, pairs: int
) -> dict[str, ImageReport]:
    """A report for each version of the second half, all against the first half; ``pairs`` behind an MS-SSIM."""
    first, second = (sample.at(half) for half in halves(sample.labels, sample.people, seed=seed))
    spacing = cohort.preprocess.spacing_mm
    real = as_subjects(first.volumes, first.labels, spacing)
    reports = {}
    for name in (*VERSIONS, SWAPPED):
        change = VERSIONS.get(name, VERSIONS["real"])
        classes = 1 - second.labels if name == SWAPPED else second.labels
        volumes = [change(*one) for one in zip(second.volumes, second.places.tolist(), strict=True)]
        changed = as_subjects(volumes, classes, spacing)
        reports[name] = sa.compare_images(real, changed, extractor, seed=seed, resamples=500, pairs=pairs)
        extractor.save()
        print(cohort.name, extractor.name, name, flush=True)
    return reports


def tabulate(cohort: Cohort, reports: dict[str, ImageReport], *, similarities: bool) -> list[dict[str, Any]]:
    """One row a version, group and metric, with the real-real value and whether it moved as it should."""
    rows = []
    for version, report in reports.items():
        for group, found in report.distances.items():
            for name, result in found.items():
                if (version == SWAPPED) == (group == ALL) and version != "real":
                    continue  # classes are swapped within classes only; other versions are read over all volumes
                base = reports["real"].distances[group][name]
                numbers = {key: getattr(result, key) for key in ("value", "ci_low", "ci_high", "floor", "n_real")}
                rows.append(
                    _row(cohort, report, version, group, name, numbers, (base.ci_low, base.ci_high, base.value))
                )
        for name, expected in SIMILARITY.items() if similarities else ():
            key = name.removeprefix("ms_ssim_").replace("_", " ")
            one, base = report.similarities[ALL][key], reports["real"].similarities[ALL][key]
            numbers = {"value": one.value, "ci_low": one.ci_low, "ci_high": one.ci_high}
            limits = (base.ci_low, base.ci_high, base.value)
            rows.append(_row(cohort, report, version, ALL, name, numbers, limits, expected.get(version, 0)))
    return rows


def _row(cohort, report, version, group, metric, numbers, base, expected=None) -> dict[str, Any]:
    """``moved``: the sign is right; ``clear``: and the two intervals are apart."""
    sign = (0 if version == "real" else WORSE[metric]) if expected is None else expected
    low, high, value = base
    moved = "" if not sign else bool((numbers["value"] - value) * sign > 0)
    clear = "" if not sign else bool(numbers["ci_low"] > high if sign > 0 else numbers["ci_high"] < low)
    names = {"cohort": cohort.name, "extractor": report.extractor, "version": version, "group": group, "metric": metric}
    return {**names, **numbers, "real_real": value, "expected": {1: "up", -1: "down", 0: ""}[sign]} | {
        "moved": moved,
        "clear": clear,
    }


def keep(file: Path, rows: list[dict[str, Any]], *, by: Sequence[str]) -> None:
    """Write rows to a table in place of those that it has of the same ``by``."""
    found = pd.DataFrame(rows)
    if file.is_file():
        earlier = pd.read_csv(file, dtype={"moved": object, "clear": object, "group": str})
        new = set(found[list(by)].itertuples(index=False, name=None))
        stays = [row not in new for row in earlier[list(by)].itertuples(index=False, name=None)]
        found = pd.concat([earlier[stays], found])
    # Stable, so that rows stay in the order in which they were measured.
    found = found.sort_values(list(by), kind="stable")
    write_text(file, found.to_csv(index=False, float_format="%.6g"))


def build(name: str, cohort: Cohort, everyone: Sample, options: argparse.Namespace) -> tuple[Extractor, Sample]:
    """An extractor, and the part of the cohort that is measured in its features."""
    if name == "read-out":
        readout, sample, rows = readout_extractor(cohort, everyone, data=options.data, seed=options.seed)
        write_text(options.out / "readouts.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
        return readout, sample
    if name in ("classifier", "logits"):
        logits = name == "logits"
        return classifier_extractor(cohort, everyone, logits=logits, cache=options.cache, seed=options.seed)
    return build_extractor(name, spacing_mm=cohort.preprocess.spacing_mm), everyone


def swap(
    cohort: Cohort, extractor: Remembering, *, everyone: Sample, sample: Sample, options: argparse.Namespace
) -> None:
    """Write the tables of swapped classes, also at the k that the people choose who are not measured, if there are."""
    others = everyone.at(np.setdiff1d(everyone.places, sample.places))
    of_others = classings(cohort, others, options.data) if others.volumes else {}
    rows, tried = [], []
    for classes, part in classings(cohort, sample, options.data).items():
        rows += swap_often(cohort, part, extractor, classes=classes)
        if classes in of_others:
            tried += try_reaches(cohort, of_others[classes], extractor, classes=classes)
            chosen = next(row["k"] for row in reversed(tried) if row["chosen"])
            rows += swap_often(cohort, part, extractor, classes=classes, k=chosen) if chosen != NEIGHBOURS else []
    extractor.save()
    keep(options.out / "swaps.csv", rows, by=("cohort", "extractor"))
    if tried:
        keep(options.out / "reaches.csv", tried, by=("cohort", "extractor"))


def measure(cohort: Cohort, options: argparse.Namespace) -> dict[str, str]:
    """The tables of a cohort; the fingerprints that they were measured with."""
    everyone = read_cohort(cohort, options.data)
    fingerprints = {}
    for name in [name for name in cohort.extractors if name in options.extractors]:
        built, sample = build(name, cohort, everyone, options)
        extractor = built if isinstance(built, Remembering) else Remembering.of(built, options.cache)
        fingerprints[f"{cohort.name}, {name}"] = extractor.fingerprint
        # MS-SSIM has no extractor, and voxels decide nearly every verdict of the gate: once a cohort is enough.
        first = name == cohort.extractors[0]
        if "metrics" in options.parts:
            pairs = 200 if first else 2
            reports = compare_versions(cohort, sample, extractor, seed=options.seed, pairs=pairs)
            rows = tabulate(cohort, reports, similarities=first)
            keep(options.out / "metrics.csv", rows, by=("cohort", "extractor"))
        if "classes" in options.parts:
            rows = tell_classes(cohort, sample, extractor, data=options.data, seed=options.seed)
            keep(options.out / "classes.csv", rows, by=("cohort", "extractor"))
        if "swaps" in options.parts:
            swap(cohort, extractor, everyone=everyone, sample=sample, options=options)
        if "gate" in options.parts and first:
            rows = try_gate(cohort, sample.volumes, extractor, splits=options.splits, seed=options.seed)
            extractor.save()
            keep(options.out / "gate.csv", rows, by=("cohort", "extractor"))
    return fingerprints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the cohorts")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--cache", type=Path, required=True, help="folder that features are kept in between runs")
    parser.add_argument("--cohorts", nargs="+", default=[cohort.name for cohort in COHORTS])
    parser.add_argument("--extractors", nargs="+", default=["seeded", "taps", "classifier", "logits", "read-out"])
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="glands needs taps")
    parser.add_argument("--splits", type=int, default=20, help="splits that the gate is tried on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    summary_file = options.out / "summary.json"
    fingerprints = read_json(summary_file)["fingerprints"] if summary_file.is_file() else {}
    for cohort in COHORTS:
        if cohort.name in options.cohorts:
            fingerprints |= measure(cohort, options)
    if "glands" in options.parts:
        glands = compare_glands(options.data, cache=options.cache, seed=options.seed)
        write_text(options.out / "glands.csv", pd.DataFrame(glands).to_csv(index=False, float_format="%.6g"))
    summary = {
        "date": datetime.date.today().isoformat(),
        "seed": options.seed,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}",
        "fingerprints": fingerprints,
    }
    write_json(summary_file, summary)


if __name__ == "__main__":
    main()
