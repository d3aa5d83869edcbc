"""Peak memory of CCELLA at its published size on a CPU: one denoising step and one decode, random weights, one run.

    python benchmarks/speed/full_size.py [--splits N] [--quick]

Published (Grabke et al., arXiv 2506.10230): latents of 4 x 64 x 64 x 32, a U-Net of 64/128/256/512 channels, an adapter
of width 768 over 512 tokens of width 4,096, and MAISI's VAE, which decodes to 256 x 256 x 128 voxels. Each part runs in
a process of its own, whose peak resident memory the operating system tells. The reference is the same decode in one
piece; only with --reference is it run, since it needs more memory than most machines have. Memory does not depend on
what the weights are. The last line printed is JSON.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from machine import machine

from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser

TARGET_GIB = 12.0
LATENT = (64, 64, 32)
QUICK_LATENT = (16, 16, 8)
"""With --quick: the same networks, a sixty-fourth of the voxels."""
TOKENS, TEXT_WIDTH = 512, 4096
UNET = {
    "channels": (64, 128, 256, 512),
    "attention": (False, False, True, True),
    "residual_blocks": 2,
    "condition_scale": 100.0,
}
ADAPTER = {"width": 768, "queries": 256, "blocks": 6, "heads": 8, "sinusoids": 320, "class_width": 256}


@dataclass(frozen=True)
class Part:
    """What a part of the work took."""

    seconds: float
    peak_gib: float
    """Peak resident memory of a process that did nothing else, libraries and weights included."""
    parameters: int
    shape: tuple[int, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts, each in its own process, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=16, help="parts in which the decoder's convolutions are computed")
    parser.add_argument("--tile", type=int, default=40, help="longest side of a latent that is decoded at once")
    parser.add_argument("--reference", action="store_true", help="also decode in one piece: needs tens of GiB")
    parser.add_argument("--quick", action="store_true", help="volumes a quarter as wide: within a minute")
    options = parser.parse_args(arguments)
    sides = QUICK_LATENT if options.quick else LATENT
    step, decode = alone(denoise, sides), alone(decode_volume, sides, options.splits, options.tile)
    whole = alone(decode_volume, sides, 1, 0) if options.reference else None
    peak = max(step.peak_gib, decode.peak_gib)
    result: dict[str, Any] = {
        "claim": f"peak GiB: a denoising step at {_times(sides)} latents, a decode to {_times(decode.shape[2:])}",
        "ours": peak,
        "reference": None if whole is None else max(step.peak_gib, whole.peak_gib),
        "ratio": None if whole is None else max(step.peak_gib, whole.peak_gib) / peak,
        "target": TARGET_GIB,
        "holds": bool(peak <= TARGET_GIB),
        "machine": machine(),
        "quick": options.quick,
        "splits": options.splits,
        "tile": options.tile,
        "denoising_step": vars(step),
        "decode": vars(decode),
    }
    print(json.dumps(result, ensure_ascii=False))


def alone(work: Callable[..., Part], *arguments: Any) -> Part:
    """The result of ``work`` in a fresh process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


@torch.no_grad()
def denoise(sides: Sequence[int]) -> Part:
    """One step of the sampler: the adapter reads a report of 512 tokens, the U-Net denoises one latent."""
    network = CCELLADenoiser(text_width=TEXT_WIDTH, unet_size=UNET, adapter_size=ADAPTER).eval()
    timestep, latents = torch.tensor([500]), torch.randn(1, 4, *sides)
    start = time.perf_counter()
    context, logits = network.read(torch.randn(1, TOKENS, TEXT_WIDTH), timestep)
    predicted = network(
        latents,
        timestep,
        context=context,
        class_vector=network.class_vector(logits, None),
        spacing_mm=torch.tensor([[0.5, 0.5, 0.5]]),
    )
    return measure_part(network, predicted, start)


@torch.no_grad()
def decode_volume(sides: Sequence[int], splits: int, tile: int) -> Part:
    """MAISI's VAE from one latent to a volume of four times its sides."""
    network = ImageAutoencoder(splits=splits, tile=tile).eval()
    latents = torch.randn(1, 4, *sides)
    start = time.perf_counter()
    return measure_part(network, network.decode(latents), start)


def measure_part(network: torch.nn.Module, output: torch.Tensor, start: float) -> Part:
    """What a network took since ``start``; its output must be finite."""
    seconds = time.perf_counter() - start
    if not output.isfinite().all():
        raise SystemExit(f"{type(network).__name__}: the output is not finite.")
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = sum(parameter.numel() for parameter in network.parameters())
    return Part(seconds, kib / 2**20, count, tuple(output.shape))


def _times(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))


if __name__ == "__main__":
    main()
