"""Two training processes on one machine, for the tests of what they do together."""

import multiprocessing
import os
import socket
import traceback

from accelerate.state import AcceleratorState, GradientState


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def in_two_processes(work, *arguments):
    """Run ``work(rank, *arguments)`` in two forked processes that speak over gloo; returns what each returned."""
    port = str(free_port())
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def run(rank):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": str(rank)}
        os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
        AcceleratorState._reset_state(True)
        GradientState._reset_state()
        try:
            answers.put((rank, work(rank, *arguments)))
        except Exception:
            answers.put((rank, traceback.format_exc()))

    children = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for child in children:
        child.start()
    found = dict(answers.get() for _ in children)
    for child in children:
        child.join(timeout=60)
    assert not any(isinstance(answer, str) for answer in found.values()), found
    return [found[rank] for rank in range(2)]
