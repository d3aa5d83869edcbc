"""A fault of the program: its traceback in a file that a report of it can carry."""

import platform
import shlex
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "monai", "diffusers", "transformers", "torchio", "mlflow")


def write_fault(command: str, arguments: Sequence[str], error: BaseException) -> Path:
    """Write what a report of a fault needs; returns the file. It may name patients, so look before it is sent.

    Args:
        command: Of ``synthaug``.
        arguments: Its options.
        error: What was raised.
    """
    versions = ", ".join(f"{library} {version(library)}" for library in ("synthaug", *LIBRARIES))
    text = "\n".join(
        [
            f"command: synthaug {command} {shlex.join(arguments)}",
            f"versions: Python {platform.python_version()}, {versions}",
            f"machine: {platform.platform()}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    # Readable by its owner only, under a name that nobody can have prepared.
    descriptor, path = tempfile.mkstemp(prefix=time.strftime("synthaug-fault-%Y%m%d-%H%M%S-"), suffix=".log")
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
    return Path(path)
