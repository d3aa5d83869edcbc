"""The machine that a figure was measured on, in words."""

import os
import platform

import torch


def machine() -> str:
    """Processor, cores, threads and torch."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
