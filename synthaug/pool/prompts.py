"""Prompts of the generator: reports, and the patients they belong to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torchio as tio

from synthaug.config.data import ReportStyle
from synthaug.data.phantom import draw_findings
from synthaug.data.reading.manifest import class_index, value_of
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.reports.picai import PatientFindings
from synthaug.data.reports.writers import ProstateFindings, write_prostate_report
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.ground.people import patient_hash
from synthaug.ground.seeding import derive_seed, numpy_generator


class Prompts(Protocol):
    """A report for every (class, index) of a pool, as a pure function of its seed."""

    @property
    def policy(self) -> str:
        """Name of the policy, as in ``PoolConfig.prompts``."""
        ...

    @property
    def classes(self) -> list[int]:
        """Classes with reports."""
        ...

    @property
    def patients(self) -> list[str] | None:
        """Hashes of the patients whose reports or findings are used; None = unknown."""
        ...

    @property
    def identity(self) -> str:
        """Hash of everything that the reports depend on, without the seed."""
        ...

    def report(self, label: int, index: int, *, attempt: int = 0, seed: int) -> str:
        """Report of a volume; each ``attempt`` gives another one while there are others."""
        ...


class TextPrompts:
    """Given reports. Each report of a class is used once before any is used twice.

    Args:
        texts: Reports of each class.
        patients: Hashes of the patients of the reports; None = unknown, and studies refuse the pool.

    Raises:
        InputError: A class has something else than a list of texts.

    Example:
        >>> prompts = TextPrompts({0: ["a", "b"], 1: ["c"]})
        >>> sorted(prompts.report(0, index, seed=7) for index in range(2)), prompts.report(1, 5, seed=7)
        (['a', 'b'], 'c')
    """

    policy = "texts"

    def __init__(self, texts: Mapping[int, Sequence[str]], *, patients: Sequence[str] | None = None) -> None:
        self.texts = {class_index(label): _texts_of(label, reports) for label, reports in texts.items()}
        self.patients = None if patients is None else sorted(set(patients))
        self._orders: dict[tuple[int, int], list[int]] = {}

    @property
    def classes(self) -> list[int]:
        """Classes that have a report."""
        return sorted(label for label, reports in self.texts.items() if reports)

    @property
    def identity(self) -> str:
        """Hash of the texts."""
        return content_hash({str(label): reports for label, reports in sorted(self.texts.items())})

    def report(self, label: int, index: int, *, attempt: int = 0, seed: int) -> str:
        """Report of a volume; ``attempt`` moves on in the drawn order."""
        if not self.texts.get(label):
            raise InputError(f"No report of class {label} to prompt the generator with; reports has {self.classes}.")
        if (label, seed) not in self._orders:
            drawn = numpy_generator("prompts", seed, label).permutation(len(self.texts[label]))
            self._orders[label, seed] = drawn.tolist()
        order = self._orders[label, seed]
        return self.texts[label][order[(index + attempt) % len(order)]]


class TrainingPrompts(TextPrompts):
    """Reports of training subjects of the class (default). Records the hashes of their patients.

    Args:
        subjects: Training subjects only. A prompt from a test report is a leak, and studies refuse such a pool.

    Example:
        >>> prompts = TrainingPrompts([{"label": 1, "report": "b", "patient_id": "phantom-1-0001"}])
        >>> prompts.report(1, 0, seed=0), len(prompts.patients)
        ('b', 1)
    """

    policy = "training"

    def __init__(self, subjects: Sequence[tio.Subject]) -> None:
        patients = [patient_hash(value_of(subject, "patient_id")) for subject in subjects]
        super().__init__(reports_by_class(subjects), patients=patients)


class RelabelledPrompts(TextPrompts):
    """Reports of training subjects, and what they say once the volume is mirrored or zoomed, by the class of each.

    Sizes and sides are then asked for that no training subject has. A subject whose report or class cannot follow a
    move gives its own report only.

    Args:
        subjects: Training subjects only.
        relabeller: Fitted on them.

    Example:
        >>> from synthaug.config import DataConfig, GeometryConfig, LabelRule, MeasurementConfig
        >>> from synthaug.data.reports.writers import write_measurement_report
        >>> row, measured = {"ml": 40}, {"ml": MeasurementConfig("gland volume", "ml")}
        >>> data = DataConfig("unused", measurements=measured, label_rule=LabelRule("ml", above=42))
        >>> report = write_measurement_report(row, measured, seed=derive_seed("report", "a"))
        >>> subject = {"subject_id": "a", "label": 0, "report": report, "patient_id": "a"}
        >>> relabeller = Relabeller.fit([subject], data, GeometryConfig(zooms=(1.0, 1.1)), rows={"a": row})
        >>> {label: len(texts) for label, texts in RelabelledPrompts([subject], relabeller).texts.items()}
        {0: 1, 1: 1}
    """

    policy = "relabelled"

    def __init__(self, subjects: Sequence[tio.Subject], relabeller: Relabeller) -> None:
        texts: dict[int, dict[str, None]] = {}
        for subject in subjects:
            for report, label in relabeller.statements(subject):
                texts.setdefault(label, {})[report] = None
        super().__init__(
            {label: list(texts[label]) for label in sorted(texts)},
            patients=[patient_hash(subject["patient_id"]) for subject in subjects],
        )


class WriterPrompts:
    """Reports written from structured findings.

    Class 1 is PI-RADS 3 to 5, class 0 PI-RADS 1 or 2, as in :class:`~synthaug.data.reports.writers.ProstateFindings`.

    Args:
        marksheet: Findings of training patients. None = findings are drawn at random: place, size, PSA, gland volume
            and grade.
        style: Style of the reports.

    Raises:
        InputError: The marksheet has no patient of a class.

    Example:
        >>> WriterPrompts().report(1, 0, seed=3) != WriterPrompts().report(1, 1, seed=3)
        True
    """

    policy = "writer"

    def __init__(self, marksheet: Sequence[PatientFindings] = (), *, style: ReportStyle = "template") -> None:
        self._style = style
        self._rows: dict[int, list[ProstateFindings]] = {0: [], 1: []}
        for row in marksheet:
            self._rows[row.findings.label].append(row.findings)
        empty = [label for label, rows in self._rows.items() if marksheet and not rows]
        if empty:
            raise InputError(f"The marksheet has no patient of class {empty[0]} (1 = PI-RADS 3 to 5) to word.")
        self.patients = sorted({patient_hash(row.patient_id) for row in marksheet})

    @property
    def classes(self) -> list[int]:
        """The two classes of PI-RADS categories."""
        return [0, 1]

    @property
    def identity(self) -> str:
        """Hash of the findings and of their style."""
        rows = [[repr(findings) for findings in rows] for rows in self._rows.values()]
        return content_hash(rows if self._style == "template" else [*rows, self._style])

    def report(self, label: int, index: int, *, attempt: int = 0, seed: int) -> str:
        """Report of a volume; each ``attempt`` has other findings."""
        return write_prostate_report(
            self.findings(label, index, attempt=attempt, seed=seed),
            seed=derive_seed("written prompt", seed, label, index, attempt),
            style=self._style,
            alone=not any(self._rows.values()),  # a marksheet holds the index lesion only
        )

    def findings(self, label: int, index: int, *, attempt: int = 0, seed: int) -> ProstateFindings:
        """Findings in the report of a volume."""
        if label not in self._rows:
            raise InputError(f"The report writer has findings of classes 0 and 1 only, none of class {label}.")
        name = ("written findings", seed, label, index, attempt)
        rows = self._rows[label]
        if not rows:
            return draw_findings(label, seed=derive_seed(*name))
        return rows[int(numpy_generator(*name).integers(len(rows)))]


def reports_by_class(subjects: Sequence[tio.Subject]) -> dict[int, list[str]]:
    """The reports of each class. Give it training subjects only: a prompt from a test report is a leak.

    Example:
        >>> reports_by_class([{"label": 1, "report": "b"}, {"label": 0, "report": "a"}])
        {0: ['a'], 1: ['b']}
    """
    reports: dict[int, list[str]] = {}
    for subject in subjects:
        reports.setdefault(class_index(value_of(subject, "label")), []).append(value_of(subject, "report"))
    return dict(sorted(reports.items()))


def _texts_of(label: Any, reports: Sequence[str]) -> list[str]:
    """The reports of a class; InputError where one is no text, or where a text stands in place of the list."""
    if isinstance(reports, str) or not isinstance(reports, Iterable):
        raise InputError(f"The reports of class {label} are {reports!r:.100}; give a list of texts.")
    texts = list(reports)
    wrong = [place for place, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        raise InputError(
            f"Report {wrong[0]} of class {label} is {texts[wrong[0]]!r:.100}, no text; give one or leave it out."
        )
    return texts


def as_prompts(reports: "Prompts | Mapping[int, Sequence[str]]") -> Prompts:
    """Accept prompts, or plain texts by class; InputError for anything else."""
    if not isinstance(reports, Mapping) and not hasattr(reports, "report"):
        raise InputError(f"reports is {reports!r:.100}; give prompts, or a list of texts for each class.")
    return TextPrompts(reports) if isinstance(reports, Mapping) else reports


def require_classes(prompts: Prompts, classes: Sequence[int]) -> None:
    """InputError for the first class without a report."""
    absent = [label for label in classes if label not in prompts.classes]
    if absent:
        raise InputError(
            f"No report of class {absent[0]} to prompt the generator with; the prompts have classes {prompts.classes}."
        )


def describe(prompts: Prompts) -> dict[str, Any]:
    """Description of the prompts in the header of a pool."""
    return {"policy": prompts.policy, "identity": prompts.identity, "patients": prompts.patients}
