"""The ``synthaug`` command: the stages of a study one by one, or all of them."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError

from synthaug.bench.options.help import brief_help, meant, overview
from synthaug.bench.options.parsing import (
    COMMANDS,
    STUDIES,
    config_of,
    one_line,
    parsed,
    program_of,
    study_parser,
)
from synthaug.bench.quiet import leads, quiet
from synthaug.bench.single.commands import run_check, run_import, run_metrics, run_pool, run_reader_study, run_report
from synthaug.bench.studies.early import refuse_early
from synthaug.config import Config, ExecutionConfig
from synthaug.config.files.presets import DEMO, demonstrates, of_folder, with_presets
from synthaug.ground.errors import InputError
from synthaug.ground.faults import write_fault
from synthaug.ground.files import NO_ROOM
from synthaug.ground.memory import collect_rarely
from synthaug.study.folder.standing import finished_summary
from synthaug.study.folder.tracked import tell_place
from synthaug.study.grid import cohorts_of, describe_cells, settings_of, trained_once

if TYPE_CHECKING:
    from synthaug.study.stages.preparation import Study

SPINS = "30000"
"""Spins of an idle OpenMP thread before it sleeps; GNU's default is ten times as many. Long spins slow trainings beside
other busy processes, and short ones slow a training that has the cores to itself (``benchmarks/speed/threads.py``)."""


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
    """Parse the options of a command and run it; returns the exit code of :func:`exit_code`."""
    collect_rarely()
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is loaded, here and in processes of ours
    demo = ["--preset", DEMO] if demonstrates(command, arguments) else []
    preset = of_folder(command, arguments) or demo
    return exit_code(lambda: _run(command, with_presets([*preset, *arguments])), command, arguments)


def exit_code(work: Callable[[], int], command: str, arguments: Sequence[str]) -> int:
    """Do the work of a command; what goes wrong becomes one line and an exit code.

    Unusable input, and a disk that cannot be written to, is 2; a fault of the program is 70, its traceback in a file.
    """
    try:
        return work()
    except (ArgumentError, InputError) as error:
        print(f"synthaug {command}: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"synthaug {command}: stopped; run the same command again to continue.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read the output has left, as ``head`` does; what Python still holds goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return 141
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            place = f"{error.filename}: " if error.filename else ""
            print(f"synthaug {command}: {place}{error.strerror}; make room, then run the same again.", file=sys.stderr)
            return 2
        log = write_fault(command, arguments, error)
        shown = one_line(error)[:200]
        print(f"synthaug {command}: a fault ({type(error).__name__}: {shown}); see {log}.", file=sys.stderr)
        return 70


def _run(command: str, arguments: Sequence[str]) -> int:
    if list(arguments) == ["--version"]:
        return _print_version()
    if command == "import":
        with quiet():
            return run_import(arguments)
    if command == "report":
        return run_report(arguments)
    if command == "check":
        with quiet():
            return run_check(arguments)
    if command == "reader-study":
        with quiet():
            return run_reader_study(arguments)
    if command == "pool" and not _names_study(arguments):
        return run_pool(*arguments)
    if command == "metrics" and any(word.split("=")[0] == "--real" for word in arguments):
        with quiet():
            return run_metrics(arguments)
    # Before the parser, which takes longest to make.
    if {"-h", "--help"} & {*arguments} and "--help-all" not in arguments:
        print(brief_help(program_of(command), COMMANDS[command], command))
        return 0
    parser = study_parser(command)
    if "--help-all" in arguments:
        parser.print_help()
        return 0
    made = parsed(parser, arguments)
    config, out = config_of(made), Path(made.out)
    if config.generator.pretrained:
        _refuse_typed(config, arguments)
    if made.dry_run:
        with quiet():
            return _dry_run(config, out)
    if command in STUDIES:
        return _run_bench(command, config, out, _execution_of(made))
    with quiet():
        return _run_stage(command, config, out)


def _names_study(arguments: Sequence[str]) -> bool:
    """Whether the words after ``pool`` are settings of a study, or ask for help; ``--out`` alone names none."""
    options = {word.partition("=")[0] for word in arguments if word.startswith("-")}
    return bool(options - {"--out"}) and arguments[0].startswith("-")


def _print_version() -> int:
    from synthaug import __version__

    print(f"synthaug {__version__}")
    return 0


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
    if summary is not None:
        print(f"{config.study.name}: finished before, in {out}; there is nothing left to do")
    else:
        cells = trained_once(describe_cells(config))
        refuse_early(config)
        if leads():
            print(f"{config.study.name}: {len(cells)} classifiers, in {out}; loading the libraries", flush=True)
        with quiet():
            from synthaug.bench.studies.run import EveryCellFailed, run_study

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
    from synthaug.bench.studies.progress import Bars
    from synthaug.study.running.studies import start_studies
    from synthaug.tracking import TrainingListener

    if command == "train-autoencoder" and config.generator.pretrained:
        raise InputError("generator.pretrained brings its own autoencoder, so there is none to train.")
    if command == "train-autoencoder" and not config.generator.latent_design.trained:
        raise InputError(
            f"generator.latents={config.generator.latents} has no autoencoder to train; run train-ldm, or set it to "
            "autoencoder."
        )
    for study in start_studies(config, out, Bars().stage, TrainingListener()):
        _make_stage(command, study)
    return 0


def _make_stage(command: str, study: "Study") -> None:
    from synthaug.bench.studies.measuring import measure_images
    from synthaug.models.training.processes import processes
    from synthaug.study.stages.making import make_autoencoder, make_generator, make_pool

    if command in ("train-autoencoder", "train-ldm"):
        stage = "autoencoder" if command == "train-autoencoder" else "generator"
        make, folder = {
            "autoencoder": (make_autoencoder, study.autoencoder_folder),
            "generator": (make_generator, study.generator_folder),
        }[stage]
        make(study)
        if processes().is_main_process:
            print(f"{stage}: {folder}")
        return
    pool = make_pool(study)
    print(f"pool: {pool.path}, volumes of each class {pool.counts}")
    if command == "metrics":
        rows, left_out = measure_images(study, pool)
        for row in [*(each.to_json() for each in rows), *left_out]:
            print("  ".join(f"{name}={value}" for name, value in row.items()))


def _dry_run(config: Config, out: Path) -> int:
    from synthaug.study.outlook.cards import describe_cards
    from synthaug.study.outlook.estimate import describe_time
    from synthaug.study.running.studies import examine_studies
    from synthaug.study.stages.checks import check_study

    cells = describe_cells(config)
    refuse_early(config)
    print("\n".join(cell.line() for cell in cells))
    for _, each in settings_of(config):
        check_study(each, out)
    cohorts = [data for data in cohorts_of(config) if data.root is not None]
    if cohorts:
        from synthaug.bench.single.check import check_data

        if [problem for data in cohorts for problem in check_data(data)]:
            return 2
        examine_studies(config, out)
    print("\n".join([describe_time(cells), *describe_cards(config)]))
    return 0
