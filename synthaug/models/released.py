"""Published checkpoints read into our networks: every size from the file, every key accounted for, nothing executed.

The files of Grabke et al. (arXiv 2506.10230) hold a dictionary with the denoiser under ``unet_state_dict`` and the
latents' ``scale_factor``; the image autoencoder is MAISI's own file.
"""

import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from synthaug.ground.errors import InputError
from synthaug.ground.files import COPIED
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.pretrained import load_strictly
from synthaug.models.variants import VARIANTS

State = Mapping[str, torch.Tensor]

LICENCE = (
    "Released CCELLA checkpoints derive from MAISI's weights for CT (ddpm-ct), which NVIDIA gives under its Open Model "
    "License; the terms that came with your copies of the files hold, and those of the checkpoint's authors."
)
PUBLISHED_SCALE = 100.0
"""Factor on class vector and spacing in published denoisers."""
WRAPPERS = ("unet_state_dict", "state_dict", "model")
"""Keys under which a file may hold its weights; MAISI's own tools write the first, for the autoencoder too."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The dictionary in a ``.pt`` file, tensors and plain values only, mapped from disk where the format allows.

    Raises:
        InputError: No such file, not a checkpoint, or one that holds other Python objects (nothing of them is run).
    """
    path = Path(path)
    if not path.is_file():
        told = "is a folder; name the checkpoint file in it" if path.is_dir() else "no such checkpoint file"
        raise InputError(f"{path}: {told}.")
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before torch 1.6 cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: holds Python objects other than tensors and plain values; refused.") from error
    except (RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        reason = type(error).__name__
        raise InputError(f"{path}: not a readable checkpoint, or cut short ({reason}); {COPIED}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}, not a dictionary of weights.")
    return found


def released_denoiser(
    path: str | Path, *, variant: str = "ccella", classes: int = 2, heads: int = 8, head_channels: int = 32
) -> tuple[CCELLADenoiser, dict[str, Any]]:
    """The denoiser of a published checkpoint, of any width.

    Args:
        path: Its file.
        variant: Which row of the comparator table it is.
        classes: Number of classes, for variants whose weights do not tell.
        heads: Attention heads of the adapter; shapes do not tell (published: 8).
        head_channels: Channels of an attention head of the U-Net; shapes do not tell (published: 32).

    Returns:
        The denoiser and the file's other values: ``scale_factor`` and ``num_train_timesteps`` as numbers, ``epoch``.

    Raises:
        InputError: The file is of another kind or variant, or its weights are missing, unexpected, misshapen or NaN.
    """
    if variant not in VARIANTS:
        raise InputError(f"Unknown variant {variant!r}; the variants are {', '.join(VARIANTS)}.")
    checkpoint = read_checkpoint(path)
    missing = [key for key in ("unet_state_dict", "scale_factor") if key not in checkpoint]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; a released CCELLA checkpoint has them.")
    state = bare_state(checkpoint["unet_state_dict"])
    fitting = ["nv-generate"] if "class_embedding.weight" in state else _variants_of(state)
    if variant not in fitting:
        raise InputError(f"{path}: its weights are those of variant {' or '.join(fitting)}, not of {variant!r}.")
    if not VARIANTS[variant].text:
        state = {f"unet.{name}": value for name, value in state.items()}
    try:
        sizes = denoiser_sizes(state, heads=heads, head_channels=head_channels)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: weights do not fit CCELLADenoiser: {error.args[0]!r} is missing.") from error
    sizes["classes"] = sizes["classes"] or classes
    denoiser = CCELLADenoiser(variant=variant, **sizes)
    load_strictly(denoiser, state, source=str(path))
    return denoiser.eval(), facts_of(checkpoint, source=path)


def facts_of(checkpoint: dict[str, Any], *, source: str | Path) -> dict[str, Any]:
    """What a published checkpoint of a U-Net says beside its weights; InputError where that cannot be."""
    found = {"num_train_timesteps": 1000, "epoch": 0} | checkpoint
    kinds = {"scale_factor": float, "num_train_timesteps": int, "epoch": int}
    facts: dict[str, Any] = {}
    for name, kind in kinds.items():
        try:
            facts[name] = kind(found[name])
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise InputError(f"{source}: its {name} is {found[name]!r:.50}, no number.") from error
    if not 0 < facts["scale_factor"] < math.inf or facts["num_train_timesteps"] < 1:
        raise InputError(f"{source}: its scale_factor and num_train_timesteps must be positive, and it says {facts}.")
    return facts


def released_autoencoder(
    path: str | Path, *, scale_factor: float, norm_groups: int = 32, splits: int = 1, tile: int = 0
) -> ImageAutoencoder:
    """MAISI's image autoencoder from its own file, of any width.

    Half-precision norms, which crash on a CPU, are off: precision is autocast's decision.

    Args:
        path: Its file: the bare weights, or a dictionary with them.
        scale_factor: The latents' scale, which the denoiser's file holds.
        norm_groups: Groups of its norms; shapes do not tell (published: 32).
        splits: Parts in which a convolution is computed, to bound memory.
        tile: Longest side of a latent that is decoded at once, 0 = any.

    Raises:
        InputError: Weights are missing, unexpected, misshapen or NaN.
    """
    found = read_checkpoint(path)
    wrapper = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
    state = bare_state(found[wrapper] if wrapper else found)
    try:
        sizes = _autoencoder_sizes(state)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: weights do not fit ImageAutoencoder: {error.args[0]!r} is missing.") from error
    if any(channels % norm_groups for channels in sizes["channels"]):
        raise InputError(f"norm_groups={norm_groups}: {path} has {sizes['channels']} channels, no multiples of it.")
    autoencoder = ImageAutoencoder(
        **sizes, norm_groups=norm_groups, splits=splits, tile=tile, scale_factor=scale_factor
    )
    load_strictly(autoencoder, {f"vae.{name}": value for name, value in state.items()}, source=str(path))
    return autoencoder.eval()


def bare_state(state: Any) -> State:
    """The weights by their own names: a network wrapped for several GPUs is saved with a prefix to every key."""
    prefix = "module."
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise InputError("The checkpoint's weights are not a dictionary of tensors.")
    if state and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _variants_of(state: State) -> list[str]:
    """The variants whose published files have such keys."""

    def has(*starts: str) -> bool:
        return all(any(name.startswith(start) for name in state) for start in starts)

    told = any("pirads_layer." in name for name in state)
    if not has("ella."):
        return ["radmaisi" if told else "maisi"]
    if has("ella.connector.cascade_blocks."):
        return ["ccella", "l1only"]
    if has("ella.connector.classifier."):
        return ["shared" if has("classifier.weight") else "first"]
    if has("classifier.fc1."):
        return ["last"]
    return ["decoupled" if told else "ellamaisi"]


def denoiser_sizes(state: State, *, heads: int = 8, head_channels: int = 32) -> dict[str, Any]:
    """Arguments of CCELLADenoiser from shapes; KeyError names a weight that is needed for it."""
    first = state["unet.conv_in.conv.weight"]
    levels = _count(state, r"unet\.down_blocks\.(\d+)\.")
    told = state.get("unet.pirads_layer.0.weight")
    unet = {
        "channels": tuple(
            state[f"unet.down_blocks.{level}.resnets.0.conv1.conv.weight"].shape[0] for level in range(levels)
        ),
        "attention": tuple(
            any(name.startswith(f"unet.down_blocks.{level}.attentions.") for name in state) for level in range(levels)
        ),
        "residual_blocks": _count(state, r"unet\.down_blocks\.0\.resnets\.(\d+)\."),
        "head_channels": head_channels,
        "condition_scale": PUBLISHED_SCALE,
    }
    sizes: dict[str, Any] = {"latent_channels": first.shape[1], "unet_size": unet, "classes": None}
    if told is not None:
        sizes["classes"] = told.shape[1]
    if "ella.connector.latents" in state or any(name.startswith("ella.") for name in state):
        queries, width = state["ella.connector.latents"].shape
        hidden = next((value.shape[0] for name, value in state.items() if name.endswith(".fc1.weight")), 256)
        sizes["text_width"] = state["ella.connector.proj_in.weight"].shape[1]
        sizes["adapter_size"] = {
            "width": width,
            "queries": queries,
            "blocks": _count(state, r"ella\.connector\.perceiver_blocks\.(\d+)\."),
            "heads": heads,
            "sinusoids": state["ella.time_embedding.linear_1.weight"].shape[1],
            "class_width": hidden,
        }
    return sizes


def _autoencoder_sizes(state: State) -> dict[str, Any]:
    """Arguments of ImageAutoencoder from shapes: levels end where the encoder shrinks the volume."""
    levels: list[list[int]] = [[]]
    for index in range(_count(state, r"encoder\.blocks\.(\d+)\.")):
        residual = state.get(f"encoder.blocks.{index}.conv1.conv.conv.weight")
        if residual is not None:
            levels[-1].append(residual.shape[0])
        elif f"encoder.blocks.{index}.conv.conv.conv.weight" in state:
            levels.append([])
    if not all(levels):
        raise KeyError("encoder.blocks")
    return {
        "channels": tuple(level[0] for level in levels),
        "residual_blocks": len(levels[0]),
        "latent_channels": state["quant_conv_mu.conv.weight"].shape[0],
    }


def _count(state: State, pattern: str) -> int:
    """One more than the largest number that ``pattern`` finds in a key."""
    numbers = [int(match[1]) for name in state if (match := re.match(pattern, name))]
    if not numbers:
        raise KeyError(pattern.replace("\\", "").replace("(d+).", "0"))
    return max(numbers) + 1
