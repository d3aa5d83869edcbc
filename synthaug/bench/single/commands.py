"""Commands beside studies: import, report, check, actions on pools, reader studies, metrics of two folders."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path

from jsonargparse import ArgumentParser

from synthaug.bench.options.parsing import COMMANDS, accept_study, config_parser, parsed, plain_parser
from synthaug.bench.quiet import quiet
from synthaug.config import SamplingConfig
from synthaug.ground.errors import InputError


def run_import(arguments: Sequence[str]) -> int:
    """Turn a released checkpoint into a generator folder."""
    from synthaug.generate.released import import_released, licence_of

    parser = plain_parser("import")
    parser.add_function_arguments(import_released)
    options = parsed(parser, arguments)
    print(f"Licence: {licence_of(options.unet, options.variant, options.model)}")
    folder = import_released(**vars(options))
    print(f"generator: {folder}")
    return 0


def run_report(arguments: Sequence[str]) -> int:
    """Tell where a study's report is, or write its shareable copy."""
    parser = plain_parser("report")
    parser.add_argument("folder", nargs="?", default=None, help="folder of the study; runs/quickstart by default")
    parser.add_argument("--out", default="runs/quickstart", help="the same, as other commands name it")
    parser.add_argument("--shareable", action="store_true", help="write report-shareable.html too, without patients")
    options = parsed(parser, arguments)
    with quiet():
        from synthaug.bench.studies.remaking import make_report

        path = make_report(Path(options.folder or options.out), shareable=options.shareable)
    print(f"report: {path}")
    return 0


def run_check(arguments: Sequence[str]) -> int:
    """Read a folder or CSV and tell its problems."""
    from synthaug.bench.single.check import check

    parser = plain_parser("check")
    parser.add_function_arguments(check, as_positional=True, skip={"quick"})
    parser.add_argument("--quick", action="store_true", help="leave the timing of the study on this machine out")
    return check(**vars(parsed(parser, arguments)))


def run_pool(action: str = "", *arguments: str) -> int:
    """Run an action on pools."""
    from synthaug.bench.single.pool_commands import FLAGS, POOL_COMMANDS

    if not action or action.startswith("-"):
        raise InputError(
            f"name an action ({', '.join(POOL_COMMANDS)}), or the study whose pool is filled: --config FILE, or --out "
            "FOLDER of one that was begun."
        )
    if action not in POOL_COMMANDS:
        raise InputError(f"unknown action {action!r}; the actions are {', '.join(POOL_COMMANDS)}.")
    told_of = str(POOL_COMMANDS[action].__doc__).partition("\n")[0]
    parser = config_parser(prog=f"synthaug pool {action}", description=told_of, exit_on_error=False)
    flags = FLAGS.get(action, {})
    skipped: set[str | int] = {*flags, "typed"}
    configured = action in ("build", "adopt")
    if action == "adopt":
        skipped |= {"folder"}
        parser.add_argument("folder", help="where the volumes lie")
    parser.add_function_arguments(POOL_COMMANDS[action], as_positional=not configured, skip=skipped)
    for name, meaning in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    asked = signature(POOL_COMMANDS[action]).parameters
    if "data" in asked:
        accept_study(parser, asked)
    options = vars(parsed(parser, _as_positional(arguments) if action in PLACED else arguments))
    told = {name: value for name, value in options.items() if name in asked}
    if action == "build":
        found, names = parser.parse_args(list(arguments), defaults=False), vars(SamplingConfig())
        told["typed"] = [name for name in names if found.get(f"pool.sampling.{name}") is not None]
    with quiet():
        POOL_COMMANDS[action](**told)
    return 0


PLACED = ("export", "montage")
"""Actions on pools whose last argument is the place to write to."""


def _as_positional(arguments: Sequence[str]) -> list[str]:
    """``--out PLACE`` as other commands take it, where the place is the last argument.

    Example:
        >>> _as_positional(["--out", "m.png", "pool"]), _as_positional(["pool", "--out=m.png"])
        (['pool', 'm.png'], ['pool', 'm.png'])
    """
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--out=") else [word])]
    if "--out" not in words[:-1]:
        return words
    at = words.index("--out")
    return [*words[:at], *words[at + 2 :], words[at + 1]]


def run_reader_study(arguments: Sequence[str]) -> int:
    """Make a reader study, or score its answers."""
    from synthaug.bench.single.reader_commands import make, score

    if arguments and arguments[0] == "score":
        parser = ArgumentParser(
            prog="synthaug reader-study score",
            description=str(score.__doc__).partition("\n")[0],
            exit_on_error=False,
            allow_abbrev=False,
        )
        parser.add_argument("answers", nargs="+", help="files that the readers saved")
        parser.add_function_arguments(score, skip={"answers"})
        score(**vars(parsed(parser, arguments[1:])))
        return 0
    parser = config_parser(prog="synthaug reader-study", description=COMMANDS["reader-study"], exit_on_error=False)
    parser.add_argument("pools", nargs="+", help="folders of pools, each a generator of its own in the scores")
    parser.add_function_arguments(make, skip={"pools"})
    asked = signature(make).parameters
    accept_study(parser, asked)
    make(**{name: value for name, value in vars(parsed(parser, arguments)).items() if name in asked})
    return 0


def run_metrics(arguments: Sequence[str]) -> int:
    """Compare two folders of images."""
    from synthaug.bench.single.image_comparison import compare_folders

    parser = plain_parser("metrics")
    parser.add_function_arguments(compare_folders)
    report = compare_folders(**vars(parsed(parser, arguments)))
    columns = ["group", "metric", "value", "ci_low", "ci_high", "value_at_floor_n", "floor", "n_real", "n_synthetic"]
    print(report.to_frame()[columns].to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print("\n".join(report.remarks()))
    return 0
