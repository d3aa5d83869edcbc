"""CSV tables: columns by their exact name, cells without stray blanks, row numbers as a spreadsheet shows them."""

import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_bytes

BLANKS = " \t\r\n\v\f\u00a0\u200b\u2060\ufeff"
"""What is stripped from both ends of a cell: blanks, and the marks that show as nothing."""

# Excel, LibreOffice, R and pandas write a number of many digits as 1E+11 or 1.23E+11: a sign and two digits or more
# stand behind the E. Ids of people such as 1E5, 1E-05, E12 or P1E+11 are not like this.
ROUNDED = re.compile(r"[1-9]([.,]\d+)?E\+\d{2,}", re.IGNORECASE)
"""An id that a spreadsheet took for a number and rounded, which makes one person of several."""

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(E[+-]?\d+)?", re.IGNORECASE)
NUMBERS = re.compile(r"[\d\s.,+E-]+", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # a number whose comma may also stand between thousands
NO_LIST = re.compile(r"[+-]?(0,\d{2,}|\d+,0\d+)")  # 0,95 or 1,05: rather one number than two

SENTENCE = 5
"""Words from which on a cell is taken as text."""


@dataclass(frozen=True)
class Table:
    """A CSV's cells, stripped and NFC-normalised.

    Attributes:
        path: The file.
        columns: Header, as it is written.
        rows: Cells by row number and column. The first line of the file is row 1; blank rows count and are left out.
        delimiter: What stands between the cells.
    """

    path: Path
    columns: tuple[str, ...]
    rows: dict[int, dict[str, str]]
    delimiter: str = ","

    def has(self, column: str) -> bool:
        """Whether the column is there; InputError if it stands twice or one that only looks like it does."""
        if self.columns.count(column) > 1:
            raise InputError(f"{self.path}: column {column!r} stands twice; take one out.")
        others = [name for name in self.columns if name != column]
        second = [name for name in others if _bare(name) == _bare(column)]
        if second and column in self.columns:
            raise InputError(f"{self.path}: columns {column!r} and {second[0]!r} differ only in spelling; rename one.")
        alike = [name for name in others if spelling(name) == spelling(column)]
        if alike and column not in self.columns:
            raise InputError(
                f"{self.path}: no column {column!r}, and {alike[0]!r} only looks like it; give the column's exact name."
            )
        return column in self.columns

    def require(self, *columns: str, mend: str = "") -> None:
        """InputError unless every column is there under its exact name; the nearest name is told, and the mend."""
        for column in columns:
            if not self.has(column):
                near = self.nearest(column, least=0.6)
                told = f"; the nearest is {near!r}" if near else ""
                there = f"{told}; the columns are {', '.join(self.columns)}{mend and '; '}{mend}."
                raise InputError(f"{self.path}: no column {column!r}{there}")

    def nearest(self, column: str, *, least: float) -> str | None:
        """The header most like ``column`` by its letters and digits, or None where none reaches ``least`` in [0, 1]."""
        names = {spelling(name): name for name in reversed(self.columns) if name}
        found = difflib.get_close_matches(spelling(column), names, n=1, cutoff=least)
        return names[found[0]] if found else None

    def wordy(self) -> list[str]:
        """Columns of sentences: their cells that are not empty have, as a rule, five words or more."""
        cells = {name: [row[name] for row in self.rows.values() if row[name]] for name in self.columns}
        lengths = {name: sorted(len(cell.split()) for cell in filled) for name, filled in cells.items() if filled}
        return [name for name, counts in lengths.items() if counts[len(counts) // 2] >= SENTENCE]

    def measured(
        self, number: int, missing: Mapping[str, Literal["refuse", "leave_out"]], *, several: Collection[str] = ()
    ) -> dict[str, str]:
        """A row whose numbers are written with points, as Python reads them.

        Decimal commas are read in tables with semicolons or tabs between the cells. With commas there, "5,2" is a list.

        Args:
            number: Of the row.
            missing: Columns of numbers. Empty cells: refuse the row, or leave the measurement out.
            several: Those whose cells may list several numbers with commas between.

        Raises:
            InputError: A cell is empty, or what its comma or point means is not clear.
        """
        row = dict(self.rows[number])
        for column, empty in missing.items():
            cell = row[column]
            if not cell and empty == "refuse":
                raise InputError(
                    f"{self.where(number)}: {column} is empty; measure it, or set "
                    f"data.measurements.{column}.missing=leave_out."
                )
            commas = self.delimiter == ","
            decimal = not commas and column in self._decimal_commas and column not in several
            unclear = NO_LIST.fullmatch(cell) if commas else re.search(r",\d", cell)
            if decimal and DECIMAL_COMMA.fullmatch(cell):
                row[column] = cell.replace(",", ".")
            elif NUMBERS.fullmatch(cell) and ((decimal and "." in cell) or unclear):
                raise InputError(
                    f"{self.where(number)}: {column} is {cell!r}, whose comma or point may mean two things. Write "
                    "decimals with a point, thousands without a mark, and a blank after a comma between two numbers."
                )
        return row

    @cached_property
    def _decimal_commas(self) -> set[str]:
        """Columns of which a cell shows that its comma is a decimal one, since thousands are not written so."""
        return {
            name
            for row in self.rows.values()
            for name, cell in row.items()
            if DECIMAL_COMMA.fullmatch(cell) and not THOUSANDS.fullmatch(cell)
        }

    def where(self, number: int) -> str:
        """File and row, for an error."""
        return f"{self.path}, row {number}"

    def refuse_empty(self, column: str, mend: str) -> None:
        """InputError if a cell of the column is empty."""
        for number, row in self.rows.items():
            if not row[column]:
                raise InputError(f"{self.where(number)}: {column} is empty; {mend}.")

    def refuse_repeats(self, column: str) -> None:
        """InputError if a value stands in two rows."""
        first: dict[str, int] = {}
        for number, row in self.rows.items():
            if first.setdefault(row[column], number) != number:
                raise InputError(f"{self.where(number)}: subject {row[column]!r} stands twice; rename or remove one.")

    def refuse_rounded(self, column: str) -> None:
        """InputError if an id was turned into scientific notation: whose it was can no longer be told."""
        for number, row in self.rows.items():
            if ROUNDED.fullmatch(row[column]):
                raise InputError(
                    f"{self.where(number)}: {column} {row[column]!r} is an id that a spreadsheet rounded; format the "
                    "column as text and export it again."
                )

    def refuse_alike(self, column: str) -> None:
        """InputError if two ids differ only in case, blanks, leading zeros or Unicode form: one person, or two?"""
        first: dict[str, tuple[str, int]] = {}
        for number, row in self.rows.items():
            other, earlier = first.setdefault(likeness(row[column]), (row[column], number))
            if other != row[column]:
                raise InputError(
                    f"{self.where(number)}: {column} {row[column]!r} and {other!r} of row {earlier} differ only in "
                    "case, blanks, leading zeros or Unicode form; write one person's id alike, and two persons' unlike."
                )


def read_table(path: Path, *, what: str, mend: str) -> Table:
    """Read a CSV.

    Args:
        path: UTF-8 text with commas between cells; or semicolons or tabs, where the header has more of those.
        what: What the file is, for errors: "manifest".
        mend: What to do where it is missing.

    Raises:
        InputError: The file is missing, not UTF-8 text, not a CSV, without rows, or a row has more or fewer cells than
            the header.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "people.csv"
        >>> _ = file.write_text("id,age\\n\\n p1 , 70\\n")
        >>> read_table(file, what="table", mend="").rows
        {3: {'id': 'p1', 'age': '70'}}
    """
    text = _decode(read_bytes(path, missing=f"no such {what}; {mend}"), path)
    numbered: list[tuple[int, list[str]]] = []
    text, number = _without_hint(text)
    delimiter = _delimiter_of(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        number += 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{path}, row {number}: not a readable CSV ({error}).") from error
        if cells is None:
            break
        if any(cell.strip(BLANKS) for cell in cells):
            numbered.append((number, cells))
    if not numbered:
        raise InputError(f"{path}: not a readable CSV (it is empty).")
    (_, header), *body = numbered
    if not body:
        raise InputError(f"{path}: has no rows.")
    rows = {number: _row(cells, header, path, number) for number, cells in body}
    return Table(path, tuple(header), rows, delimiter)


def _without_hint(text: str) -> tuple[str, int]:
    """The text without the line "sep=;" by which Excel tells the separator, and how many lines that took."""
    first, _, rest = text.partition("\n")
    return (rest, 1) if re.fullmatch(r'"?sep=.?"?\s*', first, flags=re.IGNORECASE) else (text, 0)


def _delimiter_of(text: str) -> str:
    """What stands between the cells: a comma; or a semicolon or tab, where the header has more of it than of commas.

    Example:
        >>> [_delimiter_of(header) for header in ("id,label", "id;label", "id\\tlabel", "id", '"a;b",label')]
        [',', ';', '\\t', ',', ',']
    """
    header = re.sub(r'"[^"]*"', "", next((line for line in text.splitlines() if line.strip(BLANKS)), ""))
    return max(",;\t", key=header.count)


def spelling(name: str) -> str:
    """Letters and digits of a name, without case: what two spellings of one column have in common.

    Example:
        >>> spelling(" Patient_ID") == spelling("patientId")
        True
    """
    return "".join(letter for letter in unicodedata.normalize("NFKC", name).casefold() if letter.isalnum())


def _bare(name: str) -> str:
    """A name without case and separators; "volume" and "volume (%)" stay two columns."""
    return re.sub(r"[\s_.\-\u200b\u2060\ufeff]+", "", unicodedata.normalize("NFKC", name).casefold())


def spellings_of_one(names: Iterable[str]) -> list[list[str]]:
    """Names that differ only in what :func:`likeness` passes over, together.

    Example:
        >>> spellings_of_one(["UMC", "Ghent", "umc"])
        [['UMC', 'umc']]
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(likeness(name), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def likeness(value: str) -> str:
    """An id, or another name, without case, blanks, leading zeros of its numbers, and Unicode form.

    Blanks between two digits stay as one blank: "1 11" and "11 1" are two.

    Example:
        >>> likeness("P-007") == likeness("p-7"), likeness("p1.05") == likeness("p1.5")
        (True, False)
        >>> likeness("UMC  Oost") == likeness("umcoost"), likeness("1 11") == likeness("11 1")
        (True, False)
    """
    folded = unicodedata.normalize("NFKC", value).casefold()
    folded = re.sub(rf"(?<!\d)[{BLANKS}]+|[{BLANKS}]+(?!\d)", "", folded)
    folded = re.sub(rf"[{BLANKS}]+", " ", folded)
    return re.sub(r"(?<!\d)(?<!\d\.)0+(?=\d)", "", folded)


def clean(value: str) -> str:
    """A cell without blanks at its ends, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", value.strip(BLANKS))


def _row(cells: Sequence[str], header: Sequence[str], path: Path, number: int) -> dict[str, str]:
    if len(cells) != len(header):
        raise InputError(
            f"{path}, row {number}: has {len(cells)} cells and the header {len(header)}; put quotes around a cell that "
            "holds commas, and write every cell."
        )
    return {name: clean(cell) for name, cell in zip(header, cells, strict=True)}


def _decode(content: bytes, path: Path) -> str:
    """UTF-8 text, with or without its mark; InputError for other encodings and for NUL characters."""
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = "UTF-16 text" if utf16 else f"not UTF-8 text (line {line}, byte 0x{content[error.start]:02x})"
        raise InputError(f"{path}: is {found}, so not a readable CSV; save it as CSV UTF-8.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, line {line}: holds a NUL character, so not a readable CSV; save it as CSV UTF-8.")
    return text
