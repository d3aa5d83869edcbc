"""The report without what shows or names patients, and without paths."""

from pathlib import Path

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_bytes, write_text

BEGIN, END = "<!-- patients -->", "<!-- /patients -->"
"""Around every part of the page that shows or may name patients or tells a path."""
SAID = "This copy holds no images, reports or ids of patients, and no paths."


def make_shareable(page: str) -> str:
    """The page without the parts that are marked.

    Raises:
        InputError: Nothing is marked: an earlier version wrote it.

    Example:
        >>> make_shareable("<p>a</p><!-- patients --><img><!-- /patients --><p>b</p>")
        '<p>a</p><p>This copy holds no images, reports or ids of patients, and no paths.</p><p>b</p>'
    """
    if BEGIN not in page or page.count(BEGIN) != page.count(END):
        raise InputError("The report does not say where it shows patients: an earlier version wrote it; run it again.")
    first, *rest = page.split(BEGIN)
    kept = [part.split(END, 1)[1] for part in rest]
    return first + f"<p>{SAID}</p>" + "".join(kept)


def write_shareable(out: Path) -> Path:
    """Write ``report-shareable.html`` beside a study's report; returns its path.

    Raises:
        InputError: There is no report, or an earlier version wrote it.
    """
    page = read_bytes(out / "report.html", missing="no such report; run the study first").decode("utf-8", "replace")
    path = out / "report-shareable.html"
    write_text(path, make_shareable(page))
    return path
