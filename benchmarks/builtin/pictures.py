"""Pictures of the evaluation: drawn volumes beside real ones, reconstructions beside what they should show."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from patients import Patient

from synthaug.config import PreprocessConfig
from synthaug.ground.files import atomic_path

COLUMNS = 8
"""Patients in a picture."""


def draw_pairs(
    patients: Sequence[Patient], real: torch.Tensor, drawn: torch.Tensor, config: PreprocessConfig, path: Path
) -> None:
    """The real phantom and the drawn volume of the same report, in the slice through the finding's centre.

    The circle marks the finding of the REAL patient; the drawn one's gland may sit a little elsewhere.

    Args:
        patients: Whose reports were the prompts.
        real: Their volumes (at least as many as are shown, 1, X, Y, Z).
        drawn: The drawn volumes, in the same order.
        config: Spacing of the volumes.
        path: PNG file.
    """
    count = min(COLUMNS, len(real), len(drawn))
    figure, axes = _grid(["real", "generated"], count)
    for column, patient in enumerate(patients[:count]):
        centre = _voxel(patient, config)
        for row, volumes in enumerate((real, drawn)):
            _show(axes[row][column], volumes[column, 0, :, :, centre[2]])
            if patient.findings.pirads > 1:
                axes[row][column].plot(*centre[:2], "o", mfc="none", mec="orange", ms=14, mew=0.8)
        axes[0][column].set_title(_caption(patient), fontsize=7)
    _save(figure, path)


def draw_reconstructions(real: torch.Tensor, clean: torch.Tensor, rebuilt: torch.Tensor, path: Path) -> None:
    """Noisy volume, the same without noise, and the reconstruction of the noisy one, in the middle slice."""
    count = min(COLUMNS, len(real))
    figure, axes = _grid(["noisy", "noise-free", "reconstruction"], count)
    for row, volumes in enumerate((real, clean, rebuilt)):
        for column in range(count):
            _show(axes[row][column], volumes[column, 0, :, :, volumes.shape[-1] // 2])
    _save(figure, path)


def _grid(names: Sequence[str], columns: int) -> tuple[Figure, list[list[Axes]]]:
    # Without pyplot: no window system and no global state.
    figure = Figure(figsize=(1.6 * columns, 1.7 * len(names) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), columns, squeeze=False)
    for name, row in zip(names, axes, strict=True):
        row[0].set_ylabel(name, fontsize=8)
    return figure, [list(row) for row in axes]


def _show(axis: Axes, image: torch.Tensor) -> None:
    """A slice (X, Y) as radiologists see it: anterior above, the patient's right on the left."""
    axis.imshow(image.T, cmap="gray", vmin=0, vmax=1, origin="lower")
    axis.invert_xaxis()
    axis.set_xticks([])
    axis.set_yticks([])


def _voxel(patient: Patient, config: PreprocessConfig) -> tuple[int, int, int]:
    """The finding's centre as a voxel; the middle of the volume where there is none."""
    point = patient.centre_mm or (0.0, 0.0, 0.0)
    x, y, z = (
        min(max(round(at / step + (side - 1) / 2), 0), side - 1)
        for at, step, side in zip(point, config.spacing_mm, config.shape, strict=True)
    )
    return x, y, z


def _caption(patient: Patient) -> str:
    findings = patient.findings
    where = " ".join(part for part in (findings.side, findings.level, findings.zone) if part)
    return f"PI-RADS {findings.pirads}\n{where}"


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
