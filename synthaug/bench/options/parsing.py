"""Options of the commands, from words and YAML files, typed and checked."""

import functools
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import yaml
from jsonargparse import SUPPRESS, ArgumentError, ArgumentParser, get_loader, set_loader, set_parsing_settings

from synthaug.bench.options.help import brief_options, with_suggestion
from synthaug.config import Config, ExecutionConfig
from synthaug.config.files.gone import leaving_out_gone
from synthaug.config.files.presets import with_presets
from synthaug.config.files.yaml_keys import refusing_repeated_keys
from synthaug.ground.errors import InputError

COMMANDS = {
    "check": "read a folder or CSV of your own, list its problems, propose a config",
    "bench": "run a whole study: data, generator, pool, classifiers, comparison",
    "train-autoencoder": "train the image autoencoder of a study",
    "train-ldm": "train the generator of a study (and its autoencoder where missing)",
    "pool": "fill the synthetic pool of a study (and train its generator where missing); "
    "pool build | adopt | verify | audit | card | export | montage: pools without a study",
    "classify": "train and test the classifiers of a study (and train generator and pool where missing)",
    "report": "make the report of a finished study again; --shareable: also a copy without images, reports and ids of "
    "patients",
    "import": "convert a released checkpoint (CCELLA, NV-Generate) and its autoencoder to a generator folder",
    "metrics": "compare images: a study's pool with its held-out real volumes, or --real FOLDER --synthetic FOLDER",
    "reader-study": "a page of shuffled real and synthetic volumes for radiologists; reader-study score: the answers",
}
STUDIES = ("bench", "classify")
"""Commands that run a whole study."""
_load_yaml = leaving_out_gone(refusing_repeated_keys(get_loader("yaml")))
FAULTS_OF_SETTINGS = (
    *(ArgumentError, InputError, ValueError, TypeError, AttributeError),
    *(KeyError, RecursionError, OverflowError),
)
"""Exceptions of jsonargparse and yaml for unusable settings."""
LONGEST_LINE = 2000
"""Longest error message in characters, as values in files can be of any length."""
KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list such as [1, 2]",
}
"""What types are called in messages."""
NO_TEXT = r"(True|False|[-+.\d][-+.\w]*)"
"""What YAML makes of names such as yes, no and 2, as Python writes it."""
IN_QUOTES = """; put names in quotes that are numbers, or yes, no, on, off, true or false: '["2", "no"]'."""


def config_parser(**options: Any) -> ArgumentParser:
    """A parser whose settings can also come from YAML files."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    set_loader("yaml", _load_yaml, exceptions=(yaml.YAMLError,))
    parser = ArgumentParser(allow_abbrev=False, **options)
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    return parser


def plain_parser(command: str) -> ArgumentParser:
    """The parser of a command without a study's settings."""
    return ArgumentParser(
        prog=f"synthaug {command}", description=COMMANDS[command], exit_on_error=False, allow_abbrev=False
    )


def parsed(parser: ArgumentParser, words: Sequence[str]) -> Any:
    """The options that words and the YAML files among them give, typed and each checked.

    Raises:
        SystemExit: Help was asked for and shown.
        ArgumentError: An option is unknown or its value of the wrong kind.
        InputError: A file is no text, or a value lies outside its range.
    """
    if "--help-all" in words:
        parser.print_help()
        raise SystemExit(0)
    if {"-h", "--help"} & {*words}:
        print(brief_options(parser))
        raise SystemExit(0)
    try:
        return _instantiated(parser, words)
    except FAULTS_OF_SETTINGS as error:
        file = _file_at_fault(parser, words, error)
        places = [action.dest for action in parser._actions if not action.option_strings]
        reason = with_suggestion(_reason(error), parser._option_string_actions, places)
        raise InputError(f"{file}: {reason}" if file else reason) from error


def _instantiated(parser: ArgumentParser, words: Sequence[str]) -> Any:
    """The options as typed objects; an error of a value names its section from the top."""
    given = parser.parse_args(list(words))
    try:
        return parser.instantiate_classes(given)
    except InputError as error:
        for section, kind in _innermost(Config):
            name = section.rpartition(".")[2]
            if str(error).startswith(f"{name}.") and _refuses(kind, given.get(section), error):
                raise InputError(re.sub(rf"(?<![\w.]){name}\.", f"{section}.", str(error))) from error
        raise


def _innermost(kind: type, above: str = "") -> Iterator[tuple[str, type]]:
    """Sections without sections of their own, by name from the top: what several sections have alike."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            inner = [*_innermost(hint, f"{above}{name}.")]  # type: ignore[arg-type]
            yield from inner or [(above + name, hint)]  # type: ignore[list-item]


def _refuses(kind: type, values: Any, error: InputError) -> bool:
    """Whether it is these values of a section that raise the error."""
    try:
        kind(**vars(values))
    except InputError as other:
        return str(other) == str(error)
    except TypeError:
        pass
    return False


def _file_at_fault(parser: ArgumentParser, words: Sequence[str], error: Exception) -> str:
    """Of the settings files that words name, the first without which there is no such error; "" = none."""
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option != "--config":
            continue
        end = place + (1 if equals else 2)
        try:
            _instantiated(parser, [*words[:place], *words[end:]])
        except FAULTS_OF_SETTINGS as other:
            if str(other) == str(error):
                continue
        return value if equals else " ".join(words[place + 1 : end])
    return ""


def _reason(error: Exception) -> str:
    """What was wrong with a setting, in words that name no object of a library."""
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text ({error.reason})."
    if isinstance(error, ArgumentError | InputError):
        told = one_line(error).replace('in "<unicode string>", ', "")
        told = re.sub(r'^Parser key "([\w.]+)":', r"\1:", told)
        told = re.sub(
            r"Unable to load config [\"'](.*?)[\"']( - .*)?$", r"Expected settings, or a file of them, not \1.", told
        )
        told = re.sub(r"Expected a typing\.Literal\[(.*?)\]\.", r"Expected one of \1.", told)
        told = re.sub(r"Expected a <class '(\w+)'>", lambda kind: f"Expected {KINDS.get(kind[1], kind[1])}", told)
        told = re.sub(r"Does not validate against .* Union .* Errors: - (.*) - Expected NoneType.*", r"\1", told)
        return re.sub(rf"(Expected text\. Got value: {NO_TEXT})$", rf"\1{IN_QUOTES}", told)
    words = re.sub(r"functools\.partial\(.*\) argument after \*\* ", "a section ", one_line(error))
    return f"a setting holds what it cannot be ({type(error).__name__}: {words})."


def program_of(command: str) -> str:
    """What is typed for a command that has a study's settings."""
    return "python -m synthaug.bench" if command == "bench" else f"synthaug {command}"


@functools.cache
def study_parser(command: str) -> ArgumentParser:
    """The parser of a command that has a study's settings; made once a process, as that takes half a second."""
    parser = config_parser(prog=program_of(command), description=COMMANDS[command], exit_on_error=False)
    parser.add_argument("--out", default="runs/quickstart", help="output folder; a killed run continues there")
    parser.add_argument("--dry-run", action="store_true", help="print the cells of the study and stop")
    parser.add_class_arguments(Config)
    if command in STUDIES:
        parser.add_class_arguments(ExecutionConfig)
    return parser


def accept_study(parser: ArgumentParser, asked: Container[str]) -> None:
    """Let a study's whole config be given: sections that are not asked for are checked and left aside."""
    for section, kind in get_type_hints(Config).items():
        if section not in asked:
            parser.add_argument(f"--{section}", type=kind | None, default=None, help=SUPPRESS)


def read_config(words: Sequence[str], *, exits: bool = True) -> Config:
    """The config that ``--config FILE`` and ``--section.key value`` words give, for scripts beside the commands.

    Later words win over earlier ones.

    Args:
        words: As on a command line.
        exits: What cannot be read ends the process with one line, as on a command line; else it is an InputError.

    Example:
        >>> read_config(["--study.seeds", "[3, 4]"]).study.seeds
        [3, 4]
    """
    return config_of(parsed(_settings_parser(exits), with_presets(words)))


@functools.cache
def _settings_parser(exits: bool) -> ArgumentParser:
    parser = config_parser(exit_on_error=exits)
    parser.add_class_arguments(Config)
    return parser


def config_of(options: Any) -> Config:
    """The typed config, checked as a whole."""
    return Config(**{item.name: getattr(options, item.name) for item in fields(Config)})


def one_line(error: Exception) -> str:
    """An error as one line that fits a screen."""
    line = " ".join(str(error).split())
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 500]} … {line[-500:]}"
