"""A study in MLflow: its parent run, its cells as children, and what is sent later because a server was away."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run, RunTag

from synthaug.config import Config
from synthaug.ground.files import content_hash
from synthaug.study.folder.tracked import artifact_link
from synthaug.study.records import CellRecord, Summary
from synthaug.tracking.cells import FinishedCell, delete_cell, log_cell, name_of, tags_of
from synthaug.tracking.connection import connect
from synthaug.tracking.disclosure import shown, with_pseudonyms
from synthaug.tracking.entries import PARENT, SOURCE, as_key, as_params
from synthaug.tracking.notes import GUIDE, note_of
from synthaug.tracking.trainings import send_trainings

MOST_METRICS = 40
"""Of a study's run."""


class Tracker:
    """Logs one study. Metric names group by what is before the slash, as the interface's chart sections do.

    A server that cannot be reached costs one warning: what it lacks is sent at the study's end, or
    when the same command runs again.

    Args:
        out: The study's folder; holds ``mlflow.db`` and ``mlartifacts`` unless MLFLOW_TRACKING_URI names a server.
        experiment: Name of the experiment.
        study_id: Hash of the study's config: the same study finds its runs again.
        params: Settings of the study, flat.
        private: Whether ids become pseudonyms and images stay here.

    Raises:
        InputError: MLFLOW_TRACKING_URI is wrong, or the server refuses us.
    """

    def __init__(
        self, out: Path, *, experiment: str, study_id: str, params: Mapping[str, Any], private: bool = False
    ) -> None:
        self.connection = connect(out, experiment)
        self.connection.renew()
        self.private = private
        self.study_id, self.params = study_id, dict(params)
        self._waiting: list[FinishedCell] = []
        self._known: dict[str, Run] = {}
        self._parent: Run | None = None
        self.connection.attempt(self._begin)

    def log_cell(self, record: CellRecord, config: Config, *, weights: Path) -> None:
        """Log a finished cell as a child run, once whoever else logs it.

        Args:
            record: Of the cell.
            config: The study's, with the cell's values.
            weights: Its classifier, a safetensors file.
        """
        self._waiting.append(FinishedCell(with_pseudonyms(record) if self.private else record, config, weights))
        self.connection.attempt(self._send_cells)

    def log_study(self, summary: Summary, *, artifacts: Sequence[Path], plots: Path | None = None) -> bool:
        """Send what waits, then log the study's statistics, verdict, plots and files to the parent run and end it.

        Args:
            summary: Of the study.
            artifacts: Its files.
            plots: A folder of figures.

        Returns:
            Whether MLflow has all of it.
        """
        self.connection.renew(quietly=True)
        return self.connection.attempt(lambda: self._finish(summary, artifacts, plots))

    def _begin(self) -> Run:
        """The parent run, found or made, and what the experiment already holds."""
        if self._parent is None:
            found = self.connection.runs(study_id=self.study_id, kind="study")
            parent = found[-1] if found else self._create_parent()  # the earliest, should two machines have made it
            self._known = {run.data.tags["cell_id"]: run for run in self.connection.runs(kind="cell")}
            self._parent, self.connection.parent = parent, parent.info.run_id
        return self._parent

    def _create_parent(self) -> Run:
        name = f"study {self.connection.name}, running"
        tags = {**SOURCE, "mlflow.runName": name, "study_id": self.study_id, "kind": "study"}
        run = self.connection.connect().create_run(self.connection.find_experiment(), tags=tags)
        self.connection.connect().log_batch(run.info.run_id, params=as_params(self.params))
        return run

    def _send_cells(self) -> None:
        parent = self._begin().info.run_id
        while self._waiting:
            cell = self._waiting[0]
            if not self._holds(cell, parent):
                log_cell(self.connection, cell, parent=parent, study_id=self.study_id)
            self._waiting.pop(0)

    def _holds(self, cell: FinishedCell, parent: str) -> bool:
        """Whether MLflow has the cell whole; a run that was cut off is deleted, that of a smaller study adopted."""
        cell_id = cell.record.id
        known = self._known.get(cell_id)
        found = [known] if known and known.info.status == "FINISHED" else self.connection.runs(cell_id=cell_id)
        whole = [run for run in found if run.info.status == "FINISHED"]
        # Under the folder's lock nobody else is at it: a run that has not ended never will.
        for run in [*(run for run in found if run not in whole), *whole[:-1]]:
            delete_cell(self.connection, run)
        if whole and whole[-1].data.tags.get(PARENT) != parent:
            run_id = whole[-1].info.run_id
            ours = {PARENT: parent, "study_id": self.study_id, "mlflow.runName": name_of(cell.record)}
            ours |= tags_of(cell.record, cell.config)
            self.connection.connect().log_batch(run_id, tags=[RunTag(*each) for each in ours.items()])
        return bool(whole)

    def _finish(self, summary: Summary, artifacts: Sequence[Path], plots: Path | None) -> None:
        self._send_cells()
        self._send_trainings()
        parent, client = self._begin(), self.connection.connect()
        run_id, summary_id = parent.info.run_id, content_hash(summary.to_json())
        if parent.data.tags.get("summary_id") == summary_id:
            return
        client.log_batch(run_id, metrics=metrics_of(summary))
        with shown(artifacts, private=self.private) as paths:
            for path in paths:
                client.log_artifact(run_id, str(path))
        if plots:
            client.log_artifacts(run_id, str(plots), "plots")
        report = artifact_link(self.connection.find_experiment(), run_id, "report.html")
        note, verdict = note_of(summary, report), summary.verdict
        names = {"verdict": verdict.sentence(), "verdict_kind": verdict.kind, "mlflow.note.content": note}
        codes = ", ".join(each.code for each in summary.findings if not each.muted)
        names |= {"findings": codes} if codes else {}
        names |= {"provenance": verdict.provenance} if verdict.provenance else {}
        tags = {**names, "mlflow.runName": f"study: {verdict.headline()}"}
        client.log_batch(run_id, tags=[RunTag(key, value[:8000]) for key, value in tags.items()])
        client.set_experiment_tag(self.connection.find_experiment(), "mlflow.note.content", f"{note}\n\n{GUIDE}")
        client.set_terminated(run_id, "FAILED" if summary.failed else "FINISHED")
        client.set_tag(run_id, "summary_id", summary_id)  # last: it says that all is there

    def _send_trainings(self) -> None:
        runs = [run for kind in ("autoencoder", "generator") for run in self.connection.runs(kind=kind)]
        send_trainings(self.connection, {run.data.tags["stage_id"]: run for run in runs})


def metrics_of(summary: Summary) -> list[Metric]:
    """At most ``MOST_METRICS`` numbers of a study, the answer first; the report and summary.json have all.

    The interface draws a chart for every name, and the answer must not drown among hundreds of them.
    """
    now = int(1000 * time.time())
    named: dict[str, float] = {}
    for name, value in (each for group in _groups(summary) for each in group):
        if len(named) < MOST_METRICS:
            named.setdefault(as_key(name), value)
    return [Metric(name, value, now, 0) for name, value in named.items()]


def _groups(summary: Summary) -> Iterator[list[tuple[str, float]]]:
    """Names and numbers, the most asked for first."""
    gains = [(f"gain/{row.arm.label} over {row.baseline.label}", row) for row in summary.in_metric("auroc")]
    images = [(f"images/{row.source} {row.metric}".replace("/ ", "/"), row) for row in summary.image_metrics]
    yield [(name, row.difference.value) for name, row in gains]
    yield [(f"AUROC/{arm.label}", arm.metrics["auroc"].value) for arm in summary.arms if "auroc" in arm.metrics]
    if summary.near_copies:
        yield [("data/near copies", len(summary.near_copies))]
        yield [("data/near copies across parts", len(summary.leaking_copies()))]
    yield [(name, row.estimate.value) for name, row in images]
    for name, row in gains:
        yield [(f"{name} low", row.difference.low), (f"{name} high", row.difference.high), (f"{name} p", row.p_holm)]
    yield [(f"{name} floor", row.more["floor"]) for name, row in images if row.more.get("floor") is not None]
