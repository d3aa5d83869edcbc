"""Columns of a manifest that the report writer can put into words: which there are, and what is wrong in them."""

from collections.abc import Collection, Iterator, Mapping

from synthaug.config.data import ReportStyle
from synthaug.config.measurements import UNIT_POWERS, MeasurementConfig
from synthaug.data.reading.tables import Table
from synthaug.data.reports.writers import number_in, side_in, write_measurement_report
from synthaug.ground.errors import InputError

DISTINCT = 5
"""Different numbers from which on a column is taken as measured, not as a code."""
FILLED = 0.5
"""Share of the cells that must hold a number or a side."""


def measured_columns(table: Table, *, without: Collection[str]) -> dict[str, MeasurementConfig]:
    """Columns of numbers or sides, each with the name and unit that its heading tells.

    Args:
        table: A manifest.
        without: Columns that mean something else: ids, class, images.
    """
    found = {}
    for column in table.columns:
        cells = {number: row[column] for number, row in table.rows.items() if row[column]}
        if column in without or len(cells) < FILLED * len(table.rows) or not cells:
            continue
        if all(_reads(side_in, table, number, column) for number in cells):
            found[column] = MeasurementConfig(column.replace("_", " "), side="swaps")
        elif len({*cells.values()}) >= DISTINCT and all(_reads(number_in, table, number, column) for number in cells):
            found[column] = named_by(column)
    return found


def named_by(column: str) -> MeasurementConfig:
    """What a column's heading says of it.

    Example:
        >>> named_by("gland_volume_ml").name, named_by("gland_volume_ml").unit, named_by("psa").unit
        ('gland volume', 'ml', '')
    """
    words = column.replace("_", " ").split()
    unit = words[-1].lower() if len(words) > 1 and words[-1].lower() in UNIT_POWERS else ""
    return MeasurementConfig(" ".join(words[:-1] if unit else words), unit=unit)


def write_row(
    table: Table, number: int, measurements: Mapping[str, MeasurementConfig], style: ReportStyle = "template"
) -> str:
    """The report of a row, from one seed for all; InputError where a study would refuse the row."""
    missing = {column: measurement.missing for column, measurement in measurements.items()}
    several = [column for column, measurement in measurements.items() if measurement.lists]
    row = table.measured(number, missing, several=several)
    return write_measurement_report(row, measurements, seed=0, style=style)


def empty_columns(table: Table, measurements: Mapping[str, MeasurementConfig]) -> Iterator[str]:
    """What is to be said of measured columns without any value."""
    for column in measurements:
        if not any(row[column] for row in table.rows.values()):
            yield f"{column} is empty in every row; leave data.measurements.{column} out."


def _reads(read, table: Table, number: int, column: str) -> bool:
    try:
        return read(table.measured(number, {column: "leave_out"}), column) is not None
    except InputError:
        return False
