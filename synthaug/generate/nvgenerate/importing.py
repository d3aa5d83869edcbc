"""NV-Generate's checkpoints to a saved pipeline of ours, which draws what they draw and may be trained on."""

from collections.abc import Sequence
from typing import Any

import torch

from synthaug.config import TextEncoderConfig
from synthaug.generate.checkpoints import Checkpoints
from synthaug.generate.nvgenerate.fields_of_view import GRIDS, extent_mm, nearest_mm, tell_grid
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.requests import require_divisible
from synthaug.ground.errors import InputError
from synthaug.models.nvgenerate.checkpoint import MODALITIES, RELEASED, nv_generate_denoiser
from synthaug.models.nvgenerate.growth import ORIGINAL
from synthaug.models.text_encoder import build_text_encoder

IMAGES = {"ct": "ct", "t1": "t1w", "t2": "t2w", "flair": "flair", "swi": "swi"}
"""Names of the image by modality."""


def nv_generate_pipeline(asked: Checkpoints, *, model: str, modality: str | None) -> CCELLAPipeline:
    """The pipeline of an NV-Generate checkpoint.

    Args:
        asked: Its files, and what is asked of it.
        model: Model of NV-Generate, as of :func:`synthaug.generate.released.import_released`.
        modality: As there.

    Raises:
        InputError: A file cannot be read, weights do not fit, or the model draws on no grid of its own.
    """
    name = modality or RELEASED[model].modality
    told = next((each for each, label in MODALITIES.items() if str(label) == name), name)
    shape, spacing = _grid(model, asked.shape, asked.spacing_mm)
    denoiser, facts = nv_generate_denoiser(asked.unet, modality=name, head_channels=asked.head_channels)
    vae = asked.open_autoencoder(scale_factor=facts["scale_factor"])
    stacked, each = denoiser.config.latent_channels, vae.config.latent_channels
    if stacked != each:
        pair = f"{asked.unet} denoises {stacked} latent channels, and {asked.autoencoder} has {each}"
        raise InputError(f"{pair}; they are no pair.")
    names = list(asked.images or [IMAGES.get(told, "mri")])
    if len(names) != 1:
        raise InputError(f"images={names}: NV-Generate draws one image; give one name.")
    with torch.random.fork_rng(devices=[]):
        text = build_text_encoder(TextEncoderConfig())  # never asked before the networks have grown
    drawn = extent_mm(shape, spacing)
    field = nearest_mm(told, drawn) if model == "rflow-mr" else None
    require_divisible(denoiser, [vae.latent_shape(0, shape)])
    if field:
        tell_grid(drawn, field, grid="the drawn volume")
    return asked.pipeline(
        (vae, denoiser),
        text,
        prediction="maisi_flow",
        facts=facts,
        images=names,
        shape=shape,
        spacing_mm=spacing,
        nv_generate={"model": model, "modality": name, "field_of_view_mm": list(field or drawn)},
        variant=ORIGINAL,
        license=RELEASED[model].licence,
    )


def _grid(model: str, shape: Sequence[int] | None, spacing_mm: Sequence[float] | None) -> tuple[list[Any], list[Any]]:
    """Voxels and voxel size: those that are given, else the model's own."""
    if shape is not None and spacing_mm is not None:
        return list(shape), list(spacing_mm)
    if shape is not None or spacing_mm is not None or model not in GRIDS:
        raise InputError(f"{model}: give shape and spacing_mm, whose product is the field of view.")
    own_shape, own_spacing = GRIDS[model]
    return list(own_shape), list(own_spacing)
