"""Two training processes on one machine, for the tests of what they do together."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def paths_of(test_file: str) -> list[str]:
    """What a script needs on its path that imports a test file, the tests' helpers and this checkout."""
    folder = Path(test_file).resolve().parent
    return [str(folder), str(folder.parent), str(folder.parents[1])]


def run_two(script: Path) -> None:
    """What ``accelerate launch --cpu --num_processes 2`` starts, without its launcher."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    shared |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(2):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        environment = os.environ | shared | own
        processes.append(subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()[-2000:]
