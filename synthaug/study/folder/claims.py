"""Who is at which cell or generator of a study's folder, so that benches that share it make nothing twice.

A claim is a lock on a file in ``claims`` and ends with its process, however that ends. The file system must honour
``flock``.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from synthaug.ground.errors import InputError
from synthaug.models.training.processes import processes
from synthaug.pool.ledger import CLAIMS, claim, release

WAIT_SECONDS = 0.5
"""Between looks at what another process has claimed."""


def try_claim(out: Path, *makes: Path) -> TextIO | None:
    """Claim what is made at the paths ``makes``; None where another process is at it.

    Whoever gets the claim has to look again whether it is made, and gives the claim back by ``ledger.release``. What a
    killed process left half written there is removed.

    Args:
        out: The study's folder.
        makes: Files or folders in it; the first names the claim.

    Raises:
        InputError: The file system does not lock files.
    """
    try:
        (out / CLAIMS).mkdir(parents=True, exist_ok=True)
        held = claim(out, makes[0].stem)
    except OSError as error:
        raise InputError(
            f"{out}: files cannot be locked there ({error.strerror}); choose an output folder on a file system with "
            "flock."
        ) from error
    if held is None:
        return None
    for path in makes:
        for left in path.parent.glob(f".*.{path.stem}*"):  # as files.atomic_path and atomic_folder name them
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return held


@contextlib.contextmanager
def claimed(out: Path, *makes: Path, what: str) -> Iterator[None]:
    """Hold the claim of :func:`try_claim`; whoever has it is waited for, which is told once.

    Of several processes that train together (``torchrun``) the main one claims for all.

    Args:
        out: The study's folder.
        makes: As of :func:`try_claim`.
        what: What the other process is doing, for people.

    Raises:
        InputError: The file system does not lock files, or several processes, whose waiting would run into the time
            limit of their connection, meet another bench.
    """
    held = _wait_for(out, *makes, what=what) if processes().is_main_process else None
    processes().wait_for_everyone()
    try:
        yield
    finally:
        if held:
            release(held)


def _wait_for(out: Path, *makes: Path, what: str) -> TextIO:
    told = False
    while (held := try_claim(out, *makes)) is None:
        if processes().num_processes > 1:
            raise InputError(f"{out}: another bench is {what} there; start several ranks when it is done.")
        if not told:
            tqdm.write(f"{out}: another bench is {what} there; this one waits for it.", file=sys.stderr)
            told = True
        time.sleep(WAIT_SECONDS)
    return held
