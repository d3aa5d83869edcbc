"""What an intensity means: every image's window becomes [0, 1], measured where the scanner saw something."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torchio as tio

from synthaug.data.reading.remarks import Remarks
from synthaug.ground.errors import InputError

BINS, ALMOST_NONE, MOST = 20, 1e-3, 0.5
"""Bins of [0, 1]; the share of voxels below which a bin is as good as empty; the share of such bins that is told."""
ENOUGH = 200_000
"""Voxels that the bins are counted from."""


@dataclasses.dataclass
class ScaleIntensity:
    """Map an intensity window to [0, 1], clipped; what lies outside the field of view becomes 0.

    Attributes:
        images: Names of the images to scale.
        percentiles: Intensity percentiles of an image inside its field of view that become 0 and 1.
        ranges: Images with a physical scale, by name: the window that stands in place of percentiles.
        fields: Key of a subject under which the fields of view stand: {image: mask (1, X, Y, Z), absent = everywhere}.
        remarks: Collects images whose voxels fill little of [0, 1]; None = they are not looked for.
    """

    images: Sequence[str]
    percentiles: tuple[float, float]
    ranges: Mapping[str, tuple[float, float]]
    fields: str
    remarks: Remarks | None = None

    def __call__(self, subject: tio.Subject) -> tio.Subject:
        """Scale the images of the subject in place."""
        fields: Mapping[str, torch.Tensor] = subject.pop(self.fields, {})
        for name in self.images:
            image, inside = subject[name], fields.get(name)
            values = image.data.float().numpy()
            seen = values if inside is None else values[inside.numpy()]
            low, high = self._window(name, seen, subject)
            scaled = (np.clip(values, low, high) - low) / (high - low)
            if inside is not None:
                scaled = np.where(inside.numpy(), scaled, np.float32(0))
            image.set_data(torch.from_numpy(scaled))
            if self.remarks is not None:
                self._remark(name, scaled if inside is None else scaled[inside.numpy()], subject)
        return subject

    def _window(self, name: str, seen: Any, subject: tio.Subject) -> tuple[np.float32, np.float32]:
        if name in self.ranges:
            low, high = map(np.float32, self.ranges[name])
        else:
            low, high = np.percentile(seen, self.percentiles).astype(np.float32)
        if not high > low:
            raise InputError(
                f"{name_of(subject)}: image {name!r} is {low:g} at both of preprocess.percentiles={self.percentiles}, "
                f"almost constant; give preprocess.ranges.{name}, or wider percentiles."
            )
        return low, high

    def _remark(self, name: str, scaled: Any, subject: tio.Subject) -> None:
        sample = scaled.ravel()[:: max(1, scaled.size // ENOUGH)]
        shares = np.histogram(sample, bins=BINS, range=(0, 1))[0] / sample.size
        if (shares < ALMOST_NONE).mean() > MOST:
            self.remarks.add(  # type: ignore[union-attr]
                name_of(subject),
                f"most of the range [0, 1] of image {name!r} holds almost no voxels after preprocessing; look at it, "
                "and set preprocess.percentiles or preprocess.ranges",
            )


def name_of(subject: Mapping[str, Any]) -> str:
    """The subject's id, or "subject" where it has none."""
    return str(subject.get("subject_id", "subject"))
