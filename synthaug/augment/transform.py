"""SyntheticAugment: replace a subject by a synthetic one, as a torchio 1.x transform. Nothing else subclasses them.

As ``RandomNoise`` draws and calls ``Noise``, ``SyntheticAugment`` draws a class and an index and calls ``Synthesize``,
whose arguments are plain, so that ``subject.history`` replays to the same bytes.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torchio as tio
from torchio.transforms.augmentation import RandomTransform

from synthaug.augment.source import Source, as_source, open_source
from synthaug.data.manifest import CONVENTION
from synthaug.errors import InputError


class Synthesize(tio.Transform):
    """Replace a subject by volume ``index`` of class ``target`` from the source at ``source``.

    Images are taken from the source with their affine, label, report, identity and provenance; the images left out by
    ``include`` or ``exclude`` stay as they are.

    Args:
        source: Address of a source (a pool's folder).
        target: Class.
        index: Which volume of the class.
        **kwargs: See ``torchio.Transform``.
    """

    def __init__(self, source: str, target: int, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.target = target
        self.index = index
        self.args_names = ["source", "target", "index"]

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Called by torchio on its own copy of the subject."""
        synthetic = open_source(self.source).subject(self.target, self.index)
        names = list(subject.get_images_dict(include=self.include, exclude=self.exclude))
        missing = [name for name in names if name not in synthetic]
        if missing:
            raise InputError(f"{self.source}: has no image {missing[0]!r}; pass include= with the images to replace.")
        for name in names:
            image = copy.deepcopy(synthetic[name])  # the whole image: no path of the real one stays behind
            image.load()
            subject[name] = image
        for key in CONVENTION:
            subject[key] = synthetic[key]
        subject.update_attributes()
        return subject


class SyntheticAugment(RandomTransform):
    """Replace a subject, with probability ``p``, by a synthetic one.

    Args:
        source: A SyntheticPool, its folder, or a LiveSource.
        p: Probability.
        target: Class of the replacement: "same" as the subject's, "balance" (rarer classes more often, so that the
            expected share of every class is equal; needs ``class_counts`` and a ``p`` that can reach it), or a
            distribution {class: weight}.
        class_counts: Subjects of each class in the training set, for "balance".
        **kwargs: See ``torchio.Transform``.

    Raises:
        InputError: The target cannot be read, cannot be reached, or names a class that the source lacks.
    """

    def __init__(
        self,
        source: Source | str,
        p: float = 0.5,
        target: str | Mapping[int, float] = "same",
        class_counts: Mapping[int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(p=p, **kwargs)
        self.source = as_source(source)
        self.weights = _target_weights(target, class_counts, p)
        wanted = {label for label, weight in (self.weights or {}).items() if weight > 0}
        absent = sorted(wanted - set(self.source.classes))
        if absent:
            raise InputError(f"The source has no volumes of class {absent[0]}; it has classes {self.source.classes}.")

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Draw class and index, then apply the deterministic twin."""
        if self.weights is None:
            target = int(subject["label"])
        else:
            labels = sorted(self.weights)
            drawn = torch.multinomial(torch.tensor([float(self.weights[label]) for label in labels]), 1)
            target = labels[int(drawn)]
        if target not in self.source.classes:
            raise InputError(f"The source has no volumes of class {target}; it has classes {self.source.classes}.")
        # An index below the count means the same volume after the pool has grown.
        index = self._get_random_seed() % self.source.counts[target]
        twin = Synthesize(self.source.address, target, index, **self._get_base_args())
        return twin(subject)


def _target_weights(
    target: str | Mapping[int, float], class_counts: Mapping[int, int] | None, p: float
) -> dict[int, float] | None:
    """Weights of the classes of a replacement; None = the subject's own class."""
    if target == "same":
        return None
    if isinstance(target, Mapping):
        if not all(0 <= weight < math.inf for weight in target.values()) or sum(target.values()) <= 0:
            raise InputError(f"target={dict(target)} must give classes weights that are not negative and not all 0.")
        return {int(label): float(weight) for label, weight in target.items()}
    if target != "balance":
        raise InputError(f"target={target!r} is unknown; use 'same', 'balance' or {{class: weight}}.")
    if not class_counts:
        raise InputError("target='balance' needs class_counts, the subjects of each class in the training set.")
    # A class with share s ends with (1-p)s + p*w; equal shares 1/K need w = (1/K - (1-p)s)/p, never negative.
    total, classes = sum(class_counts.values()), len(class_counts)
    least = 1 - total / (classes * max(class_counts.values()))
    if 0 < p < least - 1e-9:
        raise InputError(f"p={p} is too small to balance {dict(class_counts)}; p must be at least {least:.3f}.")
    needed = {c: max(0.0, 1 / classes - (1 - p) * count / total) for c, count in class_counts.items()}
    return needed if sum(needed.values()) > 0 else dict.fromkeys(class_counts, 1.0)
