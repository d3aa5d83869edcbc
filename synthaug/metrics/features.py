"""Volumes to feature rows: the extractors that image distances are measured in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn

from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.ground.seeding import torch_generator
from synthaug.models.pretrained import weights_hash

RANGE_TOLERANCE = 1e-3
"""How far beyond [0, 1] a voxel may lie: resampling and float16 files overshoot by rounding."""


@dataclass(frozen=True)
class Extractor:
    """A network that maps volumes to feature rows, and the fingerprint that says which network it was.

    Example:
        >>> extractor = module_extractor(nn.Flatten(), "voxels")
        >>> extractor.features(torch.linspace(0, 1, 12).reshape(3, 1, 2, 2, 1)).shape
        (3, 4)
    """

    name: str
    """What the network is, for tables; another architecture must have another name."""
    module: nn.Module
    """Maps (B, C, X, Y, Z) in [0, 1] to (B, d); run in evaluation mode."""
    preprocessing: str = ""
    """What was done to the volumes, in words or as a hash of its settings; part of the fingerprint."""
    layer: str = "output"
    """Which layer the features come from; part of the fingerprint."""

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over weights, layer, preprocessing and name; the device does not count.

        Computed anew at each call, so that it always speaks of the weights as they are.
        """
        return content_hash([self.name, self.layer, self.preprocessing, weights_hash(self.module)])

    def features(
        self, volumes: Iterable[Tensor], batch_size: int = 8, *, device: torch.device | str = "cpu"
    ) -> np.ndarray:
        """Run the network over a stream of volumes; only one batch of them is held at a time.

        Args:
            volumes: Tensors (C, X, Y, Z) in [0, 1], all of one shape.
            batch_size: Volumes a forward pass; the features do not depend on it (beyond float32 rounding).
            device: Where the network runs; it stays there.

        Returns:
            Features (n, d), float64, in the order of the volumes.

        Raises:
            InputError: No volumes, unlike shapes, voxels outside [0, 1], a channel that is constant, or features that
                are not finite.
        """
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1.")
        module = self.module.to(device).eval()
        rows: list[np.ndarray] = []
        done = 0
        with torch.inference_mode():
            for batch in _batches(volumes, batch_size):
                output = module(batch.to(device))
                if output.ndim != 2 or len(output) != len(batch):
                    raise InputError(
                        f"Extractor {self.name!r} gave shape {tuple(output.shape)} for a batch of {len(batch)}; "
                        "it must give (batch, features): pool or flatten the output."
                    )
                finite = torch.isfinite(output).all(dim=1).cpu()
                if not bool(finite.all()):
                    first = done + int(torch.argmin(finite.int()))
                    raise InputError(f"Extractor {self.name!r} gave features that are not finite for volume {first}.")
                rows.append(output.double().cpu().numpy())
                done += len(batch)
        if not rows:
            raise InputError("There are no volumes to extract features from.")
        return np.concatenate(rows)


def _batches(volumes: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Stacked float32 batches (B, C, X, Y, Z); the last may be smaller."""
    stream = _checked(volumes)
    while batch := list(islice(stream, batch_size)):
        yield torch.stack(batch)


def _checked(volumes: Iterable[Tensor]) -> Iterator[Tensor]:
    """The volumes in float32, each of the first one's shape, within [0, 1] and not constant."""
    expected: tuple[int, ...] | None = None
    for index, volume in enumerate(volumes):
        shape = tuple(volume.shape)
        expected = expected or shape
        if volume.ndim != 4 or shape != expected or not volume.numel():
            raise InputError(
                f"Volume {index} has shape {shape}; all must be (C, X, Y, Z) and alike (the first has {expected}): "
                "preprocess them alike."
            )
        low, high = (float(bound) for bound in torch.aminmax(volume))
        # Written so that NaN fails too: every comparison with NaN is false.
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            raise InputError(f"Volume {index} spans [{low:.4g}, {high:.4g}]; features need [0, 1]: preprocess it.")
        flat = volume.flatten(1)
        constant = (flat == flat[:, :1]).all(dim=1)
        if constant.any():
            channel = int(constant.int().argmax())
            raise InputError(
                f"Volume {index} is constant: every voxel of channel {channel} is {float(flat[channel, 0]):.4g}, which "
                "shows nothing; leave it out, or mend what wrote it."
            )
        yield volume.float()


class LevelMeans(nn.Module):
    """Spatial means of every level of a residual network, side by side: fine texture first, coarse shape last.

    Random filters answer to texture at the scale of their level; the last level alone would forget the fine ones.
    From level to level the means spread sqrt(2 * 8) = 4 times as wide. The residual sum doubles the variance, and the
    mean is over 8 times fewer voxels. Divided by 4, no level drowns the others in the distance.
    """

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, C, X, Y, Z) in [0, 1] to (B, sum of the levels' channels)."""
        net = self.network
        current = net.act(net.bn1(net.conv1((volumes - 0.5) / 0.25)))
        means: list[Tensor] = []
        for level in (net.layer1, net.layer2, net.layer3, net.layer4):
            current = level(current)
            means.append(current.mean(dim=(2, 3, 4)) / 4 ** len(means))
        return torch.cat(means, dim=1)


def seeded_extractor(channels: int = 1, seed: int = 0) -> Extractor:
    """A MONAI 3D ResNet with fixed random weights: needs no download and is the same on every machine.

    He initialisation and identity batch norm keep the scale of the signal from level to level. Random features
    rank degradations of one kind of image well; they know nothing of anatomy.

    Args:
        channels: Channels of the volumes.
        seed: Another seed, another network and another fingerprint.

    Returns:
        An extractor with 512 features, for volumes of 16 x 16 x 8 voxels and more.

    Example:
        >>> extractor = seeded_extractor(channels=1, seed=0)
        >>> extractor.features([torch.linspace(0, 1, 2048).reshape(1, 16, 16, 8)]).shape
        (1, 512)
        >>> extractor.fingerprint == seeded_extractor().fingerprint != seeded_extractor(seed=1).fingerprint
        True
    """
    if channels < 1:
        raise InputError(f"channels={channels} must be at least 1.")
    # MONAI's constructor draws weights from the global generator: put its state back, then draw our own.
    with torch.random.fork_rng(devices=[]):
        network = ResNet(
            block="basic",
            layers=[1, 1, 1, 1],
            block_inplanes=[16, 48, 192, 256],
            n_input_channels=channels,
            conv1_t_size=5,
            no_max_pool=True,
            feed_forward=False,
            bias_downsample=False,
        )
    generator = torch_generator("extractor", channels, seed)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu", generator=generator)
    module = LevelMeans(network).eval().requires_grad_(False)
    # Faster on a CPU, without effect on the fingerprint. PyTorch's stubs lack this keyword.
    module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Extractor("seeded-resnet10", module, layer="spatial means of levels 1-4, each level divided by 4 once more")


def module_extractor(module: nn.Module, name: str, preprocessing: str = "") -> Extractor:
    """Measure in the features of any network.

    Args:
        module: Maps (B, C, X, Y, Z) in [0, 1] to (B, d).
        name: What the network is; networks that share weights but differ otherwise need different names.
        preprocessing: What was done to the volumes.

    Example:
        >>> pooled = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
        >>> volume = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1)
        >>> module_extractor(pooled, "mean intensity").features([volume]).tolist()
        [[0.5]]
    """
    return Extractor(name, module, preprocessing=preprocessing)
