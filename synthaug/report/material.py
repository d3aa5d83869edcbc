"""What the page shows beside summary and cells, kept in the study's folder, so that it can be made again without data.

The file holds slices, ids and reports of patients: it stays in the folder.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Self

from synthaug.config import Config, DataConfig
from synthaug.data.splits import Split, patient_classes
from synthaug.ground.files import read_record, write_json
from synthaug.report.figures.pictures import SLICE_DPI, Picture, raster
from synthaug.report.text import captions
from synthaug.report.text.provenance import tell_provenance
from synthaug.report.volumes.slices import Samples, slice_plot
from synthaug.report.volumes.viewer import Shown, volumes_of
from synthaug.study.grid import cohorts_of
from synthaug.study.records import CellRecord, Summary
from synthaug.study.records.arm_fields import ArmFields
from synthaug.study.records.fields import require_kinds

FILE = "report-data.json"
MOST_SLICES = 10
"""Classes times generators of which slices are shown."""
SLICES_BUDGET = 600_000
"""Bytes of the pictures of slices together, before base64; larger ones are drawn with fewer pixels."""


CALLED = ["id", "name", "regime", "seed", "training_seed", "synthetic_fraction", "settings"]
CALLED += [each.name for each in fields(ArmFields)]
"""Fields of a record that follow from the study, not from the training."""


@dataclass(frozen=True)
class Part:
    """A row of the cohort table."""

    name: str
    patients: int
    volumes: int
    by_class: Mapping[str, int]
    """Patients of each class, by its number."""
    reports: int
    """Volumes with a report."""


@dataclass(frozen=True)
class Material:
    """What the page shows that neither the summary nor the cells hold."""

    date: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name and value pairs of the protocol table."""
    cohort: tuple[Part, ...] = ()
    splits: int = 1
    """How many splits the study has; the cohort table is of the first."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    slices: tuple[Picture, ...] = ()
    slices_left_out: int = 0
    """Classes of generators that are not shown."""
    volumes: tuple[Shown, ...] = ()
    """Of the slice viewer."""
    cells: tuple[Mapping[str, Any], ...] = ()
    """What this study calls each of its records: another study may share the cell's file and call it otherwise."""

    @classmethod
    def gather(
        cls,
        config: Config,
        summary: Summary,
        samples: Sequence[Samples],
        *,
        split: Split,
        splits: int,
        facts: Mapping[str, Any],
        out: Path,
        records: Sequence[CellRecord] = (),
    ) -> Self:
        """Collect it from a study.

        Args:
            config: The study's.
            summary: Of the study; knows the nearest training volumes.
            samples: What to show slices of, a generator each; none = the study has no synthetic data.
            split: Whose patients the cohort table counts.
            splits: How many splits the study has.
            facts: Name and value pairs of the protocol table.
            out: The study's folder.
            records: Its finished cells.
        """
        nearest = {row.source: row.more.get("nearest", ()) for row in summary.image_metrics if row.metric == "copies"}
        told = [replace(each, nearest=nearest.get(each.source, ())) for each in samples]
        data = cohorts_of(config)[0]
        return cls(
            date=date.today().isoformat(),
            facts={name: str(value) for name, value in facts.items()},
            cohort=tuple(_part(name, subjects) for name, subjects in split.parts()),
            splits=splits,
            provenance=tell_provenance(config, out),
            slices=tuple(_slices(told, data)),
            slices_left_out=max(sum(len(each.pool.classes) for each in samples) - MOST_SLICES, 0),
            volumes=tuple(volumes_of(told, data.images, most=MOST_SLICES)),
            cells=tuple({name: getattr(record, name) for name in CALLED} for record in records),
        )

    def write(self, out: Path) -> Path:
        """Write it to a study's folder; returns the file."""
        write_json(out / FILE, {**asdict(self), "slices": [each.to_json() for each in self.slices]})
        return out / FILE

    @classmethod
    def read(cls, out: Path) -> Self | None:
        """What a study's folder holds; None = an earlier version wrote the folder.

        Raises:
            InputError: The file is damaged.
        """
        return read_record(out / FILE, cls._from_json) if (out / FILE).is_file() else None

    @classmethod
    def _from_json(cls, told: Mapping[str, Any]) -> Self:
        cohort = tuple(Part(**row) for row in told["cohort"])
        slices = tuple(map(Picture.from_json, told["slices"]))
        cells = tuple({name: row[name] for name in CALLED} for row in told.get("cells", ()))
        for row in cells:
            require_kinds(CellRecord, row)
        return cls(**{**told, "cohort": cohort, "slices": slices, "volumes": tuple(told["volumes"]), "cells": cells})


def _part(name: str, subjects: Sequence[Any]) -> Part:
    people = patient_classes(subjects, "patient_id")
    counts = {str(label): number for label, number in sorted(Counter(people.values()).items())}
    return Part(name, len(people), len(subjects), counts, sum(bool(subject["report"]) for subject in subjects))


def _slices(samples: Sequence[Samples], data: DataConfig) -> list[Picture]:
    names = data.class_names(1 + max((label for each in samples for label in each.pool.classes), default=0))
    pairs = [(each, label) for each in samples for label in each.pool.classes][:MOST_SLICES]
    figures = [slice_plot(each, label, data.images) for each, label in pairs]
    for dpi in SLICE_DPI:
        drawn = [raster(figure, dpi=dpi) for figure in figures]
        if sum(len(content) for _, content, _ in drawn) <= SLICES_BUDGET:
            break
    return [
        Picture(
            *picture,
            captions.slices_alt(each, label, names[label]),
            f"{names[label].capitalize()}{', ' + each.source if each.source else ''}.",
            patients=True,
        )
        for picture, (each, label) in zip(drawn, pairs, strict=True)
    ]
