"""Many volumes as one sequence that is read when it is used, so that memory does not grow with their number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torchio as tio

from synthaug.data.reading.manifest import stack_images
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator


class Volumes(Protocol):
    """A sequence of volumes (C, X, Y, Z)."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> torch.Tensor: ...


@dataclass(frozen=True)
class VolumeSet:
    """Volumes (C, X, Y, Z) of tensors or subjects, with the class of each.

    Example:
        >>> volumes = VolumeSet.of([torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)])
        >>> len(volumes), volumes[1].mean().item(), volumes.groups
        (2, 1.0, ['', ''])
    """

    source: Sequence[Any]
    images: Sequence[str] | None
    """Names of a subject's images, in channel order; None = the items are tensors."""
    index: np.ndarray
    """Which items of the source."""
    groups: list[str]
    """Class of each as text; "" = none."""
    patients: list[str]
    """Patient of each, of a synthetic one the report that prompted it; "" = not known."""

    @classmethod
    def of(cls, source: Sequence[Any], images: Sequence[str] | None = None) -> "VolumeSet":
        """All items of a sequence of tensors or subjects (a ``SubjectsDataset`` too).

        Args:
            source: The items.
            images: Names of the images; None = all of the first subject.

        Raises:
            InputError: There are none, they are no such sequence, or the first subject lacks an image.
        """
        if isinstance(source, Mapping) or not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
            raise InputError(
                f"Volumes are a {type(source).__name__}; give a list of subjects or tensors, as list(pool.subjects())."
            )
        if not len(source):
            raise InputError("There are no volumes to compare.")
        first = source[0]
        if not isinstance(first, torch.Tensor | tio.Subject):
            raise InputError(f"The first volume is a {type(first).__name__}; give subjects or tensors (C, X, Y, Z).")
        if isinstance(first, torch.Tensor):
            return cls(source, None, np.arange(len(source)), [""] * len(source), [""] * len(source))
        names = list(images or first.get_images_dict(intensity_only=True))
        there = first.get_images_names()
        if absent := [name for name in names if name not in there]:
            raise InputError(f"A subject has no image {absent[0]!r}, only {there}; name the images of all sides alike.")
        # A torchio data set tells its subjects without reading and transforming them.
        subjects = source.dry_iter() if hasattr(source, "dry_iter") else source
        told = [(_class(subject.get("label", "")), _patient(subject)) for subject in subjects]
        return cls(source, names, np.arange(len(source)), [label for label, _ in told], [name for _, name in told])

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Voxel size of the first subject's first image; None = the items are tensors."""
        if self.images is None:
            return None
        return tuple(float(side) for side in self.source[int(self.index[0])][self.images[0]].spacing)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> torch.Tensor:
        item = self.source[int(self.index[place])]
        return item if self.images is None else stack_images(item, self.images)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[place] for place in range(len(self)))

    def of_group(self, group: str | None) -> np.ndarray:
        """Places of the volumes of a class; None = of all."""
        return np.array([place for place, name in enumerate(self.groups) if group in (None, name)], dtype=int)

    def part(self, places: np.ndarray) -> "VolumeSet":
        """Only the volumes at these places."""
        groups, patients = ([told[place] for place in places] for told in (self.groups, self.patients))
        return replace(self, index=self.index[places], groups=groups, patients=patients)


def volume_sets(
    real: Sequence[Any], synthetic: Sequence[Any], training: Sequence[Any] | None, images: Sequence[str] | None
) -> tuple[VolumeSet, VolumeSet, VolumeSet | None]:
    """All sides, with the images of the real one in its order: subjects may hold them in another."""
    first = VolumeSet.of(real, images)
    names = images or first.images
    return first, VolumeSet.of(synthetic, names), None if training is None else VolumeSet.of(training, names)


def one_per_patient(subjects: Sequence[tio.Subject], *, seed: int = 0) -> list[tio.Subject]:
    """One subject of each patient, drawn at random, patients in their order: further ones are not independent.

    Example:
        >>> made = [tio.Subject(t2w=tio.ScalarImage(tensor=torch.rand(1, 2, 2, 2)), patient_id=name) for name in "aab"]
        >>> [subject["patient_id"] for subject in one_per_patient(made)]
        ['a', 'b']
    """
    places: dict[str, list[int]] = {}
    for place, subject in enumerate(subjects):
        places.setdefault(subject["patient_id"], []).append(place)
    rng = numpy_generator("one volume a patient", seed)
    return [subjects[int(rng.choice(own))] for own in places.values()]


def _class(label: Any) -> str:
    """A class as text, the same for 1, 1.0, True and a tensor of them; a name stays as it is."""
    try:
        number = float(label)
    except (TypeError, ValueError, RuntimeError):  # a name
        return "" if label is None else str(label)
    return str(label) if isinstance(label, str) or not number.is_integer() else str(int(number))


def _patient(subject: tio.Subject) -> str:
    """Volumes prompted with one report are of one patient, although each has an id of its own."""
    return str((subject.get("synthetic") and subject.get("report")) or subject.get("patient_id", ""))
