"""The committed notebooks show what they did when they last ran, and nothing of the machine (that they run: nbmake)."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
NAMES = ["first_steps", "reading_a_study", "training_loop", "your_own_data"]
LARGEST_KB = 400
MACHINE = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|opt|usr|var|work|private|Users)/|site-packages|https?://(?!127\.0\.0\.1:)|[Ww]arning"
)
"""Absolute paths, hosts and warnings: none of them helps a reader."""


def texts_of(output: nbformat.NotebookNode) -> list[str]:
    """All that an output says in words."""
    data = output.get("data", {})
    return [output.get("text", ""), *(text for kind, text in data.items() if kind.startswith("text/"))]


@pytest.fixture(params=NAMES)
def notebook(request):
    return nbformat.read(NOTEBOOKS / f"{request.param}.ipynb", as_version=4)


def test_every_notebook_is_known_and_small():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES
    assert all(path.stat().st_size <= 1000 * LARGEST_KB for path in NOTEBOOKS.glob("*.ipynb"))


def test_a_notebook_is_committed_as_it_ran_from_top_to_bottom(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)


def test_outputs_tell_nothing_of_the_machine(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output
            for text in texts_of(output):
                assert not MACHINE.search(text), text


def test_links_between_notebooks_lead_somewhere(notebook):
    for cell in notebook.cells:
        for target in re.findall(r"\]\(([\w.]+\.ipynb)\)", cell.source):
            assert (NOTEBOOKS / target).is_file()


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("report: runs/small/report.html", False),
        ("sqlite:///runs/small/mlflow.db", False),
        ("AUROC 0.5/0.6, mm/tmp", False),
        ("'/home/someone/data'", True),
        ("/tmp/abc/pool", True),
        ("UserWarning: IProgress", True),
        ("https://example.org", True),
    ],
)
def test_what_counts_as_telling_of_the_machine(text, tells):
    assert bool(MACHINE.search(text)) == tells
