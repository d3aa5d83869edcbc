"""Slices of real and synthetic volumes, each synthetic one above the training volume that is most like it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchio as tio
from matplotlib import rc_context
from matplotlib.figure import Figure

from synthaug.data.reading.manifest import stack_images
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.review.slices import LEFT_RIGHT, SHOWN, middle_slice
from synthaug.report.figures.styles import PAPER, WIDTH_IN


@dataclass(frozen=True)
class Samples:
    """What there is to show of one generator."""

    source: str
    """Axis values that tell it from the study's other generators; "" = there is one."""
    held_out: Sequence[tio.Subject]
    training: Sequence[tio.Subject]
    pool: SyntheticPool
    nearest: Sequence[Mapping[str, Any]] = ()
    """For the first volumes of each class the training subject most alike (``pool_audit.measure_copies``)."""


def nearest_shown(samples: Samples, label: int) -> list[Mapping[str, Any]]:
    """What is known of the neighbours of the first ``SHOWN`` volumes of a class, in their order."""
    return [row for row in samples.nearest if row["label"] == label and row["index"] < SHOWN]


@rc_context(PAPER)
def slice_plot(samples: Samples, label: int, images: Sequence[str]) -> Figure:
    """Middle axial slices of a class: held-out real, synthetic, and below each the nearest training volume.

    Args:
        samples: Of one generator.
        label: The class.
        images: Image names; the first is shown.
    """
    real = [subject for subject in samples.held_out if subject["label"] == label][:SHOWN]
    drawn = [samples.pool.subject(label, index) for index in range(min(SHOWN, samples.pool.counts[label]))]
    rows = [("held-out real", [shown_volume(subject, images) for subject in real], [""] * SHOWN)]
    rows.append(("synthetic", [shown_volume(subject, images) for subject in drawn], [""] * SHOWN))
    found = nearest_shown(samples, label)
    if found:
        known = {subject["subject_id"]: subject for subject in samples.training}
        neighbours = [shown_volume(known[row["nearest_subject"]], images) for row in found]
        mirrored = [v.flip(LEFT_RIGHT) if row["mirrored"] else v for v, row in zip(neighbours, found, strict=True)]
        rows.append(("nearest training", mirrored, [_told(row) for row in found]))
    return _montage(rows)


def _montage(rows: Sequence[tuple[str, Sequence[torch.Tensor], Sequence[str]]]) -> Figure:
    """Rows of slices under their words, named at the left. One axes holds all: many take seconds to lay out."""
    width, height = rows[0][1][0].shape[:2] if rows[0][1] else rows[1][1][0].shape[:2]
    across, down = 1.04 * width, 1.12 * height
    left, right, low = -0.15 * width, SHOWN * across, len(rows) * down
    figure = Figure(figsize=(WIDTH_IN, WIDTH_IN * low / (right - left)))
    axes = figure.add_axes((0, 0, 1, 1))
    for place, (name, volumes, told) in enumerate(rows):
        top = (place + 0.1) * down
        axes.text(left / 2, top + height / 2, name, rotation=90, ha="center", va="center")
        for column, (volume, words) in enumerate(zip(volumes, told, strict=False)):
            start = column * across
            extent = (start, start + width, top + height, top)
            axes.imshow(middle_slice(volume)[::-1], cmap="gray", vmin=0, vmax=1, extent=extent)
            axes.text(start + width / 2, top - 0.01 * height, words, fontsize=7, ha="center", va="bottom")
    axes.set(xlim=(left, right), ylim=(low, 0))
    axes.set_axis_off()
    return figure


def shown_volume(subject: tio.Subject, images: Sequence[str]) -> torch.Tensor:
    """The first image (X, Y, Z) of a subject."""
    return stack_images(subject, images)[0]


def _told(row: Mapping[str, Any]) -> str:
    return f"{'COPY, ' if row['copy'] else ''}r = {row['correlation']:.2f}{' (mirrored)' if row['mirrored'] else ''}"
