"""``SyntheticAugment`` as MONAI transforms, for dictionaries and for arrays."""

import copy
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import SpaceKeys, convert_to_tensor
from torch.utils.data import get_worker_info

from synthaug.augment.balance import require_classes, target_weights
from synthaug.augment.fit import Look, label_like, require_alike, require_one_scale, voxels_like
from synthaug.augment.source import Source, as_source, open_source, place_of
from synthaug.augment.transform import UNKNOWN
from synthaug.data.reading.manifest import class_index
from synthaug.ground.errors import InputError
from synthaug.ground.forks import in_forked_children
from synthaug.ground.seeding import derive_seed

_DRAWING = threading.Lock()
"""Held from a draw to its use: the threads of MONAI's ThreadDataLoader share one transform."""
in_forked_children(_DRAWING._at_fork_reinit)  # type: ignore[attr-defined]


class SyntheticAugmentd(RandomizableTransform, MapTransform):
    """Replace a subject by a synthetic one with probability ``prob``.

    The images become ``MetaTensor`` (C, X, Y, Z) with the affine (RAS) of the source; ``label_key``, ``report``,
    ``subject_id``, ``patient_id``, ``synthetic`` and ``provenance`` are replaced with them. A real subject gets the
    keys that it lacks, so that both kinds collate. Other keys keep their values.

    ``Compose.inverse`` maps real and synthetic images back onto the grid before the transforms.

    Workers of any loader draw independently, and differently in each epoch.

    Args:
        keys: Images to replace.
        source: A SyntheticPool, its folder, or a LiveSource.
        prob: Probability of replacement.
        target: See :class:`synthaug.augment.transform.SyntheticAugment`.
        class_counts: Subjects of each class in the training set, for "balance".
        images: Names of these images in the source; None = the same as ``keys``.
        label_key: Key of the class.
        allow_missing_keys: Do not raise where an image is missing.

    Raises:
        InputError: The target is malformed or needs a larger ``prob``, or the source lacks a class or an image. When
            called: the images to replace lie on another grid or intensity scale.

    Example:
        >>> SyntheticAugmentd("image", "no/such/pool", images=["t2w"])
        Traceback (most recent call last):
        synthaug.ground.errors.InputError: no/such/pool: no synthetic pool there (pool.json is missing).
    """

    def __init__(
        self,
        keys: KeysCollection,
        source: Source | str,
        prob: float = 0.5,
        target: str | Mapping[int, float] = "same",
        class_counts: Mapping[int, int] | None = None,
        images: Sequence[str] | None = None,
        label_key: Hashable = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        opened = as_source(source)
        self.source = opened.address
        self.images = [str(key) for key in self.keys] if images is None else list(images)
        self.label_key = label_key
        if len(self.images) != len(self.keys):
            raise InputError(f"images={self.images} must name one image of the source for each of {self.keys}.")
        unknown = [image for image in self.images if image not in opened.images]
        if unknown:
            raise InputError(
                f"{place_of(self.source)}: has no image {unknown[0]!r}, only {opened.images}; pass images=."
            )
        if not 0 <= prob <= 1:
            raise InputError(f"prob={prob} must lie in [0, 1].")
        self.weights = target_weights(target, class_counts, prob)
        require_classes(opened.classes, self.weights)
        self._target, self._index = 0, 0
        self._seeded_for: int | None = None
        """Seed of the worker for which the random state was set."""

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """As in every MONAI transform; in a worker it sets the draws of that worker."""
        super().set_random_state(seed, state)
        self._seeded_for = _worker_seed()
        return self

    def randomize(self, data: Any) -> None:
        """Draw for a subject of class ``data`` whether it is replaced, and by which class and index."""
        worker = _worker_seed()
        if worker not in (None, self._seeded_for):
            # Workers are copies of one process, and only MONAI's own loader seeds their transforms.
            self.set_random_state(derive_seed("worker", worker, int(self.R.randint(2**31))) % 2**32)
        super().randomize(None)
        if not self._do_transform:
            return
        source = open_source(self.source)
        if self.weights is None:
            self._target = class_index(data)
        else:
            labels = sorted(self.weights)
            weights = np.array([self.weights[label] for label in labels])
            self._target = int(self.R.choice(labels, p=weights / weights.sum()))
        require_classes(source.classes, {self._target: 1.0})
        # Below the count, an index keeps its volume while the pool is open, also when it grows.
        self._index = int(self.R.randint(source.counts[self._target]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a new dictionary; the input and its images are not modified."""
        result = dict(data)
        if self.label_key not in result:
            raise InputError(f"The subject has no {self.label_key!r}; pass label_key= with the key of its class.")
        label = result[self.label_key]
        with _DRAWING:
            self.randomize(label)
            replaces, target, index = self._do_transform, self._target, self._index
        for key in self.key_iterator(result):
            if not isinstance(result[key], torch.Tensor | np.ndarray):
                raise InputError(
                    f"{key!r} is {result[key]!r:.100}, which is no image; load it first, as by LoadImaged."
                )
            result[key] = convert_to_tensor(result[key], track_meta=get_track_meta())
        if not replaces:
            return UNKNOWN | result
        if not any(key in result for key in self.keys):
            raise InputError(f"The subject has none of the images {self.keys}; it has {list(result)}.")
        synthetic = open_source(self.source).subject(target, index)
        for key, image in self.key_iterator(result, self.images):
            require_alike(_look(result[key]), Look.of(synthetic[image]), name=str(key), source=place_of(self.source))
            require_one_scale(result[key], name=str(key), source=place_of(self.source))
            result[key] = _tensor_of(synthetic[image], result[key])
        result |= {key: synthetic[key] for key in UNKNOWN}
        result[self.label_key] = label_like(label, target)
        return result


class SyntheticAugmentArray(RandomizableTransform):
    """Replace an image by a synthetic one of the same class with probability ``prob``: the array transform.

    The class is passed beside the image and does not change. To change classes, use :class:`SyntheticAugmentd`, which
    draws the same volumes from the same random state.

    Args:
        source: A SyntheticPool, its folder, or a LiveSource.
        images: Name of the image in the source, or the names of the channels in order.
        prob: Probability of replacement.

    Raises:
        InputError: The source lacks an image. When called: it lacks the class, or channels or grids differ.
    """

    def __init__(self, source: Source | str, images: str | Sequence[str] = "t2w", prob: float = 0.5) -> None:
        RandomizableTransform.__init__(self, prob)
        names = [images] if isinstance(images, str) else list(images)
        self._twin = SyntheticAugmentd([f"image {place}" for place in range(len(names))], source, prob, images=names)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """As in every MONAI transform."""
        self._twin.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw whether the image is replaced, and by which volume of class ``data``."""
        self._twin.randomize(data)

    def __call__(self, img: torch.Tensor, label: Any) -> torch.Tensor:
        """The images (C, X, Y, Z), or synthetic ones, all of one volume of class ``label``."""
        keys, names = self._twin.keys, self._twin.images
        if len(img) != len(keys):
            raise InputError(f"The array has {len(img)} channels, and images={names} name {len(keys)}.")
        channels = {key: img[place : place + 1] for place, key in enumerate(keys)}
        result = self._twin({**channels, "label": label})
        return torch.cat([result[key] for key in keys])


def _worker_seed() -> int | None:
    """Seed of this worker in this epoch; None outside workers."""
    info = get_worker_info()
    return None if info is None else info.seed


def _look(image: torch.Tensor) -> Look:
    """Grid of a (C, X, Y, Z) tensor."""
    return Look.at(image.shape, image.affine.cpu().numpy() if isinstance(image, MetaTensor) else np.eye(4))


def _tensor_of(image: Any, replaced: torch.Tensor) -> torch.Tensor:
    """A copy of a torchio image's voxels, in dtype and on the device of those that it replaces, with affine and file.

    It lies on the grid of the image that it replaces, so that ``Compose.inverse`` can apply that image's operations.
    """
    meta = {"filename_or_obj": str(image.path or ""), "space": SpaceKeys.RAS}
    tensor = MetaTensor(voxels_like(replaced, image.data.clone()), affine=torch.as_tensor(image.affine), meta=meta)
    if isinstance(replaced, MetaTensor):
        tensor.applied_operations = copy.deepcopy(replaced.applied_operations)
    return convert_to_tensor(tensor, track_meta=get_track_meta())
