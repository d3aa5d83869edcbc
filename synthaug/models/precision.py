"""Which arithmetic pays on this machine: measured once by a small convolution, never guessed from the device's name."""

import functools
import time
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json, write_json

Precision = Literal["bf16", "float32"]
GAIN = 1.2
"""How many times faster bfloat16 must be to be chosen."""


def resolve_precision(setting: Literal["auto", "bf16", "float32"], record: Path | None = None) -> Precision:
    """What ``auto`` stands for here.

    Args:
        setting: Of the config.
        record: File that keeps the answer, so that resumes, ranks and workers never measure again; None = not kept.

    Raises:
        InputError: The record holds something else.
    """
    if setting != "auto":
        return setting
    if record is not None and record.is_file():
        found = read_json(record)
        if not isinstance(found, dict) or found.get("precision") not in ("bf16", "float32"):
            raise InputError(f"{record}: holds no precision; delete it to have it measured again.")
        return found["precision"]
    measured = measured_precision()
    if record is not None:
        write_json(record, {"precision": measured})
    return measured


@functools.cache
def measured_precision() -> Precision:
    """bf16 where a 3D convolution and its gradients are ``GAIN`` times faster in it than in float32."""
    if torch.cuda.is_available():
        return "bf16" if gpu_has_bf16() else "float32"
    return "bf16" if _seconds(bf16=False) > GAIN * _seconds(bf16=True) else "float32"


def gpu_has_bf16() -> bool:
    """Whether the GPU computes in bfloat16; older ones emulate it, slowly and without all of the convolutions."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def _seconds(*, bf16: bool) -> float:
    """The fastest of a few passes; the first, which prepares kernels, is not counted."""
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv3d(32, 32, 3, padding=1).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        volume = torch.randn(2, 32, 8, 8, 8).to(memory_format=torch.channels_last_3d).requires_grad_()
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            answer = layer(volume)
        answer.float().square().mean().backward()
        seconds.append(time.perf_counter() - started)
        if bf16 and seconds[0] > 2:  # emulated: no need to look again
            break
    return min(seconds[1:] or seconds)
