"""What a build asks of the machine: threads, arithmetic, room on the disk."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json
from synthaug.models.precision import Precision, measured_precision
from synthaug.pool.ledger import HEADER


@contextlib.contextmanager
def computing_threads(threads: int | None) -> Iterator[int]:
    """Compute with this many threads (None = as it is): a volume's bytes depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def clear_write_errors(folder: Path) -> Iterator[None]:
    """A full disk or a folder that became read-only ends in one sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write there ({error.strerror}); what is listed in the pool is whole, so make room and "
            "run the same build again."
        ) from error


def threads_of(folder: Path) -> int | None:
    """The number of threads that the pool was begun with, so that any machine can go on with it."""
    return read_json(folder / HEADER).get("threads") if (folder / HEADER).is_file() else None


def precision_of(folder: Path, pipe: CCELLAPipeline) -> Precision:
    """The arithmetic that the pool was begun with; of a new one, the generator's, where that pays here."""
    if (folder / HEADER).is_file():
        return read_json(folder / HEADER).get("precision", "float32")
    return measured_precision() if pipe.config.precision == "bf16" else "float32"
