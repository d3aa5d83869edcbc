"""The processes that train together."""

from datetime import timedelta

import torch
from accelerate import PartialState

PATIENCE = timedelta(days=30)
"""How long processes wait for the main one, which looks at a training and stores it alone; NCCL's own is 10 minutes."""


def processes() -> PartialState:
    """The processes that train together (``torchrun``, ``accelerate launch``); alone, there is one.

    Without a GPU, accelerate joins processes only when it is told that the CPU is meant.
    """
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
