"""Reports put together from clauses that affirm a finding or deny one elsewhere, for the training of a text encoder.

The report grammar denies lesions in few words, and an encoder that is trained on it alone learns these words instead of
the difference. Here places, ways to name them, ways to affirm and ways to deny are drawn apart from one another. Each
clause is told with what it does, so that every token can be taught whether it belongs to the finding.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from synthaug.data.phantom import draw_findings
from synthaug.data.reports.wording.grammar import Grammar
from synthaug.data.reports.wording.styles import tidy
from synthaug.data.reports.writers import ProstateFindings

Does = Literal["neither", "affirms", "denies"]
DOES: tuple[Does, ...] = ("neither", "affirms", "denies")


@dataclass(frozen=True)
class Clause:
    """A piece of a report, and whether it tells of the finding, denies one, or neither."""

    text: str
    does: Does


SIDE = {
    "left": {
        "adj": ("left", "left", "L", "lt", "left-sided", "lt."),
        "on": ("on the left", "on the left side", "in the left half", "in the left lobe", "on the patient's left"),
        "half": ("left side", "left lobe", "left half", "left half of the gland", "L side", "left hemigland"),
        "word": ("left", "left", "L", "left side", "left lobe", "left half"),
    },
    "right": {
        "adj": ("right", "right", "R", "rt", "right-sided", "rt."),
        "on": ("on the right", "on the right side", "in the right half", "in the right lobe", "on the patient's right"),
        "half": ("right side", "right lobe", "right half", "right half of the gland", "R side", "right hemigland"),
        "word": ("right", "right", "R", "right side", "right lobe", "right half"),
    },
}
ZONE = {
    "peripheral": ("PZ", "PZ", "PZ", "peripheral zone", "peripheral zone", "periph. zone", "peripheral gland"),
    "transition": ("TZ", "TZ", "TZ", "transition zone", "transition zone", "transitional zone", "central gland"),
}
LEVEL = {
    "base": {
        "adj": ("basal", "basal", "base"),
        "at": ("at the base", "in the base", "at base level", "in the basal third", "near the base"),
        "word": ("base", "base", "basal", "basal third", "level base"),
    },
    "midgland": {
        "adj": ("mid", "mid", "midgland", "mid-gland"),
        "at": (
            "at midgland",
            "in the mid gland",
            "at mid height",
            "in the middle third",
            "at the level of the midgland",
        ),
        "word": ("mid", "midgland", "mid gland", "middle third", "mid level"),
    },
    "apex": {
        "adj": ("apical", "apical", "apex"),
        "at": ("at the apex", "in the apex", "at apical level", "in the apical third", "close to the apex"),
        "word": ("apex", "apex", "apical", "apical third", "apex level"),
    },
}
OPPOSITE = ("the opposite side", "the other side", "the contralateral side", "the other lobe", "the opposite half")
"""A side told by the other one."""
NOUN = (
    *("lesion", "lesion", "lesion", "focus", "area", "nodule", "mass", "tumour", "tumor", "spot", "abnormality"),
    *("finding", "target", "cancer", "carcinoma", "signal loss", "restriction", "suspicion", "region of interest"),
)
BIG = ("large", "big", "bulky", "extensive", "sizeable")
ADJECTIVE = (
    *("dark", "hypointense", "suspicious", "ill-defined", "blurred", "lenticular", "homogeneous", "focal", "round"),
    *("irregular", "low-signal", "smudgy", "non-encapsulated", "spiculated", "moderately dark", "oval", "new", "faint"),
)
BEHAVES = (
    *("restricted diffusion", "ADC low", "early enhancement", "bright on high b-values", "broad capsular contact"),
    *("without margin", "T2 dark", "DWI positive", "capsule not reached", "no extension beyond the gland", "ADC 650"),
    *("not seen before", "growing", "poorly marginated", "suspected extension", "bulging", "DWI 4", "T2W 3", "DCE +"),
)
"""What else is said of a lesion; none of it tells a place or the category."""
NORMAL = (
    *(
        "normal",
        "normal",
        "negative",
        "neg",
        "neg.",
        "clear",
        "clean",
        "unremarkable",
        "fine",
        "OK",
        "regular",
        "quiet",
    ),
    *("inconspicuous", "not suspicious", "unsuspicious", "bright", "of high signal", "homogeneous", "intact", "benign"),
    *("free", "free of lesions", "free of disease", "tumour-free", "uninvolved", "spared", "preserved", "symmetrical"),
    *("without abnormality", "without lesion", "without suspicion", "without a target", "w/o lesion", "as usual"),
    *(
        "evenly bright",
        "of normal signal",
        "in order",
        "not affected",
        "without change",
        "nothing",
        "no lesion",
        "none",
    ),
    *("no finding", "no target", "no focus", "nothing suspicious", "nothing focal", "nil", "0", "-", "nothing seen"),
)
BENIGN = (
    *("BPH", "BPH nodules", "typical nodules", "stromal nodules", "hyperplasia", "encapsulated nodules", "streaks"),
    *("mild changes", "linear changes", "scars", "diffuse mild change", "small cysts", "post-inflammatory change"),
    *("age-related change", "wedge-shaped areas", "prostatitis", "atrophy", "glandular hyperplasia", "normal tissue"),
)
NONE = (
    "no",
    "no",
    "no",
    "no other",
    "no further",
    "no focal",
    "no suspicious",
    "no second",
    "not any",
    "no additional",
)
NUMERAL = {1: ("one", "I"), 2: ("two", "II"), 3: ("three", "III"), 4: ("four", "IV"), 5: ("five", "V")}
CATEGORY = (
    *("PI-RADS #", "PI-RADS #", "PIRADS #", "PI-RADS: #", "PR #", "PR#", "P#", "P #", "PI-RADS category #", "#/5"),
    *("category #", "cat. #", "cat #", "score #", "score: #", "score of #", "# of 5", "# out of 5", "overall #"),
    *(
        "PI-RADS v2.1: #",
        "PI-RADS = #",
        "grade #",
        "suspicion #",
        "level of suspicion #",
        "final #",
        "pi-rads #",
        "(#)",
    ),
    *("#", "#", "rated #", "assessed as #", "I give it #", "Therefore #", "PI-RADS v2 #", "overall score #", "PIRADS#"),
)
RISK = {
    3: ("equivocal", "indeterminate", "intermediate suspicion", "unclear", "may be cancer or inflammation"),
    4: ("high suspicion", "likely cancer", "probably cancer", "suspicious", "clinically significant cancer likely"),
    5: (
        "very high suspicion",
        "highest suspicion",
        "almost certainly cancer",
        "cancer very likely",
        "highest category",
    ),
}
SENTENCES = (
    "There is {a_thing} {where}{measure}",
    "{a_thing} {where}{measure}",
    "{a_thing}{measure} is seen {where}",
    "{a_thing}{measure} lies {where}",
    "{a_thing}{measure} arises from the {named}",
    "{a_thing}{measure} occupies the {named}",
    "{where} there is {a_thing}{measure}",
    "{where} {a_thing}{measure}",
    "{where}: {thing}{measure}",
    "The {named} harbours {a_thing}{measure}",
    "The {named} contains {a_thing}{measure}",
    "The {named} is replaced by {a_thing}{measure}",
    "I see {a_thing} {where}{measure}",
    "We find {a_thing}{measure} {where}",
    "{named}: {thing}{measure}",
    "{named}: {a_thing}{measure}",
    "{named} {noun}{measure}",
    "{named} {thing}, {size}",
    "{size} {thing} {where}",
    "{size} {noun}, {named}",
    "{thing} ({named}){measure}",
    "{thing}, {named}, {size}",
    "{named} shows {a_thing}{measure}",
    "Suspicion of cancer {where}{measure}",
    "The only {noun} is found {where}{measure}",
    "Just one {noun}: {named}{measure}",
    "One {noun} in all: {named}, {size}",
    "A single {noun} {where}{measure}",
    "Index {noun} {where}{measure}",
    "Target: {named}{measure}",
    "{a_thing}{measure} is centred {where}",
    "{a_thing}{measure} sits {where}",
    "The {named} is dark over {size}",
    "Marked restriction {where} over {size}",
    "{named} positive, {size}",
    "{named} with {a_thing}{measure}",
    "{named} has {a_thing}{measure}",
    "{a_thing}{measure} abuts the capsule {where}",
    "{a_thing}{measure} touches the stroma, {named}",
    "{a_thing}{measure} grows {where}",
    "The {named} is the seat of {a_thing}{measure}",
    "Only {where} do we see {a_thing}{measure}",
    "Most suspicious is the {named}: {thing}{measure}",
    "The finding of note is {a_thing}{measure} {where}",
    "At biopsy please aim at the {named}: {thing}{measure}",
    "{a_thing} that measures {size} lies {where}",
    "{a_thing} over {size} {where}",
)
"""Ways to affirm a lesion in one sentence."""
WHERES = (
    "in the {s_adj} {l_adj} {z}",
    "in the {l_adj} {s_adj} {z}",
    "in the {l_adj} {z} {s_on}",
    "in the {s_adj} {z} {l_at}",
    "in the {z} {s_on} {l_at}",
    "in the {z} {l_at} {s_on}",
    "{s_on} in the {z} {l_at}",
    "{s_on} in the {l_adj} {z}",
    "{s_on} {l_at} in the {z}",
    "{l_at} in the {s_adj} {z}",
    "{l_at} in the {z} {s_on}",
    "{l_at} {s_on} in the {z}",
    "{l_at}, {s_on}, in the {z}",
    "{s_on}, {l_at} ({z})",
    "in the {l_adj} part of the {s_adj} {z}",
    "in the {z} of the {s_half}, {l_word}",
    "{l_at} of the {s_adj} {z}",
    "in the {z} ({s_word}, {l_word})",
)
NAMES = (
    "{s_adj} {l_adj} {z}",
    "{l_adj} {s_adj} {z}",
    "{s_adj} {z} {l_word}",
    "{l_word} {s_word} {z}",
    "{z} {s_word} {l_word}",
    "{z} {l_word} {s_word}",
    "{z}, {s_word}, {l_word}",
    "{s_word} {z}, {l_word}",
    "{l_adj} {z} {s_on}",
    "{l_word}, {z}, {s_word}",
    "{s_adj} {l_word} ({z})",
    "{z} {l_at} {s_on}",
)
PLACED_TWICE = (
    ("{a_thing}{measure} {l_at}", "It lies {s_on} in the {z}"),
    ("{a_thing} {s_on}{measure}", "It is situated in the {z} {l_at}"),
    ("{a_thing}{measure} in the {z}", "Location: {s_word}, {l_word}"),
    ("{a_thing}{measure}", "Site: {named}"),
    ("One target", "{named}", "{size}"),
    ("There is one {noun}", "It is found {where} and measures {size}"),
    ("{z}: {a_thing} {l_at}{measure}", "This is {s_on}"),
)
"""A lesion told in several clauses."""
DENIALS = (
    "{place}: {normal}",
    "{place}: {normal}",
    "{place} {normal}",
    "{place} {normal}",
    "{place} = {normal}",
    "{place} - {normal}",
    "{place} ({normal})",
    "The {place} is {is_normal}",
    "The {place} appears {is_normal}",
    "The {place} looks {is_normal}",
    "The {place} remains {is_normal}",
    "{place} is {is_normal}",
    "{none} {noun} {in_place}",
    "{none} {noun} {in_place}",
    "There is {none} {noun} {in_place}",
    "I see {none} {noun} {in_place}",
    "{in_place} {none} {noun}",
    "{in_place} there is {none} {noun}",
    "{in_place} nothing",
    "Nothing {in_place}",
    "Nothing suspicious {in_place}",
    "Nothing comparable {in_place}",
    "{none} {place} {noun}",
    "{place} without {noun}",
    "{place} without any {noun}",
    "The {place} shows {none} {noun}",
    "The {place} has {none} {noun}",
    "The {place} does not show a {noun}",
    "The {place} does not contain any {noun}",
    "The {place} contains only {benign}",
    "The {place} shows {benign} only",
    "The {place} has nothing but {benign}",
    "{place} with {benign} only",
    "{place}: {benign}",
    "{place}: {benign}, {normal}",
    "{place}: {benign}, {low_score}",
    "{place}: {low_score}",
    "{place} {low_score}",
    "{benign} {in_place}, {low_score}",
    "{benign} {in_place}, not suspicious",
    "The {place} is not involved",
    "{place} not affected",
    "It spares the {place}",
    "No extension to the {place}",
    "The {place} is free of {noun}",
    "Absence of a {noun} {in_place}",
    "We do not find a {noun} {in_place}",
    "{noun} {in_place}: none",
    "{noun} {in_place}: no",
    "No abnormal signal {in_place}",
    "Signal of the {place} is {is_normal}",
    "The {place} harbours nothing like it",
    "The {place} holds no second {noun}",
    "It does not reach the {place}",
    "It does not extend into the {place}",
    "It stays out of the {place}",
    "The {noun} does not involve the {place}, which is {is_normal}",
    "Not {in_place}, which is {is_normal}",
    "{in_place} neither a {noun} nor restricted diffusion",
    "Neither T2 nor DWI shows a {noun} {in_place}",
    "Apart from this the {place} is {is_normal}",
    "Otherwise {is_normal}, {place} included",
    "{is_normal} {place}",
    "Also {is_normal}: {place}",
    "The {place}, however, is {is_normal}",
    "The {place} in contrast has {none} {noun}",
    "By comparison the {place} is {is_normal}",
    "Whatever is seen {in_place} is {benign}",
    "All that the {place} shows is {benign}",
)
"""Ways to say that a place is free of lesions."""
REST = (
    "rest of the gland",
    "remaining prostate",
    "rest",
    "remainder of the gland",
    "rest of the prostate",
    "residual gland",
)
GONE = (
    "The {noun} {in_place} described earlier is no longer seen",
    "The {noun} that was felt {in_place} is not confirmed",
    "Palpable {noun} {in_place} without correlate",
    "Previous biopsy of the {place} was benign",
    "Question: {noun} {in_place}? Not found",
    "Former {place} {noun}: resolved",
    "No correlate {in_place} of the reported {noun}",
    "{place} {noun} of last year: gone",
)
"""Lesions that are not there."""
BENIGN_FOUND = (
    "{named}: {benign}{measure}",
    "{benign} {where}{measure}",
    "{benign} {where}, not a lesion",
    "{named} {benign}, benign",
    "{where} {benign}{measure}, benign",
    "The {named} shows {benign}",
    "I only note {benign} {where}",
    "{named}, {benign}",
    "Harmless {benign} {where}",
)
"""What is found of category 2."""
CLEAR = (
    *(
        "No lesion",
        "No suspicious lesion",
        "Nothing to report",
        "Normal prostate",
        "No sign of cancer",
        "No tumour seen",
    ),
    *(
        "Prostate without findings",
        "No target for biopsy",
        "Both lobes normal",
        "PZ and TZ normal",
        "No cancer visible",
    ),
    *("Neither side shows a lesion", "Neither zone contains a focus", "Unremarkable examination", "Negative study"),
    *("We cannot find any lesion", "All sectors negative", "No area of restricted diffusion", "Targets: 0", "No focus"),
)
"""Reports without any finding."""
ASIDES = (
    *("Bladder normal", "Seminal vesicles free", "Nodes not enlarged", "Bones inconspicuous", "Rectum normal"),
    *("Image quality good", "Motion on T2", "Protocol: biparametric", "Comparison: none", "3 T, body coil"),
    *(
        "Status post TURP",
        "Clinical question: cancer?",
        "Biopsy recommended",
        "Fusion biopsy is advised",
        "Control in 1 year",
    ),
    *(
        "Known BPH",
        "PSA rising",
        "On finasteride",
        "Father with prostate cancer",
        "Median lobe enlarged",
        "No hydronephrosis",
    ),
    *("Small inguinal hernia", "No bone metastases", "Staging: T2", "Neurovascular bundles free", "No lymphadenopathy"),
    *(
        "Examination without contrast",
        "Two readers agreed",
        "Sigmoid diverticula",
        "EPE: no",
        "Capsule intact",
        "Hip prosthesis",
    ),
)
STATED = 0.93
"""Share of lesions whose level is told, and of those whose size is."""
SIZES_MM = {3: (6, 16), 4: (7, 16), 5: (15, 36)}
"""Sizes of lesions by category, the upper end left out."""
SEPARATORS = (". ", ". ", ". ", ". ", ".\n", "\n", "; ", ", ", " - ", " / ", " ")
SIZES = ("{mm} mm", "{mm} mm", "{mm} mm", "{mm}mm", "{cm} cm", "{mm} x {across} mm", "{mm} millimetres", "{mm}-mm")
MEASURES = (", {size}", ", {size}", " of {size}", " measuring {size}", " ({size})", ", about {size}", ", up to {size}")


def composed_report(number: int, *, seed: int, draw: np.random.Generator) -> tuple[ProstateFindings, list[Clause], str]:
    """Findings, the clauses that tell them, and what stands between two clauses.

    Zones are even, so that a zone cannot be guessed, and level or size may be left out.

    Example:
        >>> findings, clauses, between = composed_report(1, seed=3, draw=np.random.default_rng(3))
        >>> findings.label, {clause.does for clause in clauses} <= set(DOES)
        (1, True)
    """
    findings = replace(draw_findings(number % 2, seed=seed), psa=None, gland_volume_ml=None, isup=None)
    if findings.pirads > 1:
        findings = replace(findings, zone=("peripheral", "transition")[int(draw.integers(2))])
    if findings.pirads > 2:
        pirads = int(draw.integers(3, 6))
        level = findings.level if draw.random() < STATED else None
        size_mm = float(draw.integers(*SIZES_MM[pirads])) if draw.random() < STATED else None
        findings = replace(findings, pirads=pirads, level=level, size_mm=size_mm)
    elif findings.pirads == 2 and draw.random() < 0.5:
        findings = replace(findings, size_mm=float(draw.integers(5, 20)))
    write = _Writer(findings, draw)
    told = write.finding() if findings.pirads > 1 else [Clause(write(_one(CLEAR, draw)), "denies")]
    denied = [write.denial() for _ in range(int(draw.choice(4, p=(0.25, 0.45, 0.2, 0.1))))]
    asides = [Clause(_one(ASIDES, draw), "neither") for _ in range(int(draw.choice(3, p=(0.5, 0.3, 0.2))))]
    clauses = _mixed([told, *([each] for each in denied), *([each] for each in asides)], draw)
    if not write.told_category and (findings.pirads > 1 or draw.random() < 0.7):
        at = len(clauses) if draw.random() < 0.8 else 0
        clauses.insert(at, Clause(write.category(), "affirms"))
    return findings, clauses, _one(SEPARATORS, draw)


def joined(clauses: Sequence[Clause], between: str, *, draw: np.random.Generator) -> tuple[str, list[tuple[int, Does]]]:
    """A report, and where each of its clauses ends (the character after it) with what it does.

    Example:
        >>> clauses = [Clause("PZ clear", "denies"), Clause("TZ lesion", "affirms")]
        >>> joined(clauses, "; ", draw=np.random.default_rng(0))
        ('PZ clear; TZ lesion', [(10, 'denies'), (19, 'affirms')])
    """
    text, ends = "", []
    for number, clause in enumerate(clauses):
        last = number == len(clauses) - 1
        text += clause.text + ("" if last else between)
        ends.append((len(text), clause.does))
    stop = "." if between.startswith(".") and draw.random() < 0.8 else ""
    return text + stop, ends


class _Writer:
    """The clauses of one report, whose places are named in ways that are drawn for each clause."""

    def __init__(self, findings: ProstateFindings, draw: np.random.Generator) -> None:
        self.findings, self.draw, self.told_category = findings, draw, False
        self.zone_names = {zone: _one(names, draw) for zone, names in ZONE.items()}
        rules: dict[str, list[str]] = {
            "noun": [*NOUN],
            "normal": [*NORMAL],
            "is_normal": [each for each in NORMAL if each.isalpha() and each not in ("nothing", "none", "nil")],
            "none": [*NONE],
            "benign": [*BENIGN],
            "low_score": [_numbered(each, int(draw.integers(1, 3)), draw) for each in CATEGORY],
            "place": ["<place>"],
            "in_place": ["<in_place>"],
        }
        if findings.pirads > 1:
            rules |= self._lesion_rules()
        self.rules = rules

    def __call__(self, text: str, values: Mapping[str, str] | None = None) -> str:
        grammar = Grammar({**self.rules, "clause": [text]}, {}, {}, values or {})
        return tidy(grammar.told(grammar.write("clause", self.draw)).text)

    def _lesion_rules(self) -> dict[str, list[str]]:
        side, zone, level = SIDE[str(self.findings.side)], self._zone(self.findings.zone), self.findings.level
        told = LEVEL[level] if level else {"adj": ("",), "at": ("",), "word": ("",)}
        size = self._size()
        adjectives = ADJECTIVE + 3 * BIG if (self.findings.size_mm or 0) > 18 else ADJECTIVE
        things = [f"{_one(adjectives, self.draw)} {_one(NOUN, self.draw)}", _one(NOUN, self.draw)]
        article = [("an " if each[0] in "aeiou" else "a ") + each for each in things]
        return {
            **{f"s_{name}": [*each] for name, each in side.items()},
            **{f"l_{name}": [*each] for name, each in told.items()},
            "z": [zone],
            "where": [*WHERES],
            "named": [*NAMES],
            "thing": things,
            "a_thing": article,
            "size": [size],
            "measure": [*MEASURES] if size else [""],
        }

    def _zone(self, zone: str | None) -> str:
        return self.zone_names[str(zone)] if self.draw.random() < 0.8 else _one(ZONE[str(zone)], self.draw)

    def _size(self) -> str:
        if self.findings.size_mm is None:
            return ""
        mm = int(self.findings.size_mm)
        across = max(3, round(mm * self.draw.uniform(0.5, 0.95)))
        return _one(SIZES, self.draw).format(mm=mm, cm=f"{mm / 10:.1f}", across=across)

    def category(self) -> str:
        """The category in digits, words or Roman numerals, or how suspicious that is."""
        pirads, self.told_category = self.findings.pirads, True
        if pirads > 2 and self.draw.random() < 0.15:
            return _one(RISK[pirads], self.draw)
        return _numbered(_one(CATEGORY, self.draw), pirads, self.draw)

    def finding(self) -> list[Clause]:
        """The clauses that tell the finding, in their order."""
        if self.findings.pirads == 2:
            return [Clause(self(_one(BENIGN_FOUND, self.draw)), "affirms")]
        way = self.draw.random()
        if way < 0.35:
            texts = [self(_one(SENTENCES, self.draw))]
        elif way < 0.5:
            texts = [self(each) for each in _one(PLACED_TWICE, self.draw)]
        else:
            texts = [self._fields()]
        if self.draw.random() < 0.3:
            texts.append(_one(BEHAVES, self.draw))
        if not self.told_category and self.draw.random() < 0.3:
            texts[-1] += _one((", ", " ", ": ", " - "), self.draw) + self.category()
        return [Clause(text, "affirms") for text in texts if text]

    def _fields(self) -> str:
        """Side, zone, level, size and more, in any order; the first may stand as a heading."""
        fields = ["{s_word}", "{z}", "{l_word}", "{size}"]
        if self.draw.random() < 0.5:
            fields.append(_one(("{thing}", "{noun}"), self.draw))
        if self.draw.random() < 0.4:
            fields.append(_one(BEHAVES, self.draw))
        order = [fields[k] for k in self.draw.permutation(len(fields))]
        if self.draw.random() < 0.5:
            order = ["{s_adj} {z}", *(each for each in order if each not in ("{s_word}", "{z}"))]
        if self.draw.random() < 0.5:
            order.append(self.category())
        between = _one((", ", ", ", " ", " ", "; ", " - ", "\n", " / "), self.draw)
        head = _one((": ", ": ", " - ", between, between), self.draw)
        return self(order[0] + head + between.join(order[1:]))

    def denial(self) -> Clause:
        """A clause that calls a place without the finding free of lesions."""
        named, inside = self._elsewhere()
        frames = GONE if self.draw.random() < 0.1 else DENIALS
        return Clause(self(_one(frames, self.draw), {"place": named, "in_place": inside}), "denies")

    def _elsewhere(self) -> tuple[str, str]:
        """A place without the finding: as a noun, and after a preposition."""
        side, zone = self.findings.side, self.findings.zone
        sides = [each for each in SIDE if each != side] if side else [*SIDE]
        zones = [each for each in ZONE if each != zone] if zone else [*ZONE]
        other_side, other_zone = SIDE[_one(sides, self.draw)], self._zone(_one(zones, self.draw))
        any_zone, adjective = self._zone(_one([*ZONE], self.draw)), _one(other_side["adj"], self.draw)
        way = self.draw.random()
        if way < 0.33:
            return _one(other_side["half"] + other_side["word"], self.draw), _one(other_side["on"], self.draw)
        if way < 0.66:
            both = _one(("", "", "", " on both sides", " bilaterally"), self.draw)
            return other_zone + both, f"in the {other_zone}{both}"
        if way < 0.8:
            where = f"in the {any_zone} {_one(other_side['on'], self.draw)}"
            return f"{adjective} {any_zone}", _one((f"in the {adjective} {any_zone}", where), self.draw)
        if way < 0.87:
            # The finding's own side, and the zone that it is not in.
            own = _one(SIDE[side or "left"]["adj"], self.draw)
            return f"{own} {other_zone}", f"in the {own} {other_zone}"
        if way < 0.92:
            # Both zones of the other side.
            both = _one(("PZ or TZ", "PZ and TZ", "peripheral or transition zone", "zones"), self.draw)
            return f"{adjective} {both}", f"in the {adjective} {both}"
        if way < 0.96:
            # All of the other side, and the other zone.
            half = _one(other_side["half"], self.draw)
            return f"{half} and {other_zone}", f"in the {half} or the {other_zone}"
        rest = _one(REST, self.draw)
        return rest, f"in the {rest}"


def across_report(findings: ProstateFindings, clauses: Sequence[Clause], draw: np.random.Generator) -> list[Clause]:
    """The clauses with the finding's side told as the one opposite to the side that is free, where they tell it once.

    The denial comes first. Clauses that cannot be told so stay as they are.
    """
    if findings.pirads < 3:
        return list(clauses)
    own, other = str(findings.side), "right" if findings.side == "left" else "left"
    phrase = re.compile(rf"(?:on|in) the (?:patient's )?{own}(?: side| half| lobe)?\b")
    texts = " ".join(clause.text for clause in clauses if clause.does == "affirms")
    if len(phrase.findall(texts)) != 1 or len(re.findall(rf"\b(?:{own}|{own[0].upper()})\b", texts)) != 1:
        return list(clauses)
    told = [
        Clause(phrase.sub("on " + _one(OPPOSITE, draw), clause.text), "affirms")
        for clause in clauses
        if clause.does == "affirms"
    ]
    names = SIDE[other]
    first = _one(("{half}: normal", "{half} clear", "Nothing {on}", "No lesion {on}", "{half} negative"), draw)
    first = first.format(half=_one(names["half"], draw), on=_one(names["on"], draw))
    return [Clause(tidy(first), "denies"), *told]


def _mixed(parts: Sequence[Sequence[Clause]], draw: np.random.Generator) -> list[Clause]:
    """The clauses of all parts, in any order of the parts."""
    return [clause for k in draw.permutation(len(parts)) for clause in parts[k]]


def _numbered(text: str, category: int, draw: np.random.Generator) -> str:
    """A category in digits, or in words, or in Roman numerals."""
    way = draw.random()
    in_digits = way < 0.75 or "#/" in text or re.search("[A-Za-z]#", text)
    number = str(category) if in_digits else NUMERAL[category][way > 0.9]
    return text.replace("#", number)


def _one(among: Sequence[Any], draw: np.random.Generator) -> Any:
    return among[int(draw.integers(len(among)))]
