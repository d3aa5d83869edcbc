"""Running the cells of a study: one after another here, or as Ray tasks; records and bytes are the same.

The result of a cell depends on config, data and number of threads. Every Ray worker therefore uses as many threads as
this process. Each cell is claimed before it is run (:mod:`synthaug.study.folder.claims`): several benches on one folder
share its cells.
"""

import contextlib
import functools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from synthaug.config import ExecutionConfig
from synthaug.ground.errors import InputError
from synthaug.models.training.optimisation import OnStep
from synthaug.models.training.processes import processes
from synthaug.pool.cluster import RETRIES, connected
from synthaug.pool.ledger import release
from synthaug.study.events import no_progress
from synthaug.study.folder.claims import WAIT_SECONDS, try_claim
from synthaug.study.grid import Cell, trained_once
from synthaug.study.running.cell import cell_path
from synthaug.study.running.studies import Studies

GPUS_PER_CELL = 0.25
"""Share of a GPU that a cell gets where none is asked for and there are GPUs."""

Outcome = dict[str, Any]
"""{"record": what a cell found} or {"error": why there is none, in one line}."""
Outcomes = Iterator[tuple[Cell, Outcome]]


def run_cells(
    cells: Sequence[Cell],
    studies: Studies,
    execution: ExecutionConfig,
    *,
    on_step: OnStep | None = None,
    on_outcome: Callable[[Cell, Outcome], None] = lambda cell, outcome: None,
) -> dict[str, Outcome]:
    """The outcome of each cell by its id, in the order of ``cells``; those that another bench is at are waited for.

    Args:
        cells: Of one study; of several with one id, the first is run.
        studies: Their data and pools, which must be made.
        execution: Where they run.
        on_step: Called after each training step of a cell that runs in this process.
        on_outcome: Called when a cell is found, done or has failed.

    Raises:
        InputError: Ray is not installed, or is asked to work beside ``torchrun``.
    """
    if execution.executor == "ray" and processes().num_processes > 1:
        raise InputError("executor=ray starts its own workers; leave torchrun out, or run with executor=local.")
    outcomes: dict[str, Outcome] = {}
    once = trained_once(cells)
    missing = [cell for cell in once if not cell_path(studies.out, cell).is_file()]
    found = [cell for cell in once if cell not in missing]
    for part, run in ((found, _run_here), (missing, _run_on_ray if execution.executor == "ray" else _run_here)):
        for cell, outcome in run(part, studies, execution, on_step=on_step):
            outcomes[cell.id] = outcome
            on_outcome(cell, outcome)
    return {cell.id: outcomes[cell.id] for cell in once}


def _run_here(
    cells: Sequence[Cell], studies: Studies, execution: ExecutionConfig, *, on_step: OnStep | None
) -> Outcomes:
    pending, contested = deque(cells), deque[Cell]()
    while pending or contested:
        if not pending:
            _wait_for(contested, studies.out)
            pending, contested = contested, deque()
        cell = pending.popleft()
        outcome = attempt(cell, studies, on_step=on_step)
        if outcome is None:
            contested.append(cell)
        else:
            yield cell, outcome


def attempt(cell: Cell, studies: Studies, *, on_step: OnStep | None = None) -> Outcome | None:
    """Run a cell, or read its record; None where another process is at it.

    Several processes that train together run it together, and the main one claims and writes.
    """
    try:
        with _turn(studies.out, cell_path(studies.out, cell)) as ours:
            return {"record": studies.run(cell, on_step=on_step)} if ours else None
    except Exception as error:  # one cell's failure must not cost the others
        # But what befalls one rank alone would leave the others waiting for it in their next exchange.
        if processes().num_processes > 1 and not isinstance(error, InputError):
            raise
        return {"error": _one_line(error)}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _turn(out: Path, record: Path) -> Iterator[bool]:
    """Whether to go on with a cell: its record is there, or it is claimed by us; the same answer in every rank."""
    held, ours = None, [False]
    if processes().is_main_process:
        held = None if record.is_file() else try_claim(out, record)
        ours = [held is not None or record.is_file()]
    try:
        if processes().num_processes > 1:
            broadcast_object_list(ours)
        yield ours[0]
    finally:
        if held:
            release(held)


def _run_on_ray(
    cells: Sequence[Cell], studies: Studies, execution: ExecutionConfig, *, on_step: OnStep | None
) -> Outcomes:
    """As :func:`_run_here`; a cell whose worker was killed is begun again and goes on from its checkpoint."""
    if not cells:
        return
    threads, place = torch.get_num_threads(), (str(studies.out.resolve()), os.getcwd())
    with connected(execution.workers * threads) as ray:
        share = _gpu_share(execution, gpus=ray.cluster_resources().get("GPU", 0))
        task = ray.remote(num_cpus=threads, num_gpus=share, max_retries=RETRIES)(run_remote_cell)
        pending, contested = deque(cells), deque[Cell]()
        running: dict[Any, Cell] = {}
        while pending or contested or running:
            if not pending and contested:
                _wait_for(contested, studies.out)
                pending, contested = contested, deque()
            while pending and len(running) < execution.workers:
                cell = pending.popleft()
                running[task.remote(cell, place, threads=threads)] = cell
            done, _ = ray.wait(list(running), timeout=1.0)
            for reference in done:
                cell, outcome = running.pop(reference), _outcome_of(ray, reference)
                if outcome is None:
                    contested.append(cell)
                else:
                    yield cell, outcome


def run_remote_cell(cell: Cell, place: tuple[str, str], *, threads: int) -> Outcome | None:
    """What a Ray task does: :func:`attempt`, from the folder and with the threads of the bench that sent it.

    Args:
        cell: The cell.
        place: The study's folder and the working folder that relative paths of the config start from.
        threads: To compute with.
    """
    out, working_folder = place
    os.chdir(working_folder)
    torch.set_num_threads(threads)
    return attempt(cell, _studies_in(out))


@functools.lru_cache(maxsize=1)
def _studies_in(out: str) -> Studies:
    """The studies of a folder, read once a worker."""
    return Studies(Path(out), no_progress)


def _outcome_of(ray: Any, reference: Any) -> Outcome | None:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # before the cell began: its node lacks a folder or a package
        return {"error": _one_line(error.cause)}
    except ray.exceptions.RayError as error:
        return {"error": f"its Ray worker died {RETRIES + 1} times ({type(error).__name__}); run the study again."}


def _gpu_share(execution: ExecutionConfig, *, gpus: float) -> float:
    """What each task asks of a GPU: on a cluster without any, a task that asked would never run."""
    if gpus:
        return GPUS_PER_CELL if execution.gpus_per_cell is None else execution.gpus_per_cell
    if execution.gpus_per_cell:
        tqdm.write("The Ray cluster has no GPU: the cells compute on CPUs.", file=sys.stderr)
    return 0.0


def _wait_for(contested: Sequence[Cell], out: Path) -> None:
    if processes().is_main_process:
        _tell_once(out)
    time.sleep(WAIT_SECONDS)


@functools.cache
def _tell_once(out: Path) -> None:
    tqdm.write(f"{out}: another bench is at the last cells there; this one waits for them.", file=sys.stderr)
