"""A whole study from config to report: prepare, run the cells, aggregate, track, report."""

import contextlib
import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from synthaug.bench.aggregate import count_statistics, image_metrics, summarise
from synthaug.bench.cell import cell_path, run_cell
from synthaug.bench.grid import Cell, cells_of
from synthaug.bench.pools import describe_pool
from synthaug.bench.preparation import Study
from synthaug.bench.report import write_report, write_results
from synthaug.bench.tracking import Tracker, flatten
from synthaug.config import Config
from synthaug.data.manifest import class_counts
from synthaug.errors import InputError
from synthaug.files import content_hash, write_json, write_text


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
    study = Study.start(config, out, bars.stage)
    with _alone(out):
        cells = cells_of(config, data_id=study.data_id, pool_id=study.pool_id)
        settings = asdict(config)
        write_text(out / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
        study_id = content_hash([study.pool_id, settings])
        tracker = Tracker(out, experiment=config.study.name, study_id=study_id, params=flatten(settings))
        pool = study.pool
        records, failed = [], []
        on_step = bars.stage("classifiers", config.classifier.training.steps * len(cells))
        for cell in cells:
            found = cell_path(out, cell).is_file()
            try:
                record = run_cell(cell, study, on_step=lambda step, values: on_step())
            except Exception as error:  # one cell's failure must not cost the others
                failed.append({"regime": cell.regime, "seed": cell.seed, "id": cell.id, "error": str(error)})
                continue
            if found:
                on_step(config.classifier.training.steps)
            records.append(record)
            tracker.log_cell(record, params=flatten({"classifier": settings["classifier"]}))
        if not records:
            raise RuntimeError(f"every cell failed; the first: {failed[0]['error']}")
        on_statistic = bars.stage("statistics", count_statistics(records))
        summary = summarise(records, failed, config.metrics, on_statistic=on_statistic)
        held_out = [*study.split.val, *study.split.test]
        summary["image_metrics"] = image_metrics(held_out, pool, config.data.images, config.metrics)
        write_json(out / "summary.json", summary)
        write_results(records, out / "results.csv")
        write_report(
            out / "report.html",
            title=config.study.name,
            summary=summary,
            records=records,
            real=study.split.test,
            pool=pool,
            images=config.data.images,
            facts=_facts(study, bars.seconds),
        )
        artifacts = [out / name for name in ("report.html", "results.csv", "summary.json", "split.csv", "config.yaml")]
        tracker.log_study(summary, artifacts=artifacts)
        return summary


def describe_cells(config: Config) -> list[Cell]:
    """The cells that a study would run, without reading data."""
    return cells_of(config, data_id="", pool_id="")


class Bars:
    """A progress bar a stage, with time left; remembers how long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, total: int) -> Callable[..., None]:
        """Start a stage; the result is called after each step, or with the number of steps to skip."""
        started = time.monotonic()
        bar = tqdm(total=total, desc=f"{name:<12}", unit="step", dynamic_ncols=True, file=sys.stderr, mininterval=0.5)
        done = 0

        def step(count: int = 1, values: dict[str, float] | None = None) -> None:
            nonlocal done
            # Training loops report the step's number and values; pools and cells report how many are done.
            advance = count - done if values is not None else count
            done += advance
            bar.update(advance)
            self.seconds[name] = time.monotonic() - started
            if done >= total:
                bar.close()

        return step


def _facts(study: Study, seconds: dict[str, float]) -> dict[str, Any]:
    config = study.config
    sizes = "; ".join(f"{part} {len(group)} {class_counts(group)}" for part, group in study.split.parts())
    sampling = config.pool.sampling
    return {
        "data": config.data.root or f"{config.data.phantom.n} generated prostate phantoms",
        "subjects and classes": sizes,
        "generator protocol": "same cohort: the generator was trained on the classifier's training patients only",
        "prompts": describe_pool(study.pool),
        "generator": f"{config.generator.variant}, {config.generator.training.steps} steps, "
        f"{config.generator.prediction}; {sampling.scheduler}, {sampling.steps} steps, guidance {sampling.guidance:g}",
        "volumes": f"{config.preprocess.shape} voxels of {config.preprocess.spacing_mm} mm",
        "classifier": f"{config.classifier.network}, {config.classifier.training.steps} steps of "
        f"{config.classifier.training.batch_size}, {config.classifier.loss}",
        "time": "; ".join(f"{name} {value:.0f} s" for name, value in seconds.items()) or "all found from earlier",
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
