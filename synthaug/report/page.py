"""results.csv and report.html: tables and figures of a study in files that need no network."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from synthaug.config import Config
from synthaug.ground.files import atomic_path, write_text
from synthaug.metrics.distances.estimates import METRICS
from synthaug.report.confusions import confusions_of
from synthaug.report.figures.panels import panels_of
from synthaug.report.figures.pictures import Picture, draw_pictures
from synthaug.report.material import Material
from synthaug.report.tables import NAMES, arm_groups, contrast_groups, cost_rows, headlines
from synthaug.report.text import captions
from synthaug.report.text.methods import describe_methods
from synthaug.report.volumes.viewer import split_by_privacy
from synthaug.statistics.weighted import STATISTICS
from synthaug.study.grid import cohorts_of, is_protected
from synthaug.study.outlook.costs import Costs
from synthaug.study.records import CellRecord, Summary
from synthaug.study.records.findings import MEANINGS
from synthaug.study.summary.arms import arms_of


def write_results(records: Sequence[CellRecord], path: Path) -> None:
    """One row a cell."""
    arm_of = {id(record): arm.label for arm in arms_of(records) for record in arm.records}
    kept = ("n_train", "n_train_real", "n_train_synthetic", "steps", "steps_made", "chosen_step", "temperature")
    rows = [
        {
            **{key: getattr(record, key) for key in ("regime", "seed", "synthetic_fraction")},
            **record.settings,
            **{key: getattr(record, key) for key in kept},
            **record.metrics,
            "seconds": record.seconds,
            "arm": arm_of[id(record)],
            "cell": record.id,
        }
        for record in records
    ]
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def write_report(
    path: Path, *, config: Config, summary: Summary, records: Sequence[CellRecord], material: Material, costs: Costs
) -> list[Picture]:
    """Write the self-contained page; returns its pictures, in their order.

    Args:
        path: The HTML file, in the study's folder.
        config: The study's settings.
        summary: Of the study.
        records: Finished cells.
        material: What the page shows beside these.
        costs: Of all the study's sessions.
    """
    first = replace(config, data=cohorts_of(config)[0])  # whose split the page shows
    loader = PackageLoader("synthaug.report", "")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["code"] = _with_code
    pictures = draw_pictures(summary, records, 1 - config.metrics.confidence)
    methods = describe_methods(first, summary, records, material)
    write_text(
        path,
        page.get_template("page.html.j2").render(
            title=config.study.name,
            protected=is_protected(config),
            summary=summary,
            material=material,
            classes=first.data.class_names(records[0].classes),
            headlines=headlines(summary, records, first.data, confidence=config.metrics.confidence),
            findings=[each for each in summary.findings if not each.muted],
            muted=[each for each in summary.findings if each.muted],
            meanings_of_findings={code: MEANINGS[code] for code in dict.fromkeys(f.code for f in summary.findings)},
            metrics=STATISTICS,
            names=NAMES,
            arms=arm_groups(summary),
            contrasts=contrast_groups(summary),
            several_panels=len(panels_of(records)) > 1,
            pictures=pictures,
            confusions=confusions_of(records),
            **_images(summary, copies_wanted=config.metrics.copies),
            **_viewer(material),
            methods=methods,
            costs=cost_rows(costs, records),
            footnotes=captions.footnotes(summary, records, config.metrics),
        ),
    )
    return [*(picture for section in pictures.values() for picture in section), *material.slices]


def _images(summary: Summary, *, copies_wanted: bool) -> dict[str, Any]:
    """What the page says of the images."""
    copies = [row for row in summary.image_metrics if row.metric == "copies"]
    return {
        "distances": [row for row in summary.image_metrics if row.metric in METRICS],
        "shown_classes": [row for row in summary.image_metrics if row.metric == "class_shown"],
        "variety": [row for row in summary.image_metrics if row.metric == "ms_ssim"],
        "realism": [row for row in summary.image_metrics if "told_apart" in row.more],
        "meanings": captions.MEANINGS,
        "copies": [(row, captions.copy_verdict(row)) for row in copies],
        "copies_wanted": copies_wanted,
    }


def _viewer(material: Material) -> dict[str, Markup]:
    """The slice viewer's volumes as JSON that stands in the page: what may be shared, and the rest."""
    shared, rest = split_by_privacy(material.volumes)
    return {"shared_volumes": _embedded(shared), "patient_volumes": _embedded(rest)}


def _with_code(text: str) -> Markup:
    """Text whose words between backticks are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _embedded(value: Any) -> Markup:
    """JSON within a page, in which no text can end its element."""
    return Markup(json.dumps(value, ensure_ascii=False).replace("<", "\\u003c"))
