"""Published residual networks that image distances are measured in, loaded strictly into MONAI's ResNet."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from monai.networks.nets import ResNet
from torch import Tensor

from synthaug.ground.errors import InputError
from synthaug.models.pretrained import load_strictly

RESNET50 = {"block": "bottleneck", "layers": [3, 4, 6, 3], "block_inplanes": [64, 128, 256, 512]}
MEDICALNET_FILE = "resnet_50_23dataset.pth"
"""The file of a hub repository: trained on 23 data sets."""
STEM = {"backbone.0.": "conv1.", "backbone.1.": "bn1."} | {f"backbone.{3 + k}.": f"layer{k}." for k in range(1, 5)}
"""RadImageNet numbers torchvision's modules; 2 and 3 (ReLU, pooling) have no weights."""


def load_medicalnet(weights: str | Path) -> ResNet:
    """MedicalNet's 3D ResNet-50 (Chen et al. 2019), features only.

    Its last two levels are dilated in place of strided, as they were trained (for segmentation).

    Args:
        weights: File ``resnet_50_23dataset.pth``, or the hub id of a repository that holds it.

    Returns:
        (B, 1, X, Y, Z), mean 0 and deviation 1 over the body, to (B, 2048).

    Raises:
        InputError: The file is missing, unreadable, or does not hold exactly these weights.
    """
    network = _resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=2)
    for level, dilation in ((network.layer3, 2), (network.layer4, 4)):
        level[0].downsample[0].stride = (1, 1, 1)
        for block in level:
            block.conv2.stride, block.conv2.dilation, block.conv2.padding = (1,) * 3, (dilation,) * 3, (dilation,) * 3
    path = _local_file(weights)
    load_strictly(network, read_weights(path), source=str(path))
    return network.eval().requires_grad_(False)


def load_radimagenet(weights: str | Path) -> ResNet:
    """RadImageNet's 2D ResNet-50 (Mei et al. 2022), features only.

    Args:
        weights: File ``ResNet50.pt`` of its PyTorch release (layers numbered under ``backbone.``), or the same weights
            under torchvision's names, with or without the classifier ``fc``.

    Returns:
        (B, 3, X, Y) in [-1, 1], three equal channels, to (B, 2048).

    Raises:
        InputError: The file is missing, unreadable, or does not hold exactly these weights.
    """
    network = _resnet50(spatial_dims=2, n_input_channels=3, conv1_t_stride=2)
    path = Path(weights)
    renamed = {_torchvision_name(name): value for name, value in read_weights(path).items()}
    state = {name: value for name, value in renamed.items() if not name.startswith("fc.")}
    load_strictly(network, state, source=str(path))
    return network.eval().requires_grad_(False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a PyTorch file by name, without the prefix of data-parallel training.

    Raises:
        InputError: No such file, not a file of tensors, or a file that would have to run code to be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such weights file.")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a readable PyTorch file of tensors alone ({type(error).__name__}).") from error
    state = held.get("state_dict", held) if isinstance(held, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no weights by name; a state dict is needed.")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _resnet50(**settings: int) -> ResNet:
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced by those of the file
        return ResNet(**RESNET50, **settings, shortcut_type="B", bias_downsample=False, feed_forward=False)


def _torchvision_name(name: str) -> str:
    """The name that torchvision, and MONAI after it, gives a weight of RadImageNet's release."""
    for ours, theirs in STEM.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _local_file(weights: str | Path) -> Path:
    """The file itself, or that of the hub repository which the user named."""
    path = Path(weights)
    if path.exists() or path.suffix or str(weights).count("/") != 1:
        return path
    try:
        return Path(hf_hub_download(str(weights), MEDICALNET_FILE))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(
            f"{weights}: neither a file nor a hub repository with {MEDICALNET_FILE} that can be reached "
            f"({type(error).__name__}); download the file and give its path."
        ) from error
