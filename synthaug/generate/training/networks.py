"""The networks that a training begins with: new ones, or those of the generator that it goes on from."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from diffusers import SchedulerMixin

from synthaug.config import GeneratorConfig, PreprocessConfig
from synthaug.data.voxels.geometry import CONDITIONS
from synthaug.generate.diffusion import TRAIN_TIMESTEPS, default_sampler, training_scheduler
from synthaug.generate.levels import levels_of
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training.continuing import with_own_design
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.latent_space import LatentSpace
from synthaug.models.nvgenerate.growth import can_grow, grown
from synthaug.models.sequences import can_gain_sequences, with_sequences
from synthaug.models.text_encoder import build_text_encoder


def pretrained_generator(config: GeneratorConfig, *, classes: int, images: Sequence[str]) -> CCELLAPipeline:
    """The generator that ``config.pretrained`` names; it may have fewer of the ``images``.

    Raises:
        InputError: There is none, or it cannot be trained as ``config`` asks.
    """
    with_own_design(config)
    begun = CCELLAPipeline.from_pretrained(str(config.pretrained))
    old = "layout_shape" if begun.denoiser.config.layout_shape else ""
    old = old or ("latent_deviations" if begun.config.latent_deviations else "")
    if old:
        raise InputError(
            f"generator.pretrained={config.pretrained!r}: it was trained by an earlier version ({old}), which can only "
            "be sampled now; train a new one."
        )
    its_timesteps = begun.scheduler.config.get("num_train_timesteps", TRAIN_TIMESTEPS)
    its_classes = classes if can_grow(begun.denoiser.settings) else begun.denoiser.config.classes
    found = {
        "the number of classes": (its_classes, classes),
        "the number of timesteps": (its_timesteps, TRAIN_TIMESTEPS),
    }
    for name, (its, asked) in found.items():
        if its != asked:
            raise InputError(f"generator.pretrained={config.pretrained!r}: {name} is {its!r} there and {asked!r} here.")
    image_places(config, begun, images)
    return begun


def pretrained_space(
    config: GeneratorConfig, begun: CCELLAPipeline, images: Sequence[str], volumes: Callable[[], torch.Tensor]
) -> LatentSpace:
    """The latent space of the generator that the training goes on from, for all ``images``.

    Args:
        config: Of the training.
        begun: As :func:`pretrained_generator` opened it.
        images: Image names, in channel order.
        volumes: Reads the training volumes (N, C, X, Y, Z), for a space that is fitted to new images.
    """
    places = image_places(config, begun, images)
    if len(places) == len(images):
        return begun.autoencoder
    return begun.autoencoder.with_sequences(places, len(images), volumes)


def pretrained_causes(config: GeneratorConfig, begun: CCELLAPipeline, images: Sequence[str]) -> dict[str, Any]:
    """What names the generator that a training goes on from, and where its images stand if not first.

    Names of images are told nowhere else, and with more images than it has they decide which of its weights see which.
    """
    places = image_places(config, begun, images)
    return {"pretrained": begun.fingerprint} | ({} if places == [*range(len(places))] else {"places": places})


def image_places(config: GeneratorConfig, begun: CCELLAPipeline, images: Sequence[str]) -> list[int]:
    """Where each image of the generator stands among those of the training; InputError where that cannot be.

    With as many images each stands where it was; new names may take the place of others, and known ones keep theirs.
    """
    its = [*begun.config.images]
    source = f"generator.pretrained={config.pretrained!r}"
    if len(its) == len(images):
        if any(there != here and there in images for there, here in zip(its, images, strict=True)):
            raise InputError(f"{source}: data.images={[*images]} must name those that it knows in its order, {its}.")
        return [*range(len(its))]
    if not set(its) < set(images):
        raise InputError(
            f"{source}: its images are {its} and data.images={[*images]}; a generator goes on with as many images, or "
            "with others beside all of its own, which keep their names."
        )
    if config.unet != "free":
        raise InputError(f"{source}: generator.unet={config.unet} cannot learn more images than {its}; set it to free.")
    if not can_gain_sequences(begun.denoiser.settings):
        raise InputError(
            f"{source}: its networks cannot be given more images than {its}; go on with those, or train a new one."
        )
    return [images.index(name) for name in its]


def noise_process(config: GeneratorConfig) -> SchedulerMixin:
    """What the networks are trained with."""
    return training_scheduler(config.process, sigma_data=config.latent_design.sigma_data)


def new_pipeline(
    space: LatentSpace,
    config: GeneratorConfig,
    begun: CCELLAPipeline | None,
    *,
    classes: int,
    preprocessing: PreprocessConfig,
    images: Sequence[str],
) -> CCELLAPipeline:
    """Untrained networks, or those that the training goes on from, behind the sampler of the process."""
    if begun and can_grow(begun.denoiser.settings):
        text_encoder, tokenizer, denoiser = _grown_networks(begun.denoiser, config, classes=classes)
    elif begun:
        text_encoder, tokenizer, denoiser = begun.text_encoder, begun.tokenizer, begun.denoiser
        places = image_places(config, begun, images)
        if len(places) < len(images):
            denoiser = with_sequences(denoiser, places, len(images))
    else:
        text_encoder, tokenizer, denoiser = _networks(config, space, classes=classes, shape=preprocessing.shape)
    return CCELLAPipeline(
        autoencoder=space,
        denoiser=denoiser,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=noise_process(config),
        images=list(images),
        spacing_mm=list(preprocessing.spacing_mm),
        shape=list(preprocessing.shape),
    ).with_scheduler(default_sampler(config.process))


def _networks(config: GeneratorConfig, space: LatentSpace, *, classes: int, shape: Sequence[int]):
    levels = space.level_settings(levels_of(config, shape))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("ldm", config.training.seed))
        text_encoder, tokenizer = build_text_encoder(config.text_encoder)
        denoiser = CCELLADenoiser(
            latent_channels=space.latent_shape(0, shape)[0],
            classes=classes,
            variant=config.variant,
            text_width=text_encoder.config.hidden_size,
            unet_size=asdict(config.denoiser),
            adapter_size=asdict(config.adapter),
            levels=levels,
            moves=len(CONDITIONS) if levels else 0,
        )
    return text_encoder, tokenizer, denoiser


def _grown_networks(original: CCELLADenoiser, config: GeneratorConfig, *, classes: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("ldm", config.training.seed))
        text_encoder, tokenizer = build_text_encoder(config.text_encoder)
        denoiser = grown(
            original,
            variant=config.variant,
            classes=classes,
            text_width=text_encoder.config.hidden_size,
            adapter_size=asdict(config.adapter),
        )
    return text_encoder, tokenizer, denoiser
