"""Text is read and written as UTF-8, whatever the locale of the machine."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def calls_without_encoding(source: str) -> list[int]:
    """Lines of `source` where `read_text` or `write_text` would take the encoding of the locale."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"read_text", "write_text"}
        and not any(keyword.arg == "encoding" for keyword in node.keywords)
    ]


def test_every_text_file_is_read_and_written_as_utf_8():
    assert calls_without_encoding("path.read_text()\npath.write_text('é', encoding='utf-8')\n") == [1]
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for room in ("synthaug", "tests", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
        for line in calls_without_encoding(path.read_text(encoding="utf-8"))
    }
    assert not found
