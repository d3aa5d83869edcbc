"""What settings and the head of a table show to be unusable, told before torch and its kin are loaded."""

from pathlib import Path

from synthaug.config import Config
from synthaug.data.reading.tables import read_table
from synthaug.ground.errors import InputError


def refuse_early(config: Config) -> None:
    """Look whether a study's manifest is there and has the columns that its settings name.

    Raises:
        InputError: It cannot be read, or lacks a column.
    """
    data = config.data
    if data.root is None:
        return
    if data.measurements and data.report:
        raise InputError("Set data.report (a column of reports) or data.measurements (to write them), not both.")
    table = read_table(Path(data.root) / data.manifest, what="manifest", mend="set data.root and data.manifest")
    reports = [data.report] if data.report else []
    table.require(data.subject, data.label, *data.images, *reports, *data.measurements)
