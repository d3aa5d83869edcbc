"""The processes that train together."""

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """The processes that train together (``torchrun``, ``accelerate launch``); alone, there is one.

    Without a GPU, accelerate joins processes only when it is told that the CPU is meant.
    """
    return PartialState(cpu=not torch.cuda.is_available())
