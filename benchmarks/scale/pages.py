"""Pages of a finished study, driven in headless Chromium: how long each takes until it shows what it is opened for.

    python benchmarks/scale/pages.py FOLDER EXPERIMENT [--pictures FOLDER]

MLflow's interface is started over the folder's own store and ended again.
"""

import argparse
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from synthaug.ground.files import sqlite_address
from synthaug.study.folder.tracked import STORE, tell_place

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from chromium import Chromium

LINKS = "new Set([...document.querySelectorAll('a[href*=\"/runs/\"]')].map(each => each.href)).size"
"""JavaScript: how many runs a page links to."""
EXPAND, MORE = (f"[data-component-id*='{part}']" for part in ("runnamecellrenderer", "loadmorerowrenderer"))
"""What opens a row of runs with others below it, and what loads the next hundred."""
MATCHING = "document.body.innerText.match(/(\\d+) matching/)"
FILTER = "tags.n_train = '64' and tags.seed = '3'"
SETTLES_S = 3.0
"""Between a page's showing what was waited for and its picture."""
Page = dict[str, float]


@contextlib.contextmanager
def interface(store: Path) -> Iterator[str]:
    """MLflow's interface over a store; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, *words, "--backend-store-uri", sqlite_address(store)],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(120):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
                break
            time.sleep(1)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def saying(words: str) -> str:
    """JavaScript: whether the page shows these words."""
    return f"document.body.innerText.includes({json.dumps(words)})"


def study_run(store: Path) -> str:
    """Id of the study's run."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        [found] = connection.execute("select run_uuid from tags where key = 'kind' and value = 'study'").fetchone()
    return str(found)


def load_all(browser: Chromium) -> None:
    """Press the table's button until it is gone: 100 runs at a time."""
    while browser.evaluate(f"!!document.querySelector({json.dumps(MORE)})"):
        before = browser.evaluate(f"{MATCHING}[1]")
        browser.click(MORE)
        browser.wait_for(f"{MATCHING} && {MATCHING}[1] !== '{before}'")


def look(out: Path, experiment: str, *, pictures: Path | None = None) -> dict[str, Page]:
    """Seconds of each page that a reader opens, and how many runs it shows.

    Args:
        out: Folder of a finished study that was tracked there.
        experiment: Its name.
        pictures: Where to put a picture of each page; None = nowhere.
    """
    found: dict[str, Page] = {}
    (out / "chromium").mkdir(exist_ok=True)
    runs = tell_place(out, experiment)[-1].partition("#")[2]
    number, run_id = runs.split("/")[2], study_run(out / STORE)
    with interface(out / STORE) as address, Chromium(out / "chromium", size=(1500, 900)) as browser:

        def show(name: str, act: Callable[[], None], ready: str) -> None:
            started = time.perf_counter()
            act()
            browser.wait_for(ready)
            found[name] = {"seconds": round(time.perf_counter() - started, 1), "runs": browser.evaluate(LINKS)}
            print(name, found[name], flush=True)
            if pictures:
                time.sleep(SETTLES_S)
                browser.picture(pictures / f"{name.replace(' ', '-')}.png")

        def visit(name: str, place: str, ready: str) -> None:
            show(name, lambda: browser.visit(f"{address}/#{place}"), ready)

        whole = (out / "report.html").resolve().as_uri()
        show("report", lambda: browser.visit(whole), "document.readyState === 'complete'")
        visit("runs page", runs, saying("study:"))
        show("all loaded", lambda: load_all(browser), MATCHING)
        found["all loaded"]["runs"] = browser.evaluate(f"Number({MATCHING}[1])")
        show("row opened", lambda: browser.click(EXPAND), saying("seed 0"))
        visit("filtered", f"{runs}&searchFilter={quote(FILTER)}", saying("seed 03"))
        visit("charts", f"{runs}&compareRunsMode=CHART", "document.querySelector('.js-plotly-plot, svg.main-svg')")
        visit("run of the study", f"/experiments/{number}/runs/{run_id}", saying("Open the report"))
        visit(
            "its report",
            f"/experiments/{number}/runs/{run_id}/artifacts/report.html",
            "document.querySelector('iframe')",
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("experiment")
    parser.add_argument("--pictures", type=Path)
    asked = parser.parse_args()
    print(json.dumps(look(asked.out, asked.experiment, pictures=asked.pictures)))


if __name__ == "__main__":
    main()
