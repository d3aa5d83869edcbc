"""A torchio image whose voxels are those of a mapped file."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torchio as tio

from synthaug.data.mapped.rows import Row, RowFile, open_rows


class MappedImage(tio.ScalarImage):
    """A preprocessed image whose tensor shares the bytes of a mapped file.

    It is pickled as its place in the file, so that workers map the same file. A deep copy, as every torchio transform
    makes one, is a plain image with voxels of its own.

    Args:
        row: Where the voxels are.
        channel: Of the row.
        affine: Voxel to world (4, 4).
        source: The image that was preprocessed; path and reader are its own.
    """

    def __init__(self, row: Row, channel: int, *, affine: np.ndarray, source: tio.ScalarImage) -> None:
        super().__init__(tensor=row.values(channel), affine=affine, path=source.path, verify_path=False)
        self.reader = source.reader
        self._place = (row.file, row.number, channel)
        self._mapped = self[tio.DATA]

    @property
    def file(self) -> RowFile:
        """The file that is mapped."""
        return self._place[0]

    def __deepcopy__(self, memo: dict[int, Any]) -> tio.ScalarImage:
        return self._plain(self.data.clone())

    def __copy__(self) -> tio.ScalarImage:
        return self._plain(self.data)

    def _plain(self, voxels: Any) -> tio.ScalarImage:
        return tio.ScalarImage(tensor=voxels, affine=self.affine, path=self.path, reader=self.reader, verify_path=False)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self[tio.DATA] is not self._mapped:  # it was given other voxels
            return copy.copy, (copy.copy(self),)
        file, number, channel = self._place
        state = {name: value for name, value in vars(self).items() if name not in ("_place", "_mapped")}
        items = {name: value for name, value in self.items() if name != tio.DATA}
        return _mapped_again, (file.index, number, channel, state, items)


def _mapped_again(index: Path, number: int, channel: int, state: dict[str, Any], items: dict[str, Any]) -> MappedImage:
    image = MappedImage.__new__(MappedImage)
    image.__dict__.update(state)
    file = open_rows(index)
    image.update(items)
    image._place = (file, number, channel)
    image._mapped = image[tio.DATA] = file.read(number, channel)
    return image


def release(subjects: Iterable[tio.Subject]) -> None:
    """Let go of the pages that mapped images of subjects have read into memory."""
    images = [image for subject in subjects for image in subject.get_images(intensity_only=False)]
    for file in {image.file for image in images if isinstance(image, MappedImage)}:
        file.release()
