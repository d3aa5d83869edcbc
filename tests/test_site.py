"""Every page of the documentation as a reader has it: nothing that axe-core calls serious, nothing too wide."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import Chromium, needs_axe

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return folder


@needs_axe
def test_no_page_has_a_serious_fault_at_either_width(site, tmp_path):
    found = {}
    with Chromium(tmp_path) as browser:
        for width in (1280, 390):
            browser.resize(width, 844)
            for page in sorted(site.rglob("index.html")):
                browser.open(page, ready="document.readyState === 'complete'")
                name = f"{page.parent.relative_to(site)} at {width}"
                found[name] = browser.faults()
                if browser.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    found[name].append("scrolls sideways")
    assert len(found) > 30
    assert not {name: faults for name, faults in found.items() if faults}
