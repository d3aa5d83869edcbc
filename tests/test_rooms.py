"""The table of rooms in CONTRIBUTING.md is the tree; rooms, files and functions are small; imports stay cheap."""

import ast
import configparser
import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "synthaug"
NOT_MODULES = {"compare_images"}
"""Names in the table that are functions."""
MOST_LINES, MOST_MODULES, MOST_STATEMENTS = 300, 12, 40
"""Lines of a file, modules of a room, and lines of a function below its docstring: a screen."""
UNIX_ALONE = {"fcntl", "grp", "pwd", "resource", "termios"}
"""Modules of Python that Windows does not have."""
WORK = {"train_ldm", "train_autoencoder", "train_classifier", "optimise", "make_generator", "make_pool", "run_cell"}
WORK |= {
    "open",
    "read",
    "read_text",
    "read_bytes",
    "read_json",
    "glob",
    "iterdir",
    "is_file",
    "exists",
    "sleep",
    "wait",
}
WORK |= {"get_experiment_by_name", "search_runs", "MlflowClient", "CopyDetector", "features", "from_pretrained"}
WORK |= {"subjects_hash", "stack_images"}
"""What a property does not do."""
TAKING_APART = {"split", "rsplit", "partition", "rpartition", "startswith", "endswith", "removeprefix", "removesuffix"}
"""Methods of a text that find out what it says."""
LONG_FILES: set[str] = set()
FULL_ROOMS: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
"""What is still larger. The lists may only become shorter: what has become small enough is to be taken off."""


def rows_of_table() -> dict[str, str]:
    """What the table says of each room, by its name, in its order."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, flags=re.MULTILINE))


def test_every_room_has_its_row_and_its_place_in_the_import_contract():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(rows_of_table()) == rooms
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    layers = re.findall(r"synthaug\.(\w+)", settings["importlinter:contract:rooms"]["layers"])
    assert [layer for layer in layers if layer != "__main__"] == list(rows_of_table())


def test_modules_that_the_table_names_are_in_their_room():
    for room, told in rows_of_table().items():
        named = set(re.findall(r"`([a-z_]+)`", told)) - NOT_MODULES
        modules = {path.stem for path in (PACKAGE / room).rglob("*")}
        assert named <= modules, f"{room}: {sorted(named - modules)} are not there"
        inner = {path.parent.name for path in (PACKAGE / room).rglob("*/__init__.py")}
        assert inner <= named, f"{room}: {sorted(inner - named)} are not told"


def test_every_room_says_its_job_in_one_sentence():
    for room in PACKAGE.glob("*/**/__init__.py"):
        first = room.read_text(encoding="utf-8").split("\n")[0]
        assert re.fullmatch(r'""".+[.?](""")?', first), room


def sources() -> dict[str, str]:
    """The text of every module by its path in the package."""
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines below the docstring."""
    body = function.body[ast.get_docstring(function, clean=False) is not None :]
    return function.end_lineno - body[0].lineno + 1 if body else 0


def test_files_are_small():
    assert {name for name, text in sources().items() if text.count("\n") > MOST_LINES} == LONG_FILES


def test_rooms_are_small():
    modules = [name.rpartition("/")[0] for name in sources() if not name.endswith("__init__.py")]
    assert {room for room in modules if modules.count(room) > MOST_MODULES} == FULL_ROOMS


def test_functions_fit_a_screen():
    long = {
        f"{name}: {node.name}"
        for name, text in sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length_of(node) > MOST_STATEMENTS
    }
    assert long == LONG_FUNCTIONS


def test_properties_neither_train_nor_read_files_nor_ask_servers():
    """Work has a verb: ``make_pool(study)``, ``Study.read(config, ...)``, ``connection.connect()``."""
    for name, text in sources().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and {"property", "cached_property"} & names_in(node.decorator_list):
                assert not WORK & names_in(node.body), f"{name}: {node.name}"


def names_in(nodes) -> set[str]:
    """Every name and attribute in nodes of a syntax tree."""
    every = [each for node in nodes for each in ast.walk(node)]
    return {each.id for each in every if isinstance(each, ast.Name)} | {
        each.attr for each in every if isinstance(each, ast.Attribute)
    }


def test_labels_and_verdicts_are_not_taken_apart():
    """Arms and verdicts have fields; only the records of files of the first schema read a label."""
    for name, text in sources().items():
        if not name.startswith(("study/", "report/", "tracking/", "bench/")) or name == "study/records/upgrades.py":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and node.attr in TAKING_APART:
                assert not {"label", "sentence", "headline"} & names_in([node.value]), f"{name}: line {node.lineno}"


def test_modules_of_unix_alone_are_imported_where_they_are_used():
    for name, text in sources().items():
        first = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
        imported = {
            each.split(".")[0]
            for node in first
            for each in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        assert not imported & UNIX_ALONE, name


def test_classifiers_logged_before_tracking_was_a_room_find_their_loader():
    """MLflow imports the module that a model's file names, and calls this function of it."""
    earlier = importlib.import_module("synthaug.bench.tracking.pyfunc_model")
    assert earlier._load_pyfunc is importlib.import_module("synthaug.tracking.pyfunc_model")._load_pyfunc
