"""``--help``: the commands by task and the ten most used options. ``--help-all`` shows all."""

import difflib
import re
from argparse import Action
from collections.abc import Container, Iterable, Mapping
from dataclasses import is_dataclass
from textwrap import shorten
from typing import get_args

from jsonargparse import SUPPRESS, ArgumentParser

from synthaug.config.files.presets import PRESETS

TASKS = {
    "Try it, or run your own study": ("bench", "check", "report"),
    "One stage of a study": ("train-autoencoder", "train-ldm", "pool", "classify", "metrics"),
    "Generators from elsewhere": ("import",),
    "Readers": ("reader-study",),
}
"""Commands in the order in which they are needed."""
OPTIONS = {
    "--preset": ("NAME", f"base settings: {', '.join(PRESETS)}"),
    "--config": ("FILE", "YAML file of settings; later options override earlier ones"),
    "--out": ("FOLDER", "output folder, runs/quickstart by default; a killed run continues there"),
    "--dry-run": ("", "list the cells, check the data, estimate time and memory, and stop"),
    "--data.root": ("FOLDER", "folder with manifest.csv, one row per subject; none = generated phantoms"),
    "--data.report": ("COLUMN", "column with the report text"),
    "--preprocess.shape": ("[X,Y,Z]", "voxels after cropping and padding"),
    "--preprocess.spacing_mm": ("[X,Y,Z]", "voxel size after resampling"),
    "--generator.variant": ("NAME", "ccella, or a comparator; radmaisi needs no reports"),
    "--study.seeds": ("[0,1,2]", "repeats; fewer than three give no verdict"),
}
"""The most used options with value and meaning."""
ALSO = (
    *("--generator", "--classifier", "--pool.per_class", "--pool.prompts", "--pool.reports"),
    *("--split.file", "--data.images"),
)
"""The most used settings of pools."""
LINE = 100
MORE = {
    "pool": "synthaug pool ACTION --help: build, adopt, verify, audit, card, export, montage; pools without a study.",
    "metrics": "synthaug metrics --real A --synthetic B --help: two folders of volumes without a study.",
}


def overview(commands: Mapping[str, str]) -> str:
    """The commands by task."""
    width = max(map(len, commands))
    lines = ["usage: synthaug COMMAND [options]"]
    for task, names in TASKS.items():
        lines += ["", f"{task}:", *(f"  {name:<{width}}  {commands[name]}" for name in names)]
    return "\n".join(
        [
            *lines,
            "",
            "synthaug COMMAND --help: the most used options. --help-all: every setting. --version: the version.",
            "All but check and import share one config and one output folder.",
        ]
    )


def brief_help(program: str, meaning: str, command: str) -> str:
    """The most used options of a command of a study."""
    width = max(len(f"{name} {value}") for name, (value, _) in OPTIONS.items())
    lines = [f"usage: {program} [options]", "", meaning, ""]
    lines += [f"  {f'{name} {value}':<{width}}  {told}" for name, (value, told) in OPTIONS.items()]
    lines += ["", "Every other setting is --section.key VALUE: --help-all lists them all, --print_config"]
    lines += ["writes them as YAML for --config."]
    return "\n".join([*lines, *([MORE[command]] if command in MORE else [])])


def brief_options(parser: ArgumentParser) -> str:
    """The options of a parser, one per line, and the most used settings in sections."""
    shown = [action for action in parser._actions if action.help != SUPPRESS]
    actions = [each for action in shown for each in (action, *_settings_of(action)) if each.dest != "help"]
    sections = {action.dest.partition(".")[0] for action in actions if "." in action.dest}
    rows = []
    for action in actions:
        name = next((word for word in action.option_strings if word.startswith("--")), action.dest.upper())
        if name in (*OPTIONS, *ALSO) or not ("." in action.dest or action.dest in sections):
            rows.append((name, action.help or ""))
    width = max(len(name) for name, _ in rows)
    lines = [f"usage: {parser.prog} [options]", "", parser.description or "", ""]
    lines += [f"  {name:<{width}}  {shorten(told, LINE - width, placeholder=' …')}" for name, told in rows]
    return "\n".join([*lines, "", "--help-all tells the options with their values, and every setting."])


def _settings_of(action: Action) -> list[Action]:
    """The settings of a section that may be left out, for which the parser itself has one option alone."""
    kinds = get_args(getattr(action, "_typehint", None))
    if "." in action.dest or len(kinds) != 2 or not is_dataclass(kinds[0]) or kinds[1] is not type(None):
        return []
    parser = ArgumentParser()
    parser.add_class_arguments(kinds[0], action.dest)
    return parser._actions


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that was likely meant, as the end of a sentence; "" = none is near.

    A setting may be called by its last part.

    Example:
        >>> meant("--pool.per_clas", ["--pool.path", "--pool.per_class"])
        '; did you mean --pool.per_class?'
        >>> meant("--seeds", ["--study.seeds", "--out"])
        '; did you mean --study.seeds?'
    """
    names = sorted(known)
    last = word.lstrip("-")
    bare = {name.lstrip("-"): name for name in reversed(names)}  # dashes, which all have, make no name alike
    near = [bare[name] for name in difflib.get_close_matches(last, bare, 1)]
    found = [name for name in names if name.rpartition(".")[2] == last] or near
    return f"; did you mean {found[0]}?" if found else ""


def with_suggestion(message: str, options: Iterable[str], places: Container[str] = ()) -> str:
    """A parser's message with options as they are typed, and what was likely meant where it names an unknown one.

    Args:
        message: Of the parser.
        options: Names of its options.
        places: Names of its arguments that are no options.
    """
    typed = re.search(r"nrecognized arguments: (--[^\s=]+)", message)
    keyed = re.search(r"Group '([^']+)' does not accept option '([^']+)'", message)
    nested = re.search(r"Option '([^']+)' is not accepted", message)
    if lacking := re.search(r"(.*arguments are required: )(.*)", message):
        named = {name.strip("-").replace("-", "_"): name for name in options}
        return lacking[1] + ", ".join(named.get(name, name) for name in lacking[2].split(", "))
    if typed and typed[1].lstrip("-") in places:
        return f"{message}; give its value alone, without {typed[1]}."
    if typed:
        return message + meant(typed[1], options)
    if keyed:
        return message + meant(f"--{keyed[1]}.{keyed[2]}", options).replace("mean --", "mean ")
    if nested:
        return message + meant(f"--{nested[1]}", options).replace("mean --", "mean ")
    return message
