"""3D classifiers, by name, from MONAI."""

import torch
from monai.networks.nets import DenseNet121, EfficientNetBN, ResNet, SEResNet50
from torch import nn

from synthaug.config import ClassifierConfig
from synthaug.ground.errors import InputError
from synthaug.models.parts.stem import quicken_stem

RESNETS = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}


def build_classifier(
    config: ClassifierConfig, *, in_channels: int, classes: int, shape: tuple[int, int, int], seed: int
) -> nn.Module:
    """A network (B, in_channels, *shape) -> logits (B, classes), with weights drawn from ``seed``.

    Raises:
        InputError: The network cannot take volumes of this shape.

    Example:
        >>> build_classifier(ClassifierConfig(), in_channels=1, classes=2, shape=(16, 16, 8), seed=0).training
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(config, in_channels, classes)
    if config.pooling > 1:
        network = nn.Sequential(nn.AvgPool3d(config.pooling), network)
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, in_channels, *shape))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"classifier.network={config.network!r} cannot take volumes of {shape} voxels ({error}); "
            "use larger volumes or a smaller network."
        ) from error
    # Faster convolutions on a CPU; the volumes follow the memory format of the weights.
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.train()


def _network(config: ClassifierConfig, in_channels: int, classes: int) -> nn.Module:
    if config.network in RESNETS:
        block, layers = RESNETS[config.network]
        network = ResNet(
            block=block,
            layers=list(layers),
            block_inplanes=list(config.channels),
            spatial_dims=3,
            n_input_channels=in_channels,
            num_classes=classes,
            conv1_t_size=3,
            conv1_t_stride=1,
            no_max_pool=False,
        )
        quicken_stem(network)
        return network
    if config.network == "densenet121":
        return DenseNet121(spatial_dims=3, in_channels=in_channels, out_channels=classes)
    if config.network == "seresnet50":
        return SEResNet50(spatial_dims=3, in_channels=in_channels, num_classes=classes)
    return EfficientNetBN(
        "efficientnet-b0", spatial_dims=3, in_channels=in_channels, num_classes=classes, pretrained=False
    )
