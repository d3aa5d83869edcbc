"""One image under two names: a patient who stands in a data set twice, and so, perhaps, on both sides of a split."""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
import torch
import torchio as tio

from synthaug.data.splits import Split
from synthaug.ground.errors import InputError


def image_hash(volume: torch.Tensor) -> str:
    """SHA-256 of a volume's shape and voxels as float32, in hex; 0 and -0 are one value.

    Example:
        >>> image_hash(torch.ones(1, 2, 2, 2)) == image_hash(torch.ones(1, 2, 2, 2, dtype=torch.int16))
        True
    """
    voxels = np.ascontiguousarray(volume.float().numpy() + np.float32(0))
    digest = hashlib.sha256(str(voxels.shape).encode())
    digest.update(voxels.data)
    return digest.hexdigest()


def refuse_duplicate_images(split: Split, images: Sequence[str]) -> None:
    """InputError if two patients of different parts have an image in common, voxel by voxel.

    Preprocessed voxels are compared, not files: one volume as .nii and .nii.gz, or in two orientations, differs in
    bytes only. Two patients of one part are told of in one line of the log, because they leak nothing but count one
    patient twice. Images that are alike but not equal are not found.

    Args:
        split: Preprocessed subjects.
        images: Names of the images to compare.

    Raises:
        InputError: Names both subjects, and what to do.

    Example:
        >>> image = tio.ScalarImage(tensor=torch.rand(1, 4, 4, 4))
        >>> one, two = (tio.Subject(t2w=image, subject_id=name, patient_id=name) for name in ("a", "b"))
        >>> refuse_duplicate_images(Split([one], [], [two]), ["t2w"])
        Traceback (most recent call last):
        ...
        synthaug.ground.errors.InputError: Subject 'b' (test) has the same image as subject 'a' (train), ...
    """
    first: dict[str, tuple[str, tio.Subject]] = {}
    within: dict[tuple[str, str], str] = {}
    for part, subjects in split.parts():
        for subject in subjects:
            for name in images:
                where, other = first.setdefault(image_hash(subject[name].data), (part, subject))
                if other["patient_id"] == subject["patient_id"]:
                    continue
                if where != part:
                    raise InputError(
                        f"Subject {subject['subject_id']!r} ({part}) has the same image as subject "
                        f"{other['subject_id']!r} ({where}), voxel by voxel, but another patient; give both one "
                        "patient, or take one out."
                    )
                within[other["subject_id"], subject["subject_id"]] = part
    if within:
        (one, two), part = next(iter(within.items()))
        more = f", and {len(within) - 1} other pairs" if len(within) > 1 else ""
        logging.getLogger(__name__).warning(
            f"Subjects {one!r} and {two!r} ({part}{more}) have the same image, voxel by voxel, but are two patients; "
            "give both one patient, or take one out."
        )
