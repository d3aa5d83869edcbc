"""Extractors by name: the seeded network and the published ones, each with the preprocessing that it was trained on."""

from collections.abc import Sequence
from pathlib import Path

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn

from synthaug.ground.errors import InputError
from synthaug.metrics.features import Extractor, seeded_extractor
from synthaug.models.extractors.backbones import load_medicalnet, load_radimagenet
from synthaug.models.extractors.taps import FIELD, SPACING_MM, ProstateNetwork, load_taps, z_scored

EXTRACTORS = ("seeded", "medicalnet", "radimagenet", "taps")
"""Names that :func:`build_extractor` knows."""
NEED_WEIGHTS = ("medicalnet", "radimagenet")
"""Extractors whose weights the user has to bring."""


def build_extractor(
    name: str,
    *,
    channels: int = 1,
    spacing_mm: Sequence[float] | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
) -> Extractor:
    """An extractor by its name.

    Args:
        name: "seeded" (random weights, any image), "medicalnet" (3D, 23 data sets), "radimagenet" (2D, three planes),
            "taps" (3D, prostate T2).
        channels: Channels of the volumes.
        spacing_mm: Their voxel size; only taps asks for it.
        weights: File of the published weights, for medicalnet (or a hub id) and radimagenet.
        seed: Names the weights of the seeded one.

    Raises:
        InputError: An unknown name, weights that are missing or not asked for, no spacing for taps.

    Example:
        >>> build_extractor("seeded").name
        'seeded-resnet10'
    """
    if name not in EXTRACTORS:
        raise InputError(f"extractor={name!r}: choose from {', '.join(EXTRACTORS)}.")
    if (name in NEED_WEIGHTS) != (weights is not None):
        asks = "needs weights= (the file of its published weights)" if name in NEED_WEIGHTS else "takes no weights"
        raise InputError(f"The extractor {name!r} {asks}.")
    if name == "seeded":
        return seeded_extractor(channels=channels, seed=seed)
    if name == "taps":
        if spacing_mm is None:
            raise InputError(
                "The extractor 'taps' needs spacing_mm: give subjects, or build_extractor(...) it with one."
            )
        return taps_extractor(spacing_mm)
    assert weights is not None
    return medicalnet_extractor(weights) if name == "medicalnet" else radimagenet_extractor(weights)


def medicalnet_extractor(weights: str | Path) -> Extractor:
    """MedicalNet's ResNet-50 (Chen et al. 2019), the published choice in 3D; 2048 features a channel.

    Args:
        weights: File ``resnet_50_23dataset.pth``, or the hub id of a repository that holds it.

    Raises:
        InputError: As :func:`synthaug.models.extractors.backbones.load_medicalnet`.
    """
    return Extractor(
        "medicalnet-resnet50",
        ChannelByChannel(load_medicalnet(weights)),
        preprocessing="each channel z-scored over its non-zero voxels",
        layer="spatial means of level 4 (levels 3 and 4 dilated)",
    )


def radimagenet_extractor(weights: str | Path, *, slices: int = 16, side: int = 224) -> Extractor:
    """RadImageNet's ResNet-50 (Mei et al. 2022) on slices of three planes ("2.5D"); 3 x 2048 features a channel.

    Args:
        weights: File ``ResNet50.pt`` of its PyTorch release, or torchvision's layout of it.
        slices: Evenly spaced slices of each plane; all where there are fewer.
        side: Pixels that slices are resampled to; 224 as in its training.

    Raises:
        InputError: As :func:`synthaug.models.extractors.backbones.load_radimagenet`; settings below 1.
    """
    return Extractor(
        "radimagenet-resnet50",
        ThreePlanes(load_radimagenet(weights), slices=slices, side=side),
        preprocessing=f"[-1, 1], {slices} slices a plane, {side} x {side} pixels",
        layer="spatial means of level 4, mean over the slices of a plane",
    )


def taps_extractor(spacing_mm: Sequence[float]) -> Extractor:
    """The encoder of the prostate network in the lavlab-taps wheel: 256 features of a T2 image.

    Args:
        spacing_mm: Voxel size of the volumes, RAS axes.

    Raises:
        InputError: taps is not installed, or the spacing is not positive.
    """
    module = ProstateNetwork(load_taps(), spacing_mm)
    return Extractor(
        "taps-segresnet",
        module,
        preprocessing=f"RAS, {module.spacing_mm} to {SPACING_MM} mm, central {FIELD}, z-scored over non-zero voxels",
        layer="spatial means of the encoder's level 4",
    )


class ChannelByChannel(nn.Module):
    """A network for one channel, on each channel of a volume; the features side by side."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to (B, C * d)."""
        single = z_scored(volumes).flatten(0, 1)[:, None]
        return self.network(single).reshape(len(volumes), -1)


class ThreePlanes(nn.Module):
    """A network for grey images in three equal channels, on slices across each of the three axes of a volume."""

    CHUNK = 32
    """Slices a forward pass, so that memory depends neither on the batch nor on the volume."""

    def __init__(self, network: ResNet, *, slices: int, side: int) -> None:
        super().__init__()
        if slices < 1 or side < 1:
            raise InputError(f"slices={slices} and side={side} must be at least 1.")
        self.network, self.slices, self.side = network, slices, side

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, C, X, Y, Z) in [0, 1] to (B, C * 3 * d)."""
        parts = [self._plane(volumes.flatten(0, 1), axis) for axis in (1, 2, 3)]
        return torch.cat(parts, dim=1).reshape(len(volumes), -1)

    def _plane(self, singles: Tensor, axis: int) -> Tensor:
        """(N, X, Y, Z) to (N, d): the mean over slices across an axis."""
        length = singles.shape[axis]
        places = torch.linspace(0, length - 1, min(self.slices, length)).round().long().to(singles.device)
        chosen = singles.index_select(axis, places).movedim(axis, 1)  # (N, slices, ., .)
        images = chosen.flatten(0, 1)[:, None]
        features = [self._features(chunk) for chunk in images.split(self.CHUNK)]
        return torch.cat(features).reshape(len(singles), len(places), -1).mean(dim=1)

    def _features(self, images: Tensor) -> Tensor:
        sized = nn.functional.interpolate(images, (self.side, self.side), mode="bilinear", align_corners=False)
        return self.network((2 * sized - 1).expand(-1, 3, -1, -1))
