"""Whom a generator and its prompts have seen: nobody whom a classifier is chosen or tested by."""

from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.config import DataConfig
from synthaug.config.data import OWN
from synthaug.data.splits import Split
from synthaug.generate.stored.record import ALIASES, PUBLIC_SETS, patients_known, patients_of
from synthaug.ground.errors import InputError
from synthaug.ground.people import can_be_told, hashes_of, patient_hash, plain_id, public_id
from synthaug.pool.pool import SyntheticPool
from synthaug.study.records.verdicts import UNKNOWN_COHORT
from synthaug.study.stages.checks import say_once

SAME_COHORT, OTHER_COHORT = "same cohort", "other cohort"
"""Protocols: the generator was trained on exactly the classifier's training patients, or on others.

Where nobody can tell it is ``UNKNOWN_COHORT``. They were not recorded, or under another institution's key, or are of a
public data set that ours may be of.
"""


def untold_sets(record: Mapping[str, Any], data: DataConfig) -> list[str]:
    """Public data sets that a generator was trained on while nobody said whether our patients are of one.

    Args:
        record: The generator's, or a pool's header.
        data: Of the study.
    """
    return list(record.get(PUBLIC_SETS, [])) if data.protected and data.public != OWN else []


def can_tell(record: Mapping[str, Any], data: DataConfig) -> bool:
    """Whether our patients would be found among those that a generator was trained on."""
    return patients_known(record) and not untold_sets(record, data)


def say_untold(record: Mapping[str, Any], data: DataConfig, *, source: str) -> None:
    """Say once that a generator of a public data set may have seen these patients, and how to find out."""
    sets = untold_sets(record, data)
    if sets:
        say_once(
            f"{source}: was trained on people of the public data set {', '.join(sets)}, and ids alone cannot tell "
            "whether these patients are among them. If they are of it, set data.public to its name; if they are of no "
            f"public data set, set data.public to {OWN}."
        )


def refuse_leaking_pool(pool: SyntheticPool, split: Split) -> None:
    """InputError if generator or prompts come from a patient that the classifier is chosen or tested by."""
    refuse_generator_leaks(pool, split)
    patients = pool.header.get("prompts", {}).get("patients")
    if patients is None:
        raise InputError(
            f"{pool.path}: does not say whose reports prompted it, so that one may be a test patient's. Build it: "
            "of pool.reports, with a column patient_id in the file (none = written for no patient); in Python, with "
            "TrainingPrompts or WriterPrompts."
        )
    refuse_leaks(patients, split, source=str(pool.path), did="prompted with the report of")


def refuse_generator_leaks(pool: SyntheticPool, split: Split) -> None:
    """InputError if the generator was trained on a patient that is held out."""
    refuse_training_leaks(pool.header, split, source=str(pool.path), did="its generator was trained on")


def refuse_training_leaks(record: Mapping[str, Any], split: Split, *, source: str, did: str = "trained on") -> None:
    """InputError if a generator was trained on a patient that is held out, by any name that it knows the patient by.

    Args:
        record: The generator's, or a pool's header.
        split: Of the study.
        source: Names generator or pool.
        did: What it did with the patients.
    """
    seen = [*patients_of(record), *record.get(ALIASES, [])]
    refuse_leaks(seen, split, source=source, did=did, sets=record.get(PUBLIC_SETS, []))


def refuse_leaks(
    seen: Sequence[str], split: Split, *, source: str, did: str = "trained on", sets: Sequence[str] = ()
) -> None:
    """InputError if ``seen`` (hashes of patients) has one that the classifier is chosen or tested by.

    The ids of patients and subjects are also tried as names in the public data sets ``sets``.
    """
    known = set(seen)
    for part in ("val", "test"):
        for subject in getattr(split, part):
            patient = subject["patient_id"]
            plain = {plain_id(patient), subject.get("subject_id", patient)}
            named = {patient_hash(public_id(each, name)) for each in sets for name in plain}
            if known & (hashes_of(patient) | named):
                raise InputError(
                    f"{source}: {did} patient {patient!r}, who is in the {part} part; use training patients only."
                )


def protocol_of(seen: Sequence[str], split: Split, *, known: bool = True) -> str:
    """The protocol of a generator trained on ``seen`` (hashes of patients; none, or not ``known`` = not known).

    Example:
        >>> split = Split([{"patient_id": "phantom-1-0001"}], [], [])
        >>> [protocol_of(seen, split) for seen in (sorted(hashes_of("phantom-1-0001")), ["0" * 16], [], ["ab-cd"])]
        ['same cohort', 'other cohort', 'unknown cohort', 'unknown cohort']
    """
    if not seen or not known or not can_be_told(seen):
        return UNKNOWN_COHORT
    trained = [hashes_of(patient) for patient in {subject["patient_id"] for subject in split.train}]
    same = all(hashes & set(seen) for hashes in trained) and set(seen) <= set[str]().union(*trained)
    return SAME_COHORT if same else OTHER_COHORT
