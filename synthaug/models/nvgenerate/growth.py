"""NV-Generate's networks with report and class beside modality and spacing: what they draw stays as it was."""

from collections.abc import Mapping
from typing import Any

from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.pretrained import load_strictly

ORIGINAL = "maisi"
"""The variant of an imported checkpoint: it is told neither report nor class."""


def can_grow(settings: Mapping[str, Any]) -> bool:
    """Whether a denoiser with these settings is NV-Generate's, as it was imported.

    Example:
        >>> can_grow({"modalities": 128, "variant": "maisi"}), can_grow({"variant": "maisi"})
        (True, False)
    """
    return bool(settings.get("modalities")) and settings.get("variant") == ORIGINAL


def grown(
    original: CCELLADenoiser, *, variant: str, classes: int, text_width: int, adapter_size: dict[str, Any]
) -> CCELLADenoiser:
    """The denoiser as another variant, with the original's weights; what is new has no effect before it is trained.

    Args:
        original: As imported; see :func:`can_grow`.
        variant: A row of the comparator table.
        classes: Number of classes.
        text_width: Width of the text encoder's hidden states.
        adapter_size: Fields of AdapterConfig.
    """
    sizes = {"variant": variant, "classes": classes, "text_width": text_width, "adapter_size": adapter_size}
    denoiser = CCELLADenoiser(**original.settings | sizes)
    load_strictly(denoiser, {**denoiser.state_dict(), **original.state_dict()}, source="the pretrained generator")
    return denoiser
