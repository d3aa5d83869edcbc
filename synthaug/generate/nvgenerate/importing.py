"""NV-Generate's checkpoints to a saved pipeline of ours, which draws what they draw and may be trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from synthaug.config import TextEncoderConfig
from synthaug.generate.diffusion import training_scheduler
from synthaug.generate.nvgenerate.fields_of_view import GRIDS, extent_mm, nearest_mm, tell_grid
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.errors import InputError
from synthaug.ground.files import file_hash
from synthaug.models.nvgenerate.checkpoint import MODALITIES, RELEASED, nv_generate_denoiser
from synthaug.models.nvgenerate.growth import ORIGINAL
from synthaug.models.released import released_autoencoder
from synthaug.models.text_encoder import build_text_encoder

IMAGES = {"ct": "ct", "t1": "t1w", "t2": "t2w", "flair": "flair", "swi": "swi"}
"""Names of the image by modality."""


def nv_generate_pipeline(
    unet: str,
    autoencoder: str,
    *,
    model: str,
    modality: str | None,
    images: Sequence[str] | None,
    shape: Sequence[int] | None,
    spacing_mm: Sequence[float] | None,
    micro_batch: int,
    splits: int,
    tile: int,
    head_channels: int,
    norm_groups: int,
) -> CCELLAPipeline:
    """The pipeline of an NV-Generate checkpoint; arguments as of :func:`synthaug.generate.released.import_released`.

    Raises:
        InputError: A file cannot be read, weights do not fit, or the model draws on no grid of its own.
    """
    name = modality or RELEASED[model].modality
    told = next((each for each, label in MODALITIES.items() if str(label) == name), name)
    shape, spacing = _grid(model, shape, spacing_mm)
    denoiser, facts = nv_generate_denoiser(unet, modality=name, head_channels=head_channels)
    vae = released_autoencoder(
        autoencoder, scale_factor=facts["scale_factor"], norm_groups=norm_groups, splits=splits, tile=tile
    )
    stacked, each = denoiser.config.latent_channels, vae.config.latent_channels
    if stacked != each:
        raise InputError(f"{unet} denoises {stacked} latent channels, and {autoencoder} has {each}; they are no pair.")
    names = list(images or [IMAGES.get(told, "mri")])
    if len(names) != 1:
        raise InputError(f"images={names}: NV-Generate draws one image; give one name.")
    with torch.random.fork_rng(devices=[]):
        encoder, tokenizer = build_text_encoder(TextEncoderConfig())  # never asked before the networks have grown
    pipeline = CCELLAPipeline(
        autoencoder=vae,
        denoiser=denoiser,
        text_encoder=encoder,
        tokenizer=tokenizer,
        scheduler=training_scheduler("maisi_flow", num_train_timesteps=facts["num_train_timesteps"]),
        images=names,
        spacing_mm=spacing,
        shape=shape,
        micro_batch=micro_batch,
    )
    pipeline.require_divisible([vae.latent_shape(0, shape)])
    drawn = extent_mm(shape, spacing)
    field = nearest_mm(told, drawn) if model == "rflow-mr" else None
    if field:
        tell_grid(drawn, field, grid="the drawn volume")
    pipeline.record = {
        "source": {"unet": file_hash(Path(unet)), "autoencoder": file_hash(Path(autoencoder)), **facts},
        "nv_generate": {"model": model, "modality": name, "field_of_view_mm": list(field or drawn)},
        "variant": ORIGINAL,
        "license": RELEASED[model].licence,
        "patients": [],
        "cohort": "published; the training patients are not known",
    }
    return pipeline


def _grid(model: str, shape: Sequence[int] | None, spacing_mm: Sequence[float] | None) -> tuple[list[Any], list[Any]]:
    """Voxels and voxel size: those that are given, else the model's own."""
    if shape is not None and spacing_mm is not None:
        return list(shape), list(spacing_mm)
    if shape is not None or spacing_mm is not None or model not in GRIDS:
        raise InputError(f"{model}: give shape and spacing_mm, whose product is the field of view.")
    own_shape, own_spacing = GRIDS[model]
    return list(own_shape), list(own_spacing)
