"""The cases of a reader study: which volumes are shown, and in an order that tells nothing."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
import torchio as tio

from synthaug.data.reading.manifest import stack_images
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator
from synthaug.pool.pool import SyntheticPool
from synthaug.reader_study.grey_levels import grey_levels, slices_of_all

Role = Literal["real", "synthetic"]


@dataclass(frozen=True)
class Case:
    """One volume of a reader study, and what readers are not told of it."""

    role: Role
    label: int
    """Its class; of a synthetic volume the one that the pool lists it under."""
    generator: str
    """Name of its pool; "" = real."""
    subject_id: str
    patient_id: str
    volume: np.ndarray
    """(C, X, Y, Z): preprocessed; of cases that are :func:`arranged`, grey levels (uint8)."""

    @classmethod
    def of(cls, subject: tio.Subject, images: Sequence[str], *, generator: str = "") -> "Case":
        """A preprocessed subject as a case; ``generator`` names its pool where it is synthetic."""
        name = str(subject["subject_id"])
        return cls(
            role="synthetic" if generator else "real",
            label=int(subject["label"]),
            generator=generator,
            subject_id=name,
            patient_id=str(subject["patient_id"]),
            volume=stack_images(subject, images).numpy(),
        )


def choose_real(subjects: Sequence[tio.Subject], *, per_class: int, seed: int) -> list[tio.Subject]:
    """As many subjects of each class, one of a patient, drawn at random.

    Raises:
        InputError: A class has fewer patients.
    """
    rng = numpy_generator("reader study, real volumes", seed)
    chosen: list[tio.Subject] = []
    taken: set[str] = set()
    for label in sorted({int(subject["label"]) for subject in subjects}):
        members = [subject for subject in subjects if subject["label"] == label]
        drawn: list[tio.Subject] = []
        for place in rng.permutation(len(members)):
            if len(drawn) < per_class and members[place]["patient_id"] not in taken:
                drawn.append(members[place])
                taken.add(members[place]["patient_id"])
        if len(drawn) < per_class:
            raise InputError(
                f"class {label}: {len(drawn)} patients to show, and per_class is {per_class}; lower --per_class, or "
                "show more patients (--part all)."
            )
        chosen += drawn
    return chosen


def choose_synthetic(
    pools: Mapping[str, SyntheticPool], labels: Sequence[int], *, per_class: int, seed: int
) -> list[tuple[str, tio.Subject]]:
    """As many volumes of each class, dealt evenly over the pools and drawn at random from each.

    Returns:
        Pairs of a pool's name and a volume.

    Raises:
        InputError: A pool has fewer of a class.
    """
    chosen = []
    for label in labels:
        for place, (name, pool) in enumerate(pools.items()):
            wanted = per_class // len(pools) + (place < per_class % len(pools))
            there = pool.counts.get(label, 0)
            if there < wanted:
                raise InputError(
                    f"{pool.path}: {there} volumes of class {label}, and {wanted} are to be shown; lower --per_class, "
                    "or build more."
                )
            drawn = numpy_generator("reader study, synthetic volumes", seed, name, label).permutation(there)[:wanted]
            chosen += [(name, pool.subject(label, int(index))) for index in drawn]
    return chosen


def arranged(cases: Sequence[Case], *, seed: int) -> list[Case]:
    """Cases as shown. Slices that are empty in one case are left out of all, and all share one grey scale. The order
    depends on voxels and seed only, not on whether a case is real.

    Raises:
        InputError: The cases differ in shape, or no slice shows something in all.
    """
    by_shape = [(shape, [*group]) for shape, group in groupby(cases, key=lambda case: case.volume.shape)]
    if len(by_shape) > 1:
        (one, first), (other, second), *_ = by_shape
        raise InputError(
            f"{second[0].subject_id}: has {other[1:]} voxels and {other[0]} images, and {first[0].subject_id} has "
            f"{one[1:]} and {one[0]}; a reader study shows volumes of one shape."
        )
    shown = slices_of_all([grey_levels(case.volume, named=case.subject_id) for case in cases])
    # Percentiles of the slices that are left: empty ones would move them in short scans only.
    scaled = [replace(case, volume=grey_levels(case.volume[..., shown], named=case.subject_id)) for case in cases]
    return sorted(scaled, key=lambda case: hashlib.sha256(f"{seed} ".encode() + case.volume.tobytes()).digest())
