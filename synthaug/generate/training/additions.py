"""What of a pretrained U-Net is trained, where not all of it: what was added to it, and low-rank additions by peft."""

import importlib.util

import torch
from torch import nn

from synthaug.config import GeneratorConfig
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed
from synthaug.models.latent_space import LatentSpace
from synthaug.models.nvgenerate.unet import is_added

LOW_RANK = "lora_"
"""What the names of peft's parameters begin with."""
BLOCKS = ("down_blocks.", "middle_block.", "up_blocks.")
"""Parts of a U-Net whose layers get low-rank additions."""


def require_lora() -> None:
    """InputError where the extra is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise InputError("generator.unet=lora needs peft; install it by pip install 'synthaug[lora]'.")


def require_levels(space: LatentSpace, config: GeneratorConfig, *, count: int) -> None:
    """InputError where a latent space has another number of levels than is asked for, or more than can be trained so.

    Args:
        space: That a generator is trained over.
        config: Of the training.
        count: Levels that it asks for.
    """
    if space.levels != count:
        raise InputError(
            f"generator.levels: {count} levels asked for, {space.levels} are there; give as many, or leave it empty."
        )
    if config.unet != "free" and count > 1:
        raise InputError(
            f"generator.unet={config.unet} is for one level, and this generator has {count}; set it to free."
        )


def add_low_rank(unet: nn.Module, *, rank: int, seed: int) -> None:
    """Put low-rank additions (arXiv 2106.09685), zero before training, on the linear layers and convolutions.

    Args:
        unet: Changed in place.
        rank: Of the additions.
        seed: Names their first weights.
    """
    from peft import LoraConfig, inject_adapter_in_model  # late: an extra

    layers = [
        name
        for name, layer in unet.named_modules()
        if _takes_additions(layer) and name.startswith(BLOCKS) and not is_added(name)
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("low rank", seed))
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), unet)


def _takes_additions(layer: nn.Module) -> bool:
    """Linear layers and convolutions over neighbours; peft cannot merge what it adds to a pointwise one."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv3d) and layer.kernel_size != (1, 1, 1))


def merge_low_rank(unet: nn.Module) -> None:
    """Add the low-rank additions to the weights, so that the network is one of its kind again."""
    from peft.tuners.lora import LoraLayer

    for name, layer in [each for each in unet.named_modules() if isinstance(each[1], LoraLayer)]:
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(unet.get_submodule(parent), own, layer.get_base_layer())


def train_additions_only(unet: nn.Module) -> None:
    """Let only what was added to a pretrained U-Net be trained."""
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(is_added(name) or LOW_RANK in name)
