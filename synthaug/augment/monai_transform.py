"""What ``SyntheticAugment`` is in torchio, as MONAI transforms: of dictionaries, and of arrays."""

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
from synthaug.augment.fit import Look, require_alike, require_one_scale
from synthaug.augment.source import Source, as_source, open_source
from synthaug.augment.transform import UNKNOWN
from synthaug.data.reading.manifest import class_index
from synthaug.ground.errors import InputError
from synthaug.ground.forks import in_forked_children
from synthaug.ground.seeding import derive_seed

_DRAWING = threading.Lock()
"""Held from a draw to its use: workers may be threads that share one transform, as in MONAI's ThreadDataLoader."""
in_forked_children(_DRAWING._at_fork_reinit)  # type: ignore[attr-defined]


class SyntheticAugmentd(RandomizableTransform, MapTransform):
    """Replace a subject, with probability ``prob``, by a synthetic one.

    The images become ``MetaTensor`` (C, X, Y, Z) with the affine (RAS) of the source; ``label_key``, ``report``,
    ``subject_id``, ``patient_id``, ``synthetic`` and ``provenance`` follow. A subject that stays real gets the same
    keys where it lacks them, so that both collate. What is under other keys stays as it is.

    ``Compose.inverse`` takes real and synthetic images back onto the grid that they had before the transforms.

    In the workers of any loader each draws for itself, anew in every epoch; MONAI's own loader seeds its workers.

    Args:
        keys: Images to replace.
        source: A SyntheticPool, its folder, or a LiveSource.
        prob: Probability.
        target: See :class:`synthaug.augment.transform.SyntheticAugment`.
        class_counts: Subjects of each class in the training set, for "balance".
        images: The source's names of these images; None = they are called as ``keys``.
        label_key: Where the class is.
        allow_missing_keys: Do not raise where an image is missing.

    Raises:
        InputError: The target cannot be read or reached, or the source lacks a class or an image; when called, also
            that the images to replace are on another grid or intensity scale.

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
            raise InputError(f"{self.source}: has no image {unknown[0]!r}, only {opened.images}; pass images=.")
        self.weights = target_weights(target, class_counts, prob)
        require_classes(opened.classes, self.weights)
        self._target, self._index = 0, 0
        self._seeded_for: int | None = None
        """Seed of the loader's worker that this copy of the random state belongs to."""

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """As in every MONAI transform; called in a worker, it decides what that worker draws."""
        super().set_random_state(seed, state)
        self._seeded_for = _worker_seed()
        return self

    def randomize(self, data: Any) -> None:
        """Draw whether, and of which class and index, to replace a subject whose class is ``data``."""
        worker = _worker_seed()
        if worker not in (None, self._seeded_for):
            # Workers are copies of one process; only MONAI's own loader tells their transforms apart.
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
        # An index below the count means the same volume after the pool has grown.
        self._index = int(self.R.randint(source.counts[self._target]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary; the one passed in and its images stay as they are."""
        result = dict(data)
        if self.label_key not in result:
            raise InputError(f"The subject has no {self.label_key!r}; pass label_key= with the key of its class.")
        label = result[self.label_key]
        with _DRAWING:
            self.randomize(label)
            replaces, target, index = self._do_transform, self._target, self._index
        for key in self.key_iterator(result):
            result[key] = convert_to_tensor(result[key], track_meta=get_track_meta())
        if not replaces:
            return UNKNOWN | result
        if not any(key in result for key in self.keys):
            raise InputError(f"The subject has none of the images {self.keys}; it has {list(result)}.")
        synthetic = open_source(self.source).subject(target, index)
        for key, image in self.key_iterator(result, self.images):
            require_alike(_look(result[key]), Look.of(synthetic[image]), name=str(key), source=self.source)
            require_one_scale(result[key], name=str(key), source=self.source)
            result[key] = _tensor_of(synthetic[image], result[key])
        result |= {key: synthetic[key] for key in UNKNOWN}
        result[self.label_key] = _like(label, target)
        return result


class SyntheticAugmentArray(RandomizableTransform):
    """Replace an image, with probability ``prob``, by a synthetic one of the same class: the array twin.

    An array carries no class, so that it is given beside the image and stays as it is; where classes shall change,
    use :class:`SyntheticAugmentd`, which draws the same volumes from the same random state.

    Args:
        source: A SyntheticPool, its folder, or a LiveSource.
        images: The source's name of the image; of several, which are the channels of one array, in their order.
        prob: Probability.

    Raises:
        InputError: The source lacks an image; when called, also the class, or channels or grids differ.
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
        """Draw whether, and which volume of class ``data``."""
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
    """Another one for each worker of a loader and each epoch; None = not in a worker."""
    info = get_worker_info()
    return None if info is None else info.seed


def _look(image: torch.Tensor) -> Look:
    """Grid of a (C, X, Y, Z) tensor."""
    return Look.at(image.shape[1:], image.affine.numpy() if isinstance(image, MetaTensor) else np.eye(4))


def _tensor_of(image: Any, replaced: torch.Tensor) -> torch.Tensor:
    """A copy of a torchio image's voxels, with its affine and file where MONAI tracks them.

    It lies on the grid of the image that it replaces, so what led there leads back: ``Compose.inverse`` undoes it.
    """
    meta = {"filename_or_obj": str(image.path or ""), "space": SpaceKeys.RAS}
    tensor = MetaTensor(image.data.clone(), affine=torch.as_tensor(image.affine), meta=meta)
    if isinstance(replaced, MetaTensor):
        tensor.applied_operations = copy.deepcopy(replaced.applied_operations)
    return convert_to_tensor(tensor, track_meta=get_track_meta())


def _like(label: Any, target: int) -> Any:
    """``target`` as what ``label`` is, so that real and synthetic labels collate."""
    if isinstance(label, torch.Tensor):
        return torch.full_like(label, target)
    if isinstance(label, np.ndarray):
        return np.full_like(label, target)
    return type(label)(target)
