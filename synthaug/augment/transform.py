"""``SyntheticAugment``: replace a subject by a synthetic one, as a torchio 1.x transform.

It follows torchio's pairs such as ``RandomNoise`` and ``Noise``. ``SyntheticAugment`` draws class and index and calls
the deterministic ``Synthesize``, so that ``subject.history`` replays to the same bytes.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torchio as tio
from torchio.transforms.augmentation import RandomTransform

from synthaug.augment.balance import require_classes, target_weights
from synthaug.augment.fit import label_like, require_preprocessing, require_replaceable, voxels_like
from synthaug.augment.source import Source, as_source, open_source, place_of
from synthaug.data.reading.manifest import CONVENTION, class_index
from synthaug.ground.errors import InputError

UNKNOWN: dict[str, Any] = {"subject_id": "", "patient_id": "", "report": "", "synthetic": False, "provenance": ""}
"""Default values of the convention's keys for a real subject."""


def add_unknown(subject: tio.Subject) -> None:
    """Give a real subject the convention's keys that it lacks."""
    for key, value in UNKNOWN.items():
        subject.setdefault(key, value)
    subject.update_attributes()


class Synthesize(tio.Transform):
    """Replace a subject by volume ``index`` of class ``target`` from the source at ``source``.

    Images come with their affine, label, report, ids and provenance. Images excluded by ``include`` or ``exclude`` stay
    as they are. Any other image or label map that the source lacks is refused, as it would show another patient. An
    image on another grid or intensity scale is refused too. The label keeps its type, and an image that was read keeps
    its dtype (of fractions) and device, so that real and synthetic subjects collate.

    Args:
        source: Address of a source, such as the folder of a pool.
        target: Class.
        index: Index of the volume within its class.
        volume: ``subject_id`` of the volume, as recorded in the history; None = whichever stands at the index.
        **kwargs: See ``torchio.Transform``.

    Raises:
        InputError: No such source or class, another volume stands at the index by now, or the images of subject and
            source do not match.
    """

    def __init__(self, source: str, target: int, index: int, volume: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = str(source)
        self.target = int(target)
        self.index = int(index)
        self.volume = volume
        self.args_names = ["source", "target", "index", "volume", "keep"]

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Called by torchio on its own copy of the subject."""
        synthetic = open_source(self.source).subject(self.target, self.index)
        if self.volume not in (None, synthetic["subject_id"]):
            raise InputError(
                f"{place_of(self.source)}: volume {self.index} of class {self.target} is "
                f"{synthetic['subject_id']} and was {self.volume}; the pool has changed since."
            )
        self.volume = synthetic["subject_id"]  # for the history
        names = self._names(subject, synthetic)
        require_replaceable(subject, names, synthetic, source=place_of(self.source))
        for name in names:
            image = copy.deepcopy(synthetic[name])  # the whole image: no path of the real one stays behind
            image.load()
            if subject[name]._loaded:
                image.set_data(voxels_like(subject[name].data, image.data))
            subject[name] = image
        label = label_like(subject.get("label"), synthetic["label"])
        for key in CONVENTION:
            subject[key] = synthetic[key]
        subject["label"] = label
        subject.update_attributes()
        return subject

    def _names(self, subject: tio.Subject, synthetic: tio.Subject) -> list[str]:
        """Images to replace; all must be on both sides."""
        names = list(subject.get_images_dict(intensity_only=False, include=self.include, exclude=self.exclude))
        absent = [name for name in self.include or [] if name not in names]
        if absent or not names:
            wanted = repr(absent[0]) if absent else "to replace"
            raise InputError(f"The subject has no image {wanted}; it has {subject.get_images_names()}.")
        missing = [name for name in names if name not in synthetic]
        if missing:
            raise InputError(
                f"{place_of(self.source)}: has no image {missing[0]!r}; pass include= with the images to replace."
            )
        return names


class SyntheticAugment(RandomTransform):
    """Replace a subject by a synthetic one with probability ``p``.

    Args:
        source: A SyntheticPool, its folder, or a LiveSource.
        p: Probability of replacement.
        target: Class of the replacement. "same": the class of the subject. "balance": equal expected shares of all
            classes; needs ``class_counts`` and a large enough ``p``. Or a distribution {class: weight}.
        class_counts: Subjects of each class in the training set, for "balance".
        **kwargs: See ``torchio.Transform``.

    Raises:
        InputError: The target is malformed, needs a larger ``p``, or names a class that the source lacks.

    Example:
        >>> SyntheticAugment("no/such/pool", p=0.5)
        Traceback (most recent call last):
        synthaug.ground.errors.InputError: no/such/pool: no synthetic pool there (pool.json is missing).
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
        # The address in place of the source: it can be recorded in the history, and is cheap to send to a worker.
        self.source = as_source(source).address
        self.p = p
        self.target = dict(target) if isinstance(target, Mapping) else target
        self.class_counts = None if class_counts is None else dict(class_counts)
        self.args_names = ["source", "p", "target", "class_counts", "keep"]
        self.weights = target_weights(target, class_counts, p)
        self._scale_seen = False
        require_classes(open_source(self.source).classes, self.weights)

    def __call__(self, data: Any) -> Any:
        """Transform as torchio does. A real subject gets the keys that it lacks, so that both kinds collate."""
        result = super().__call__(data)
        if isinstance(result, tio.Subject) and not result.keys() >= UNKNOWN.keys():
            result = copy.copy(result)
            add_unknown(result)
        return result

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Draw class and index, then apply ``Synthesize``."""
        source = open_source(self.source)
        if self.weights is None:
            if "label" not in subject:
                raise InputError("The subject has no 'label', which target='same' takes the class from.")
            target = class_index(subject["label"])
        else:
            labels = sorted(self.weights)
            drawn = torch.multinomial(torch.tensor([float(self.weights[label]) for label in labels]), 1)
            target = labels[int(drawn)]
        require_classes(source.classes, {target: 1.0})
        require_preprocessing(source.preprocessing, [subject], source=place_of(self.source))
        if not self._scale_seen:  # loading images is slow: checked once
            subject.load()
            self._scale_seen = True
        # Below the count, an index keeps its volume while the pool is open, also when it grows.
        index = self._get_random_seed() % source.counts[target]
        twin = Synthesize(self.source, target, index, **self._get_base_args())
        return twin(subject)
