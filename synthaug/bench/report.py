"""results.csv and report.html: tables and figures of a study in files that need no network."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
import torchio as tio
from jinja2 import Environment
from sklearn.metrics import roc_curve

from synthaug.augment.pool import SyntheticPool
from synthaug.data.manifest import stack_images
from synthaug.files import atomic_path, write_text
from synthaug.metrics.resampling import STATISTICS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Record = dict[str, Any]
COLOURS = {"real": "#000000", "synthetic": "#E69F00", "mixed": "#0072B2", "finetuned": "#CC79A7"}
"""Okabe and Ito's palette: told apart by colour-blind readers; line styles tell them apart in print."""
STYLES = {"real": "-", "synthetic": ":", "mixed": "--", "finetuned": "-."}


def write_results(records: Sequence[Record], path: Path) -> None:
    """One row a cell."""
    kept = ("n_train", "n_train_real", "n_train_synthetic", "steps", "steps_made", "chosen_step", "temperature")
    rows = [
        {
            **{key: record[key] for key in ("regime", "seed", "synthetic_fraction")},
            **record["settings"],
            **{key: record[key] for key in kept},
            **record["metrics"],
            "seconds": record["seconds"],
            "cell": record["id"],
        }
        for record in records
    ]
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    records: Sequence[Record],
    real: Sequence[tio.Subject],
    pool: SyntheticPool | None,
    images: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write the self-contained page.

    Args:
        path: The HTML file.
        title: Name of the study.
        summary: From ``aggregate.summarise``, with ``image_metrics``.
        records: Finished cells.
        real: Real subjects to show slices of; held-out ones.
        pool: Synthetic subjects to show slices of; None = the study has none.
        images: Image names; the first is shown.
        facts: Name and value pairs of the protocol table.
    """
    figures = {
        "effect": _figure(effect_plot(summary)),
        "roc": _figure(roc_plot(records)),
        "curves": _figure(curve_plot(records)),
    }
    if pool is not None:
        figures["slices"] = _figure(slice_plot(real, pool, images))
    template = resources.files("synthaug.bench").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    write_text(
        path,
        page.render(
            title=title,
            summary=summary,
            metrics=STATISTICS,
            figures=figures,
            facts=facts,
            date=date.today().isoformat(),
        ),
    )


def effect_plot(summary: Mapping[str, Any]) -> plt.Figure:
    """AUROC of each regime and its difference to real, with intervals."""
    regimes = summary["regimes"]
    contrasts = [contrast for contrast in summary["contrasts"] if contrast["metric"] == "auroc"]
    height = max(2.6, 0.9 + 0.4 * max(len(regimes), len(contrasts)))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, height), constrained_layout=True)
    for place, regime in enumerate(regimes):
        _interval(left, place, regime["auroc"]["value"], regime["auroc"], COLOURS[regime["regime"].split(" ")[0]])
    left.set_yticks(range(len(regimes)), [regime["regime"] for regime in regimes])
    left.set_xlabel("test AUROC, interval over patients and seeds")
    left.axvline(0.5, color="0.7", linewidth=1)
    for place, contrast in enumerate(contrasts):
        _interval(right, place, contrast["difference"], contrast, COLOURS[contrast["contrast"].split(" ")[0]])
    right.set_yticks(range(len(contrasts)), [contrast["contrast"] for contrast in contrasts])
    right.set_xlabel("difference in AUROC, paired")
    right.axvline(0, color="0.7", linewidth=1)
    for axes in (left, right):
        axes.invert_yaxis()
        axes.margins(y=0.3)
    return figure


def roc_plot(records: Sequence[Record]) -> plt.Figure:
    """ROC curve of every cell (binary) or of class 1 against the rest."""
    figure, axes = plt.subplots(figsize=(4, 3.8), constrained_layout=True)
    seen = set()
    for record in records:
        labels = np.array([row["label"] == 1 for row in record["predictions"]])
        scores = np.array([row["probabilities"][1] for row in record["predictions"]])
        false_rate, true_rate, _ = roc_curve(labels, scores)
        regime = record["regime"]
        label = None if regime in seen else regime
        seen.add(regime)
        axes.plot(false_rate, true_rate, STYLES[regime], color=COLOURS[regime], label=label, alpha=0.8, linewidth=1.3)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(frameon=False, loc="lower right")
    return figure


def curve_plot(records: Sequence[Record]) -> plt.Figure:
    """Validation loss of every cell; a dot marks the step that was chosen."""
    figure, axes = plt.subplots(figsize=(4.6, 3.8), constrained_layout=True)
    for record in records:
        regime, history = record["regime"], record["history"]
        steps, losses = [point["step"] for point in history], [point["val_loss"] for point in history]
        axes.plot(steps, losses, STYLES[regime], color=COLOURS[regime], alpha=0.8, linewidth=1.3)
        chosen = steps.index(record["chosen_step"])
        axes.plot(steps[chosen], losses[chosen], "o", color=COLOURS[regime], markersize=4)
    axes.set(xlabel="optimiser step", ylabel="validation cross-entropy (real patients)")
    return figure


def slice_plot(real: Sequence[tio.Subject], pool: SyntheticPool, images: Sequence[str], columns: int = 8) -> plt.Figure:
    """Middle axial slices: a row of real and a row of synthetic volumes for each class."""
    labels = pool.classes
    figure, grid = plt.subplots(
        2 * len(labels), columns, figsize=(9, 2.35 * len(labels)), squeeze=False, layout="compressed"
    )
    for place, label in enumerate(labels):
        shown = [subject for subject in real if subject["label"] == label][:columns]
        drawn = [pool.subject(label, index) for index in range(min(columns, pool.counts[label]))]
        for row, subjects, name in ((2 * place, shown, "real"), (2 * place + 1, drawn, "synthetic")):
            for axes in grid[row]:
                axes.set_axis_off()
            for axes, subject in zip(grid[row], subjects, strict=False):
                draw_slice(axes, stack_images(subject, images)[0])
            grid[row][0].set_title(f"class {label}, {name}", fontsize=8, loc="left")
    return figure


def draw_slice(axes: plt.Axes, volume: torch.Tensor) -> None:
    """The middle axial slice of a RAS volume (X, Y, Z) in [0, 1], the patient's right on the left, anterior up."""
    axes.imshow(volume.flip(0)[:, :, volume.shape[2] // 2].T, cmap="gray", vmin=0, vmax=1, origin="lower")
    axes.set_axis_off()


def _interval(axes: plt.Axes, place: int, value: float, ends: Mapping[str, float], colour: str) -> None:
    axes.plot([ends["ci_low"], ends["ci_high"]], [place, place], color=colour, linewidth=2)
    axes.plot(value, place, "o", color=colour)
    axes.annotate(
        f"{value:+.3f}" if ends.get("contrast") else f"{value:.3f}",
        (value, place),
        (0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )


def _figure(figure: plt.Figure) -> str:
    """The figure as a data address."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    plt.close(figure)
    return html.escape("data:image/png;base64," + base64.b64encode(stream.getvalue()).decode())
