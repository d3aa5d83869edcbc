"""Studies from Python: ``run_study(config)`` runs what ``synthaug bench`` runs and returns the results."""

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
    """A finished study: its folder and its results."""

    folder: Path
    summary: Summary
    """Arms, contrasts, image metrics and verdict."""

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read a finished study from its folder.

        Raises:
            InputError: The folder holds none.
        """
        return cls(Path(folder), read_summary(folder))

    @property
    def report(self) -> Path:
        """Path of ``report.html``, a self-contained page."""
        return self.folder / "report.html"

    @property
    def verdict(self) -> str:
        """Verdict in a sentence, after the warnings."""
        return " ".join(filter(None, (self.summary.warning(), self.summary.verdict.sentence())))

    def to_frame(self, rows: Literal["arms", "contrasts", "images"] = "arms") -> "pd.DataFrame":
        """A table with one row per arm and metric, per paired difference, or per image metric."""
        return self.summary.to_frame(rows)

    def __str__(self) -> str:
        return f"{self.verdict}\nreport: {self.report}"

    def _repr_html_(self) -> str:
        """Display in a notebook: verdict and a table of AUROC by arm."""
        shown = self.to_frame()
        shown = shown[shown["metric"] == "auroc"] if len(shown) else shown
        columns = [name for name in ("arm", "value", "ci_low", "ci_high", "n_train", "n_test") if name in shown]
        table = shown[columns].to_html(index=False, float_format=lambda value: f"{value:.3f}")
        link = html.escape(str(self.report))
        return f"<p><b>{html.escape(self.verdict)}</b></p>{table}<p>AUROC; the whole report: <code>{link}</code></p>"


def load_config(*files: str | Path, preset: str | None = None) -> Config:
    """Settings from YAML files, where later files override earlier ones and a preset.

    Args:
        *files: YAML files, as for ``--config``.
        preset: Name of a preset, such as cpu, small-gpu or published.

    Raises:
        InputError: A file is unreadable, or a setting is unknown or out of range.
    """
    from synthaug.bench.options.parsing import read_config

    begun = ["--preset", preset] if preset else []
    return read_config([*begun, *(word for file in files for word in ("--config", str(file)))], exits=False)


def run_study(
    config: Config | str | Path, out: str | Path = "runs/quickstart", *, execution: ExecutionConfig | None = None
) -> Study:
    """Run a study, continue an unfinished one, or read a finished one.

    Args:
        config: The study, or its YAML file.
        out: Output folder.
        execution: Where the cells run; None = in this process.

    Raises:
        InputError: The input is unusable.
        EveryCellFailed: No cell finished.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    folder = Path(out)
    summary = finished_summary(settings, folder)
    if summary is None:
        from synthaug.bench.studies import run  # late: reading a finished study needs no torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # harmless ones of libraries
            summary = run.run_study(settings, folder, execution)
    return Study(folder, summary)
