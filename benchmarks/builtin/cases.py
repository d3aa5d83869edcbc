"""Reports with what they state, without end: what a text encoder is trained to read.

Three of four are of prostates, the others of hippocampi. They are written by the report grammar
(:mod:`synthaug.data.reports.wording`), or put together from clauses that affirm or deny (``clauses.py``), in part with
slips of the pen (``slips.py``).
"""

from dataclasses import dataclass, replace

import numpy as np
from clauses import Does, across_report, composed_report, joined
from slips import with_another_finding, with_clause_slips, with_elsewhere, with_slips

from synthaug.config import MeasurementConfig
from synthaug.data.phantom import draw_findings
from synthaug.data.reports.writers import ProstateFindings, write_measurement_report, write_prostate_report
from synthaug.ground.seeding import derive_seed, numpy_generator

SIDES, ZONES, LEVELS = ("left", "right"), ("peripheral", "transition"), ("base", "midgland", "apex")
CHOICES = {"pirads": 5, "side": 3, "zone": 3, "level": 4}
"""Facts that are one of several, with the number of answers; the first of a place is "nowhere"."""
AMOUNTS = ("size_mm", "gland_ml", "psa", "volume_mm3")
"""Facts that are numbers, read as logarithms."""
MEASURED_BENIGN = 0.5
"""Share of benign findings with a size, lest every size be read as a lesion's."""
WITH_ANOTHER = 0.15
"""Share of reports that tell a benign finding beside the index lesion, or a lesion that is gone."""
WITH_ELSEWHERE = 0.25
"""Share of reports of a lesion that call the other side, or the other zone, normal."""
COMPOSED = 0.5
"""Share of the prostate reports that are put together from clauses."""
ACROSS = 0.06
"""Share of those that name the side of a lesion by the other one, where they can."""
WITH_SLIPS = 0.4
"""Share of reports with slips of the pen beyond the grammar's own (``slips.py``)."""
HIPPOCAMPUS = {
    "side": MeasurementConfig(name="hippocampus", side="stays", synonyms=("hippocampus", "HC")),
    "volume_mm3": MeasurementConfig(
        name="hippocampal volume",
        unit="mm3",
        synonyms=("volume", "vol", "hippocampus volume"),
        bands={"very small": 2600, "small": 2900, "average": 3200, "large": 3500},
        above="very large",
    ),
}
"""As in configs/ccella-hippocampus.yaml."""


@dataclass(frozen=True)
class Told:
    """A report and what it states: answers by number, -1 = not stated; amounts as they are, NaN = not stated."""

    report: str
    choices: tuple[int, ...]
    amounts: tuple[float, ...]
    plain: str = ""
    """A report by the grammar alone that states the same."""
    ends: tuple[tuple[int, Does], ...] = ()
    """Where each clause ends and what it does; empty = not known."""


def prostate_case(findings: ProstateFindings, report: str) -> Told:
    """A report of a prostate."""
    places = [
        1 + among.index(value) if value else 0
        for among, value in ((SIDES, findings.side), (ZONES, findings.zone), (LEVELS, findings.level))
    ]
    numbers = (findings.size_mm, findings.gland_volume_ml, findings.psa)
    stated = tuple(float("nan") if value is None else float(value) for value in numbers)
    return Told(report, (findings.pirads - 1, *places), (*stated, float("nan")))


def hippocampus_case(side: str, volume_mm3: float, report: str) -> Told:
    """A report of a hippocampus."""
    return Told(report, (-1, 1 + SIDES.index(side), -1, -1), (float("nan"),) * 3 + (volume_mm3,))


def drawn_case(number: int, *, part: str) -> Told:
    """Report ``number`` of the endless stream ``part``: three of four of prostates, in any style."""
    seed = derive_seed("reader", part, number)
    draw, of_prostate = numpy_generator("reader", seed), number % 4 != 3
    if of_prostate and draw.random() < COMPOSED:
        return _composed_case(number, seed=seed, draw=draw)
    if not of_prostate:
        row: dict[str, object] = {"side": SIDES[int(draw.integers(2))], "volume_mm3": _any_volume(draw)}
        report = write_measurement_report(row, HIPPOCAMPUS, seed=seed, style="any")
        told = hippocampus_case(str(row["side"]), float(row["volume_mm3"]), report)  # type: ignore[arg-type]
    else:
        findings = draw_findings(int(draw.integers(2)), seed=seed)
        if findings.pirads == 2 and draw.random() < MEASURED_BENIGN:
            findings = replace(findings, size_mm=float(draw.integers(5, 20)))
        told = prostate_case(findings, write_prostate_report(findings, seed=seed, style="any"))
    told = replace(told, plain=told.report)
    if of_prostate and told.choices[0] != 1 and draw.random() < WITH_ANOTHER:
        told = replace(told, report=with_another_finding(told.report, positive=told.choices[0] > 1, draw=draw))
    side, zone = (choice - 1 for choice in told.choices[1:3])
    if of_prostate and told.choices[0] > 1 and min(side, zone) >= 0 and draw.random() < WITH_ELSEWHERE:
        told = replace(told, report=with_elsewhere(told.report, SIDES[1 - side], ZONES[1 - zone], draw=draw))
    if draw.random() < WITH_SLIPS:
        told = replace(told, report=with_slips(told.report, draw))
    return told


def _composed_case(number: int, *, seed: int, draw: np.random.Generator) -> Told:
    """A report that is put together from clauses."""
    findings, clauses, between = composed_report(number, seed=seed, draw=draw)
    if draw.random() < ACROSS:
        clauses = across_report(findings, clauses, draw)
    if draw.random() < WITH_SLIPS:
        clauses = [replace(clause, text=with_clause_slips(clause.text, draw)) for clause in clauses]
    report, ends = joined(clauses, between, draw=draw)
    if draw.random() < WITH_SLIPS / 2:
        report = report.lower()
    plain = write_prostate_report(findings, seed=seed, style="any")
    return replace(prostate_case(findings, report), plain=plain, ends=tuple(ends))


def _any_volume(draw: np.random.Generator) -> float:
    """A hippocampal volume in mm³: half of them as in people, half even, lest rare numbers not be learnt."""
    return float(draw.normal(3050, 550) if draw.random() < 0.5 else draw.uniform(1500, 4800))
