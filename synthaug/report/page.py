"""results.csv and report.html: tables and figures of a study in files that need no network."""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from synthaug.config import Config
from synthaug.ground.files import atomic_path, write_text
from synthaug.metrics.distances.estimates import METRICS
from synthaug.report import captions
from synthaug.report.forest import auroc_plots, effect_plots
from synthaug.report.panels import MOST_SHOWN, panels_of, records_of, series_of
from synthaug.report.plots import curve_plot, has_sizes, learning_plot, precision_plot, reliability_plot, roc_plot
from synthaug.report.provenance import tell_provenance
from synthaug.report.slices import Samples, slice_plot
from synthaug.report.styles import PAPER, styles_of
from synthaug.report.tables import NAMES, arm_groups, contrast_groups, cost_rows
from synthaug.statistics.weighted import STATISTICS
from synthaug.study.outlook.costs import Costs
from synthaug.study.records import CellRecord, ImageComparison, Summary

MOST_SLICES = 10
"""Figures of slices: classes times generators; they are most of the file's size."""
SLICE_DPI = 140


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it."""

    kind: str
    """svg or png."""
    content: bytes
    width_in: float
    """Width, inches on paper."""
    alt: str
    """What it shows, in numbers."""
    caption: str
    patients: bool = False
    """Whether it shows volumes."""

    @property
    def address(self) -> str:
        """A data address of the whole picture."""
        kind = "svg+xml" if self.kind == "svg" else self.kind
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


def write_results(records: Sequence[CellRecord], path: Path) -> None:
    """One row a cell."""
    kept = ("n_train", "n_train_real", "n_train_synthetic", "steps", "steps_made", "chosen_step", "temperature")
    rows = [
        {
            **{key: getattr(record, key) for key in ("regime", "seed", "synthetic_fraction")},
            **record.settings,
            **{key: getattr(record, key) for key in kept},
            **record.metrics,
            "seconds": record.seconds,
            "cell": record.id,
        }
        for record in records
    ]
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def write_report(
    path: Path,
    *,
    config: Config,
    summary: Summary,
    records: Sequence[CellRecord],
    samples: Sequence[Samples],
    costs: Costs,
    facts: Mapping[str, Any],
) -> list[Picture]:
    """Write the self-contained page; returns its pictures, in their order.

    Args:
        path: The HTML file, in the study's folder.
        config: The study's settings.
        summary: Of the study.
        records: Finished cells.
        samples: What to show slices of, a generator each; none = the study has no synthetic data.
        costs: Of all the study's sessions.
        facts: Name and value pairs of the protocol table.
    """
    alpha = 1 - config.metrics.confidence
    template = resources.files("synthaug.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pictures, images = _pictures(summary, records, alpha), _images(summary, samples, config)
    write_text(
        path,
        page.from_string(template).render(
            title=config.study.name,
            protected=config.data.protected,
            date=date.today().isoformat(),
            summary=summary,
            metrics=STATISTICS,
            names=NAMES,
            arms=arm_groups(summary),
            contrasts=contrast_groups(summary),
            several_panels=len(panels_of(records)) > 1,
            pictures=pictures,
            **images,
            costs=cost_rows(costs, records),
            facts=facts,
            provenance=tell_provenance(config, path.parent),
            footnotes=captions.footnotes(summary, records, config.metrics),
        ),
    )
    return [*(picture for section in pictures.values() for picture in section), *images["slices"]]


def save_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Write the pictures of a report as files, numbered and named by what they show."""
    for number, picture in enumerate(pictures, start=1):
        words = "-".join(re.findall(r"[a-z0-9]+", picture.alt.lower())[:6])
        (folder / f"{number:02d}-{words or 'plot'}.{picture.kind}").write_bytes(picture.content)


def _pictures(summary: Summary, records: Sequence[CellRecord], alpha: float) -> dict[str, list[Picture]]:
    """By section; a section without figures has an empty list."""
    effect_alt, auroc_alt = captions.effect_alt(summary, alpha), captions.auroc_alt(summary)
    effects = effect_plots(summary, alpha=alpha) if summary.contrasts else ()
    marks = (
        "Filled markers: clear differences; hollow: not clear. Beside each its interval and its p, corrected by Holm."
    )
    found = {
        "effect": [Picture(*_vector(figure), effect_alt, marks) for figure in effects],
        "auroc": [Picture(*_vector(figure), auroc_alt, "Test AUROC of each arm.") for figure in auroc_plots(summary)],
        "learning": [],
    }
    if has_sizes(summary):
        caption = "Test AUROC by number of real training patients (logarithmic), with intervals."
        found["learning"] = [Picture(*_vector(learning_plot(summary)), captions.learning_alt(summary), caption)]
    return found | _panel_pictures(summary, records)


def _panel_pictures(summary: Summary, records: Sequence[CellRecord]) -> dict[str, list[Picture]]:
    """Figures with a panel for each combination of settings; of very many the first are shown."""
    panels = panels_of(records)
    chosen = list(panels)[:MOST_SHOWN]
    shown = records_of(panels, chosen)
    left_out = len(panels) - len(chosen)
    more = f" The first {len(chosen)} of {len(panels)} combinations of settings are shown." if left_out else ""
    styles = styles_of(series_of(panels))

    def picture(plot: Callable[..., Figure], alt: str, caption: str, **options: bool) -> Picture:
        return Picture(*_vector(plot(shown, styles=styles, **options)), alt, caption + more)

    before, after = (captions.reliability_alt(records, calibrated=calibrated) for calibrated in (False, True))
    roc, precision = (
        captions.curves_alt(name, metric, summary)
        for name, metric in (("ROC", "auroc"), ("Precision-recall", "average_precision"))
    )
    mean = "of each arm, mean over its trainings."
    bins = "temperature scaling: predictions in bins of confidence; the marker's area is their share."
    return {
        "curves": [
            picture(roc_plot, roc, f"ROC curve {mean}"),
            picture(precision_plot, precision, f"Precision-recall curve {mean}"),
        ],
        "reliability": [
            picture(reliability_plot, before, f"Before {bins}", calibrated=False),
            picture(reliability_plot, after, f"After {bins}", calibrated=True),
        ],
        "training": [
            picture(curve_plot, captions.training_alt(records), f"Validation loss {mean} Markers: chosen steps.")
        ],
    }


def _images(summary: Summary, samples: Sequence[Samples], config: Config) -> dict[str, Any]:
    """What the page says of the images."""
    copies = [row for row in summary.image_metrics if row.metric == "copies"]
    return {
        "slices": _slices(samples, copies, config.data.images),
        "slices_left_out": max(sum(len(each.pool.classes) for each in samples) - MOST_SLICES, 0),
        "distances": [row for row in summary.image_metrics if row.metric in METRICS],
        "realism": [row for row in summary.image_metrics if "told_apart" in row.more],
        "meanings": captions.MEANINGS,
        "copies": [(row, captions.copy_verdict(row)) for row in copies],
        "copies_wanted": config.metrics.copies,
    }


def _slices(samples: Sequence[Samples], copies: Sequence[ImageComparison], images: Sequence[str]) -> list[Picture]:
    nearest = {row.source: row.more.get("nearest", ()) for row in copies}
    told = [replace(each, nearest=nearest.get(each.source, ())) for each in samples]
    pairs = [(each, label) for each in told for label in each.pool.classes][:MOST_SLICES]
    return [
        Picture(
            *_raster(slice_plot(each, label, images)),
            captions.slices_alt(each, label),
            f"Class {label}{', ' + each.source if each.source else ''}.",
            patients=True,
        )
        for each, label in pairs
    ]


def _vector(figure: Figure) -> tuple[str, bytes, float]:
    """Kind, content and width."""
    stream = io.BytesIO()
    with matplotlib.rc_context(PAPER):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return "svg", stream.getvalue(), figure.get_figwidth()


def _raster(figure: Figure) -> tuple[str, bytes, float]:
    """Kind, content and width of a figure in shades of grey."""
    stream, grey = io.BytesIO(), io.BytesIO()
    figure.savefig(stream, format="png", dpi=SLICE_DPI)
    Image.open(stream).convert("L").save(grey, format="png", optimize=True)
    return "png", grey.getvalue(), figure.get_figwidth()
