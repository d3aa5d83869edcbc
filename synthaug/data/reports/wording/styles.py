"""Styles of reports: which slots a report has, in which order and typography; filled by any grammar."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.data.reports.wording.grammar import Grammar, Sentence
from synthaug.ground.seeding import numpy_generator

LONGEST = 480
"""Bytes that reports stay within, unless what they must state is longer: sentences without facts are left out."""


@dataclass(frozen=True)
class Style:
    """How a report of one kind is put together."""

    slots: tuple[tuple[str, float], ...]
    """Names of slots in their order, each with the probability that it is filled."""
    separators: tuple[str, ...] = (" ",)
    """What may stand between two sentences; one is drawn for a report."""
    brief: float = 0.2
    """Probability that a report is written with abbreviations."""
    shuffled: bool = False
    """Whether the sentences stand in any order."""
    bullets: tuple[str, ...] = ("",)
    """What may stand before each sentence: "- ", or "{n}. " for its number."""
    lower: float = 0.0
    """Probability that the report has no capitals."""
    stops: bool = True
    """Whether sentences end with a full stop."""
    typos: float = 0.1
    """Mean number of misspelt words."""


_ASIDES = (("aside", 0.3), ("staging", 0.3))
STYLES: dict[str, Style] = {
    "structured": Style(
        (
            ("history", 0.6),
            ("technique", 0.3),
            ("extra", 0.6),
            ("target", 1),
            ("absent", 0.3),
            ("staging", 0.4),
            ("conclusion", 1),
        ),
        separators=(" ", "\n"),
        brief=0.4,
    ),
    "prose": Style(
        (
            ("history", 0.5),
            ("technique", 0.2),
            ("extra", 0.6),
            ("finding", 1),
            ("hedge", 0.2),
            ("absent", 0.3),
            *_ASIDES,
            ("conclusion", 1),
        )
    ),
    "impression": Style((("whole", 1),), brief=0.4),
    "telegraphic": Style((("brief", 1), ("extra", 0.15)), brief=0.9, stops=False, separators=("; ", ". ")),
    "negations": Style(
        (("absent", 1), ("finding", 1), ("absent_too", 0.7), ("staging", 0.8), ("conclusion", 1)), shuffled=True
    ),
    "hedged": Style(
        (("history", 0.4), ("extra", 0.3), ("finding", 1), ("hedge", 1), ("aside", 0.2), ("conclusion", 1)), typos=0.0
    ),
    "shuffled": Style(
        (
            ("history", 0.4),
            ("extra", 0.6),
            ("aside", 0.5),
            ("finding", 1),
            ("absent", 0.4),
            ("staging", 0.4),
            ("conclusion", 1),
        ),
        shuffled=True,
    ),
    "entries": Style(
        (("entries", 1), ("extra", 0.4)), separators=(". ", "\n", "; ", ", "), brief=0.5, shuffled=True, stops=False
    ),
    "list": Style(
        (("extra", 0.4), ("whole", 1), ("absent", 0.4), ("staging", 0.5), ("aside", 0.3)),
        separators=("\n",),
        bullets=("- ", "{n}. ", "{n}) ", "* ", ""),
        shuffled=True,
    ),
    "letter": Style(
        (("history", 0.3), ("technique", 0.2), ("seen", 1), ("absent", 0.3), ("aside", 0.2), ("opinion", 1)),
        brief=0.0,
    ),
    "wordy": Style(
        (
            ("history", 1),
            ("technique", 1),
            ("extra", 1),
            ("aside", 1),
            ("finding", 1),
            ("absent", 0.7),
            ("staging", 1),
            ("conclusion", 1),
        ),
        brief=0.0,
        typos=0.3,
    ),
    "hurried": Style(
        (("brief", 1), ("absent", 0.2), ("staging", 0.2)),
        separators=(" ", ", ", ". ", "\n"),
        brief=1.0,
        lower=0.8,
        stops=False,
        typos=1.2,
    ),
}
"""By name; "template" is no style of this grammar and "any" draws one of these for each report."""


@dataclass(frozen=True)
class Worded:
    """A report and its sentences, in their order."""

    text: str
    sentences: tuple[Sentence, ...]
    style: str

    @property
    def facts(self) -> frozenset[str]:
        """Facts that the report states."""
        return frozenset().union(*(sentence.facts for sentence in self.sentences))


def compose(grammar_of: Callable[[bool], Grammar], style: str, *, seed: int) -> Worded:
    """Write a report.

    Args:
        grammar_of: The grammar of what is to be said: with abbreviations (True) or without.
        style: A name of :data:`STYLES`, or "any".
        seed: Draws style and wording.
    """
    draw = numpy_generator("wording", style, seed)
    name = list(STYLES)[int(draw.integers(len(STYLES)))] if style == "any" else style
    kind = STYLES[name]
    grammar = grammar_of(bool(draw.random() < kind.brief))
    separator = kind.separators[int(draw.integers(len(kind.separators)))]
    bullet = kind.bullets[int(draw.integers(len(kind.bullets)))]
    lower, typos = bool(draw.random() < kind.lower), int(draw.poisson(kind.typos))
    filled = [slot for slot, chance in kind.slots if draw.random() < chance]
    symbols = [symbol for slot in filled for symbol in grammar.filling(slot)]
    sentences = [grammar.told(grammar.write(symbol, draw)) for symbol in symbols]
    if kind.shuffled:
        sentences = [sentences[place] for place in draw.permutation(len(sentences))]
    # A sentence in short and one in full may come out alike.
    sentences = [Sentence(tidy(sentence.text), sentence.facts) for sentence in dict.fromkeys(sentences)]
    sentences = _shortened(sentences)
    marked = [bullet.format(n=n) + _ended(each.text, kind.stops) for n, each in enumerate(sentences, 1)]
    text = _misspelt(separator.join(marked), typos, draw)
    return Worded(text.lower() if lower else text, tuple(sentences), name)


def tidy(text: str) -> str:
    """Without the gaps of what is not known, and with a capital at the beginning of a sentence.

    Example:
        >>> tidy("lesion  , 9 mm ()")
        'Lesion, 9 mm'
    """
    text = re.sub(r"\(\s*\)", "", text)
    text = re.sub(r"\s+([,;:.])", r"\1", re.sub(r"[ ]{2,}", " ", text))
    text = re.sub(r"([,;:])(?:\s*[,;:])+", r"\1", text).strip(" ,;:")
    return text[:1].upper() + text[1:]


def _ended(text: str, stops: bool) -> str:
    return text if text.endswith("?") else text.rstrip(".") + "." if stops else text.rstrip(".")


def _shortened(sentences: Sequence[Sentence]) -> list[Sentence]:
    """Without the last sentences that state nothing, as long as the report is too long."""
    kept = list(sentences)
    while sum(len(each.text.encode()) + 5 for each in kept) > LONGEST:
        idle = [place for place, each in enumerate(kept) if not each.facts]
        if not idle:
            break
        del kept[idle[-1]]
    return kept


def _misspelt(text: str, count: int, draw: np.random.Generator) -> str:
    """With ``count`` words of six letters or more misspelt: two letters swapped, one left out, or one written twice."""
    words = list(re.finditer(r"[A-Za-z]{6,}", text))
    for _ in range(min(count, len(words))):
        word = words.pop(int(draw.integers(len(words))))
        at, way = word.start() + int(draw.integers(1, len(word.group()) - 2)), int(draw.integers(2))
        # Both ways keep the length, so that the places of the other words stay.
        pair = text[at + 1] + text[at] if way == 0 else text[at] * 2
        text = text[:at] + pair + text[at + 2 :]
    return text
