"""Slices of real and synthetic volumes, each synthetic one above the training volume that is most like it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchio as tio
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthaug.augment.pool import SyntheticPool
from synthaug.bench.styles import PAPER, WIDTH_IN
from synthaug.data.manifest import stack_images

SHOWN = 6
"""Volumes of a row."""
LEFT_RIGHT = 0
"""Axis of a volume (X, Y, Z) in RAS+ that runs from left to right."""


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
    rows = [("held-out real", [_volume(subject, images) for subject in real], [""] * SHOWN)]
    rows.append(("synthetic", [_volume(subject, images) for subject in drawn], [""] * SHOWN))
    found = nearest_shown(samples, label)
    if found:
        known = {subject["subject_id"]: subject for subject in samples.training}
        neighbours = [_volume(known[row["nearest_subject"]], images) for row in found]
        mirrored = [v.flip(LEFT_RIGHT) if row["mirrored"] else v for v, row in zip(neighbours, found, strict=True)]
        rows.append(("nearest training", mirrored, [_told(row) for row in found]))
    figure = Figure(figsize=(WIDTH_IN, 1.22 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), SHOWN, squeeze=False)
    for place, (name, volumes, told) in enumerate(rows):
        for axes in grid[place]:
            axes.set_axis_off()
        for axes, volume, words in zip(grid[place], volumes, told, strict=False):
            draw_slice(axes, volume)
            axes.set_title(words, fontsize=7, loc="center")
        grid[place][0].text(-0.08, 0.5, name, transform=grid[place][0].transAxes, rotation=90, ha="right", va="center")
    return figure


def draw_slice(axes: Axes, volume: torch.Tensor) -> None:
    """The middle axial slice of a RAS volume (X, Y, Z) in [0, 1], the patient's right on the left, anterior up."""
    axes.imshow(volume.flip(0)[:, :, volume.shape[2] // 2].T, cmap="gray", vmin=0, vmax=1, origin="lower")
    axes.set_axis_off()


def _volume(subject: tio.Subject, images: Sequence[str]) -> torch.Tensor:
    return stack_images(subject, images)[0]


def _told(row: Mapping[str, Any]) -> str:
    return f"{'COPY, ' if row['copy'] else ''}r = {row['correlation']:.2f}{' (mirrored)' if row['mirrored'] else ''}"
