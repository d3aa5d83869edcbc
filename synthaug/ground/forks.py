"""What a forked child does first, where the system forks."""

import os
from collections.abc import Callable


def in_forked_children(call: Callable[[], object]) -> None:
    """Call a function in every child that is forked from this process; Windows forks none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
