"""A denoiser for more sequences than it was trained on (ours): those that it knew are denoised as before."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.pretrained import load_strictly


def can_gain_sequences(settings: Mapping[str, Any]) -> bool:
    """Whether a denoiser with these settings can be given more sequences.

    Example:
        >>> can_gain_sequences({"levels": [{"low_frequencies": 4}]}), can_gain_sequences({"modalities": 128})
        (True, False)
    """
    linear = any(level.get("linear") for level in settings.get("levels") or ())
    return not (linear or settings.get("modalities") or settings.get("layout_shape"))


def with_sequences(original: CCELLADenoiser, places: Sequence[int], count: int) -> CCELLADenoiser:
    """The denoiser for ``count`` sequences.

    Weights that see or answer a new sequence start at 0. The others' answers therefore do not change, whatever the new
    ones show, until it is trained. What textures tell stays that of the others, as it was measured in their training.

    Args:
        original: One for which :func:`can_gain_sequences` holds.
        places: Where each of its sequences stands among the new ones.
        count: Number of sequences, more than the original has.
    """
    settings = copy.deepcopy(original.settings)
    for sizes in (settings, *(settings.get("levels") or [])):
        if sizes.get("texture"):
            sizes["texture"] = min(sizes["texture"], 2 * sizes["latent_channels"])  # more were asked for than there are
        for name in {"latent_channels", "guide_channels"} & sizes.keys():
            sizes[name] = sizes[name] // len(places) * count
    denoiser = CCELLADenoiser(**settings)
    new = denoiser.state_dict()
    placed = {name: _placed(name, old, new[name], places, count) for name, old in original.state_dict().items()}
    load_strictly(denoiser, placed, source="the pretrained generator")
    return denoiser


def _placed(name: str, old: torch.Tensor, new: torch.Tensor, places: Sequence[int], count: int) -> torch.Tensor:
    """The old values where their sequences stand in the new tensor, 0 elsewhere."""
    if old.shape == new.shape:
        return old
    (dim,) = (dim for dim, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)) if a != b)
    blocks = _blocks(name)
    each = (new.shape[dim] - old.shape[dim]) // (count - len(places)) // blocks  # values of a sequence in a block
    kept = [
        (block * count + place) * each + value for block in range(blocks) for place in places for value in range(each)
    ]
    listed = blocks * count * each
    if name.endswith("fine.first.weight"):
        others = new.shape[dim] - listed  # what the U-Net says comes first
        kept = [*range(others), *(others + value for value in kept)]
    else:
        kept += range(listed, new.shape[dim])  # coordinates, told values
    index = torch.tensor(kept, device=old.device)
    return torch.zeros(new.shape, dtype=old.dtype, device=old.device).index_copy(dim, index, old)


def _blocks(name: str) -> int:
    """How often a tensor lists all sequences: latents and guide, or two statistics of the texture."""
    guided = name.startswith("finer.") and name.endswith(("conv_in.conv.weight", "fine.first.weight"))
    return 2 if guided or ".texture." in name else 1
