"""A whole study from config to report: prepare, run the cells, aggregate, track, report."""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from synthaug.bench.studies.measuring import measure_images
from synthaug.bench.studies.progress import Bars, stages_of
from synthaug.config import Config, ExecutionConfig
from synthaug.data.reading.manifest import class_counts
from synthaug.generate.stored.told import Guidance
from synthaug.ground.files import write_json
from synthaug.models.training.processes import processes
from synthaug.pool.ledger import HEADER, MANIFEST
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.verdicts import AUDIT
from synthaug.report.figures.pictures import Picture, save_pictures
from synthaug.report.material import Material
from synthaug.report.page import write_report, write_results
from synthaug.report.volumes.slices import Samples
from synthaug.study.folder.earlier import tell_earlier_cells
from synthaug.study.folder.results import placed
from synthaug.study.folder.standing import inputs_of, mark_finished
from synthaug.study.grid import Cell, cells_of, cohorts_of, is_private, tell_idle_axes, trained_once
from synthaug.study.identity import id_of
from synthaug.study.outlook.costs import CostMeter, total_costs
from synthaug.study.records import CellRecord, ImageComparison, Summary, Verdict
from synthaug.study.running.cell import cell_path, weights_path
from synthaug.study.running.executors import Outcome, run_cells
from synthaug.study.running.studies import Studies
from synthaug.study.stages.pools import describe_pool
from synthaug.study.stages.preparation import Study
from synthaug.study.summary.aggregate import count_statistics, summarise
from synthaug.study.summary.findings import findings_of, look_at_pool
from synthaug.study.summary.subgroups import slice_cohorts, subgroups_of_cohorts
from synthaug.tracking import Tracker, TrainingListener, flatten, require_address, stores_of

PROTOCOLS = {
    "same cohort": "same cohort: the generator was trained on the classifier's training patients only",
    "other cohort": "other cohort: the generator was trained on other patients first; none is chosen or tested by",
    "unknown cohort": "unknown: whom the generator was trained on was not recorded, or cannot be told from here; "
    "patients that are tested by may be among them",
}
POOL_FILES = (HEADER, MANIFEST, AUDIT)
"""Files by which a changed pool is noticed."""


class EveryCellFailed(RuntimeError):
    """No cell of a study finished; the message is one line."""


def run_study(config: Config, out: Path, execution: ExecutionConfig | None = None) -> Summary:
    """Run what is missing of a study and write config.yaml, results.csv, summary.json, report.html and MLflow runs.

    Several benches may share a folder: they share the cells and write the same results. Under ``torchrun`` the main
    process writes.

    Args:
        config: The study.
        out: Output folder; a killed study continues there.
        execution: Where the cells run; None = in this process.

    Returns:
        The summary; outside the main process only the failed cells.

    Raises:
        InputError: The input is unusable.
        EveryCellFailed: No cell finished.
    """
    require_address()
    bars, inputs, groups = Bars(stages_of(config)), inputs_of(config, out), subgroups_of_cohorts(config)
    studies = Studies(out, bars.stage, TrainingListener())
    with bars.timed("preparation"):
        studies.read(config)
        cells = cells_of(config, studies.identify)
    leads = processes().is_main_process
    tracker = _begin(config, studies, cells) if leads else None
    with CostMeter(out, bars) if leads else contextlib.nullcontext():
        studies.make_generators(cells)
        studies.make_pools(cells)
        records, failed = _run_classifiers(cells, studies, tracker, bars, execution=execution or ExecutionConfig())
        if not leads:
            return Summary(len(records), (), (), Verdict("none"), failed=tuple(failed))
        if not records:
            first = f"{failed[0]['regime']} seed {failed[0]['seed']}: {failed[0]['error']}"
            raise EveryCellFailed(f"each of the {len(failed)} cells failed; the first, {first}")
        on_statistic = bars.stage("statistics", count_statistics(records))
        summary = summarise(records, failed, config.metrics, on_statistic=on_statistic)
        summary = replace(summary, subgroups=tuple(slice_cohorts(records, groups, config.metrics)))
        with bars.timed("image metrics"):
            measured, left_out = _measure_sources(studies, cells)
        alike = dict.fromkeys(pair for study in studies for pair in study.near_copies)
        summary = replace(
            summary,
            image_metrics=tuple(measured),
            image_metrics_left_out=tuple(left_out),
            near_copies=tuple(map(asdict, alike)),
        )
        looks = {
            source: look_at_pool(study, studies.make_pool(study))
            for source, study in studies.with_synthetic(cells).items()
        }
        summary = replace(summary, findings=findings_of(summary, records, config, looks))
    with bars.timed("report"):
        files, sent = _report(config, studies, cells, records, summary, tracker)
    if sent and not failed:
        _mark_finished(studies, cells, files, inputs)
    return summary


def _report(
    config: Config,
    studies: Studies,
    cells: Sequence[Cell],
    records: Sequence[CellRecord],
    summary: Summary,
    tracker: Tracker | None,
) -> tuple[list[Path], bool]:
    """Write the results and log them; returns the files, and whether MLflow has everything."""
    with placed(studies.out, asdict(config)), tempfile.TemporaryDirectory() as plots:
        files, pictures = _write_results(config, studies, cells, records, summary)
        save_pictures([each for each in pictures if not (is_private(config) and each.patients)], Path(plots))
        sent = tracker is not None and tracker.log_study(summary, artifacts=files, plots=Path(plots))
    return files, sent


def _mark_finished(studies: Studies, cells: Sequence[Cell], files: Sequence[Path], inputs: str | None) -> None:
    out = studies.out
    folders = [studies.make_pool(study).path for study in studies.with_synthetic(cells).values()]
    pools = [folder / name for folder in folders for name in POOL_FILES]
    made = [path(out, cell) for cell in cells for path in (cell_path, weights_path)]
    # Of MLflow's file only that it is there: its interface and other studies write to it too.
    mark_finished(out, inputs, [*files, *made, *pools], present=stores_of(out))


def _begin(config: Config, studies: Studies, cells: Sequence[Cell]) -> Tracker:
    """Claim the folder for the results of this study, and begin its MLflow run."""
    tell_earlier_cells(studies.out, cells)
    tell_idle_axes(cells)
    settings = asdict(config)
    with placed(studies.out, settings):
        studies.write_splits()
        told = {key: value for key, value in settings.items() if key != "report"}  # which changes no result
        study_id = id_of([[studies.identify(study.config)[1] for study in studies], told])
        params = flatten(settings)
        return Tracker(
            studies.out, experiment=config.study.name, study_id=study_id, params=params, private=is_private(config)
        )


def _run_classifiers(
    cells: Sequence[Cell], studies: Studies, tracker: Tracker | None, bars: Bars, *, execution: ExecutionConfig
) -> tuple[list[CellRecord], list[dict[str, Any]]]:
    """Records of the finished cells, and descriptions of the failed ones."""
    on_step = bars.stage("classifiers", sum(cell.config.classifier.training.steps for cell in trained_once(cells)))
    behind = 0

    def on_outcome(cell: Cell, outcome: Outcome) -> None:
        nonlocal behind
        if tracker and "record" in outcome:
            tracker.log_cell(outcome["record"], cell.config, weights=weights_path(studies.out, cell))
        behind += cell.config.classifier.training.steps
        on_step(behind, {})  # found from earlier, resumed, stopped early, run elsewhere or failed

    outcomes = run_cells(cells, studies, execution, on_step=lambda step, values: on_step(), on_outcome=on_outcome)
    records = [replace(outcomes[c.id]["record"], **c.describe()) for c in cells if "record" in outcomes[c.id]]
    failed = [
        {"regime": cell.regime, "seed": cell.seed, "settings": cell.settings, "id": cell.id, **outcomes[cell.id]}
        for cell in cells
        if "error" in outcomes[cell.id]
    ]
    return records, failed


def _write_results(
    config: Config,
    studies: Studies,
    cells: Sequence[Cell],
    records: Sequence[CellRecord],
    summary: Summary,
) -> tuple[list[Path], list[Picture]]:
    """Write the files of the study; returns them and the figures of the report."""
    out, sources = studies.out, studies.with_synthetic(cells)
    studies.write_splits()  # another study may have had the folder's place meanwhile
    write_json(out / "summary.json", summary.to_json())
    write_results(records, out / "results.csv")
    base = next(iter(sources.values()), studies.first)
    pools = {name: studies.make_pool(study) for name, study in sources.items()}
    material = Material.gather(
        config,
        summary,
        [Samples(name, each.split.test, each.split.train, pools[name]) for name, each in sources.items()],
        split=studies.first.split,
        splits=len({study.data_id for study in studies}),
        facts=_facts(config, base, next(iter(pools.values()), None), _ids(base, cells)),
        out=out,
        records=records,
    )
    material.write(out)
    pictures = write_report(
        out / "report.html",
        config=config,
        summary=summary,
        records=records,
        material=material,
        costs=total_costs(out),
    )
    names = ("report.html", "results.csv", "summary.json", "split.csv", "config.yaml")
    return [out / name for name in names], pictures


def _measure_sources(studies: Studies, cells: Sequence[Cell]) -> tuple[list[ImageComparison], list[dict[str, Any]]]:
    measured, left_out = [], []
    for source in studies.sources(cells):
        rows, reasons = measure_images(source.study, studies.make_pool(source.study))
        measured += [replace(row, source=source.words, axes=source.axes) for row in rows]
        left_out += [{**row, "source": source.words} for row in reasons]
    return measured, left_out


def _ids(study: Study, cells: Sequence[Cell]) -> str:
    """Of data, generator and pool, for whoever looks for their files."""
    pool = next((cell.pool_id for cell in cells if cell.pool_id), "")
    return f"data {study.data_id}" + (f", generator {study.generator_id}, pool {pool}" if pool else "")


def _facts(whole: Config, study: Study, pool: SyntheticPool | None, ids: str) -> dict[str, Any]:
    """Rows of the protocol table: all cohorts of the whole study, and one of its studies as an example."""
    config, cohorts = study.config, cohorts_of(whole)
    names = [each.root or f"{each.phantom.n} generated prostate phantoms" for each in cohorts]
    sizes = "; ".join(f"{part} {len(group)} {class_counts(group)}" for part, group in study.split.parts())
    batch_size = config.classifier.batch_size(len(study.classes))
    return {
        "data": "; ".join(dict.fromkeys(names)),
        "subjects and classes": sizes,
        **(_generator_facts(study, pool) if pool else {"generator": "none: no regime uses synthetic data"}),
        "volumes": f"{config.preprocess.shape} voxels of {config.preprocess.spacing_mm} mm",
        "classifier": f"{config.classifier.network}, {config.classifier.training.steps} steps of "
        f"{batch_size}, {config.classifier.loss}",
        "ids": ids,
    }


def _generator_facts(study: Study, pool: SyntheticPool) -> dict[str, Any]:
    sampling = study.config.pool.sampling
    guidance = Guidance.of(sampling)
    made = f"{study.design.variant}, {study.design.training.steps} steps, {study.design.process}"
    if study.ready:
        made = f"{study.config.pool.generator} as it is (fingerprint {study.ready.fingerprint})"
    chosen, kept = study.config.pool.filter, study.config.pool.keep
    told = {} if chosen == "none" else {"filter": f"the {kept:.0%} of each class that rank first by {chosen}"}
    return {
        "generator protocol": PROTOCOLS[study.protocol],
        "prompts": describe_pool(pool),
        **told,
        "generator": f"{made}; {sampling.scheduler}, {sampling.steps} steps, {guidance}",
    }
