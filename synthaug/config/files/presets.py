"""Settings that come with the package, by name: ``--preset NAME`` on a command line stands for their files."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from synthaug.ground.errors import InputError

FOLDER = Path(__file__).parents[2] / "presets"
DEMO = "demo"
"""What the bench runs when no setting is typed."""
CONTINUING = ("bench", "train-autoencoder", "train-ldm", "pool", "classify", "metrics")
"""Commands that go on with the study in their output folder."""
PRESETS = {
    DEMO: (DEMO,),
    "cpu": ("cpu",),
    "small-gpu": ("small-gpu",),
    "published": ("published",),
    "published++": ("published", "published++"),
    "nv-generate-mr": ("nv-generate-mr",),
    "external": ("external",),
}
"""The files of each preset, later ones over earlier ones."""


def preset_files(name: str) -> list[Path]:
    """The YAML files of a preset, later ones over earlier ones.

    Example:
        >>> [path.name for path in preset_files("published++")]
        ['published.yaml', 'published++.yaml']
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        told = f"; did you mean {near[0]}?" if near else "."
        raise InputError(f"--preset {name}: no such preset{told} There are {', '.join(PRESETS)}.")
    return [FOLDER / f"{part}.yaml" for part in PRESETS[name]]


def demonstrates(command: str, words: Sequence[str]) -> bool:
    """Whether a command line asks for nothing but a bench, which is the demonstration where no study is in its folder.

    Example:
        >>> [demonstrates("bench", words) for words in ([], ["--out", "runs/a"], ["--study.seeds=[0]"])]
        [True, True, False]
    """
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    return command == "bench" and not any(
        "." in option or option in ("--config", "--preset", "--version") for option in options
    )


def of_folder(command: str, words: Sequence[str]) -> list[str]:
    """``--config`` of the study in the output folder, where a study or a stage of it is asked for and no settings.

    Example:
        >>> of_folder("metrics", ["--out", "no/study/there"]), of_folder("metrics", ["--study.seeds=[0]"])
        ([], [])
    """
    words = [word for word in words if word != "--dry-run"]
    typed = words[0].split("=", 1) if len(words) == 1 else words
    if command not in CONTINUING or len(typed) != 2 or typed[0] != "--out":
        return []
    config = Path(typed[1]) / "config.yaml"
    return ["--config", str(config)] if config.is_file() else []


def with_presets(words: Sequence[str]) -> list[str]:
    """Words of a command line in which each ``--preset NAME`` became ``--config FILE``, where it stood."""
    made, rest = [], iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option != "--preset":
            made.append(word)
            continue
        name = value if equals else next(rest, "")
        made += [each for path in preset_files(name) for each in ("--config", str(path))]
    return made
