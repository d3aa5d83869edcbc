"""A study from Python: ``run_study(config)`` does what ``synthaug bench`` does, and gives what it found."""

import html
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from synthaug.config import Config, ExecutionConfig
from synthaug.study.folder.standing import finished_summary
from synthaug.study.records import Summary, read_summary

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """A study that was run: its folder and what it found."""

    folder: Path
    summary: Summary
    """Arms, contrasts, image metrics, the verdict."""

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The study of a folder, run before.

        Raises:
            InputError: There is none.
        """
        return cls(Path(folder), read_summary(folder))

    @property
    def report(self) -> Path:
        """``report.html``, one file for any browser."""
        return self.folder / "report.html"

    @property
    def verdict(self) -> str:
        """The answer in a sentence, behind what is to be known first."""
        return " ".join(filter(None, (self.summary.warning(), self.summary.verdict.sentence())))

    def to_frame(self, rows: Literal["arms", "contrasts", "images"] = "arms") -> "pd.DataFrame":
        """A table: a row an arm and metric, a paired difference, or an image metric."""
        return self.summary.to_frame(rows)

    def __str__(self) -> str:
        return f"{self.verdict}\nreport: {self.report}"

    def _repr_html_(self) -> str:
        """In a notebook: the verdict over a table of the arms' AUROC."""
        shown = self.to_frame()
        shown = shown[shown["metric"] == "auroc"] if len(shown) else shown
        columns = [name for name in ("arm", "value", "ci_low", "ci_high", "n_train", "n_test") if name in shown]
        table = shown[columns].to_html(index=False, float_format=lambda value: f"{value:.3f}")
        link = html.escape(str(self.report))
        return f"<p><b>{html.escape(self.verdict)}</b></p>{table}<p>AUROC; the whole report: <code>{link}</code></p>"


def load_config(*files: str | Path, preset: str | None = None) -> Config:
    """The settings of YAML files, later ones over earlier ones, on a preset where one is named.

    Args:
        *files: YAML files, as ``--config`` takes them.
        preset: cpu, small-gpu, published or published++.

    Raises:
        InputError: A file cannot be read, or a setting is unknown or cannot be.
    """
    from synthaug.bench.options.parsing import read_config

    begun = ["--preset", preset] if preset else []
    return read_config([*begun, *(word for file in files for word in ("--config", str(file)))], exits=False)


def run_study(
    config: Config | str | Path, out: str | Path = "runs/quickstart", *, execution: ExecutionConfig | None = None
) -> Study:
    """Run a study, or what is missing of it; on a finished one nothing is done.

    Args:
        config: The study, or the YAML file that says it.
        out: Its folder; one that was stopped goes on.
        execution: Where its cells run; None = here.

    Raises:
        InputError: The input cannot be used.
        EveryCellFailed: There is nothing to compare.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    folder = Path(out)
    summary = finished_summary(settings, folder)
    if summary is None:
        from synthaug.bench.studies import run  # late: a finished study is told without torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries, for things that are as they should be
            summary = run.run_study(settings, folder, execution)
    return Study(folder, summary)
