"""Ray: a pool's shards spread over a cluster, the same bytes as one process; the only module that imports ray.

Every node must see the pool's folder and the generator under the same path.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.errors import InputError
from synthaug.ground.files import usable_folder
from synthaug.pool.building.builder import fill
from synthaug.pool.building.machine import threads_of
from synthaug.pool.building.order import Order
from synthaug.pool.ledger import Ledger
from synthaug.pool.pool import SyntheticPool

SHARDS_PER_WORKER = 4
"""More shards than workers, so that a slow or killed worker holds little back."""
RETRIES = 10
"""How often a shard is begun again after its worker died."""


def build_on_ray(
    generator: str | Path,
    path: str | Path,
    order: Order,
    *,
    workers: int = 2,
    gpus_per_worker: float = 0.0,
    on_volume: Callable[[], None] | None = None,
) -> SyntheticPool:
    """Fill a pool by Ray tasks and open it.

    Connects to the cluster of the environment variable ``RAY_ADDRESS``, or to the one that this process has begun, or
    starts a local one. Each task loads the generator and builds one shard. A task whose worker is killed is restarted
    and continues its shard.

    Args:
        generator: Folder, builtin name or hub id.
        path: Folder of the pool, new or begun before.
        order: What the pool is to hold.
        workers: Tasks at a time.
        gpus_per_worker: Share of a GPU for each task; 0 = CPU.
        on_volume: Called for each volume that appears.

    Raises:
        InputError: Ray is not installed, a number is out of range, or what :func:`~synthaug.pool.building.fill`
            refuses.
    """
    if workers < 1 or gpus_per_worker < 0:
        raise InputError(f"workers={workers} must be at least 1 and gpus_per_worker={gpus_per_worker} not negative.")
    _ray()  # or one clear line, before anything is written
    folder = usable_folder(Path(path)).resolve()
    # Settled here, because in a worker Ray sets the number of threads, and the bytes depend on it.
    order = replace(order, threads=order.threads or threads_of(folder) or torch.get_num_threads())
    with connected(workers * (order.threads or 1)) as ray:
        _run_shards(ray, _address(generator), folder, order, workers=workers, gpus=gpus_per_worker, on_volume=on_volume)
    pool = SyntheticPool.open(folder)
    pool.write_index()
    return pool


@contextlib.contextmanager
def connected(cpus: int) -> Iterator[Any]:
    """The module ``ray``, connected: to the cluster of ``RAY_ADDRESS``, to that which this process has begun, or to a
    local one, which ends here.

    Args:
        cpus: Of the local cluster.

    Raises:
        InputError: Ray is not installed.
    """
    ray = _ray()
    begun = not ray.is_initialized()
    if begun:
        ray.init(**_connection(cpus))
    try:
        yield ray
    finally:
        if begun:
            ray.shutdown()


def _run_shards(ray: Any, generator: str, folder: Path, order: Order, *, workers, gpus, on_volume) -> None:
    """Hand out shards, ``workers`` at a time, until all are done."""
    task = ray.remote(num_cpus=order.threads, num_gpus=gpus, max_retries=RETRIES)(build_shard)
    parts = workers * SHARDS_PER_WORKER
    waiting = [(part, parts) for part in range(parts)]
    running: list[Any] = []
    ledger = Ledger(folder)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(task.remote(generator, str(folder), order, waiting.pop(0), on_gpu=gpus > 0))
            done, running = ray.wait(running, timeout=1.0)
            ray.get(done)
            before = len(ledger.entries)
            ledger.refresh()
            for _ in range(len(ledger.entries) - before if on_volume else 0):
                on_volume()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from error
        raise
    except ray.exceptions.RayError as error:
        raise InputError(
            f"{folder}: Ray lost a shard {RETRIES} times ({type(error).__name__}); what is listed in the pool is "
            "whole, so run the same build again."
        ) from error
    finally:
        ledger.close()


def build_shard(generator: str, folder: str, order: Order, shard: tuple[int, int], *, on_gpu: bool = False) -> None:
    """What one task does: load the generator (once a process) and fill one shard."""
    fill(_load(generator, "cuda" if on_gpu else "cpu"), folder, order, shard=shard)


@functools.lru_cache(maxsize=1)
def _load(generator: str, device: str) -> CCELLAPipeline:
    return CCELLAPipeline.from_pretrained(generator).to(device)


def _address(generator: str | Path) -> str:
    """A folder by its full path, because a worker starts in another one."""
    return str(Path(generator).resolve()) if Path(generator).is_dir() else str(generator)


def _connection(cpus: int) -> dict[str, Any]:
    """Arguments of ``ray.init``: the cluster of the environment, or a local one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a hospital's machines leaves them
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if os.environ.get("RAY_ADDRESS"):
        return quiet
    return {**quiet, "address": "local", "num_cpus": cpus, "object_store_memory": 100 * 2**20}


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("executor=ray needs Ray; install synthaug[ray].") from error
    return ray
