"""The page of a reader study: one HTML file, without network, of voxels and questions and nothing else."""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jinja2 import Environment, StrictUndefined

from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash

MOST_BYTES = 300_000_000
"""Voxels of a page; browsers hold no longer text than about 500 MB."""


@dataclass(frozen=True)
class Shown:
    """All that a page is made of. It has no field for what a case is, whose it is or where it comes from."""

    volumes: Sequence[np.ndarray]
    """Grey levels (C, X, Y, Z) of uint8 in RAS+, in the order in which they are shown."""
    spacing_mm: tuple[float, float, float]
    images: Sequence[str]
    """What the images of a volume are called, in channel order."""
    classes: Sequence[str]
    """What the classes are called, from class 0."""

    @property
    def study(self) -> str:
        """Sixteen hex digits that name the study: page, key and answers of one study have the same."""
        voxels = hashlib.sha256()
        for volume in self.volumes:
            voxels.update(volume.tobytes())
        return content_hash([voxels.hexdigest(), list(self.images), list(self.classes)])


def page_of(shown: Shown) -> str:
    """The page as text.

    All voxels are compressed as one stream, so that no case has a size of its own.

    Raises:
        InputError: There are more voxels than a browser can hold.
    """
    size = sum(volume.size for volume in shown.volumes)
    if size > MOST_BYTES:
        raise InputError(
            f"The reader study has {size / 1e6:.0f} million voxels, and a browser holds {MOST_BYTES / 1e6:.0f} "
            "million; lower --per_class or crop to a smaller preprocess.shape."
        )
    channels, across, deep, slices = shown.volumes[0].shape
    told = {
        "study": shown.study,
        "cases": len(shown.volumes),
        "columns": across,
        "rows": deep,
        "slices": slices,
        "width_mm": across * shown.spacing_mm[0],
        "height_mm": deep * shown.spacing_mm[1],
        "images": list(shown.images[:channels]),
        "classes": list(shown.classes),
    }
    voxels = b"".join(_as_seen(volume) for volume in shown.volumes)
    # Names may hold what would end a script.
    settings = json.dumps(told).replace("<", "\\u003c")
    files = resources.files("synthaug.reader_study")
    style, script, frame = (
        (files / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html.j2")
    )
    template = Environment(undefined=StrictUndefined, autoescape=True).from_string(frame)
    packed = base64.b64encode(zlib.compress(voxels)).decode()
    return template.render(style=style, script=script, settings=settings, voxels=packed)


def _as_seen(volume: np.ndarray) -> bytes:
    """Image by image, slice by slice, rows from anterior and columns from the patient's right."""
    return volume[:, ::-1, ::-1, :].transpose(0, 3, 2, 1).tobytes()
