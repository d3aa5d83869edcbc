"""What settings and the head of a table show to be unusable, told before torch and its kin are loaded."""

from pathlib import Path

from synthaug.config import Config, DataConfig
from synthaug.data.reading.tables import read_table
from synthaug.ground.errors import InputError
from synthaug.study.grid import cohorts_of


def refuse_early(config: Config) -> None:
    """Look whether the manifests of a study are there and have the columns that its settings name.

    Raises:
        InputError: It cannot be read, or lacks a column.
    """
    for data in cohorts_of(config):
        if data.root is not None:
            _refuse_manifest(data, Path(data.root))


def _refuse_manifest(data: DataConfig, root: Path) -> None:
    if data.measurements and data.report:
        raise InputError("Set data.report (a column of reports) or data.measurements (to write them), not both.")
    table = read_table(root / data.manifest, what="manifest", mend="set data.root and data.manifest")
    named = {"subject": [data.subject], "label": [data.label], "images": data.images, "measurements": data.measurements}
    for setting, columns in {**named, "report": [data.report] if data.report else []}.items():
        table.require(*columns, mend=f"set data.{setting}")
