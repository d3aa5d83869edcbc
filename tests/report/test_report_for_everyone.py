"""The report for all: colour-blind, by keyboard and screen reader, on paper, on a telephone; and to be shared."""

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from chromium import Chromium, needs_axe, needs_chromium
from matplotlib.colors import to_rgb
from PIL import Image
from test_report import ALIKE, CONFIG, many_records, page_of, page_with_volumes, record, samples, summary_of  # noqa: F401

from synthaug.config import DataConfig
from synthaug.report.figures.forest import effect_plots
from synthaug.report.figures.pictures import draw_pictures
from synthaug.report.figures.plots import roc_plot
from synthaug.report.figures.styles import REGIMES, styles_of
from synthaug.report.figures.svg import compact
from synthaug.study.folder.shareable import make_shareable

SIGHT = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""What linear RGB becomes (Machado, Oliveira & Fernandes 2009, severity 1)."""
APART = 15.0
"""Difference in CIELAB that nobody overlooks; 2.3 is just noticed."""


def linear(colours):
    """sRGB (..., 3) in [0, 1] as light."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def lab(light):
    """Linear RGB (..., 3) in CIELAB, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(light, 0, 1) @ to_xyz.T / to_xyz.sum(axis=1)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])], axis=-1
    )


def seen_with(sight, colours):
    """sRGB colours (..., 3) as that sight has them, in CIELAB."""
    return lab(linear(np.asarray(colours)) @ np.asarray(SIGHT[sight]).T)


def drawn_colours():
    """The colours of four regimes as pixels of a picture of the report have them, where their lines are thickest."""
    named = [("real", None), ("synthetic", 1.0), ("mixed", 0.5), ("finetuned", 0.5)]
    figure = roc_plot([record(regime, fraction=fraction) for regime, fraction in named])
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=200)
    pixels = np.asarray(Image.open(stream).convert("RGB")).reshape(-1, 3) / 255
    wanted = {regime: np.array(to_rgb(REGIMES[regime].colour)) for regime, _ in named}
    nearest = {name: pixels[np.abs(pixels - colour).sum(axis=1).argmin()] for name, colour in wanted.items()}
    assert all(np.abs(nearest[name] - wanted[name]).max() < 0.01 for name in wanted)
    return nearest


@pytest.mark.parametrize("sight", SIGHT)
def test_series_stay_apart_and_on_paper_in_every_sight(sight):
    seen = {name: seen_with(sight, colour) for name, colour in drawn_colours().items()}
    paper = seen_with(sight, np.ones(3))
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > APART, (one, other)
    assert all(np.linalg.norm(colour - paper) > APART for colour in seen.values())


def test_series_of_like_colour_differ_in_line_and_marker():
    styles = [*styles_of({f"mixed {place}": "mixed" for place in range(12)}).values()]
    for one, other in combinations(styles, 2):
        alike = min(
            np.linalg.norm(np.subtract(*(seen_with(sight, to_rgb(each.colour)) for each in (one, other))))
            for sight in SIGHT
        )
        assert alike > APART or (one.line, one.marker) != (other.line, other.marker)


@pytest.fixture(scope="module")
def pages(tmp_path_factory, samples):  # noqa: F811
    """A small study with slices, and one of forty differences."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "small").mkdir()
    small = page_with_volumes(folder / "small", samples)
    (folder / "large").mkdir()
    large = page_of(folder / "large", many_records())
    assert max(len(small), len(large)) < 8e6
    return {"small": folder / "small" / "report.html", "large": folder / "large" / "report.html"}


@needs_axe
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_has_no_serious_fault_and_scrolls_one_way_only(pages, width, tmp_path):
    with Chromium(tmp_path) as browser:
        browser.resize(width, 844)
        browser.open(pages["small"], ready="document.querySelector('#viewer select').options.length")
        assert browser.faults() == []
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert browser.messages == []


BROKEN = r"""[...document.querySelectorAll("td")].filter(each => {
  const range = document.createRange();
  range.selectNodeContents(each);
  return /^[+-]?[\d.]+(e-\d+)?$/.test(each.textContent.trim()) && range.getClientRects().length > 1;
}).map(each => each.textContent)"""
"""JavaScript: numbers in tables that are broken over two lines."""


@needs_chromium
def test_no_number_is_broken_on_a_telephone(pages, tmp_path):
    with Chromium(tmp_path) as browser:
        browser.resize(390, 844)
        for page in pages.values():
            browser.open(page, ready="document.readyState === 'complete'")
            assert browser.evaluate(BROKEN) == []


def blank_below(page):
    """Share of a printed page (H, W) in grey, within its margins, that is empty below the last ink."""
    margin = round(page.shape[0] * 14 / 297)
    inked = np.flatnonzero((page[margin:-margin] < 200).any(axis=1))
    return 1 - (inked[-1] + 1 if len(inked) else 0) / (page.shape[0] - 2 * margin)


@needs_chromium
@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="no pdftoppm (poppler-utils)")
@pytest.mark.parametrize("name", ["small", "large"])
def test_no_printed_page_but_the_last_is_more_than_thirty_percent_empty(pages, name, tmp_path):
    with Chromium(tmp_path / "profile") as browser:
        browser.open(pages[name], ready="document.readyState === 'complete'")
        printed = browser.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    (tmp_path / "report.pdf").write_bytes(base64.b64decode(printed["data"]))
    command = ["pdftoppm", "-gray", "-r", "30", str(tmp_path / "report.pdf"), str(tmp_path / "page")]
    subprocess.run(command, check=True)
    sheets = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("page-*.pgm"))]
    assert abs(sheets[0].shape[0] / sheets[0].shape[1] - 297 / 210) < 0.02  # A4
    blank = [round(blank_below(sheet), 2) for sheet in sheets]
    assert max(blank[:-1]) <= 0.3, blank


def test_what_is_shared_holds_no_slice_prompt_or_id_whatever_the_page_tells(tmp_path, samples):  # noqa: F811
    shown, row = samples
    failed = [{"regime": "mixed", "seed": 1, "settings": {}, "error": "jane: row 7 has no image", "id": "x"}]
    alike = ({**ALIKE, "likeness": 0.93},)
    private = replace(CONFIG, data=DataConfig(root="x"))
    page = page_with_volumes(tmp_path, samples, config=private, failed=failed, near_copies=alike)
    secrets = {"jane", "joan", *(near["nearest_subject"] for near in row["nearest"])}
    secrets |= {entry["recipe"]["report"] for label in shown.pool.classes for entry in shown.pool.entries(label)}
    secrets |= {each["nearest"]["picture"] for each in embedded_volumes(page)}
    assert not [each for each in secrets if each and each not in page.replace("\\u003c", "<")]
    shared = make_shareable(page)
    assert not [each[:60] for each in secrets if each and each in shared]
    assert "data:image/png" not in shared


def embedded_volumes(page):
    """What only the page of the folder holds of the viewer's volumes."""
    return json.loads(re.search(r'id="patient-volumes">(.*?)</script>', page, flags=re.DOTALL)[1])


def test_no_row_stands_alone_where_a_panel_needs_two_figures():
    records = [record(), *(record("mixed", fraction=place / 20) for place in range(1, 11))]
    figures = [*effect_plots(summary_of(records))]
    assert [len(figure.axes[0].get_yticks()) for figure in figures] == [5, 5]


def test_a_smaller_svg_has_the_same_strokes_and_glyphs():
    figure = roc_plot([record(), record("mixed", fraction=0.5)])
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    whole, smaller = stream.getvalue(), compact(stream.getvalue())
    assert len(smaller) < 0.75 * len(whole)
    trees = [ElementTree.fromstring(each) for each in (whole, smaller)]
    for kind in ("path", "use"):
        before, after = ([*tree.iter(f"{{http://www.w3.org/2000/svg}}{kind}")] for tree in trees)
        assert len(before) == len(after) > 20
        assert [each.get("style") for each in before] == [each.get("style") for each in after]
    numbers = [re.findall(r"-?\d+\.?\d*", [*tree.iter()][-1].get("d") or "") for tree in trees]
    assert np.allclose(*(np.array(each, dtype=float) for each in numbers), atol=0.01)
    assert re.findall(r"scale\([^)]*\)", whole) == re.findall(r"scale\([^)]*\)", smaller)


def test_figures_of_very_many_arms_are_cut_and_that_is_told():
    records = many_records()
    pictures = draw_pictures(summary_of(records), records, 0.05, most=2)["effect"]
    assert len(pictures) == 2
    assert "2 of 6 figures" in pictures[0].caption
