"""A whole study from config to report: prepare, run the cells, aggregate, track, report."""

import contextlib
import fcntl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from synthaug.augment.pool import SyntheticPool
from synthaug.bench.aggregate import count_statistics, image_metrics, summarise
from synthaug.bench.cell import protocol_of, run_cell
from synthaug.bench.costs import CostMeter, total_costs
from synthaug.bench.grid import DATA, STAGES, Cell, cells_of
from synthaug.bench.pool_audit import find_obstacle, measure_copies
from synthaug.bench.pools import describe_pool
from synthaug.bench.preparation import Study
from synthaug.bench.report import write_report, write_results
from synthaug.bench.slices import Samples
from synthaug.bench.studies import Studies
from synthaug.bench.subgroups import slice_arms, subgroups_of
from synthaug.bench.tracking import Tracker, flatten
from synthaug.config import Config
from synthaug.data.manifest import class_counts
from synthaug.errors import InputError
from synthaug.files import content_hash, write_json, write_text

PROTOCOLS = {
    "same cohort": "same cohort: the generator was trained on the classifier's training patients only",
    "other cohort": "other cohort: the generator was trained on other patients first; none is chosen or tested by",
}


def run_study(config: Config, out: Path) -> dict[str, Any]:
    """Run what is missing of a study and write config.yaml, results.csv, summary.json, report.html, MLflow runs.

    Args:
        config: The study.
        out: Its folder; a study that was killed continues there.

    Returns:
        The summary; its ``failed`` lists the cells that failed.

    Raises:
        InputError: The input cannot be used, or another process runs a study in ``out``.
    """
    bars = Bars()
    groups = subgroups_of(config)
    studies = Studies(out, bars.stage)
    cells = cells_of(config, studies.identify)
    studies.write_splits()
    with _alone(out), CostMeter(out, bars.seconds) as meter:
        settings = asdict(config)
        write_text(out / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
        study_id = content_hash([[study.pool_id for study in studies], settings])
        tracker = Tracker(out, experiment=config.study.name, study_id=study_id, params=flatten(settings))
        records, failed = _run_cells(cells, studies, tracker, bars)
        if not records:
            raise RuntimeError(f"every cell failed; the first: {failed[0]['error']}")
        on_statistic = bars.stage("statistics", count_statistics(records))
        summary = summarise(records, failed, config.metrics, on_statistic=on_statistic)
        if groups:
            summary["subgroups"] = slice_arms(records, groups, config.metrics)
        sources = studies.with_synthetic(cells)
        summary |= _measure_sources(sources)
        write_json(out / "summary.json", summary)
        write_results(records, out / "results.csv")
        base = next(iter(sources.values()), studies.first)
        pool = base.pool if sources else None
        meter.save()
        write_report(
            out / "report.html",
            config=config,
            summary=summary,
            records=records,
            samples=[Samples(name, each.split.test, each.split.train, each.pool) for name, each in sources.items()],
            costs=total_costs(out),
            facts=_facts(base, pool),
        )
        artifacts = [out / name for name in ("report.html", "results.csv", "summary.json", "split.csv", "config.yaml")]
        tracker.log_study(summary, artifacts=artifacts)
        return summary


def _run_cells(
    cells: Sequence[Cell], studies: Studies, tracker: Tracker, bars: "Bars"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records of the cells that finished, and what is to be told of those that failed."""
    for study in studies.with_synthetic(cells).values():
        _ = study.pool  # made before the bar of the classifiers begins
    records, failed = [], []
    on_step = bars.stage("classifiers", sum(cell.config.classifier.training.steps for cell in cells))
    planned = 0
    for cell in cells:
        try:
            record = run_cell(cell, studies.of(cell.config), on_step=lambda step, values: on_step())
        except Exception as error:  # one cell's failure must not cost the others
            told = {"regime": cell.regime, "seed": cell.seed, "settings": cell.settings, "id": cell.id}
            failed.append({**told, "error": str(error)})
        else:
            records.append(record)
            tracker.log_cell(record, params=flatten({"classifier": asdict(cell.config.classifier)}))
        planned += cell.config.classifier.training.steps
        on_step(planned, {})  # found from earlier, resumed, stopped early or failed
    return records, failed


def _measure_sources(sources: Mapping[str, Study]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"image_metrics": [], "image_metrics_left_out": []}
    for source, study in sources.items():
        for kind, rows in zip(found, measure_images(study), strict=True):
            found[kind] += [{**row, "source": source} for row in rows]
    return found


def measure_images(study: Study) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for each image metric of the study's pool, and a row with the reason for each that says nothing here."""
    split, config = study.split, study.config
    held_out = [*split.val, *split.test]
    rows = image_metrics(held_out, study.pool, config.data.images, config.metrics)
    if not config.metrics.copies:
        return rows, []
    obstacle = find_obstacle(study.pool, split.train, held_out)
    if obstacle:
        return rows, [{"metric": "copies", "reason": obstacle}]
    return [*rows, measure_copies(study.pool, split.train, held_out, config.metrics)], []


def describe_cells(config: Config) -> list[Cell]:
    """The cells that a study would run, without reading data."""

    def identify(each: Config) -> tuple[str, str]:
        settings = asdict(each)
        data = [settings[name] for name in DATA]
        return content_hash(data), content_hash([*data, *(settings[name] for name in STAGES)])

    return cells_of(config, identify)


class Bars:
    """A progress bar a stage, with time left; remembers how long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, total: int) -> Callable[..., None]:
        """Start a stage; the result is called after each step, or with the number of steps behind and the values."""
        started, before = time.monotonic(), self.seconds.get(name, 0.0)  # a stage may come again: another generator
        bar = tqdm(total=total, desc=f"{name:<12}", unit="step", dynamic_ncols=True, file=sys.stderr, mininterval=0.5)
        done = 0

        def step(count: int = 1, values: dict[str, float] | None = None) -> None:
            nonlocal done
            # Training loops report the step's number and values; pools and cells report how many are done.
            advance = count - done if values is not None else count
            done += advance
            bar.update(advance)
            self.seconds[name] = before + time.monotonic() - started
            if done >= total:
                bar.close()

        return step


def _facts(study: Study, pool: SyntheticPool | None) -> dict[str, Any]:
    config = study.config
    sizes = "; ".join(f"{part} {len(group)} {class_counts(group)}" for part, group in study.split.parts())
    sampling = config.pool.sampling
    return {
        "data": config.data.root or f"{config.data.phantom.n} generated prostate phantoms",
        "subjects and classes": sizes,
        "generator protocol": PROTOCOLS[protocol_of(config)],
        "prompts": describe_pool(pool) if pool else "none: no regime uses synthetic data",
        "generator": f"{config.generator.variant}, {config.generator.training.steps} steps, "
        f"{config.generator.prediction}; {sampling.scheduler}, {sampling.steps} steps, guidance {sampling.guidance:g}",
        "volumes": f"{config.preprocess.shape} voxels of {config.preprocess.spacing_mm} mm",
        "classifier": f"{config.classifier.network}, {config.classifier.training.steps} steps of "
        f"{config.classifier.training.batch_size}, {config.classifier.loss}",
        "ids": f"data {study.data_id}, generator {study.generator_id}, pool {study.pool_id}",
    }


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder, so that two studies never work in it at once; the lock ends with the process."""
    with (out / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{out}: another study is running there; wait for it or choose another folder.") from error
        yield
