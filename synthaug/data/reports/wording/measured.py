"""The grammar of reports of measured columns, such as side and volume of a hippocampus."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from synthaug.data.reports.wording.grammar import Grammar
from synthaug.data.reports.wording.phrases import digits
from synthaug.data.reports.wording.styles import Worded, compose


@dataclass(frozen=True)
class Stated:
    """One measurement as a report shall tell it."""

    column: str
    names: tuple[str, ...]
    """The measurement's name and other names for it."""
    side: str = ""
    """left or right, where the column holds a side."""
    value: float = 0.0
    """The value, where it does not."""
    unit: str = ""
    band: str = ""
    """The word for the value; "" = none."""


BANDS = {
    "very small": ("very small", "markedly reduced", "far below average", "severely diminished"),
    "small": ("small", "reduced", "below average", "rather small"),
    "average": ("average", "normal", "of usual size", "within the expected range"),
    "large": ("large", "above average", "rather large", "of generous size"),
    "very large": ("very large", "far above average", "remarkably large"),
}
"""Other words for the bands that configurations commonly name; other bands are told as they are named."""
UNITS = {
    "mm3": (("mm3", 1), ("mm3", 1), ("mm³", 1), ("mm^3", 1), ("cubic millimetres", 1), ("ml", 1e-3), ("cm3", 1e-3)),
    "ml": (("ml", 1), ("ml", 1), ("cc", 1), ("cm3", 1)),
    "mm": (("mm", 1), ("mm", 1), ("millimetres", 1), ("cm", 0.1)),
}
"""Ways to write a unit, each with the factor on the number; other units are written as they are named."""
RULES = {
    "history": (
        "Clinical information: memory complaints",
        "Indication: follow-up",
        "Clinical question: change since the last scan?",
    ),
    "technique": (
        "Technique: T1-weighted volume scan",
        "Good image quality",
        "Slight motion artefacts",
        "Outlined automatically and checked by eye",
        "Comparison: none",
    ),
    "aside": (
        "No other abnormality",
        "Normal appearance for age otherwise",
        "Incidental note of mild sinus disease",
        "Surrounding structures unremarkable",
        "Remaining findings as before",
    ),
    "staging": ("No mass lesion", "No bleeding", "No abnormal signal", "No displacement of midline structures"),
    "absent": ("No focal lesion", "No signal change", "No sign of a tumour", "Nothing else of note"),
    "head": ("Impression: ", "IMPRESSION: ", "Conclusion: ", "Summary: ", "", ""),
}


def word_measured(stated: Sequence[Stated], style: str, *, seed: int) -> Worded:
    """Word a report of measurements.

    Args:
        stated: What to say, at least one.
        style: A name of :data:`~synthaug.data.reports.wording.styles.STYLES`, or "any".
        seed: Draws the wording.

    Example:
        >>> sided = Stated("side", ("hippocampus",), side="left")
        >>> volume = Stated("volume", ("volume",), value=3100, unit="mm3", band="average")
        >>> sorted(word_measured([sided, volume], "impression", seed=2).facts)
        ['side', 'volume']
    """
    return compose(lambda brief: measured_grammar(stated, brief=brief), style, seed=seed)


def measured_grammar(stated: Sequence[Stated], *, brief: bool) -> Grammar:
    """All that can be said of measurements."""
    values = {
        f"v{place}_{way}": digits(each.value * factor)
        for place, each in enumerate(stated)
        for way, (_, factor) in enumerate(_units(each))
    }
    return replace(_rules(tuple(replace(each, value=0.0) for each in stated), brief=brief), values=values)


@lru_cache(maxsize=4096)
def _rules(stated: tuple[Stated, ...], *, brief: bool) -> Grammar:
    """The grammar without its numbers. One side is told together with the first value; several each alone."""
    rules: dict[str, list[str]] = {name: [*each] for name, each in RULES.items()}
    facts: dict[str, str] = {}
    sides = [place for place, each in enumerate(stated) if each.side]
    values = [place for place, each in enumerate(stated) if not each.side]
    for place, each in enumerate(stated):
        (_side_rules if each.side else _value_rules)(rules, each, place, brief=brief)
        facts |= dict.fromkeys((f"side_{place}", f"amount_{place}", f"band_{place}"), each.column)
    joined = sides[0] if len(sides) == 1 and values else None
    findings = [f"finding_{place}" for place in range(len(stated)) if place != joined]
    if joined is not None:
        _join(rules, joined, values[0])
    ends = "; ".join(f"{{short_{place}}}" for place in ([joined] if joined is not None else []) + [*sides, *values])
    both = dict.fromkeys(ends.split("; "))  # the joined side once
    rules["whole"] = ["{head}" + glue.join(both) for glue in ("; ", " - ")]
    rules["conclusion"] = [*rules["whole"], *[f"{{finding_{place}}}" for place in values[:1]]]
    if values and joined is not None:
        rules["whole"] += ["{head}{finding_" + str(values[0]) + "}"] * 2 if len(values) == 1 else []
        rules["brief"] = ["{brief_joint}" + "".join(f", {{short_{place}}}" for place in values[1:])]
    else:
        rules["brief"] = ["; ".join(both), " - ".join(both)]
    slots = {
        **dict.fromkeys(("finding", "target", "seen"), findings),
        "entries": [f"entry_{place}" for place in range(len(stated))],
        "extra": [],
        "hedge": [f"hedge_{place}" for place in values],
        "absent_too": ["absent"],
        "opinion": ["conclusion"],
    }
    return Grammar(rules, facts, slots)


def _units(each: Stated) -> Sequence[tuple[str, float]]:
    return UNITS.get(each.unit.lower(), ((each.unit, 1),))


def _side_rules(rules: dict[str, list[str]], each: Stated, place: int, *, brief: bool) -> None:
    short = {"left": ("L", "lt", "left"), "right": ("R", "rt", "right")}[each.side]
    rules[f"side_{place}"] = [*short] if brief else [each.side]
    rules[f"organ_{place}"] = [*each.names]
    side, organ = f"{{side_{place}}}", f"{{organ_{place}}}"
    rules[f"finding_{place}"] = [f"{side} {organ}", f"{organ} on the {side}", f"{organ}, {side} side"]
    rules[f"short_{place}"] = [f"{organ} {side}", f"{organ}, {side} side"]
    rules[f"entry_{place}"] = [f"Side: {side}", f"{side}-sided {organ}", f"{organ}: {side}", f"Side = {side}"]


def _value_rules(rules: dict[str, list[str]], each: Stated, place: int, *, brief: bool) -> None:
    rules[f"amount_{place}"] = [f"<v{place}_{way}> {unit}".strip() for way, (unit, _) in enumerate(_units(each))]
    rules[f"name_{place}"] = [*each.names]
    rules[f"band_{place}"] = [*BANDS.get(each.band, (each.band,))] if each.band else []
    name, amount, band = (f"{{{kind}_{place}}}" for kind in ("name", "amount", "band"))
    plain = [f"{name} {amount}", f"{name}: {amount}", f"{name} of {amount}", f"{name} is {amount}"]
    judged = [f"{name} {amount}, {band}", f"{name} {amount} ({band})", f"{name} {band}: {amount}"]
    said = [f"{amount} {name}"] if brief else [f"The {name} amounts to {amount}", f"The {name} is about {amount}"]
    rules[f"finding_{place}"] = [*plain, *judged, *said]
    rules[f"short_{place}"] = [f"{name} {amount}", f"{name} {amount}, {band}", f"{band} {name}, {amount}"]
    rules[f"entry_{place}"] = [f"{name}: {amount}", f"{name} {amount}", f"{name} = {amount} ({band})"]
    rules[f"hedge_{place}"] = [
        f"This appears {band}",
        f"The {name} seems {band}, within the error of the method",
        f"Probably {band}",
        f"It may be called {band}",
    ]


def _join(rules: dict[str, list[str]], side: int, value: int) -> None:
    """The sentences of the first value also say the side."""
    organ = f"{{side_{side}}} {{organ_{side}}}"
    name, amount, band = (f"{{{kind}_{value}}}" for kind in ("name", "amount", "band"))
    rules[f"finding_{value}"] = [
        f"{organ}: {name} is {amount}",
        f"{organ} with a {name} of {amount}",
        f"The {organ} has a {name} of {amount}",
        f"The {name} of the {organ} is {amount}",
        f"The {name} of the {organ} is {band} ({amount})",
        f"{{organ_{side}}} on the {{side_{side}}}: {name} {amount}, {band}",
        f"The {organ} is {band}, {name} {amount}",
        f"On the {{side_{side}}}, the {{organ_{side}}} has a {name} of {amount}",
        f"{amount} for the {organ} ({name})",
        f"For the {organ} a {name} of {amount} was found, {band}",
    ]
    rules["brief_joint"] = [
        f"{organ} {amount}",
        f"{organ}, {amount} {name}",
        f"{organ}, {amount}, {band}",
        f"{name} {amount}, {organ}",
        f"{amount}, {organ}",
        f"{organ} {band}, {amount}",
        f"{{organ_{side}}} {{side_{side}}} {amount}",
    ]
