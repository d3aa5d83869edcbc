"""What not every system has is asked for late, so that the package can be imported on all of them."""

import ast
import sys
from pathlib import Path

import synthaug
from synthaug.ground.forks import in_forked_children
from synthaug.models.training.training_log import peak_memory_mb

UNIX = {"fcntl", "grp", "pwd", "resource", "termios"}


def imported(tree):
    """Modules that a file imports whenever it is imported."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_no_module_needs_unix_to_be_imported():
    for path in Path(synthaug.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not UNIX & set(imported(tree)), path
        called = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        assert "register_at_fork" not in called or path.name == "forks.py", path


def test_without_forks_and_without_resource(monkeypatch):
    monkeypatch.delattr("os.register_at_fork")
    in_forked_children(lambda: None)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory_mb() > 10
