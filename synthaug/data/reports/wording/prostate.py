"""The grammar of prostate reports: what findings can be said in which words.

What each category looks like, and the parts of a report, follow the public guideline PI-RADS v2.1; sentences are ours.
"""

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from synthaug.data.reports.wording import phrases, places
from synthaug.data.reports.wording.findings import BY_KIND
from synthaug.data.reports.wording.grammar import Grammar, either
from synthaug.data.reports.wording.styles import Worded, compose

if TYPE_CHECKING:
    from synthaug.data.reports.writers import ProstateFindings

FACTS = {
    "side": "side",
    "level": "level",
    "level_of": "level",
    "zone": "zone",
    "size": "size_mm",
    "size_before": "size_mm",
    "score": "pirads",
    "loose": "pirads",
    "risk": "suspicion",
    "belief": "suspicion",
    "psa": "psa",
    "ml": "gland_volume_ml",
    "grade": "isup",
    "nowhere": "no lesion",
    "any_zone": "no lesion",
    "any_side": "no lesion",
    "elsewhere": "elsewhere",
}
"""The fact that a symbol states. "suspicion" is the category in words; "no lesion" denies any, "elsewhere" one at a
place that the finding is not at."""
SIDES = {"left": ("L", "lt", "left"), "right": ("R", "rt", "right")}
ZONES = {
    "peripheral": (("peripheral zone",), ("PZ", "PZ", "peripheral zone")),
    "transition": (("transition zone",), ("TZ", "TZ", "transition zone")),
}
LEVELS = {
    "base": (("base", "basal third"), ("base", "basal level")),
    "midgland": (("midgland", "mid gland", "mid-gland", "middle third"), ("midgland", "mid level", "mid-gland")),
    "apex": (("apex", "apical third"), ("apex", "apical level")),
}
LEVEL_WORDS = {
    "base": (("base", "basal"), ("base", "basal")),
    "midgland": (("midgland", "mid", "mid-gland"), ("mid", "mid", "midgland")),
    "apex": (("apex", "apical"), ("apex", "apical", "apex")),
}


def word_prostate(findings: "ProstateFindings", style: str, *, seed: int, alone: bool = True) -> Worded:
    """Word a report of a prostate.

    Args:
        findings: What to say; fields that are ``None`` are not mentioned.
        style: A name of :data:`~synthaug.data.reports.wording.styles.STYLES`, or "any".
        seed: Draws the wording.
        alone: Whether the index finding is known to be the only one, so that others may be denied.

    Example:
        >>> from synthaug.data.reports.writers import ProstateFindings
        >>> case = ProstateFindings(4, "peripheral", "left", "midgland", 12)
        >>> word_prostate(case, "telegraphic", seed=1).text
        'Target peripheral zone of the left middle third (12 mm) PI-RADS category 4'
    """
    return compose(lambda brief: prostate_grammar(findings, brief=brief, alone=alone), style, seed=seed)


def prostate_grammar(findings: "ProstateFindings", *, brief: bool, alone: bool = True) -> Grammar:
    """All that can be said of findings."""
    numbers = {name: getattr(findings, name) for name in ("size_mm", "psa", "gland_volume_ml", "isup")}
    known: dict[str, Any] = {name: value and 1 for name, value in numbers.items()}
    values = {name: phrases.digits(value) for name, value in numbers.items() if value is not None}
    if findings.size_mm is not None:
        values["size_cm"] = phrases.digits(findings.size_mm / 10)
    return replace(_rules(replace(findings, **known), brief=brief, alone=alone), values=values)


@lru_cache(maxsize=4096)
def _rules(findings: "ProstateFindings", *, brief: bool, alone: bool) -> Grammar:
    """The grammar without its numbers."""
    rules: dict[str, list[str]] = {name: [*each] for name, each in phrases.COMMON.items()}
    kind = "clear" if findings.pirads == 1 else "benign" if findings.pirads == 2 else "lesion"
    rules |= {name: [*each] for name, each in BY_KIND[kind].items()}
    if findings.pirads > 1:
        rules["thing"] = [*places.THINGS[findings.zone or "peripheral", findings.pirads]]
        rules |= _places(findings, brief=brief, alone=alone)
        rules |= _sizes(findings, brief=brief)
    if findings.psa is not None:
        rules["psa"] = ["<psa>"]
    if findings.gland_volume_ml is not None:
        rules["ml"] = [f"<gland_volume_ml>{unit}" for unit in (" ml", " ml", " cc", " cm3", "ml")]
    if findings.isup is not None:
        rules["grade"] = ["<isup>"]
    number = str(int(findings.pirads))
    rules |= {name: [each.replace("#", number) for each in rules[name]] for name in ("score", "loose")}
    rules["risk"] = [*phrases.RISKS[findings.pirads]]
    rules["belief"] = [*phrases.BELIEFS[findings.pirads]]
    slots = {
        "entries": [name for name in rules if name.startswith("entry_")],
        "extra": ["volume", "marker"],
        "absent_too": ["absent"],
    }
    return Grammar(rules, FACTS, slots)


def _places(findings: "ProstateFindings", *, brief: bool, alone: bool) -> dict[str, list[str]]:
    """Side, level and zone, as far as they are known, and the places that are free of lesions."""
    rules: dict[str, list[str]] = {}
    if findings.side:
        other = "right" if findings.side == "left" else "left"
        rules["side"] = either([findings.side], SIDES[findings.side], brief=brief)
        if alone:
            rules["other_side"] = [other]
    if findings.level:
        rules["level"] = [*LEVEL_WORDS[findings.level][brief]]
        rules["level_of"] = [*LEVELS[findings.level][brief]]
    if findings.zone:
        elsewhere = "transition" if findings.zone == "peripheral" else "peripheral"
        rules["zone"] = [*ZONES[findings.zone][brief]]
        if alone:
            rules["other_zone"] = [*ZONES[elsewhere][brief]]
    known = "".join(name[0] for name in ("side", "level", "zone") if getattr(findings, name))
    rules["place"] = [*(places.PLACES if known == "slz" else places.PARTIAL_PLACES[known])]
    rules["where"] = [*(places.WHERE if known == "slz" else places.PARTIAL_WHERE[known])]
    return rules


def _sizes(findings: "ProstateFindings", *, brief: bool) -> dict[str, list[str]]:
    """The diameter in mm or cm, or nothing where it is not known."""
    if findings.size_mm is None:
        return {"measure": [""], "comma_size": [""]}
    mm, cm = "<size_mm>", "<size_cm>"
    spelt = [f"{mm} mm", f"{mm} mm", f"{cm} cm", f"{mm} millimetres"]
    glued = [f"{mm} mm", f"{mm}mm", f"{cm} cm", f"{cm}cm"]
    return {
        "size": glued if brief else spelt,
        "size_before": [f"{mm} mm", f"{mm}-mm", f"{cm} cm", f"{cm}-cm"],
        "measure": [*places.MEASURES],
        "comma_size": [", {size}"],
    }
