"""What fine-tuning NV-Generate asks of a GPU: memory and hours on three cards, counted without one.

Operations and saved activations are counted on tensors without values; how much of its peak a card reaches is assumed.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from monai.data.utils import dense_patch_slices
from torch.utils.flop_counter import FlopCounterMode

from synthaug.config import Config, GeneratorConfig
from synthaug.generate.stored.folder import locate
from synthaug.generate.training.additions import add_low_rank, train_additions_only
from synthaug.generate.training.continuing import with_own_design
from synthaug.ground.files import read_json
from synthaug.models.autoencoder import TILE_OVERLAP, ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.nvgenerate.growth import can_grow
from synthaug.models.variants import VARIANTS

GIB = 2**30
SHARE_OF_PEAK = 0.25
"""Of a card's peak that 3D convolutions are assumed to reach."""
OVERHEAD_GIB = 2.0
"""CUDA itself, convolution workspaces, text encoder and adapter."""
COUNTED = 16
"""Longest side of the latent whose decoding is counted."""
LIVE = 6
"""Feature maps of the autoencoder's largest size that are in memory at once."""


@dataclass(frozen=True)
class Card:
    """A size of GPU, and one of its kind."""

    name: str
    gib: float
    """Memory that a process can have."""
    half_tflops: float
    """Peak in half precision, in which is trained."""
    single_tflops: float
    """Peak in float32 (TF32 where there is one), in which is encoded and drawn."""


CARDS = (
    Card("16 GB (T4)", gib=14.6, half_tflops=65, single_tflops=8),
    Card("24 GB (A10)", gib=22.0, half_tflops=125, single_tflops=62),
    Card("80 GB (A100)", gib=79.0, half_tflops=312, single_tflops=156),
)


@dataclass(frozen=True)
class Demand:
    """What a study asks of a card."""

    card: Card
    rows: int
    """Of a training step's batch at once; 0 = not even one fits."""
    training_gib: float
    """Peak with so many rows, or with one."""
    drawing_gib: float
    """Peak while volumes are encoded or drawn."""
    training_hours: float
    encoding_seconds: float
    """Of one volume."""
    pool_hours: float

    def words(self) -> str:
        """One line."""
        if not self.rows:
            return f"{self.card.name}: one row of a step takes {self.training_gib:.1f} GiB, which does not fit"
        peak = max(self.training_gib, self.drawing_gib)
        fits = "" if peak <= self.card.gib else ", which does not fit: import with a smaller tile"
        return (
            f"{self.card.name}: {self.rows} rows at once; peak {self.training_gib:.1f} GiB training, "
            f"{self.drawing_gib:.1f} GiB drawing{fits}; training {self.training_hours:.1f} h, encoding "
            f"{self.encoding_seconds:.0f} s a volume, pool {self.pool_hours:.1f} h"
        )


@dataclass
class Networks:
    """The networks of a study that goes on from NV-Generate, without values."""

    config: Config
    saved_autoencoder: dict[str, Any]
    """Settings of the pretrained autoencoder."""
    saved_denoiser: dict[str, Any]
    """Settings of the pretrained denoiser."""

    @classmethod
    def read(cls, config: Config, folder: Path) -> Self:
        """The networks of a generator's folder.

        Raises:
            InputError: There is no generator.
        """
        return cls(config, _saved(folder / "autoencoder"), _saved(folder / "denoiser"))

    @cached_property
    def design(self) -> GeneratorConfig:
        """Of the training."""
        return with_own_design(self.config.generator)

    @cached_property
    def autoencoder(self) -> ImageAutoencoder:
        """As saved."""
        with torch.device("meta"):
            return ImageAutoencoder(**self.saved_autoencoder)

    @cached_property
    def denoiser(self) -> CCELLADenoiser:
        """As it is trained, in half precision, in which autocast computes."""
        saved = self.saved_denoiser
        if can_grow(saved):
            saved = saved | {"variant": self.design.variant, "adapter_size": asdict(self.design.adapter)}
        with torch.device("meta"):
            denoiser = CCELLADenoiser(**saved)
            denoiser.unet.to(torch.bfloat16)
            if self.design.unet == "lora":
                add_low_rank(denoiser.unet, rank=self.design.lora_rank, seed=0)
        if self.design.unet != "free":
            train_additions_only(denoiser.unet)
        return denoiser

    def answer(self) -> torch.Tensor:
        """One row through the U-Net."""
        denoiser, settings = self.denoiser, self.denoiser.config
        shape = self.autoencoder.latent_shape(0, self.config.preprocess.shape)
        told = VARIANTS[settings.variant]
        adapter = self.design.adapter if can_grow(self.saved_denoiser) else None
        sizes = asdict(adapter) if adapter else settings.adapter_size or {}
        half: dict[str, Any] = {"device": "meta", "dtype": torch.bfloat16}
        return denoiser.unet(
            torch.empty(1, *shape, **half),
            torch.empty(1, **half),
            torch.empty(1, sizes["queries"], sizes["width"], **half) if told.text else None,
            modality=torch.empty(1, device="meta", dtype=torch.long),
            class_vector=None if told.class_input == "none" else torch.empty(1, settings.classes, **half),
            spacing=torch.empty(1, 3, **half),
        )


def describe_cards(config: Config) -> list[str]:
    """Lines on what each of ``CARDS`` would need; none where a study does not go on from NV-Generate.

    Raises:
        InputError: ``generator.pretrained`` is no generator.
    """
    generator = config.generator
    if not generator.pretrained or not config.study.synthetic or config.pool.path or config.pool.generator:
        return []
    if not _saved(locate(generator.pretrained) / "denoiser").get("modalities"):
        return []
    head = f"On GPUs, estimated ({SHARE_OF_PEAK:.0%} of a card's peak assumed, nothing measured):"
    return [head, *(f"  {demand.words()}" for demand in demands(config))]


def demands(config: Config) -> Iterator[Demand]:
    """What each of ``CARDS`` would need for a study that goes on from NV-Generate.

    Raises:
        InputError: ``generator.pretrained`` is no generator.
    """
    networks = Networks.read(config, locate(str(config.generator.pretrained)))
    training, sampling = networks.design.training, config.pool.sampling
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        networks.answer()
    saved, both = _trained(networks)
    fixed = _fixed_gib(networks) + OVERHEAD_GIB
    tile, tiles = _tiles(networks)
    encode, decode = _autoencoder_flops(networks, tile)
    voxels = math.prod(tile) * networks.autoencoder.factor**3
    largest = voxels * networks.autoencoder.config.channels[0] * 4 / GIB
    evaluations = sampling.steps * (1 if sampling.guidance == 1 else 2)
    volumes = 2 * config.pool.per_class
    for card in CARDS:
        fitting = [n for n in range(1, training.batch_size + 1) if training.batch_size % n == 0]
        rows = max((n for n in fitting if fixed + n * saved <= card.gib), default=0)
        half, single = (SHARE_OF_PEAK * peak * 1e12 for peak in (card.half_tflops, card.single_tflops))
        yield Demand(
            card,
            rows=rows,
            training_gib=fixed + max(rows, 1) * saved,
            drawing_gib=OVERHEAD_GIB + _weights_gib(networks) + LIVE * largest,
            training_hours=both * training.batch_size * training.steps / half / 3600,
            encoding_seconds=tiles * encode / single,
            pool_hours=volumes * (evaluations * forward.get_total_flops() + tiles * decode) / single / 3600,
        )


def _trained(networks: Networks) -> tuple[float, float]:
    """GiB that a row of a training step keeps for its gradients, and operations of both passes."""
    kept: dict[int, torch.Tensor] = {}
    weights = {id(parameter) for parameter in networks.denoiser.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            answer = networks.answer()
        sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values()]
        answer.sum().backward()
    return sum(sizes) / GIB, counter.get_total_flops()


def _weights_gib(networks: Networks) -> float:
    """Weights of U-Net and autoencoder in float32."""
    modules = (networks.denoiser.unet, networks.autoencoder)
    return sum(each.numel() for module in modules for each in module.parameters()) * 4 / GIB


def _fixed_gib(networks: Networks) -> float:
    """Weights, their half-precision copies, gradients, AdamW's moments and the average."""
    parameters = list(networks.denoiser.unet.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    state = 12 + (4 if networks.design.training.ema else 0)
    return _weights_gib(networks) + (2 * sum(each.numel() for each in parameters) + state * trained) / GIB


def _tiles(networks: Networks) -> tuple[list[int], int]:
    """Sides of the latent that the autoencoder sees at once, and how often it is called for a volume."""
    _, *sides = networks.autoencoder.latent_shape(0, networks.config.preprocess.shape)
    tile = [min(networks.autoencoder.config.tile or side, side) for side in sides]
    steps = [max(1, int(side * (1 - TILE_OVERLAP))) for side in tile]
    return tile, len(dense_patch_slices(sides, tile, steps))


def _autoencoder_flops(networks: Networks, tile: list[int]) -> tuple[float, float]:
    """Operations of encoding and of decoding a tile, from a smaller one: MONAI takes large ones to the CPU."""
    autoencoder = networks.autoencoder
    counted = [min(COUNTED, side) for side in tile]
    times = math.prod(tile) / math.prod(counted)
    latents = torch.empty(1, autoencoder.config.latent_channels, *counted, device="meta")
    volume = torch.empty(1, 1, *(side * autoencoder.factor for side in counted), device="meta")
    counts = []
    for work, given in ((autoencoder.encode, volume), (autoencoder.decode, latents)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            work(given)
        counts.append(times * counter.get_total_flops())
    return counts[0], counts[1]


def _saved(folder: Path) -> dict[str, Any]:
    """Settings of a saved network; convolutions in one piece."""
    settings = {name: value for name, value in read_json(folder / "config.json").items() if not name.startswith("_")}
    return settings | {"splits": 1} if "splits" in settings else settings
