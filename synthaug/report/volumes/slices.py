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

NAME_IN, WORDS_IN, GAP_IN = 0.22, 0.15, 0.06
"""Inches that the name of a row, the words above a slice, and the space below a row take."""


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
    """Rows of slices under their words, each row under its name. One axes holds all: many take seconds to lay out.

    Places are in inches, so that words have room whatever the shape of the slices.
    """
    width, height = rows[0][1][0].shape[:2] if rows[0][1] else rows[1][1][0].shape[:2]
    across = WIDTH_IN / SHOWN
    wide = 0.96 * across
    high = wide * height / width
    tops = [0.0]
    for _, _, told in rows:
        tops.append(tops[-1] + NAME_IN + WORDS_IN * any(told) + high + GAP_IN)
    figure = Figure(figsize=(WIDTH_IN, tops[-1]))
    axes = figure.add_axes((0, 0, 1, 1))
    for top, (name, volumes, told) in zip(tops, rows, strict=False):
        axes.text(0.02, top + NAME_IN / 2, name, ha="left", va="center")
        start_of_row = top + NAME_IN + WORDS_IN * any(told)
        for column, (volume, words) in enumerate(zip(volumes, told, strict=False)):
            start = column * across
            extent = (start, start + wide, start_of_row + high, start_of_row)
            axes.imshow(middle_slice(volume)[::-1], cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")
            axes.text(start, start_of_row - WORDS_IN / 2, words, fontsize=6, ha="left", va="center")
    axes.set(xlim=(0, WIDTH_IN), ylim=(tops[-1], 0))
    axes.set_axis_off()
    return figure


def shown_volume(subject: tio.Subject, images: Sequence[str]) -> torch.Tensor:
    """The first image (X, Y, Z) of a subject."""
    return stack_images(subject, images)[0]


def _told(row: Mapping[str, Any]) -> str:
    return f"{'COPY, ' if row['copy'] else ''}r = {row['correlation']:.2f}{' (mirrored)' if row['mirrored'] else ''}"
