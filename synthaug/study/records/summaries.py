"""``summary.json`` as a record: what a study found."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_record
from synthaug.study.records.arms import Arm, Contrast
from synthaug.study.records.fields import (
    SCHEMA,
    Estimate,
    Settings,
    known,
    library_versions,
    require_kinds,
    require_schema,
)
from synthaug.study.records.findings import Finding
from synthaug.study.records.upgrades import axes_of_old_source
from synthaug.study.records.verdicts import Verdict, judge

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ImageComparison:
    """One metric of a pool's volumes beside real ones."""

    metric: str
    estimate: Estimate
    source: str = ""
    """What tells the pool from the study's others, in words; "" = there is one."""
    axes: Settings = field(default_factory=dict)
    """The values of the study's axes behind these words."""
    extractor: str = ""
    fingerprint: str = ""
    larger_is_better: bool = False
    n_real: int = 0
    n_synthetic: int = 0
    more: Settings = field(default_factory=dict)
    """What belongs to this metric alone: floor, value_at_floor_n and n_floor of a distance, false_alarms of copies,
    told_apart of realism."""

    @property
    def tells_apart(self) -> bool:
        """Whether it says that synthetic volumes are easily told from real ones."""
        return bool(self.more.get("told_apart"))

    def to_json(self) -> dict[str, Any]:
        """A row of ``image_metrics``."""
        told = {name: value for name, value in vars(self).items() if name not in ("estimate", "more")}
        return {**told, **self.estimate.to_json(), **self.more}

    @classmethod
    def from_json(cls, row: Settings) -> Self:
        """A row of ``image_metrics``, of any version."""
        own = {"axes": axes_of_old_source(row.get("source", "")), **known(cls, row)}
        more = {key: value for key, value in row.items() if key not in {*own, "value", "ci_low", "ci_high"}}
        require_kinds(cls, own)
        return cls(**{**own, "estimate": Estimate.from_json(row), "more": more})


@dataclass(frozen=True)
class Subgroup:
    """An arm on the test patients that have one value in a column of the manifest."""

    column: str
    value: str
    arm: str
    """Its label."""
    n_test: int
    metrics: Mapping[str, Estimate | None]
    """None where the patients lack a class."""
    reason: str = ""
    """Why no metric, or none of their intervals, is told; "" = all are."""

    def to_json(self) -> dict[str, Any]:
        """A row of ``subgroups``."""
        metrics = {name: each and each.to_json() for name, each in self.metrics.items()}
        own = {"column": self.column, "value": self.value, "regime": self.arm, "n_test": self.n_test}
        return own | ({"reason": self.reason} if self.reason else {}) | metrics

    @classmethod
    def from_json(cls, row: Settings) -> Self:
        """A row of ``subgroups``."""
        own = ("column", "value", "regime", "n_test", "reason")
        ends = {"ci_low": math.nan, "ci_high": math.nan}  # of those without an interval
        metrics = {name: each and Estimate.from_json({**ends, **each}) for name, each in row.items() if name not in own}
        return cls(row["column"], row["value"], row["regime"], row["n_test"], metrics, row.get("reason", ""))


@dataclass(frozen=True)
class Summary:
    """What a study found; ``summary.json``."""

    cells: int
    """That finished."""
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    verdict: Verdict
    failed: tuple[Settings, ...] = ()
    """Of each cell that failed: regime, seed, settings, id, error."""
    permutations: int = 0
    """Swaps behind each p."""
    subgroups: tuple[Subgroup, ...] = ()
    image_metrics: tuple[ImageComparison, ...] = ()
    image_metrics_left_out: tuple[Settings, ...] = ()
    """Metric, source and reason of each that says nothing here."""
    near_copies: tuple[Settings, ...] = ()
    """Pairs of patients with nearly one image or report: image ("" = the report), subject_id, part, nearest_subject,
    nearest_part, likeness."""
    findings: tuple[Finding, ...] = ()
    """What is to be known before the numbers, errors first."""
    versions: Mapping[str, str] = field(default_factory=library_versions)
    """Of synthaug, torch and MONAI when it was written."""
    schema: int = SCHEMA

    @property
    def p_limit(self) -> str:
        """Why no comparison can come out clear; "" = some can."""
        return self.verdict.limit

    def warning(self) -> str:
        """What stands above the verdict: volumes easily told from real ones, leaks over the split; "" = nothing."""
        found = [row for row in self.image_metrics if row.tells_apart]
        told = [f"{row.source + ': ' if row.source else ''}AUROC {row.estimate.words()}" for row in found]
        apart = f"The synthetic volumes are easily told from real ones ({'; '.join(told)})." if found else ""
        leaks = len(self.leaking_copies())
        pairs = f"{leaks} pair{'s' * (leaks > 1)} of patients in different parts of the split" if leaks else ""
        return " ".join(filter(None, (apart, pairs and f"{pairs} have nearly the same image or report.")))

    def leaking_copies(self) -> list[Settings]:
        """The near-copies that stand in different parts of a split."""
        return [row for row in self.near_copies if row["part"] != row["nearest_part"]]

    def in_metric(self, metric: str) -> list[Contrast]:
        """The contrasts in one metric."""
        return [contrast for contrast in self.contrasts if contrast.metric == metric]

    def to_json(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        told: dict[str, Any] = {
            "schema": self.schema,
            "versions": dict(self.versions),
            "cells": self.cells,
            "failed": list(self.failed),
            "regimes": [arm.to_json() for arm in self.arms],
            "contrasts": [contrast.to_json() for contrast in self.contrasts],
            "permutations": self.permutations,
            "p_limit": self.p_limit,
            "verdict": self.verdict.sentence(),
            "warning": self.warning(),
            "answer": self.verdict.to_json(),
        }
        if self.subgroups:
            told["subgroups"] = [group.to_json() for group in self.subgroups]
        if self.near_copies:
            told["near_copies"] = list(self.near_copies)
        if self.findings:
            told["findings"] = [each.to_json() for each in self.findings]
        told["image_metrics"] = [each.to_json() for each in self.image_metrics]
        return told | {"image_metrics_left_out": list(self.image_metrics_left_out)}

    @classmethod
    def from_json(cls, told: Settings) -> Self:
        """The content of a ``summary.json`` of any version so far.

        Raises:
            InputError: A later version wrote it.
        """
        require_schema(told, "summary.json")
        arms = tuple(Arm.from_json(row) for row in told["regimes"])
        by_label = {arm.label: arm for arm in arms}
        contrasts = tuple(Contrast.from_json(row, by_label) for row in told["contrasts"])
        if "answer" in told:
            verdict = Verdict.from_json(told["answer"], by_label)
        else:
            n_test = max((arm.n_test for arm in arms), default=0)
            verdict = judge(contrasts, confidence=0.95, n_test=n_test, limit=told.get("p_limit", ""))
        require_kinds(cls, {name: told[name] for name in ("cells", "permutations", "schema") if name in told})
        return cls(
            cells=told["cells"],
            arms=arms,
            contrasts=contrasts,
            verdict=verdict,
            failed=tuple(told.get("failed", ())),
            permutations=told.get("permutations", 0),
            subgroups=tuple(map(Subgroup.from_json, told.get("subgroups", ()))),
            image_metrics=tuple(map(ImageComparison.from_json, told.get("image_metrics", ()))),
            image_metrics_left_out=tuple(told.get("image_metrics_left_out", ())),
            near_copies=tuple(told.get("near_copies", ())),
            findings=tuple(map(Finding.from_json, told.get("findings", ()))),
            versions=dict(told.get("versions", {})),
            schema=told.get("schema", 1),
        )

    def to_frame(self, rows: Literal["arms", "contrasts", "images"] = "arms") -> "pd.DataFrame":
        """The study as a table.

        Args:
            rows: "arms": a row an arm and metric, with value, ci_low and ci_high; "contrasts": a row a paired
                difference; "images": a row an image metric.
        """
        import pandas as pd  # late: a finished study is told without it

        if rows == "contrasts":
            return pd.DataFrame([contrast.to_json() for contrast in self.contrasts])
        if rows == "images":
            told_images = pd.DataFrame({**each.to_json(), **each.axes} for each in self.image_metrics)
            return told_images.drop(columns="axes", errors="ignore")
        told = ["regime", "fraction", "generator", "classifier", "protocol", "n_train", "n_train_real"]
        told += ["n_train_synthetic", "n_test", "repeats"]
        return pd.DataFrame(
            {"arm": arm.label, **{name: getattr(arm, name) for name in told}, **arm.settings}
            | {"metric": metric, **estimate.to_json()}
            for arm in self.arms
            for metric, estimate in arm.metrics.items()
        )


def read_summary(path: str | Path) -> Summary:
    """Read what a study found.

    Args:
        path: The study's folder, or its ``summary.json``, of any version so far.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    file = Path(path) / "summary.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no summary there; name the folder of a finished study.")
    return read_record(file, Summary.from_json)
