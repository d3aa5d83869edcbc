"""NVIDIA's NV-Generate checkpoints: which there are, under which licence, and how they are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from synthaug.ground.errors import InputError
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.nvgenerate.growth import ORIGINAL
from synthaug.models.pretrained import load_strictly
from synthaug.models.released import bare_state, denoiser_sizes, facts_of, read_checkpoint

ModelName = Literal["rflow-mr", "rflow-mr-brain", "rflow-ct"]
MODALITIES = {
    "ct": 1,
    "mri": 8,
    "t1": 9,
    "t2": 10,
    "flair": 11,
    "swi": 20,
    "t1-stripped": 29,
    "t2-stripped": 30,
    "flair-stripped": 31,
    "swi-stripped": 32,
}
"""Modality labels by name; mri = of any kind, -stripped = without the skull."""
OPEN_MODEL = (
    "NVIDIA's {name} weights, and all weights derived from them, are under the NVIDIA Open Model License, which allows "
    "commercial use; the terms that came with your copy hold."
)
NON_COMMERCIAL = (
    "NVIDIA's {name} weights, and all weights derived from them, are for non-commercial use only, under NVIDIA's "
    "one-way non-commercial licence."
)


@dataclass(frozen=True)
class Released:
    """One of NVIDIA's models."""

    licence: str
    """In one sentence."""
    modality: str
    """That its volumes are drawn under unless another is asked for."""


RELEASED: dict[str, Released] = {
    "rflow-mr": Released(NON_COMMERCIAL.format(name="rflow-mr"), modality="t2"),
    "rflow-mr-brain": Released(OPEN_MODEL.format(name="rflow-mr-brain"), modality="t1"),
    "rflow-ct": Released(OPEN_MODEL.format(name="rflow-ct"), modality="ct"),
}


def model_of(path: str | Path, model: str | None) -> str:
    """The model whose checkpoint a file is: the one that is named, else what the file's own name says.

    Files of different models hold the same keys and shapes, so that nothing else tells them, and their licences differ.

    Raises:
        InputError: Neither says it, or they contradict each other.

    Example:
        >>> model_of("diff_unet_3d_rflow-mr.pt", None), model_of("unet.pt", "rflow-ct")
        ('rflow-mr', 'rflow-ct')
    """
    names = sorted(get_args(ModelName), key=len, reverse=True)  # rflow-mr is part of another's name
    told = next((name for name in names if name in Path(path).name.lower().replace("_", "-")), None)
    if model is not None and model not in RELEASED:
        raise InputError(f"model={model!r} is none of NV-Generate's; they are {', '.join(RELEASED)}.")
    if model is None and told is None:
        raise InputError(f"{path}: its name tells no model; give model, one of {', '.join(RELEASED)}.")
    if model is not None and told not in (None, model):
        raise InputError(f"{path}: its name tells {told}, and model={model}; give the one that it is.")
    return model or str(told)


def modality_label(modality: str) -> int:
    """The label of a modality, by its name or as the number itself.

    Example:
        >>> modality_label("t2"), modality_label("29")
        (10, 29)
    """
    if modality in MODALITIES:
        return MODALITIES[modality]
    if not modality.isdecimal() or int(modality) == 0:
        raise InputError(f"modality={modality!r}: give {', '.join(MODALITIES)}, or the label's number, from 1.")
    return int(modality)


def nv_generate_denoiser(
    path: str | Path, *, modality: str, head_channels: int = 32
) -> tuple[CCELLADenoiser, dict[str, Any]]:
    """The denoiser of an NV-Generate checkpoint, of any width.

    Args:
        path: Its file.
        modality: A name of ``MODALITIES`` or a label's number.
        head_channels: Channels of an attention head; shapes do not tell (published: 32).

    Returns:
        The denoiser and the file's ``scale_factor``, ``num_train_timesteps`` and ``epoch`` as numbers.

    Raises:
        InputError: The file is of another kind, or its weights are missing, unexpected, misshapen or NaN.
    """
    checkpoint = read_checkpoint(path)
    missing = [key for key in ("unet_state_dict", "scale_factor") if key not in checkpoint]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; an NV-Generate checkpoint has them.")
    state = {f"unet.{name}": value for name, value in bare_state(checkpoint["unet_state_dict"]).items()}
    labels = state.get("unet.class_embedding.weight")
    if labels is None:
        kind = "ddpm-ct (MAISI-v1)" if "unet.top_region_index_layer.0.weight" in state else "another network"
        raise InputError(f"{path}: has no modality embedding, so it is {kind}, not one of {', '.join(RELEASED)}.")
    label = modality_label(modality)
    if label >= len(labels):
        raise InputError(f"modality={modality!r}: {path} has the labels 1 to {len(labels) - 1}.")
    try:
        sizes = denoiser_sizes(state, head_channels=head_channels)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: weights do not fit NV-Generate's U-Net: {error.args[0]!r} is missing.") from error
    kept = {name: sizes[name] for name in ("latent_channels", "unet_size")}
    denoiser = CCELLADenoiser(variant=ORIGINAL, modalities=len(labels), modality=label, **kept)
    load_strictly(denoiser, state, source=str(path))
    return denoiser.eval(), facts_of(checkpoint, source=path)
