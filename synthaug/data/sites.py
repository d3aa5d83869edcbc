"""Splits by hospital: one site is tested by classifiers of the others."""

from collections.abc import Mapping, Sequence

import torchio as tio

from synthaug.data.reading.tables import spellings_of_one
from synthaug.data.splits import Split, deal_out, patient_classes
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed


def site_subjects(
    subjects: Sequence[tio.Subject],
    sites: Mapping[str, str],
    *,
    held_out: str,
    val: float = 0.15,
    group: str = "patient_id",
    seed: int = 0,
) -> Split:
    """The patients of one site tested, those of all other sites trained on and chosen by.

    Args:
        subjects: Subjects under the convention.
        sites: Site of each ``subject_id``.
        held_out: The site that is tested.
        val: Share of the other sites' patients to choose by.
        group: Key that must stay on one side.
        seed: Other patients to choose by.

    Raises:
        InputError: There is no such site, two are spelt almost alike, a patient stands at two, or a part lacks a class.

    Example:
        >>> people = [{"subject_id": str(n), "patient_id": str(n), "label": n % 2} for n in range(20)]
        >>> split = site_subjects(people, {str(n): "ab"[n // 12] for n in range(20)}, held_out="b")
        >>> len(split.test), len(split.train) + len(split.val)
        (8, 12)
    """
    known = sorted({sites[subject["subject_id"]] for subject in subjects})
    if held_out not in known:
        raise InputError(f"split.held_out={held_out!r} is no site; the sites are {', '.join(known)}.")
    for alike in spellings_of_one(known):
        raise InputError(
            f"split.site: {' and '.join(map(repr, alike))} differ only in case, blanks, leading zeros or Unicode form; "
            "write one site alike, and two sites unlike."
        )
    home: dict[str, str] = {}
    for subject in subjects:
        patient, site = subject[group], sites[subject["subject_id"]]
        if home.setdefault(patient, site) != site:
            raise InputError(f"Patient {patient!r} stands at the sites {home[patient]!r} and {site!r}; write one.")
    class_of = patient_classes(subjects, group)
    tested = sorted(patient for patient, site in home.items() if site == held_out)
    rest = sorted(home.keys() - {*tested})
    state = derive_seed("sites", seed, held_out) % 2**32
    return deal_out(subjects, class_of, group=group, rest=rest, tested=tested, val=val, state=state)
