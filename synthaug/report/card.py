"""The scorecard of a pool as one page that needs no network."""

import base64
import io
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from synthaug.ground.files import write_text
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.review.criteria import CRITERIA, Entry, Scorecard
from synthaug.pool.review.montage import draw_montage

SHOWN = 6
"""Volumes of each class in the picture."""


def write_card(path: Path, card: Scorecard, pool: SyntheticPool) -> None:
    """Write the page; its one picture shows synthetic volumes alone."""
    picture = io.BytesIO()
    draw_montage(pool, columns=SHOWN).savefig(picture, dpi=100, format="png")
    template = resources.files("synthaug.report").joinpath("card.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = page.from_string(template).render(
        card=card,
        criteria=CRITERIA,
        measured=sum(not entry.needs for entry in card.entries),
        shown=shown,
        picture=f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}",
    )
    write_text(path, text)


def shown(entry: Entry) -> str:
    """The value of an entry with its interval, in words.

    Example:
        >>> shown(Entry("coverage", "recall", "", 0.5, 0.25, 0.75)), shown(Entry("coverage", "recall", "", needs="x"))
        ('0.5 (0.25 to 0.75)', 'not measured')
    """
    if entry.needs:
        return "not measured"
    if not isinstance(entry.value, float | int):
        return str(entry.value)
    ends = "" if entry.low is None or entry.high is None else f" ({entry.low:.3g} to {entry.high:.3g})"
    return f"{entry.value:.3g}{ends}"
