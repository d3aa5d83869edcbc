"""The study's figure: what is told from reports, what images show of it, whether volumes are of the right person."""

from collections.abc import Sequence
from typing import Any

from findings import FINDINGS
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthaug.report.figures.styles import PAPER, WIDTH_IN

COLOURS = {"EPE": "#0072B2", "SVI": "#D55E00", "": "#000000"}
MARKERS = {"EPE": "o", "SVI": "s", "": "D"}
SEEN = {"person, seen reports": ", seen"}
"""What a name adds where the reports were trained on."""
Row = dict[str, Any]


@rc_context(PAPER)
def study_plot(rows: Sequence[Row]) -> Figure:
    """Three panels of values with intervals; a grey line is chance."""
    figure = Figure(figsize=(WIDTH_IN, 3.8), layout="constrained")
    text, image, person = figure.subplots(1, 3)
    aurocs = [row for row in rows if row["measure"] == "auroc" and " - " not in row.get("reader", "")]
    _draw(text, [row for row in aurocs if row["question"] == "text"], lambda row: row["reader"])
    _draw(
        image,
        [row for row in aurocs if row["question"] == "image"],
        lambda row: f"{row['source']}\n{row['reader']}",
    )
    _draw(
        person,
        [row for row in rows if row["question"] in ("person", "person, seen reports")],
        lambda row: (
            f"{row['source']}{', seen' if 'seen' in row['question'] else ''}\n{row['measure'].replace('_', ' ')}"
        ),
    )
    text.set_title("left-out reports alone")
    image.set_title("auditors of images")
    person.set_title("of the right person?")
    for axes, label in ((text, "AUROC"), (image, "AUROC"), (person, "share")):
        axes.set_xlabel(label)
    handles = text.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", ncols=2)
    return figure


def _draw(axes: Axes, rows: Sequence[Row], name) -> None:
    names = list(dict.fromkeys(name(row) for row in rows))
    for finding in ("", *FINDINGS):
        part = [row for row in rows if row.get("finding", "") == finding]
        shift = {"": 0.0, "EPE": -0.15, "SVI": 0.15}[finding]
        at = [names.index(name(row)) + shift for row in part]
        if part:
            axes.hlines(at, [row["low"] for row in part], [row["high"] for row in part], color=COLOURS[finding])
            values = [row["value"] for row in part]
            axes.plot(values, at, MARKERS[finding], color=COLOURS[finding], markersize=4, label=finding or None)
    axes.axvline(0.5, color="0.7", linewidth=1, zorder=0)
    axes.set_yticks(range(len(names)), names, fontsize=6.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
