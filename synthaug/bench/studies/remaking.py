"""The report of a finished study made again from its folder: nothing is trained, measured or read from the data."""

import csv
from dataclasses import replace
from pathlib import Path

from synthaug.bench.options.parsing import read_config
from synthaug.generate.stored.folder import INDEX
from synthaug.ground.errors import InputError
from synthaug.pool.ledger import HEADER
from synthaug.report.material import Material
from synthaug.report.page import write_report
from synthaug.study.folder.results import CONFIG
from synthaug.study.folder.shareable import write_shareable
from synthaug.study.outlook.costs import total_costs
from synthaug.study.records import CellRecord, read_summary
from synthaug.study.summary.findings import findings_of, mute

STAGES = ("autoencoder", "generator", "pool")
"""What the folders of a study's stages are called before their ids."""


def make_report(folder: Path, *, shareable: bool = False) -> Path:
    """Write ``report.html`` of a study's folder again, with what its config mutes now; returns the page's path.

    Args:
        folder: Of a finished study, of any version so far.
        shareable: Write ``report-shareable.html`` beside it too, and return that.

    Raises:
        InputError: The folder holds no finished study, or a file of it is damaged.
    """
    for name in (CONFIG, "results.csv", "summary.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: no such file; {_mend_of(folder)}.")
    config = read_config(["--config", str(folder / CONFIG)], exits=False)
    summary, material = read_summary(folder), Material.read(folder) or Material()
    records = _records_of(folder, material)
    findings = mute(summary.findings, config.report.mute) or findings_of(summary, records, config)
    write_report(
        folder / "report.html",
        config=config,
        summary=replace(summary, findings=findings),
        records=records,
        material=material,
        costs=total_costs(folder),
    )
    return write_shareable(folder) if shareable else folder / "report.html"


def _mend_of(folder: Path) -> str:
    """What is in a folder that holds no finished study, and what is to be given or done."""
    if (folder / CONFIG).is_file():
        return "the study is not finished: run its bench command again"
    stages = sorted(path.name for kind in STAGES for path in folder.glob(f"{kind}-*") if path.is_dir())
    if stages:
        return f"of a study the folder holds {', '.join(stages)} alone: run the bench with its config and this --out"
    above = folder.resolve().parent
    study = f"give that of its study, {above}" if (above / CONFIG).is_file() else "name the folder of a study"
    if (folder / INDEX).is_file():
        return f"the folder is a generator, whose card is its README.md: {study}"
    if (folder / HEADER).is_file():
        return f"the folder is a pool, which synthaug pool card describes: {study}"
    return "name the folder of a study"


def _records_of(folder: Path, material: Material) -> list[CellRecord]:
    """The cells of the results, as this study calls them: other studies may have cells in the folder too."""
    if material.cells:
        return [replace(CellRecord.read(folder / "cells" / f"{told['id']}.json"), **told) for told in material.cells]
    with (folder / "results.csv").open(encoding="utf-8", newline="") as stream:
        names = [row.get("cell") for row in csv.DictReader(stream)]
    if not names or not all(names):
        raise InputError(f"{folder / 'results.csv'}: names no cells; run the study again.")
    return [CellRecord.read(folder / "cells" / f"{name}.json") for name in names]
