"""Convert published checkpoints to a pipeline folder."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from synthaug.config import TextEncoderConfig, Variant
from synthaug.generate.checkpoints import Checkpoints
from synthaug.generate.nvgenerate.importing import nv_generate_pipeline
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.requests import require_divisible
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_folder, usable_folder
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.nvgenerate.checkpoint import RELEASED, ModelName, model_of
from synthaug.models.released import LICENCE, released_denoiser
from synthaug.models.text_encoder import build_text_encoder, require_text_encoder
from synthaug.models.variants import VARIANTS

SEQUENCES = ("t2w", "b1600", "adc")
"""Default image names: the first for CCELLA, all for CCELLA++."""
SHAPE, SPACING_MM = (256, 256, 128), (0.5, 0.5, 0.5)
"""Grid of CCELLA's volumes."""
NV_GENERATE = "nv-generate"
Source = Literal[Variant, "nv-generate"]


def licence_of(unet: str, variant: str, model: str | None) -> str:
    """Licence of the weights of a checkpoint, in one sentence.

    Raises:
        InputError: It is one of NV-Generate, and the model is unknown.
    """
    return RELEASED[model_of(unet, model)].licence if variant == NV_GENERATE else LICENCE


def import_released(
    unet: str,
    autoencoder: str,
    output: str,
    variant: Source = "ccella",
    text_encoder: str | None = None,
    images: Sequence[str] | None = None,
    shape: tuple[int, int, int] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    micro_batch: int = 1,
    splits: int = 16,
    tile: int = 0,
    classes: int = 2,
    heads: int = 8,
    head_channels: int = 32,
    norm_groups: int = 32,
    model: ModelName | None = None,
    modality: str | None = None,
) -> Path:
    """Convert a released checkpoint and its autoencoder to a folder for ``CCELLAPipeline.from_pretrained``.

    Sizes are read from the shapes of the weights, and keys must match exactly. Nothing is fetched unless
    ``text_encoder`` names a hub id. CCELLA predicts noise in 1,000 steps, scales class and spacing by 100, and reads
    reports of 512 tokens, truncated on the left. NV-Generate (MAISI-v2) is conditioned on modality and spacing and
    samples a rectified flow in 30 steps. The licence of the weights is shown as a warning and recorded in the folder.

    Args:
        unet: Released checkpoint of the denoiser (CCELLA.pt).
        autoencoder: Checkpoint of the autoencoder: MAISI's, or the one that comes with the model.
        output: Folder to write; new or empty.
        variant: Row of the comparator table, or nv-generate.
        text_encoder: Local folder or hub id of the text encoder (published: google/flan-t5-xxl, about 45 GB).
        images: Names of the sequences in the order of the latents; t2w for one.
        shape: Voxels of a volume; none = 256 x 256 x 128, and 160 x 256 x 256 with rflow-mr-brain.
        spacing_mm: Voxel size; none = 0.5 mm, 1 mm with rflow-mr-brain, and a field of view of 170 x 170 x 90 mm with
            rflow-mr. With rflow-ct shape and spacing must be given.
        micro_batch: Volumes drawn together.
        splits: Parts in which the autoencoder computes a convolution, to bound memory.
        tile: Largest side of the latent tiles that are encoded or decoded; 0 = no tiles.
        classes: Number of classes, for variants whose weights do not contain it.
        heads: Attention heads of the adapter.
        head_channels: Channels of an attention head of the U-Net.
        norm_groups: Groups of the group norms of the autoencoder.
        model: Model of NV-Generate, which sets licence and grid; none = from the name of the file.
        modality: With nv-generate: ct, mri, t1, t2, flair, swi, t1-stripped (without skull) and so on, or the number of
            a label. None: t2 with rflow-mr, t1 with rflow-mr-brain.

    Returns:
        The folder.

    Raises:
        InputError: A file is unreadable, weights do not fit, the text encoder is missing or of another width, or the
            output folder is not empty.
    """
    folder = Path(output)
    _require_room(folder)
    licence = licence_of(unet, variant, model)
    asked = Checkpoints(
        unet=unet,
        autoencoder=autoencoder,
        images=images,
        shape=shape,
        spacing_mm=spacing_mm,
        micro_batch=micro_batch,
        splits=splits,
        tile=tile,
        head_channels=head_channels,
        norm_groups=norm_groups,
    )
    if variant == NV_GENERATE:
        pipeline = nv_generate_pipeline(asked, model=model_of(unet, model), modality=modality)
    else:
        pipeline = _ccella_pipeline(asked, variant=variant, text_encoder=text_encoder, classes=classes, heads=heads)
    return _saved(pipeline, folder, licence)


def _ccella_pipeline(
    asked: Checkpoints, *, variant: str, text_encoder: str | None, classes: int, heads: int
) -> CCELLAPipeline:
    """The pipeline of CCELLA's checkpoint or a comparator's; arguments as of :func:`import_released`."""
    _require_text_encoder(variant, text_encoder)
    denoiser, facts = released_denoiser(
        asked.unet, variant=variant, classes=classes, heads=heads, head_channels=asked.head_channels
    )
    vae = asked.open_autoencoder(scale_factor=facts["scale_factor"])
    names = _share_stack(denoiser, vae, asked.images, source=asked.unet)
    require_divisible(denoiser, [vae.latent_shape(0, asked.shape or SHAPE)])
    return asked.pipeline(
        (vae, denoiser),
        _text_encoder(text_encoder, denoiser, source=asked.unet),
        prediction="epsilon",
        facts=facts,
        images=names,
        shape=asked.shape or SHAPE,
        spacing_mm=asked.spacing_mm or SPACING_MM,
        variant=variant,
        license=LICENCE,
    )


def _require_text_encoder(variant: str, text_encoder: str | None) -> None:
    if variant not in VARIANTS or not VARIANTS[variant].text:
        return
    if text_encoder is None:
        raise InputError(
            f"Variant {variant!r} reads reports: give text_encoder, a local folder or a hub id "
            "(published: google/flan-t5-xxl, about 45 GB)."
        )
    require_text_encoder(text_encoder)


def _text_encoder(path: str | None, denoiser: CCELLADenoiser, *, source: str) -> tuple[Any, Any]:
    """The text encoder and its tokenizer; a small one for variants without text, which never ask theirs."""
    reads = denoiser.conditioning.text
    with torch.random.fork_rng(devices=[]):
        encoder, tokenizer = build_text_encoder(TextEncoderConfig(path=path if reads else None, max_tokens=512))
    if reads and encoder.config.hidden_size != denoiser.config.text_width:
        raise InputError(
            f"{path}: its states are {encoder.config.hidden_size} wide, {source} was trained on "
            f"{denoiser.config.text_width}; it is another text encoder."
        )
    return encoder, tokenizer


def _saved(pipeline: CCELLAPipeline, folder: Path, licence: str) -> Path:
    warnings.warn(licence, UserWarning, stacklevel=3)
    with atomic_folder(folder) as temporary:
        pipeline.save_pretrained(temporary)
    return folder


def _require_room(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: already there; choose another output folder.")
    usable_folder(folder.parent)


def _share_stack(
    denoiser: CCELLADenoiser, autoencoder: ImageAutoencoder, images: Sequence[str] | None, *, source: str
) -> list[str]:
    """Tell the autoencoder how many sequences the denoiser draws together; returns their names."""
    stacked, each = denoiser.config.latent_channels, autoencoder.config.latent_channels
    sequences, rest = divmod(stacked, each)
    if rest or not sequences:
        raise InputError(f"{source} has {stacked} latent channels, no multiple of the autoencoder's {each}.")
    names = list(images or SEQUENCES[:sequences])
    if len(names) != sequences:
        raise InputError(f"{source} draws {sequences} sequences together; give as many images, not {len(names)}.")
    autoencoder.register_to_config(sequences=sequences)
    return names
