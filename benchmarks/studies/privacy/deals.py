"""Who is a member, who is not, and who is neither; and the copies that the memorisation gate has to find."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torchio as tio

from synthaug.data.voxels.geometry import Geometry, apply_geometry
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator, torch_generator

CUT = 0.1
"""Share of a side that is cut off all round."""


@dataclass(frozen=True)
class Deal:
    """Three groups of people without anybody in common."""

    members: list[tio.Subject]
    """The generator is trained on them."""
    others: list[tio.Subject]
    """They are told from the members, or not."""
    third: list[tio.Subject]
    """The control is trained on them."""
    seed: int

    def half(self, number: int) -> set[str]:
        """A random half of the members' and others' people, whom a shadow generator is trained on."""
        people = sorted({subject["patient_id"] for subject in [*self.members, *self.others]})
        drawn = numpy_generator("shadow", self.seed, number).permutation(people)
        return set(drawn[: len(people) // 2].tolist())


def deal_people(subjects: Sequence[tio.Subject], n: int, *, seed: int) -> Deal:
    """Three groups of ``n`` people, each with the classes in nearly the same proportion.

    Raises:
        InputError: There are fewer than 3 n people.
    """
    label_of: dict[str, int] = {}
    for subject in subjects:
        name = subject["patient_id"]
        label_of[name] = max(label_of.get(name, 0), int(subject["label"]))
    if len(label_of) < 3 * n:
        raise InputError(f"{len(label_of)} people cannot be dealt into three groups of {n}; give a smaller --n.")
    drawn = numpy_generator("privacy deal", seed).permutation(sorted(label_of)).tolist()
    ordered = sorted(drawn[: 3 * n], key=label_of.__getitem__)
    parts = [{*ordered[start::3]} for start in range(3)]
    return Deal(*([each for each in subjects if each["patient_id"] in part] for part in parts), seed=seed)


def planted() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Kinds of copies, by name: volume (C, X, Y, Z) to volume."""

    def moved(**move) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda volume: apply_geometry(volume, Geometry(**move))

    return {
        "exact": lambda volume: volume,
        "noisy": noisy,
        "mirrored": lambda volume: volume.flip(1),
        "shifted by 3, -2 and 1 voxels": moved(shift=(3, -2, 1)),
        "cropped by a tenth all round": cropped,
        "grown by 8 %": moved(zoom=1.08),
        "shrunk by 10 %": moved(zoom=0.9),
        "mirrored, shifted and grown by 7 %": moved(mirrored=True, shift=(2, 1, -1), zoom=1.07),
    }


def noisy(volume: torch.Tensor) -> torch.Tensor:
    """With Gaussian noise of a twentieth of the range."""
    noise = torch.randn(volume.shape, generator=torch_generator("planted copy"))
    return (volume + 0.05 * noise).clamp(0, 1)


def cropped(volume: torch.Tensor) -> torch.Tensor:
    """Nothing but 0 in the outer tenth of each side."""
    inner = (slice(None), *(slice(round(CUT * side), side - round(CUT * side)) for side in volume.shape[1:]))
    kept = torch.zeros_like(volume)
    kept[inner] = volume[inner]
    return kept
