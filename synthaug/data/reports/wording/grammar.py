"""Grammars of sentences: rules with alternatives, expanded by a seed, that tell which facts were stated."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

SYMBOL = re.compile(r"\{(\w+)\}")
VALUE = re.compile(r"<(\w+)>")


@dataclass(frozen=True)
class Sentence:
    """A piece of a report and what it is traced to."""

    text: str
    facts: frozenset[str]
    """Facts that it states, such as "side" or "size_mm"; empty = it says nothing of the findings."""


@dataclass(frozen=True)
class Grammar:
    """Alternatives of each symbol; ``{symbol}`` inside an alternative is expanded in turn.

    An alternative with a symbol that has no rule, because its fact is not known, is never chosen.

    Example:
        >>> grammar = Grammar({"size": ["9 mm"], "brief": ["lesion {size}", "{side} lesion"]}, {"size": "size_mm"}, {})
        >>> grammar.write("brief", np.random.default_rng(0))
        Sentence(text='lesion 9 mm', facts=frozenset({'size_mm'}))
    """

    rules: Mapping[str, Sequence[str]]
    """Alternatives by symbol; one written twice is drawn twice as often."""
    facts: Mapping[str, str]
    """The fact that a symbol states, by symbol."""
    slots: Mapping[str, Sequence[str]]
    """Symbols that fill a slot of a style, in order; a slot that is not named is filled by the symbol of its name."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What stands in place of "<name>" in alternatives, so that grammars of other numbers share their rules."""
    _usable: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)

    def usable(self, symbol: str) -> tuple[str, ...]:
        """Alternatives of a symbol whose symbols can all be expanded."""
        if symbol not in self._usable:
            able = (each for each in self.rules.get(symbol, ()) if all(self.usable(s) for s in SYMBOL.findall(each)))
            self._usable[symbol] = tuple(able)
        return self._usable[symbol]

    def write(self, symbol: str, draw: np.random.Generator) -> Sentence:
        """Expand a symbol; each choice takes one number of ``draw``."""
        facts = {self.facts[symbol]} if symbol in self.facts else set()
        alternatives = self.usable(symbol)
        chosen = alternatives[int(draw.integers(len(alternatives)))]

        def expand(found: re.Match[str]) -> str:
            part = self.write(found.group(1), draw)
            facts.update(part.facts)
            return part.text

        return Sentence(SYMBOL.sub(expand, chosen), frozenset(facts))

    def told(self, sentence: Sentence) -> Sentence:
        """A sentence with its values in place."""
        return Sentence(VALUE.sub(lambda found: self.values[found.group(1)], sentence.text), sentence.facts)

    def filling(self, slot: str) -> list[str]:
        """Symbols that fill a slot and can be expanded."""
        return [symbol for symbol in self.slots.get(slot, (slot,)) if self.usable(symbol)]


def either(long: Sequence[str], short: Sequence[str], *, brief: bool) -> list[str]:
    """Abbreviations where the report is brief, mixed with words in full; else the words in full alone."""
    return [*short, *short, *long] if brief else [*long]
