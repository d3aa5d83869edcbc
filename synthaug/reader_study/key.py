"""What readers are not told, and what they answered: the two files that scoring reads."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_record, write_json
from synthaug.reader_study.cases import Case

KEY_FORMAT, ANSWERS_FORMAT = "synthaug reader study, key 1", "synthaug reader study, answers 1"
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
        return read_record(path, cls.from_json)

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
        by_case = {}
        for each in told["answers"]:
            answer = Answer(each["call"], each["confidence"], each["class"])
            usable = answer.call in CALLS and answer.confidence in CONFIDENCES and type(answer.label) is int
            if not usable or each["case"] - 1 in by_case:
                raise InputError(f"case {each['case']!r} has an answer that cannot be, or two of them.")
            by_case[each["case"] - 1] = answer
        return cls(str(told["study"]), str(told["reader"]).strip(), by_case)


def read_answers(paths: Sequence[Path], key: Key) -> list[Answers]:
    """The answers of all readers, by name.

    Raises:
        InputError: A file belongs to another study or holds cases or classes that are not in it, two are of one
            reader, or nothing was answered.
    """
    found: dict[str, tuple[Path, Answers]] = {}
    for path in paths:
        answers = read_record(path, Answers.from_json)
        if answers.study != key.study:
            raise InputError(f"{path}: belongs to reader study {answers.study!r}, and the key to {key.study!r}.")
        if answers.reader in found:
            raise InputError(
                f"{path}: is of reader {answers.reader!r}, as is {found[answers.reader][0]}; leave one of them out."
            )
        places, labels = {*answers.by_case}, {answer.label for answer in answers.by_case.values()}
        if not places or not places <= {*range(len(key.cases))} or not labels <= {*range(len(key.classes))}:
            raise InputError(
                f"{path}: {len(places)} answers, whose cases and classes are not those of the key "
                f"({len(key.cases)} cases, {len(key.classes)} classes)."
            )
        found[answers.reader] = (path, answers)
    return [found[reader][1] for reader in sorted(found)]
