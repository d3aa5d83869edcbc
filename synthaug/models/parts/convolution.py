"""Convolutions for training in bf16 on CPUs."""

import torch
from torch import nn


class SmallInFloat32(nn.Conv3d):
    """A convolution that computes in float32 where the first side of its input is smaller than its kernel.

    There oneDNN 3.12's gradient of the weights in bf16 reads and writes beside its memory: it can be NaN, or end the
    process. Drawing needs no gradient and stays as it is.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        small = input.shape[2] < self.kernel_size[0]
        if not (small and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(torch.get_autocast_dtype("cpu"))


def small_in_float32(network: nn.Module) -> None:
    """Let every 3D convolution of a network compute in float32 on inputs smaller than its kernel, in training."""
    for block in network.modules():
        if type(block) is nn.Conv3d:
            block.__class__ = SmallInFloat32
