"""The class of a row: a number from 0, or a name."""

import math
import re
from collections.abc import Sequence
from typing import Any

from synthaug.data.reading.tables import Table
from synthaug.ground.errors import InputError

MOST_CLASSES = 10
"""Distinct names up to which a column that is not numbers holds classes."""
UNKNOWN = re.compile(
    r"[-–—_.?*/]+|#?n[./]?a\.?|nan|null|unk|unknown|missing|not (available|known|done)|tbd|k\. ?a\.|unbekannt",
    re.IGNORECASE,
)
"""What tables hold where nothing is known."""


def class_index(label: Any) -> int:
    """A label as a class; InputError unless it is an integer from 0.

    Example:
        >>> class_index(1.0), class_index(2.0)
        (1, 2)
    """
    try:
        number = float(label)
    except (TypeError, ValueError, RuntimeError):  # a name, None, or more than one number
        number = math.nan
    if not (number >= 0 and number.is_integer()):  # is_integer is False for NaN and infinities
        raise InputError(f"label is {label!r}; a class is an integer from 0.")
    return int(number)


def is_unknown(cell: str) -> bool:
    """Whether a cell says that nothing is known.

    Example:
        >>> [cell for cell in ("n/a", "NA", "-", "?", "unknown", "none", "no", "N1", "") if is_unknown(cell)]
        ['n/a', 'NA', '-', '?', 'unknown']
    """
    return UNKNOWN.fullmatch(cell) is not None


def class_names(table: Table, column: str) -> tuple[str, ...]:
    """Sorted names, where the cells that are known are no numbers and few enough."""
    cells = {row[column] for row in table.rows.values() if row[column]}
    names = sorted(cell for cell in cells if not is_unknown(cell) or (cell == "-" and "+" in cells))
    numbers = [name for name in names if name.replace(".", "", 1).isdigit()]
    return tuple(names) if not numbers and 2 <= len(names) <= MOST_CLASSES else ()


def class_of(value: str, column: str, where: str, classes: Sequence[str] = ()) -> int:
    """The class that a cell holds, as a number or as one of the names."""
    if not value:
        raise InputError(f"{where}: {column} is empty; give a class, or leave the row out: data.unlabelled=leave_out.")
    if is_unknown(value) and value not in classes:
        raise InputError(
            f"{where}: {column} is {value!r}, which tells no class; empty the cell to leave the row out "
            "(data.unlabelled=leave_out), or name it in data.classes if it is a class."
        )
    if classes:
        # Where names are numbers, such as PI-RADS 2 to 5, another number is none of them, and no place in their order.
        named = any(name.isdigit() for name in classes)
        places = {} if named else {str(number): number for number in range(len(classes))}
        places |= {name: place for place, name in enumerate(classes)}
        place = places.get(value, places.get(value.removesuffix(".0")))
        if place is None:
            raise InputError(f"{where}: {column} is {value!r}, which is none of data.classes={list(classes)}.")
        return place
    try:
        return class_index(float(value))
    except ValueError as error:
        if re.fullmatch(r"\W*\d+(\s*[,;|/+&]\s*\d+)+\W*", value):
            raise InputError(
                f"{where}: {column} is {value!r}: a subject has one class here; make a column of 0 and 1 for each "
                "finding and study one at a time: data.label."
            ) from error
        raise InputError(
            f"{where}: {column} is {value!r}; a class is an integer from 0, or a name where data.classes lists the "
            "names in their order."
        ) from error
