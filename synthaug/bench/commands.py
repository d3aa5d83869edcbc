"""The ``synthaug`` command: the stages of a study one by one, or all of them."""

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Container, Iterator, Sequence
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import SUPPRESS, ArgumentError, ArgumentParser, get_loader, set_loader, set_parsing_settings

from synthaug.bench.early import refuse_early
from synthaug.bench.help import brief_help, brief_options, meant, overview, with_suggestion
from synthaug.config import Config, ExecutionConfig
from synthaug.config.presets import DEMO, demonstrates, with_presets
from synthaug.config.yaml_keys import refusing_repeated_keys
from synthaug.ground.errors import InputError
from synthaug.ground.faults import write_fault
from synthaug.ground.files import NO_ROOM
from synthaug.study.folder.standing import finished_summary
from synthaug.study.folder.tracked import tell_place
from synthaug.study.grid import describe_cells

COMMANDS = {
    "check": "read a folder or CSV of your own, tell its problems, propose a config",
    "bench": "run a whole study: data, generator, pool, classifiers, comparison",
    "train-autoencoder": "train the image autoencoder of a study",
    "train-ldm": "train the generator of a study (and its autoencoder where missing)",
    "pool": "fill the synthetic pool of a study (and train its generator where missing); "
    "pool build | adopt | verify | audit | export | montage: pools by themselves",
    "classify": "train and test the classifiers of a study (and make what they need)",
    "report": "make the report of a finished study again; --shareable: and a copy without images, reports and ids of "
    "patients",
    "import": "turn a released checkpoint (CCELLA, NV-Generate) and its autoencoder into a generator folder",
    "metrics": "compare images: a study's pool with its held-out real volumes, or --real FOLDER --synthetic FOLDER",
    "reader-study": "real and synthetic volumes shuffled in a page for radiologists; reader-study score: answers",
}
_load_yaml = refusing_repeated_keys(get_loader("yaml"))
FAULTS_OF_SETTINGS = (
    *(ArgumentError, InputError, ValueError, TypeError, AttributeError),
    *(KeyError, RecursionError, OverflowError),
)
"""What jsonargparse and yaml raise, or pass on, for settings that cannot be."""
LONGEST_LINE = 2000
"""Characters of an error that are shown; values in files can be of any length."""
KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list such as [1, 2]",
}
"""What types are called in messages."""
STUDIES = ("bench", "classify")
"""Commands that run a whole study."""
SPINS = "30000"
"""How often an idle thread of torch looks for work before it sleeps, a tenth of what GNU OpenMP takes by itself. Beside
other busy processes its threads wait for one that has no core; the longer, the slower. With fewer still, a training
that has the cores to itself slows down (``benchmarks/speed/threads.py``)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``synthaug COMMAND [options]``; returns the exit code: 0 done, 1 failed cells, 2 unusable input, 70 fault."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview(COMMANDS))
        return 0
    if words == ["--version"]:
        return _print_version()
    command, *rest = words
    if command not in COMMANDS:
        near = meant(command, COMMANDS)
        names = ", ".join(COMMANDS)
        print(f"synthaug: unknown command {command!r}{near or '.'} The commands are {names}.", file=sys.stderr)
        return 2
    return run_command(command, rest)


def run_command(command: str, arguments: Sequence[str]) -> int:
    """Parse the options of a command and run it; what goes wrong becomes one line and an exit code.

    Unusable input, and a disk that cannot be written to, is 2; a fault of the program is 70, its traceback in a file.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is loaded, here and in processes of ours
    try:
        preset = ["--preset", DEMO] if demonstrates(command, arguments) else []
        return _run(command, with_presets([*preset, *arguments]))
    except (ArgumentError, InputError) as error:
        print(f"synthaug {command}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"synthaug {command}: stopped; run the same command again to continue.", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            place = f"{error.filename}: " if error.filename else ""
            print(f"synthaug {command}: {place}{error.strerror}; make room, then run the same again.", file=sys.stderr)
            return 2
        log = write_fault(command, arguments, error)
        shown = _one_line(error)[:200]
        print(f"synthaug {command}: a fault ({type(error).__name__}: {shown}); see {log}.", file=sys.stderr)
        return 70


def _run(command: str, arguments: Sequence[str]) -> int:
    if list(arguments) == ["--version"]:
        return _print_version()
    if command == "import":
        with _quiet():
            return _run_import(arguments)
    if command == "report":
        return _run_report(arguments)
    if command == "check":
        with _quiet():
            return _run_check(arguments)
    if command == "reader-study":
        with _quiet():
            return _run_reader_study(arguments)
    if command == "pool" and arguments and not arguments[0].startswith("-"):
        return _run_pool(*arguments)
    if command == "metrics" and any(word.split("=")[0] == "--real" for word in arguments):
        with _quiet():
            return _run_metrics(arguments)
    parser = _parser(command)
    if "--help-all" in arguments:
        parser.print_help()
        return 0
    if {"-h", "--help"} & {*arguments}:
        print(brief_help(parser.prog, COMMANDS[command], command))
        return 0
    made = _parsed(parser, arguments)
    config, out = _config_of(made), Path(made.out)
    if config.generator.pretrained:
        _refuse_typed(config, arguments)
    if made.dry_run:
        with _quiet():
            return _dry_run(config)
    if command in STUDIES:
        return _run_bench(command, config, out, _execution_of(made))
    with _quiet():
        return _run_stage(command, config, out)


def _print_version() -> int:
    from synthaug import __version__

    print(f"synthaug {__version__}")
    return 0


def _config_parser(**options: Any) -> ArgumentParser:
    """A parser whose settings can also come from YAML files."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    set_loader("yaml", _load_yaml, exceptions=(yaml.YAMLError,))
    parser = ArgumentParser(allow_abbrev=False, **options)
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    return parser


def _plain_parser(command: str) -> ArgumentParser:
    return ArgumentParser(
        prog=f"synthaug {command}", description=COMMANDS[command], exit_on_error=False, allow_abbrev=False
    )


def _parsed(parser: ArgumentParser, words: Sequence[str]) -> Any:
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
        return parser.instantiate_classes(parser.parse_args(list(words)))
    except FAULTS_OF_SETTINGS as error:
        file = _file_at_fault(parser, words, error)
        reason = with_suggestion(_reason(error), parser._option_string_actions)
        raise InputError(f"{file}: {reason}" if file else reason) from error


def _file_at_fault(parser: ArgumentParser, words: Sequence[str], error: Exception) -> str:
    """Of the settings files that words name, the first without which there is no such error; "" = none."""
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option != "--config":
            continue
        end = place + (1 if equals else 2)
        try:
            parser.instantiate_classes(parser.parse_args([*words[:place], *words[end:]]))
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
        told = _one_line(error).replace('in "<unicode string>", ', "")
        told = re.sub(r'^Parser key "([\w.]+)":', r"\1:", told)
        told = re.sub(r"Expected a typing\.Literal\[(.*?)\]\.", r"Expected one of \1.", told)
        return re.sub(r"Expected a <class '(\w+)'>", lambda kind: f"Expected {KINDS.get(kind[1], kind[1])}", told)
    words = re.sub(r"functools\.partial\(.*\) argument after \*\* ", "a section ", _one_line(error))
    return f"a setting holds what it cannot be ({type(error).__name__}: {words})."


def _parser(command: str) -> ArgumentParser:
    name = "python -m synthaug.bench" if command == "bench" else f"synthaug {command}"
    parser = _config_parser(prog=name, description=COMMANDS[command], exit_on_error=False)
    parser.add_argument("--out", default="runs/quickstart", help="output folder; a killed run continues there")
    parser.add_argument("--dry-run", action="store_true", help="print the cells of the study and stop")
    parser.add_class_arguments(Config)
    if command in STUDIES:
        parser.add_class_arguments(ExecutionConfig)
    return parser


def _run_import(arguments: Sequence[str]) -> int:
    from synthaug.generate.released import import_released, licence_of

    parser = _plain_parser("import")
    parser.add_function_arguments(import_released)
    options = _parsed(parser, arguments)
    print(f"Licence: {licence_of(options.unet, options.variant, options.model)}")
    folder = import_released(**vars(options))
    print(f"generator: {folder}")
    return 0


def _run_report(arguments: Sequence[str]) -> int:
    parser = _plain_parser("report")
    parser.add_argument("folder", nargs="?", default=None, help="folder of the study; runs/quickstart by default")
    parser.add_argument("--out", default="runs/quickstart", help="the same, as other commands name it")
    parser.add_argument("--shareable", action="store_true", help="write report-shareable.html too, without patients")
    options = _parsed(parser, arguments)
    with _quiet():
        from synthaug.bench.remaking import make_report

        path = make_report(Path(options.folder or options.out), shareable=options.shareable)
    print(f"report: {path}")
    return 0


def _run_check(arguments: Sequence[str]) -> int:
    from synthaug.bench.check import check

    parser = _plain_parser("check")
    parser.add_function_arguments(check, as_positional=True, skip={"quick"})
    parser.add_argument("--quick", action="store_true", help="leave the timing of the study on this machine out")
    return check(**vars(_parsed(parser, arguments)))


def _run_pool(action: str, *arguments: str) -> int:
    from synthaug.bench.pool_commands import FLAGS, POOL_COMMANDS

    if action not in POOL_COMMANDS:
        raise InputError(f"unknown action {action!r}; the actions are {', '.join(POOL_COMMANDS)}.")
    told_of = str(POOL_COMMANDS[action].__doc__).partition("\n")[0]
    parser = _config_parser(prog=f"synthaug pool {action}", description=told_of, exit_on_error=False)
    flags = FLAGS.get(action, {})
    skipped: set[str | int] = {*flags, "measured"}
    configured = action in ("build", "adopt")
    if action == "adopt":
        skipped |= {"folder"}
        parser.add_argument("folder", help="where the volumes lie")
    parser.add_function_arguments(POOL_COMMANDS[action], as_positional=not configured, skip=skipped)
    for name, meaning in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    asked = signature(POOL_COMMANDS[action]).parameters
    if configured:
        _accept_study(parser, asked)
    options = vars(_parsed(parser, arguments))
    told = {name: value for name, value in options.items() if name in asked}
    if action == "build":
        typed = parser.parse_args(list(arguments), defaults=False)
        told["measured"] = typed.get("pool.sampling.guidance") is None
    with _quiet():
        POOL_COMMANDS[action](**told)
    return 0


def _run_reader_study(arguments: Sequence[str]) -> int:
    from synthaug.bench.reader_commands import make, score

    if arguments and arguments[0] == "score":
        parser = ArgumentParser(
            prog="synthaug reader-study score",
            description=str(score.__doc__).partition("\n")[0],
            exit_on_error=False,
            allow_abbrev=False,
        )
        parser.add_argument("answers", nargs="+", help="files that the readers saved")
        parser.add_function_arguments(score, skip={"answers"})
        score(**vars(_parsed(parser, arguments[1:])))
        return 0
    parser = _config_parser(prog="synthaug reader-study", description=COMMANDS["reader-study"], exit_on_error=False)
    parser.add_argument("pools", nargs="+", help="folders of pools, each a generator of its own in the scores")
    parser.add_function_arguments(make, skip={"pools"})
    asked = signature(make).parameters
    _accept_study(parser, asked)
    make(**{name: value for name, value in vars(_parsed(parser, arguments)).items() if name in asked})
    return 0


def _accept_study(parser: ArgumentParser, asked: Container[str]) -> None:
    """Let a study's whole config be given: sections that are not asked for are checked and left aside."""
    for section, kind in get_type_hints(Config).items():
        if section not in asked:
            parser.add_argument(f"--{section}", type=kind | None, default=None, help=SUPPRESS)


def _run_metrics(arguments: Sequence[str]) -> int:
    from synthaug.bench.image_comparison import compare_folders

    parser = _plain_parser("metrics")
    parser.add_function_arguments(compare_folders)
    report = compare_folders(**vars(_parsed(parser, arguments)))
    columns = ["group", "metric", "value", "ci_low", "ci_high", "value_at_floor_n", "floor", "n_real", "n_synthetic"]
    print(report.to_frame()[columns].to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print("\n".join(report.remarks()))
    return 0


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
    parser = _config_parser(exit_on_error=exits)
    parser.add_class_arguments(Config)
    return _config_of(_parsed(parser, with_presets(words)))


def _config_of(options: Any) -> Config:
    """The typed config, checked as a whole."""
    return Config(**{item.name: getattr(options, item.name) for item in fields(Config)})


def _refuse_typed(config: Config, words: Sequence[str]) -> None:
    """InputError where the command line itself asks for another design than that of ``generator.pretrained``."""
    from synthaug.generate.training.continuing import with_own_design

    section = "--generator."
    names = [word.partition("=")[0].removeprefix(section) for word in words if word.startswith(section)]
    with_own_design(config.generator, typed=names)


def _execution_of(options: Any) -> ExecutionConfig:
    return ExecutionConfig(**{item.name: getattr(options, item.name) for item in fields(ExecutionConfig)})


def _run_bench(command: str, config: Config, out: Path, execution: ExecutionConfig) -> int:
    # Imported late: --help, a misspelt key and a study to which nothing is to be done should not wait for torch.
    summary = finished_summary(config, out)
    if summary is None:
        cells = describe_cells(config)
        refuse_early(config)
        if os.environ.get("RANK", "0") == "0":  # of processes that train together, one tells
            print(f"{config.study.name}: {len(cells)} classifiers, in {out}; loading the libraries", flush=True)
        with _quiet():
            from synthaug.bench.run import EveryCellFailed, run_study

            try:
                summary = run_study(config, out, execution)
            except EveryCellFailed as error:
                print(f"synthaug {command}: {error}", file=sys.stderr)
                return 1
    if summary.arms:  # the main process alone has them
        print(" ".join(filter(None, (summary.warning(), summary.verdict.sentence()))))
        for cell in summary.failed:
            print(f"failed: {cell['regime']} seed {cell['seed']}: {cell['error']}", file=sys.stderr)
        print(f"report: {out / 'report.html'}")
        for line in tell_place(out, config.study.name):
            print(f"MLflow: {line}")
        if config.study.demonstration and config.data.root is None:
            print(_demonstrated(config, helped=summary.verdict.kind == "helped"))
    return 1 if summary.failed else 0


def _demonstrated(config: Config, *, helped: bool) -> str:
    """What the demonstration showed, what it did not, and what comes next."""
    trained, phantoms = f"{config.split.train:g}", config.data.phantom.n
    shown = f"Shown: {trained} training patients" if helped else f"Not clear this time: {trained} training patients"
    return (
        f"\nThis was a demonstration on {phantoms} generated prostates. {shown} helped by "
        f"{config.pool.generator}, a generator that was trained on many other phantoms.\nNot shown: anything about "
        "real MRI, or about your data, where a generator is trained on your own few patients or comes from "
        "elsewhere.\nYour own data: synthaug check FOLDER reads it and proposes a config; then\n"
        "  python -m synthaug.bench --data.root FOLDER --data.report report --out runs/mine"
    )


def _run_stage(command: str, config: Config, out: Path) -> int:
    from synthaug.bench.progress import Bars
    from synthaug.bench.run import measure_images
    from synthaug.models.training.optimisation import processes
    from synthaug.study.stages.making import make_autoencoder, make_generator, make_pool
    from synthaug.study.stages.preparation import Study
    from synthaug.tracking import TrainingListener

    if command == "train-autoencoder" and config.generator.pretrained:
        raise InputError("generator.pretrained brings its own autoencoder, so there is none to train.")
    if command == "train-autoencoder" and config.generator.latents == "cascade":
        raise InputError(
            "generator.latents=cascade has no autoencoder to train; run train-ldm, or set it to autoencoder."
        )
    study = Study.start(config, out, Bars().stage, TrainingListener())
    if command in ("train-autoencoder", "train-ldm"):
        stage = "autoencoder" if command == "train-autoencoder" else "generator"
        make, folder = {
            "autoencoder": (make_autoencoder, study.autoencoder_folder),
            "generator": (make_generator, study.generator_folder),
        }[stage]
        make(study)
        if processes().is_main_process:
            print(f"{stage}: {folder}")
        return 0
    pool = make_pool(study)
    print(f"pool: {pool.path}, volumes of each class {pool.counts}")
    if command == "metrics":
        rows, left_out = measure_images(study, pool)
        for row in [*(each.to_json() for each in rows), *left_out]:
            print("  ".join(f"{name}={value}" for name, value in row.items()))
    return 0


def _dry_run(config: Config) -> int:
    from synthaug.study.outlook.cards import describe_cards
    from synthaug.study.outlook.estimate import describe_time

    cells = describe_cells(config)
    for cell in cells:
        fraction = "" if cell.synthetic_fraction is None else f"  synthetic fraction {cell.synthetic_fraction:g}"
        settings = "".join(f"  {key} {value}" for key, value in cell.settings.items())
        print(f"{cell.regime:<10} seed {cell.seed}{fraction}{settings}")
    if config.data.root is not None:
        from synthaug.bench.check import check_data

        if check_data(config.data):
            return 2
    print("\n".join([describe_time(cells), *describe_cards(config)]))
    return 0


def _one_line(error: Exception) -> str:
    line = " ".join(str(error).split())
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 500]} … {line[-500:]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Libraries' warnings and bars for things that are as they should be stay out of a normal run."""
    from transformers.utils import logging as transformers_logging  # late: it imports torch

    transformers_logging.disable_progress_bar()
    for name in ("diffusers", "transformers", "mlflow", "alembic", "torch", "monai"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
