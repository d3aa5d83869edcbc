"""The report of a finished study made again from its folder: nothing is trained, measured or read from the data."""

import csv
from dataclasses import replace
from pathlib import Path

from synthaug.bench.options.parsing import read_config
from synthaug.ground.errors import InputError
from synthaug.report.material import Material
from synthaug.report.page import write_report
from synthaug.study.folder.results import CONFIG
from synthaug.study.folder.shareable import write_shareable
from synthaug.study.outlook.costs import total_costs
from synthaug.study.records import CellRecord, read_summary
from synthaug.study.summary.findings import findings_of, mute


def make_report(folder: Path, *, shareable: bool = False) -> Path:
    """Write ``report.html`` of a study's folder again, with what its config mutes now; returns the page's path.

    Args:
        folder: Of a finished study, of any version so far.
        shareable: Write ``report-shareable.html`` beside it too, and return that.

    Raises:
        InputError: The folder holds no finished study, or a file of it is damaged.
    """
    begun = (folder / CONFIG).is_file()
    for name in (CONFIG, "results.csv", "summary.json"):
        if not (folder / name).is_file():
            mend = "the study is not finished: run its bench command again" if begun else "name the folder of a study"
            raise InputError(f"{folder / name}: no such file; {mend}.")
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


def _records_of(folder: Path, material: Material) -> list[CellRecord]:
    """The cells of the results, as this study calls them: other studies may have cells in the folder too."""
    if material.cells:
        return [replace(CellRecord.read(folder / "cells" / f"{told['id']}.json"), **told) for told in material.cells]
    with (folder / "results.csv").open(encoding="utf-8", newline="") as stream:
        names = [row.get("cell") for row in csv.DictReader(stream)]
    if not names or not all(names):
        raise InputError(f"{folder / 'results.csv'}: names no cells; run the study again.")
    return [CellRecord.read(folder / "cells" / f"{name}.json") for name in names]
