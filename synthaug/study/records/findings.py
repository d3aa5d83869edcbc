"""What a reader has to know before the numbers of a study: findings by code, each with its meaning and its mend."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from synthaug.ground.errors import InputError
from synthaug.study.records.fields import Settings, known, require_kinds

Severity = Literal["error", "warning", "note"]
"""error: the numbers cannot be taken as they are; warning: they mean less than they seem to; note: good to know."""


@dataclass(frozen=True)
class Meaning:
    """What a code stands for, whatever the study."""

    title: str
    why: str
    """What follows for the numbers."""
    mend: str
    """What to do about it."""


MEANINGS: Mapping[str, Meaning] = {
    "cells-failed": Meaning(
        "Cells failed",
        "Trainings that failed are missing from every arm, interval and p-value.",
        "Run the same command again: finished cells are kept, failed ones are tried again.",
    ),
    "near-copies": Meaning(
        "Patients who may be one",
        "One patient under two names, in training and in test, makes every classifier look better than it is.",
        "Give both rows of the manifest one patient id where they are one, and run the study again.",
    ),
    "copies": Meaning(
        "Copies of training patients",
        "A generator that repeats its training patients adds no patients, and its volumes can give them away.",
        "Look at the pairs in the report; leave copies out (`synthaug pool audit --drop`), train for fewer steps or on "
        "more patients.",
    ),
    "copies-unknown": Meaning(
        "Copies were not looked for",
        "Whether synthetic volumes repeat training patients is not known.",
        "Hold out at least nine patients, and give the data that the generator was trained on; see the reason given.",
    ),
    "unknown-provenance": Meaning(
        "Unknown provenance of the generator",
        "Nobody recorded whom the generator was trained on. If test patients were among them, the gain is overstated.",
        "Train a generator on the study's training patients, or test on patients who came after it.",
    ),
    "told-apart": Meaning(
        "Synthetic volumes are easily told from real ones",
        "A classifier can learn what is synthetic in place of what is ill, where classes differ in their synthetic "
        "share. A gain may still be real: it was measured on real patients.",
        "Train the generator longer or on more patients, choose other sampling steps or guidance, and compare realism.",
    ),
    "far-from-real": Meaning(
        "Synthetic volumes lie far from real ones",
        "The generator does not draw what the data show, be it by too short a training or other images than it knows.",
        "Look at the slices; train longer, or take a generator of the same kind of images.",
    ),
    "class-not-shown": Meaning(
        "Synthetic volumes show less of their class than real ones",
        "The generator follows reports or classes too little, so that classifiers learn labels that the images do not "
        "show.",
        "Train the coarsest level for more steps, raise `pool.sampling.guidance`, and compare again.",
    ),
    "reports-cut": Meaning(
        "Reports were cut",
        "The text encoder read the ends of these reports alone: what stood at their beginnings does not show.",
        "Raise `generator.text_encoder.max_tokens` and train again, or give shorter reports.",
    ),
    "reports-contradict": Meaning(
        "Reports read as another class",
        "The generator read another class from these reports than the one that their volumes are listed under: labels "
        "may be wrong.",
        "Set `pool.labels=agreed`, which turns such volumes down.",
    ),
    "reports-unlike": Meaning(
        "Reports unlike those of the training",
        "The generator saw no report like these, so that volumes may not follow them.",
        "Word reports as the generator's training reports are, or train on reports of this style.",
    ),
    "field-of-view": Meaning(
        "Pool off the generator's field of view",
        "The generator learnt anatomy in another field of view: size and position of organs may be wrong.",
        "Draw volumes at the size and voxel spacing of the generator's training.",
    ),
    "few-test-patients": Meaning(
        "Few test patients",
        "Intervals are wide: real differences of ordinary size cannot be told from none.",
        "Test more patients (`split.test`), or test everybody in turn (`split.folds` with the axis `split.fold`).",
    ),
    "few-repeats": Meaning(
        "Too few repeats",
        "With one or two trainings of an arm nothing is known of how much the next one would differ: no verdict.",
        "Set at least three seeds (`study.seeds`), splits or folds.",
    ),
    "p-limit": Meaning(
        "No comparison can come out clear",
        "The smallest p-value that the study can give is above the limit after correction.",
        "Compare fewer arms, raise `metrics.permutations`, or test more patients.",
    ),
}
"""Every code, in the order in which findings of one severity are told."""


@dataclass(frozen=True)
class Finding:
    """One thing to know before the numbers; a row of ``findings``."""

    code: str
    severity: Severity
    sentence: str
    """What was found, with its figures."""
    muted: bool = False
    """Whether ``report.mute`` names the code."""

    @property
    def meaning(self) -> Meaning:
        """Of the code."""
        return MEANINGS[self.code]

    def to_json(self) -> dict[str, Any]:
        """The row."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Settings) -> Self:
        """The row."""
        made = known(cls, row)
        require_kinds(cls, made)
        if made["code"] not in MEANINGS or made["severity"] not in get_args(Severity):
            raise InputError(f"findings: {made['code']!r:.100} {made['severity']!r:.100} is no finding.")
        return cls(**made)
