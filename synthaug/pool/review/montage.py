"""A look at a pool: central slices of some volumes of each class, as one PNG."""

from pathlib import Path

from matplotlib.figure import Figure

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.review.slices import require_png

INCHES = 1.4
"""Width of a slice."""


def draw_montage(pool: SyntheticPool, *, columns: int = 8) -> Figure:
    """One row a class and image, one column a volume: the central axial slice, grey from 0 to 1.

    Args:
        pool: The pool.
        columns: Volumes of each class, at most.

    Raises:
        InputError: The pool is empty, ``columns`` is below 1, or a volume was altered.
    """
    if not len(pool) or columns < 1:
        raise InputError(f"{pool.path}: {len(pool)} volumes and columns={columns}; both must be at least 1.")
    rows = [(label, image) for label in pool.classes for image in pool.images]
    columns = min(columns, max(pool.counts.values()))
    across, along = (pool.header["shape"][axis] * pool.header["spacing_mm"][axis] for axis in (0, 1))
    figure = Figure(figsize=(INCHES * columns, INCHES * len(rows) * along / across), layout="constrained")
    for row, axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
        label, image = row
        for column, axis in enumerate(axes):
            axis.set_xticks([])
            axis.set_yticks([])
            if column >= pool.counts[label]:
                axis.axis("off")
                continue
            volume = pool.subject(label, column)[image]
            middle = volume.data[0, :, :, volume.data.shape[-1] // 2]
            # Axes are right and anterior first: turned so that anterior is up.
            axis.imshow(middle.T, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=_aspect(volume.spacing))
        axes[0].set_ylabel(f"class {label}, {image}", fontsize=7)
    return figure


def save_montage(pool: SyntheticPool, path: str | Path, *, columns: int = 8) -> Path:
    """Write :func:`draw_montage` as a PNG; returns its path."""
    target = Path(path)
    require_png(target)
    figure = draw_montage(pool, columns=columns)
    try:
        with atomic_path(target) as temporary:
            figure.savefig(temporary, dpi=120)
    except OSError as error:
        raise InputError(f"{target}: cannot write there ({error.strerror}); choose another file.") from error
    return target


def _aspect(spacing_mm: tuple[float, float, float]) -> float:
    return spacing_mm[1] / spacing_mm[0]
