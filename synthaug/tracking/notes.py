"""What a reader of MLflow's interface sees first: the verdict, small tables, the plots of the report."""

import base64
import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROWS = 12
"""Rows of a table in a note; the report has all."""
METRICS = {"auroc": "AUROC", "average_precision": "AP", "sensitivity": "sensitivity", "specificity": "specificity"}
GUIDE = (
    "One run named after the verdict is the study; its children are the cells, one classifier each. Filter them, for "
    "example, by `tags.regime = 'mixed' and tags.seed = '0'`; chart `test/auroc` grouped by the tag `regime`."
)
"""How to read the experiment, below its verdict."""


def headline_of(summary: Mapping[str, Any]) -> str:
    """The verdict in the few words that the column of names has room for, none of which misleads where it is cut.

    Example:
        >>> headline_of({"verdict": "Adding synthetic data helped: AUROC +0.031 against real data (95 % ...)."})
        'study: helped'
        >>> headline_of({"verdict": "Adding synthetic data helped clearly in 1 and hurt clearly in 0 of 4 (...)."})
        'study: 1 of 4 helped, 0 hurt'
    """
    many = re.search(r"helped clearly in (\d+) and hurt clearly in (\d+) of (\d+)", summary["verdict"])
    if many:
        helped, hurt, compared = many.groups()
        return f"study: {helped} of {compared} helped, {hurt} hurt"
    clause = re.split(r": | \(", summary["verdict"])[0].rstrip(".")
    return "study: " + clause.removeprefix("Adding synthetic data ")


def note_of(summary: Mapping[str, Any]) -> str:
    """The verdict, each difference in AUROC and each arm's metrics, as Markdown."""
    failed = summary["failed"]
    lines = [f"**{summary['verdict']}**", ""]
    if failed:
        lines += [f"{len(failed)} of {len(failed) + summary['cells']} cells failed and are missing.", ""]
    # The interface folds a description to its first lines: the answer comes before the arms behind it.
    lines += [*_contrasts(summary["contrasts"]), "", *_arms(summary["regimes"]), ""]
    lines.append("The artifacts hold `report.html` and its `plots`.")
    return "\n".join(lines)


def _arms(regimes: list[Mapping[str, Any]]) -> list[str]:
    told = {name: title for name, title in METRICS.items() if regimes and name in regimes[0]}
    lines = [f"| trained on | real | synthetic | {' | '.join(told.values())} |", "|---|---:|---:|" + "---|" * len(told)]
    for regime in regimes[:ROWS]:
        cells = [regime["regime"], str(regime["n_train_real"]), str(regime["n_train_synthetic"])]
        cells += ["{value:.3f} ({ci_low:.3f} to {ci_high:.3f})".format(**regime[name]) for name in told]
        lines.append(f"| {' | '.join(cells)} |")
    return lines + _rest(len(regimes))


def _contrasts(contrasts: list[Mapping[str, Any]]) -> list[str]:
    rows = [contrast for contrast in contrasts if contrast["metric"] == "auroc"]
    if not rows:
        return []
    lines = ["| paired difference | AUROC | interval | p, Holm |", "|---|---:|---|---:|"]
    for row in rows[:ROWS]:
        interval = f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
        lines.append(f"| {row['contrast']} | {row['difference']:+.3f} | {interval} | {row['p_holm']:.3g} |")
    return lines + _rest(len(rows))


def _rest(rows: int) -> list[str]:
    return ["", f"{rows - ROWS} more are in the report."] if rows > ROWS else []


@contextlib.contextmanager
def plots_of(page: Path) -> Iterator[Path]:
    """A folder with the report's pictures, named by what they show; gone afterwards."""
    pictures = _Pictures()
    pictures.feed(page.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for number, (title, suffix, content) in enumerate(pictures.found, start=1):
            words = "-".join(re.findall(r"[a-z0-9]+", title.lower())[:6])
            (Path(folder) / f"{number:02d}-{words or 'plot'}.{suffix}").write_bytes(content)
        yield Path(folder)


class _Pictures(HTMLParser):
    """Pictures that a page carries in itself: (what it shows, kind of file, bytes)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, bytes]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        address = re.fullmatch(r"data:image/(png|jpeg|svg)[^,]*;base64,(.*)", told.get("src") or "", re.DOTALL)
        if tag == "img" and address:
            self.found.append((told.get("alt") or "", address[1], base64.b64decode(address[2])))
