"""Slips of the pen and habits of writing that the report grammar has not, for the training of a text encoder.

Each keeps what a report states: no negation, side, zone, level, number or category is lost or changed.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

SMALL_WORDS = frozenset(
    (
        "a",
        "an",
        "the",
        "of",
        "is",
        "are",
        "was",
        "there",
        "it",
        "its",
        "this",
        "that",
        "and",
        "which",
        "with",
        "has",
        "have",
        "measures",
        "measuring",
        "seen",
        "noted",
        "shows",
        "shown",
        "demonstrates",
        "identified",
        "found",
        "lies",
        "located",
        "within",
        "about",
        "approximately",
        "please",
        "our",
        "as",
    )
)
"""Words that a hurried writer leaves out."""
CATEGORY = re.compile(
    r"((?:rads|category|score|assessment|overall|class)[ :]*(?:category|score|of|is|=|:)?[ :]*)([1-5])\b", re.I
)
SIZE = re.compile(r"(?<![\d.])(\d{1,2}) ?mm\b")
NUMBERS = (
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
)
"""From one to twenty."""
ROMAN = ("I", "II", "III", "IV", "V")
BESIDES = (
    "Status after cholecystectomy.",
    "Left hip prosthesis with artefacts.",
    "Right inguinal hernia, 20 mm.",
    "Renal cyst on the left, 3 cm.",
    "Examined on a 1.5 T scanner with a body coil.",
    "Biopsy three years ago was negative.",
    "Father had cancer of the prostate.",
    "Patient could not hold still, quality 3 of 5.",
    "Compared with the outside study of last year.",
    "Bowel loops unremarkable.",
    "Degenerative change L5/S1.",
    "Thank you for the referral.",
    "Reported by two readers in consensus.",
    "Contrast agent was well tolerated.",
    "Sigmoid diverticula.",
    "Right femoral head: small bone island, 8 mm.",
    "Obturator nodes up to 5 mm on both sides, normal.",
    "Bladder well filled.",
    "No hydronephrosis on the right.",
    "Dictated, not yet signed.",
    "Images are stored in PACS.",
    "Request: cancer?",
    "Known diabetes.",
    "Left varicocele.",
)
"""Sentences about anything but the prostate."""


def with_slips(text: str, draw: np.random.Generator) -> str:
    """A report with some slips; which ones is drawn.

    Example:
        >>> with_slips("no", np.random.default_rng(0)).lower()
        'no'
    """
    for share, slip in SLIPS:
        if draw.random() < share:
            text = slip(text, draw)
    return text


def with_clause_slips(text: str, draw: np.random.Generator) -> str:
    """A clause with slips that stay inside it, of letters, small words or sides; at times in capitals.

    Example:
        >>> with_clause_slips("no", np.random.default_rng(0)).lower()
        'no'
    """
    for share, slip in ((0.4, _terse), (0.3, _letters), (0.1, _latin_side), (0.05, lambda text, draw: text.upper())):
        if draw.random() < share:
            text = slip(text, draw)
    return text


def _other_case(text: str, draw: np.random.Generator) -> str:
    return text.upper() if draw.random() < 0.3 else text.lower()


def _letters(text: str, draw: np.random.Generator) -> str:
    """Letters of long words swapped, lost or doubled."""
    words = text.split(" ")
    for place in np.flatnonzero(draw.random(len(words)) < 0.08):
        word = words[place]
        if len(word) > 5 and word.isalpha():
            at, kind = int(draw.integers(1, len(word) - 2)), int(draw.integers(3))
            words[place] = (
                word[:at] + (word[at + 1] + word[at] + word[at + 2 :], word[at + 1 :], word[at] + word[at:])[kind]
            )
    return " ".join(words)


def _terse(text: str, draw: np.random.Generator) -> str:
    """Small words left out."""
    words = text.split(" ")
    kept = [word for word in words if word.lower() not in SMALL_WORDS or draw.random() < 0.3]
    return " ".join(kept) or text


def _category_in_words(text: str, draw: np.random.Generator) -> str:
    """The category spelt out, or in Roman numerals."""
    numerals = NUMBERS if draw.random() < 0.7 else ROMAN
    return CATEGORY.sub(lambda found: found[1] + numerals[int(found[2]) - 1], text)


def _size_in_words(text: str, draw: np.random.Generator) -> str:
    """Diameters spelt out."""
    unit = (" mm", " millimetres", " millimeters")[int(draw.integers(3))]
    return SIZE.sub(lambda found: NUMBERS[int(found[1]) - 1] + unit if 3 <= int(found[1]) <= 20 else found[0], text)


def _two_sizes(text: str, draw: np.random.Generator) -> str:
    """A diameter with a smaller one across."""
    cross = (" x ", "x", " × ", " by ")[int(draw.integers(4))]
    return SIZE.sub(
        lambda found: f"{found[1]}{cross}{max(2, round(int(found[1]) * draw.uniform(0.5, 0.95)))} mm", text, count=1
    )


def _latin_side(text: str, draw: np.random.Generator) -> str:
    """Sides as some write them."""
    left, right = (("sinister", "dexter"), ("left-sided", "right-sided"), ("lt.", "rt."), ("sin.", "dex."))[
        int(draw.integers(4))
    ]
    return re.sub(r"\bright\b", right, re.sub(r"\bleft\b", left, text))


def _other_stops(text: str, draw: np.random.Generator) -> str:
    """Sentences end in a line break, a dash, a semicolon or nothing; or commas do."""
    stop = ("\n", " - ", "; ", " ", " / ", "\n\n")[int(draw.integers(6))]
    text = re.sub(r"(?<=[A-Za-z0-9)])\. (?=\S)", stop, text)
    return text.replace(", ", stop) if draw.random() < 0.3 else text


def _list_of_words(text: str, draw: np.random.Generator) -> str:
    """Each word or so on a line of its own, where the report is short."""
    return re.sub(r"[ ,;]+", "\n", text) if len(text) < 120 else text


def _besides(text: str, draw: np.random.Generator) -> str:
    """One to three sentences about other things, before, after or between."""
    parts = re.split(r"(?<=[a-z)]\.) (?=[A-Z])", text)
    for _ in range(int(draw.integers(1, 4))):
        parts.insert(int(draw.integers(len(parts) + 1)), BESIDES[int(draw.integers(len(BESIDES)))])
    return " ".join(parts)


def _other_order(text: str, draw: np.random.Generator) -> str:
    """The parts of a short report between commas in another order."""
    if len(text) > 100 or "\n" in text or text.count(", ") < 2 or " no " in text.lower():
        return text
    parts = re.split(r"[,.] (?=\S)", text.rstrip(". "))
    return (", ", ". ", "; ")[int(draw.integers(3))].join(parts[k] for k in draw.permutation(len(parts)))


SECOND = (
    "{Zone}: diffuse mild changes, score 2.",
    "Besides, a typical BPH nodule on the {side}, PI-RADS 2.",
    "{Side} {zone}: linear streaks, PI-RADS 2, not suspicious.",
    "In addition wedge-shaped signal loss in the {side} {zone} ({level}), category 2.",
    "A second finding, {side} {level}, {size} mm, is benign (2/5).",
    "Cystic change in the {zone} at the {level}, no suspicion.",
)
"""What stands beside an index lesion and counts less."""
GONE = (
    "The {side} {zone} lesion of the previous study is no longer seen.",
    "Formerly suspected {level} lesion on the {side}: not visible any more.",
    "Palpable nodule on the {side} without correlate.",
    "The {size} mm focus that was described in the {zone} has resolved.",
    "Question: lesion at the {side} {level}? None is found.",
    "No correlate of the {zone} abnormality reported elsewhere.",
)
"""Lesions that are not there."""


def with_another_finding(text: str, *, positive: bool, draw: np.random.Generator) -> str:
    """A report with a benign finding beside the index lesion, or without lesions with one that is gone.

    Example:
        >>> with_another_finding("PI-RADS 5.", positive=False, draw=np.random.default_rng(0)).startswith("PI-RADS 5.")
        True
    """
    words = {
        "side": _one_of(("left", "right"), draw),
        "zone": _one_of(("peripheral zone", "transition zone", "PZ", "TZ"), draw),
        "level": _one_of(("base", "midgland", "mid", "apex"), draw),
        "size": str(int(draw.integers(5, 20))),
    }
    sentence = _filled(_one_of(SECOND if positive else GONE, draw), words)
    return f"{text} {sentence}" if positive or draw.random() < 0.5 else f"{sentence} {text}"


OTHER_SIDE = (
    "{Side} half ok.",
    "{Side} side normal.",
    "No lesion on the {side}.",
    "No abnormality {side} {any}.",
    "{Side} {any}: nothing suspicious.",
    "The {side} lobe is unremarkable.",
    "Contralateral side ({side}) without findings.",
    "{Side} -.",
)
"""What is said of the side without the lesion."""
OTHER_ZONE = (
    "{Zone} is fine.",
    "{Zone} without target.",
    "No focus in the {zone}.",
    "The {zone} shows only streaks (2).",
    "{Zone}: changes of benign type, 2.",
    "{Zone} normal on both sides.",
)
"""What is said of the zone without the lesion."""


def with_elsewhere(text: str, side: str, zone: str, *, draw: np.random.Generator) -> str:
    """A report of a lesion that calls the other ``side`` or the other ``zone`` normal, before or after.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> with_elsewhere("Left lesion.", "right", "transition", draw=draw).count("Left lesion.")
        1
    """
    names = {"peripheral": ("peripheral zone", "PZ"), "transition": ("transition zone", "TZ", "central gland")}
    anywhere = names["peripheral"] + names["transition"]
    words = {"side": side, "zone": _one_of(names[zone], draw), "any": _one_of(anywhere, draw)}
    sentence = _filled(_one_of(OTHER_SIDE if draw.random() < 0.5 else OTHER_ZONE, draw), words)
    return f"{text} {sentence}" if draw.random() < 0.5 else f"{sentence} {text}"


def _one_of(among: Sequence[str], draw: np.random.Generator) -> str:
    return among[int(draw.integers(len(among)))]


def _filled(sentence: str, words: Mapping[str, str]) -> str:
    """The sentence with its words, which a capital name begins with a capital letter."""
    capitals = {name.capitalize(): words[name][0].upper() + words[name][1:] for name in ("side", "zone")}
    return sentence.format(**words, **capitals)


SLIPS: tuple[tuple[float, Callable[[str, np.random.Generator], str]], ...] = (
    (0.3, _besides),
    (0.25, _category_in_words),
    (0.15, _other_order),
    (0.1, _size_in_words),
    (0.1, _two_sizes),
    (0.1, _latin_side),
    (0.3, _terse),
    (0.3, _other_stops),
    (0.05, _list_of_words),
    (0.3, _letters),
    (0.4, _other_case),
)
"""Each slip with the share of reports that has it."""
