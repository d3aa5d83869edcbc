"""How series look: Okabe and Ito's colours, and lines and markers that tell them apart without any colour."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

PAPER: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "path",
    # The same study draws the same bytes.
    "svg.hashsalt": "synthaug",
}
"""matplotlib's settings for figures of the report: 1 pt is 1 pt on A4."""
WIDTH_IN = 7.0
"""Width of a figure that fills an A4 page within its margins, inches."""
NARROW_IN = 3.7
"""Width of a figure on a telephone (390 px), inches."""


@dataclass(frozen=True)
class Style:
    """Colour, line and marker of a series."""

    colour: str
    line: str | tuple[float, tuple[float, ...]]
    """As matplotlib takes it."""
    marker: str


COLOURS = ("#D55E00", "#CC79A7", "#56B4E9", "#000000", "#E69F00", "#0072B2", "#009E73")
"""Okabe & Ito (2008), without the yellow that is lost on white paper."""
LINES: tuple[str | tuple[float, tuple[float, ...]], ...] = (
    (0, (5, 1)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (1, 2)),
    (0, (8, 3)),
    (0, (4, 2, 1, 2)),
)
MARKERS = ("v", "P", "X", "*", "<", ">", "p", "h")
REGIMES = {
    "real": Style("#000000", "-", "o"),
    "synthetic": Style("#E69F00", ":", "s"),
    "mixed": Style("#0072B2", "--", "^"),
    "finetuned": Style("#009E73", "-.", "D"),
}
"""Of the first series of a regime; further ones, and regimes not listed, take the styles that are left."""


def styles_of(regimes: Mapping[str, str]) -> dict[str, Style]:
    """A style for each series, none given twice.

    Args:
        regimes: Of each series, by its name, in the order of a study.

    Example:
        >>> styles = styles_of({"real": "real", "mixed 0.25": "mixed", "mixed 0.5": "mixed"})
        >>> styles["mixed 0.25"].colour, len({(style.colour, style.line) for style in styles.values()})
        ('#0072B2', 3)
    """
    own, spare = dict(REGIMES), _spare()
    chosen: dict[str, Style] = {}
    for name, regime in regimes.items():
        chosen[name] = own.pop(regime) if regime in own else next(spare)
    return chosen


def _spare() -> Iterator[Style]:
    for number in count():
        yield Style(COLOURS[number % len(COLOURS)], LINES[number % len(LINES)], MARKERS[number % len(MARKERS)])
