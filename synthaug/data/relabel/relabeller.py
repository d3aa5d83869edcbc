"""Report and class of a volume that was moved: rewritten together, or the move is left out for that subject.

A mirrored volume shows the other side; a zoomed one shows larger or smaller organs. The report is written again by the
writer that wrote it, from the changed measurements; the class follows from ``data.label_rule``. A subject does not get
a move that could make report or class wrong: free text that names a side, a size of unknown unit, no rule.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from synthaug.config import DataConfig, GeometryConfig
from synthaug.data.phantom import findings_of
from synthaug.data.reading.manifest import read_manifest
from synthaug.data.relabel.label_rule import FittedRule
from synthaug.data.relabel.statements import Findings, FreeText, Measured, Statement
from synthaug.data.reports.wording.styles import LONGEST
from synthaug.data.voxels.geometry import NEUTRAL, Allowed, Geometry
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.ground.seeding import derive_seed

Row = Mapping[str, object]
Subject = Mapping[str, Any]
Reason = tuple[Literal["mirror", "zoom"], str]
"""A move and why a subject does not get it."""


@dataclass(frozen=True)
class LeftOut:
    """A move that some training subjects do not get."""

    move: Literal["mirror", "zoom"]
    reason: str
    subjects: int
    """Training subjects that lose it."""


@dataclass
class Relabeller:
    """Says which moves a subject may get, and rewrites report and class for them.

    Example:
        >>> from synthaug.config import LabelRule, MeasurementConfig
        >>> data = DataConfig(
        ...     root="unused",
        ...     measurements={"volume": MeasurementConfig("gland volume", "ml")},
        ...     label_rule=LabelRule("volume", above=45),
        ... )
        >>> subject = {"subject_id": "a", "label": 0, "report": "Gland volume 40 ml."}
        >>> relabeller = Relabeller.fit([subject], data, GeometryConfig(), rows={"a": {"volume": "40"}}, texts=False)
        >>> relabeller.rewrite(subject, Geometry(zoom=1.1))[1]
        1
    """

    data: DataConfig
    geometry: GeometryConfig
    rows: Mapping[str, Row]
    """Measured columns by subject."""
    rule: FittedRule | None = None
    """The label rule, where there is one with a column."""
    texts: bool = True
    """Whether reports have to stay true; a classifier does not read them."""
    left_out: list[LeftOut] = field(default_factory=list)
    """Moves that training subjects lose, by reason."""
    _statements: dict[str, Statement] = field(default_factory=dict, repr=False)
    _allowed: dict[str, Allowed] = field(default_factory=dict, repr=False)

    @classmethod
    def fit(
        cls,
        training: Sequence[Subject],
        data: DataConfig,
        geometry: GeometryConfig,
        *,
        rows: Mapping[str, Row] | None = None,
        texts: bool = True,
    ) -> "Relabeller":
        """Estimate the limit of the label rule from training subjects, and tell once what is left out for whom.

        Args:
            training: The training subjects, and no others.
            data: Measurements and label rule; where ``root`` is set, the manifest is read for their columns.
            geometry: Moves that shall be drawn.
            rows: The columns by subject, in place of the manifest's.
            texts: False where nobody reads the reports (a classifier): they then bar no move.

        Raises:
            InputError: The rule's column is missing or empty, or the rule contradicts most training subjects.
        """
        made = cls(data, geometry, _rows(data) if rows is None else rows, texts=texts)
        if data.label_rule and data.label_rule.column:
            if data.root is None:
                raise InputError("data.label_rule is for a manifest; a phantom's class depends on no size.")
            made.rule = FittedRule.fit(data.label_rule, training, made.rows, data.measurements)
        counts: Counter[Reason] = Counter()
        for subject in training:
            counts.update(made._reasons(subject))
        made.left_out = [LeftOut(move, reason, number) for (move, reason), number in sorted(counts.items())]
        for each in made.left_out:
            logging.getLogger(__name__).warning(
                "%s is left out for %d of %d training subjects: %s.",
                "Mirroring" if each.move == "mirror" else "Zoom (all factors, or some)",
                each.subjects,
                len(training),
                each.reason,
            )
        return made

    @property
    def identity(self) -> str:
        """Hash of what decides how subjects are relabelled."""
        rule = self.data.label_rule and asdict(self.data.label_rule)
        powers = {name: [each.scaling, each.side] for name, each in self.data.measurements.items()}
        return content_hash([rule, powers, self.rows, self.rule and self.rule.limit])

    def allowed(self, subject: Subject) -> Allowed:
        """Moves whose effect on this subject's report and class is known."""
        name = subject["subject_id"]
        if name not in self._allowed:
            zooms = tuple(zoom for zoom in self.geometry.zooms if not self._against_zoom(subject, zoom))
            found = Allowed(mirror=not self._against_mirroring(subject), zooms=zooms)
            if subject.get("synthetic"):  # of which there may be millions
                return found
            self._allowed[name] = found
        return self._allowed[name]

    def rewrite(self, subject: Subject, geometry: Geometry, wording: int = 0) -> tuple[str, int]:
        """Report and class of the moved volume, the report in one of ``data.wordings`` wordings (0 = its own).

        Where reports need not stay true (``texts`` is false), a report that cannot follow comes back empty.

        Raises:
            InputError: The subject may not get this move.
        """
        allowed, report, label = self.allowed(subject), str(subject["report"]), int(subject["label"])
        if (geometry.mirrored and not allowed.mirror) or geometry.zoom not in (1, *(allowed.zooms or ())):
            raise InputError(
                f"{subject['subject_id']}: {geometry} would leave report or class wrong; draw it within "
                "Relabeller.allowed."
            )
        if not geometry.mirrored and geometry.zoom == 1 and not wording:
            return report, label
        if geometry.zoom != 1 and self.rule:
            followed = self.rule.label(self.rows.get(subject["subject_id"], {}), zoom=geometry.zoom)
            label = label if followed is None else followed
        statement = self._statement(subject)
        lost = (geometry.mirrored and statement.against_mirroring()) or (
            geometry.zoom != 1 and statement.against_zoom(geometry.zoom)
        )
        return "" if lost else statement.write(geometry, wording), label

    def reports(self, subject: Subject) -> tuple[str, ...]:
        """Every report that can occur for a subject, its own first; few enough to cache their text states."""
        return tuple(dict.fromkeys(report for report, _ in self.statements(subject)))

    def statements(self, subject: Subject) -> list[tuple[str, int]]:
        """Report and class of every move and wording that can occur for a subject, its own first."""
        allowed = self.allowed(subject)
        sides = (False, True) if allowed.mirror and self.geometry.flip else (False,)
        moves = [Geometry(mirrored=side, zoom=zoom) for side in sides for zoom in (1.0, *(allowed.zooms or ()))]
        return [self.rewrite(subject, move, each) for each in range(self.data.wordings) for move in moves]

    def longest(self, subject: Subject) -> tuple[str, ...]:
        """Texts among which is one as long as any that can occur for a subject."""
        if self.data.wordings == 1:
            return self.reports(subject)
        return (str(subject["report"]), "." * LONGEST)

    def _reasons(self, subject: Subject) -> set[Reason]:
        """What the subject does not get, and why."""
        side = self._against_mirroring(subject) if self.geometry.flip else None
        zooms = {reason for zoom in self.geometry.zooms if (reason := self._against_zoom(subject, zoom))}
        return {("mirror", reason) for reason in (side,) if reason} | {("zoom", reason) for reason in zooms}

    def _against_mirroring(self, subject: Subject) -> str | None:
        return self._statement(subject).against_mirroring() if self.texts else None

    def _against_zoom(self, subject: Subject, zoom: float) -> str | None:
        """Why report or class could not follow; None = they can."""
        if zoom == 1:
            return None
        text = self._statement(subject).against_zoom(zoom) if self.texts else None
        return self._against_zoomed_label(subject) or text

    def _against_zoomed_label(self, subject: Subject) -> str | None:
        rule = self.data.label_rule
        if rule is None:
            # A phantom's class is its PI-RADS category, which no zoom that its report allows can change.
            phantom = self.data.root is None and findings_of(subject["subject_id"], int(subject["label"]))
            return None if phantom else "the class may depend on a size; set data.label_rule"
        if self.rule is None:
            return None
        if self.rule.measurement.scaling is None:
            return f"how {rule.column} grows with a zoom is not known; set data.measurements.{rule.column}.power"
        found = self.rule.label(self.rows.get(subject["subject_id"], {}))
        if found is None:
            return f"{rule.column}, which data.label_rule needs, is empty"
        return None if found == int(subject["label"]) else "data.label_rule gives another class than the manifest"

    def _statement(self, subject: Subject) -> Statement:
        """The writer's own statement, if it is the subject's report that it writes; else free text."""
        name, report = subject["subject_id"], str(subject["report"])
        if subject.get("synthetic"):
            return FreeText(report)
        if name not in self._statements:
            written = self._written(subject)
            same = written is not None and written.write(NEUTRAL) == report
            self._statements[name] = written if written is not None and same else FreeText(report)
        return self._statements[name]

    def _written(self, subject: Subject) -> Statement | None:
        name = subject["subject_id"]
        if self.data.root is None:
            found = findings_of(name, int(subject["label"]), difficulty=self.data.phantom.difficulty)
            return None if found is None else Findings(*found, self.data.style)
        if not self.data.measurements or name not in self.rows:
            return None
        return Measured(self.rows[name], self.data.measurements, derive_seed("report", name), self.data.style)


def _rows(data: DataConfig) -> Mapping[str, Row]:
    """The manifest's columns that reports and the class are made from, by subject."""
    rule = data.label_rule
    columns = list(dict.fromkeys([*data.measurements, *([rule.column] if rule and rule.column else [])]))
    if data.root is None or not columns:
        return {}
    table = read_manifest(f"{data.root}/{data.manifest}")
    table.require(data.subject, *columns)
    table.refuse_repeats(data.subject)
    # Which measurements may be missing was checked when the manifest was read. A rule's own column may list several.
    several = [name for name in columns if name not in data.measurements or data.measurements[name].lists]
    measured = {
        number: table.measured(number, dict.fromkeys(columns, "leave_out"), several=several) for number in table.rows
    }
    return {row[data.subject]: {column: row[column] for column in columns} for row in measured.values()}
