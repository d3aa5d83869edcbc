"""What readers are not told, and what they answered: the two files that scoring reads."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_record, write_json
from synthaug.reader_study.cases import Case

KEY_FORMAT, ANSWERS_FORMAT = "synthaug reader study, key 1", "synthaug reader study, answers 1"
ALL = "all"
"""Stands in tables for all readers together, and for all cases."""
CALLS = ("real", "synthetic")
CONFIDENCES = (1, 2, 3, 4, 5)
"""From a guess to certain."""


@dataclass(frozen=True)
class Truth:
    """What one case is."""

    role: str
    """real or synthetic."""
    label: int
    generator: str
    """Name of the pool; "" = real."""
    subject_id: str
    patient_id: str

    def __post_init__(self) -> None:
        if self.role not in CALLS or type(self.label) is not int:
            raise InputError(f"case {self.subject_id!r} has role {self.role!r} and label {self.label!r}.")


@dataclass(frozen=True)
class Key:
    """What every case of a reader study is, in the order in which they are shown."""

    study: str
    classes: Sequence[str]
    cases: Sequence[Truth]
    traits: Mapping[str, float]
    """Traits besides the anatomy by which real and synthetic cases differ, with p (``leaks.telling_traits``)."""

    @classmethod
    def of(cls, study: str, cases: Sequence[Case], *, classes: Sequence[str], traits: Mapping[str, float]) -> Self:
        """The key to the cases of a page."""
        truths = [Truth(case.role, case.label, case.generator, case.subject_id, case.patient_id) for case in cases]
        return cls(study, list(classes), truths, dict(traits))

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """As :meth:`to_json` wrote it; InputError where it is something else."""
        if told.get("format") != KEY_FORMAT:
            raise InputError(f"is no key of a reader study (format {told.get('format')!r}); see --key.")
        cases = [Truth(**case) for case in told["cases"]]
        return cls(str(told["study"]), [str(name) for name in told["classes"]], cases, dict(told["traits"]))

    def to_json(self) -> dict[str, Any]:
        """What JSON can write."""
        return {"format": KEY_FORMAT, **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key; InputError names the file where it is none."""
        return read_record(
            path, cls.from_json, mend="find the one that was written with the page: no other can score it"
        )

    def write(self, path: Path) -> None:
        """Write it in one step, never over the key of another study.

        Raises:
            InputError: The file is there and belongs to another study.
        """
        if path.exists() and Key.read(path).study != self.study:
            raise InputError(
                f"{path}: is the key of another reader study, without which its answers cannot be scored; choose "
                "another --key."
            )
        write_json(path, self.to_json())


@dataclass(frozen=True)
class Answer:
    """What a reader said of one case."""

    call: str
    """real or synthetic."""
    confidence: int
    """In that call, 1 (a guess) to 5 (certain)."""
    label: int
    """The class that was seen."""


@dataclass(frozen=True)
class Answers:
    """What one reader said."""

    study: str
    reader: str
    by_case: Mapping[int, Answer]
    """By the case's place, from 0; cases that were not answered are left out."""

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """As the page saves it; InputError where it is something else."""
        if told.get("format") != ANSWERS_FORMAT:
            raise InputError(f"holds no answers of a reader study (format {told.get('format')!r}).")
        reader = told["reader"].strip() if isinstance(told["reader"], str) else ""
        if reader in ("", ALL):
            raise InputError(f"names {told['reader']!r} as its reader; write the reader's own name there.")
        by_case = {}
        for each in told["answers"]:
            answer = Answer(each["call"], each["confidence"], each["class"])
            whole = all(type(number) is int for number in (each["case"], answer.confidence, answer.label))
            usable = whole and answer.call in CALLS and answer.confidence in CONFIDENCES
            if not usable or each["case"] - 1 in by_case:
                raise InputError(f"case {each['case']!r} has an answer that cannot be, or two of them.")
            by_case[each["case"] - 1] = answer
        return cls(str(told["study"]), reader, by_case)


def read_answers(paths: Sequence[Path], key: Key) -> list[Answers]:
    """The answers of all readers, by name.

    Raises:
        InputError: A file belongs to another study, or holds cases or classes that are not in it. Two files are of one
            reader (upper and lower case are alike). Nothing was answered.
    """
    found: dict[str, tuple[Path, Answers]] = {}
    for path in paths:
        answers = read_record(path, Answers.from_json, mend="have the reader save the answers again")
        if answers.study != key.study:
            raise InputError(f"{path}: belongs to reader study {answers.study!r}, and the key to {key.study!r}.")
        name = answers.reader.casefold()
        if name in found:
            raise InputError(
                f"{path}: is of reader {answers.reader!r}, as is {found[name][0]}; leave one of them out, or write "
                "another name into it."
            )
        _require_cases(path, answers, key)
        found[name] = (path, answers)
    return sorted((answers for _, answers in found.values()), key=lambda each: each.reader)


def _require_cases(path: Path, answers: Answers, key: Key) -> None:
    """InputError where nothing was answered, or a case or a class that the key does not know."""
    if not answers.by_case:
        raise InputError(f"{path}: holds no answer; leave it out.")
    for place, answer in answers.by_case.items():
        if not 0 <= place < len(key.cases) or not 0 <= answer.label < len(key.classes):
            raise InputError(
                f"{path}: case {place + 1} with class {answer.label} is not of the key ({len(key.cases)} cases from 1, "
                f"{len(key.classes)} classes from 0)."
            )
