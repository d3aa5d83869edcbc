"""The CCELLA denoiser: MAISI's U-Net told of timestep, class and voxel spacing, reading the report (arXiv 2506.10230).

One class serves CCELLA and every comparator of its table; parameter names are those of the published checkpoints.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn

from synthaug.config import AdapterConfig, DenoiserConfig
from synthaug.ground.errors import InputError
from synthaug.models.adapter import Adapter, ClassHead
from synthaug.models.nvgenerate.unet import UNCONDITIONAL, NVGenerateUNet
from synthaug.models.parts.linear_denoiser import LinearDenoiser
from synthaug.models.parts.unet import ConditionedUNet
from synthaug.models.pretrained import PretrainedModel
from synthaug.models.variants import VARIANTS

LAYOUT_WIDTH = 128
"""Hidden values of the network that reads the layout."""


class CCELLADenoiser(PretrainedModel):
    """U-Net, adapter and class heads of one variant.

    Ours, and off in published checkpoints: the levels of a cascade and told moves. Folders of version 0.1 may have a
    layout, which is sampled and no longer trained. A small network predicts the expected latents from the adapter's
    output, in principal components of the training latents, each in units of its standard deviation. They are a further
    input of the U-Net.

    Args:
        latent_channels: Channels of the latent (4 a sequence).
        classes: Number of classes.
        variant: A row of the comparator table.
        text_width: Width of the text encoder's hidden states.
        unet_size: Fields of DenoiserConfig.
        adapter_size: Fields of AdapterConfig.
        levels: Of a cascade, coarse to fine: ``{"latent_channels", "guide_channels", "unet_size", "sigma_max"}`` each,
            of the first also the ``linear`` denoiser that its network corrects, of a finer one the ``fine_channels``.
            All share the adapter; ``latent_channels`` and ``unet_size`` above then say nothing. None = one level, as
            published.
        moves: Told moves of augmentation; 0 = as published.
        layout_shape: Sides of the latents that the layout is read at; None = no layout.
        layout_components: Principal components that tell the layout.
        modalities: Modality labels of NV-Generate's U-Net, which then stands in place of MAISI's; 0 = MAISI's.
        modality: The label that its volumes are drawn under.
    """

    layout: nn.Sequential
    layout_basis: torch.Tensor

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        classes: int = 2,
        variant: str = "ccella",
        text_width: int = 64,
        unet_size: dict | None = None,
        adapter_size: dict | None = None,
        levels: list[dict] | None = None,
        moves: int = 0,
        layout_shape: tuple[int, int, int] | None = None,
        layout_components: int = 160,
        modalities: int = 0,
        modality: int = 0,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise InputError(f"Unknown variant {variant!r}; the variants are {', '.join(VARIANTS)}.")
        self.conditioning = VARIANTS[variant]
        size = AdapterConfig(**(adapter_size or {}))
        if layout_shape is not None and not self.conditioning.text:
            raise InputError(f"Variant {variant!r} reads no report, so it has no layout; leave layout_shape out.")
        published = {"latent_channels": latent_channels, "guide_channels": 0, "unet_size": unet_size or {}}
        first, *finer = [
            self._unet(level, size, classes, moves=moves, cascade=levels is not None, layout=layout_shape is not None)
            for level in levels or [published]
        ]
        self.scale = DenoiserConfig(**(levels or [published])[0]["unet_size"]).condition_scale
        self.unet = first
        linear = levels[0].get("linear") if levels else None
        self.linear = LinearDenoiser(**linear) if linear else None
        if finer:
            self.finer = nn.ModuleList(finer)
        if self.conditioning.text:
            self.ella = self._adapter(size, text_width, classes)
        if layout_shape is not None:
            reading = [nn.Linear(size.queries * size.width, LAYOUT_WIDTH), nn.SiLU()]
            self.layout = nn.Sequential(*reading, nn.Linear(LAYOUT_WIDTH, layout_components))
            self.register_buffer("layout_basis", torch.zeros(layout_components, latent_channels, *layout_shape))
        if self.conditioning.heads in ("each", "shared"):
            self.classifier: nn.Module = nn.Linear(size.blocks * classes, classes)
        elif self.conditioning.heads == "last":
            self.classifier = ClassHead(size.queries * size.width, size.class_width, classes)

    def _adapter(self, size: AdapterConfig, text_width: int, classes: int) -> Adapter:
        return Adapter(
            sinusoids=size.sinusoids,
            width=size.width,
            text_width=text_width,
            queries=size.queries,
            blocks=size.blocks,
            heads=size.heads,
            class_heads=self.conditioning.heads,
            class_width=size.class_width,
            classes=classes,
        )

    def _unet(
        self, level: dict, adapter: AdapterConfig, classes: int, *, moves: int, cascade: bool, layout: bool
    ) -> ConditionedUNet | NVGenerateUNet:
        shape, channels, reads = DenoiserConfig(**level["unet_size"]), level["latent_channels"], self.conditioning.text
        told = classes if self.conditioning.class_input != "none" else None
        if self.config.modalities:
            return NVGenerateUNet(
                channels=shape.channels,
                attention=shape.attention,
                latent_channels=channels,
                residual_blocks=shape.residual_blocks,
                head_channels=shape.head_channels,
                norm_groups=shape.norm_groups,
                modalities=self.config.modalities,
                classes=told,
                context_width=adapter.width if reads else None,
            )
        guide_channels = channels if level.get("linear") else level["guide_channels"]
        return ConditionedUNet(
            classes=told,
            guide_channels=guide_channels,
            coordinates=cascade,
            context_values=adapter.queries * adapter.width if cascade and reads else 0,
            moves=moves,
            fine_channels=level.get("fine_channels", 0),
            patch=level.get("patch", 1),
            low_frequencies=level.get("low_frequencies", 0),
            texture=level.get("texture", 0),
            spatial_dims=3,
            in_channels=channels * (2 if layout else 1),
            out_channels=channels,
            num_channels=tuple(shape.channels),
            attention_levels=tuple(shape.attention),
            num_head_channels=shape.head_channels,  # the middle block attends even where the last level does not
            num_res_blocks=shape.residual_blocks,
            norm_num_groups=shape.norm_groups,
            with_conditioning=reads,
            cross_attention_dim=adapter.width if reads else None,
            upcast_attention=True,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What the constructor was given; what came after version 0.1 stands there only where it is used."""
        later = ("levels", "moves", "modalities", "modality")
        return {name: value for name, value in super().settings.items() if name not in later or value}

    @property
    def unets(self) -> list[ConditionedUNet | NVGenerateUNet]:
        """The networks of all levels, coarse to fine."""
        return [self.unet, *getattr(self, "finer", [])]

    def read(self, text: torch.Tensor, timesteps: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What the report says at a timestep.

        Args:
            text: Hidden states of the text encoder (B, L, text_width).
            timesteps: (B,).

        Returns:
            Context for the U-Net's cross-attention (B, Q, width) or None; class logits (B, K) or None.
        """
        if not self.conditioning.text:
            return None, None
        context, logits = self.ella(text, timesteps)
        if self.conditioning.heads in ("each", "shared"):
            logits = self.classifier(logits)
        elif self.conditioning.heads == "last":
            logits = self.classifier(context)
        return context, logits

    def expected_layout(self, context: torch.Tensor) -> torch.Tensor:
        """The components (B, K) that the report lets expect, from the context (B, Q, width)."""
        return self.layout(context.flatten(1))

    def latents_of(self, components: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
        """Latents (B, C, *sides) of components (B, K), in units of the channels' deviations.

        They are stretched where the layout was fitted to other sides.
        """
        latents = torch.einsum("bk,kcxyz->bcxyz", components, self.layout_basis.to(components.dtype))
        if latents.shape[2:] != torch.Size(sides):
            latents = nn.functional.interpolate(latents, size=tuple(sides), mode="trilinear")
        return latents

    def class_vector(self, logits: torch.Tensor | None, labels: torch.Tensor | None) -> torch.Tensor | None:
        """The class that conditions the image: ``labels`` where given, else the predicted probabilities.

        Args:
            logits: Class logits (B, K), where the variant predicts the class.
            labels: Classes (B,) that override the prediction, or the true ones where the variant needs them.

        Returns:
            (B, K) probabilities or one-hot rows; None where the variant takes no class.
        """
        if self.conditioning.class_input == "none":
            return None
        if labels is not None:
            return nn.functional.one_hot(labels, self.config.classes).to(self.dtype)
        if logits is None:
            raise InputError(f"Variant {self.config.variant!r} is conditioned on the true class; give labels.")
        return logits.softmax(dim=1)

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        *,
        context: torch.Tensor | None,
        class_vector: torch.Tensor | None,
        spacing_mm: torch.Tensor,
        level: int = 0,
        guide: torch.Tensor | None = None,
        moves: torch.Tensor | None = None,
        texture: torch.Tensor | None = None,
        unconditional: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run the network of one level.

        Args:
            latents: Noisy latents (B, c, x, y, z).
            timesteps: (B,).
            context: Of :meth:`read` (B, Q, width).
            class_vector: (B, K).
            spacing_mm: (B, 3).
            level: Which level's network, 0 = coarsest.
            guide: What a finer level is shown of the coarser ones (B, G, x, y, z).
            moves: Told moves (B, M); None = not moved.
            texture: Told components of the texture (B, K); None = the mean.
            unconditional: Of NV-Generate, the rows (B,) that are told no modality; None = none of them.

        Returns:
            The network's answer, like ``latents``.
        """
        with self.autocast():
            if self.config.layout_shape is not None and context is not None:
                expected = self.latents_of(self.expected_layout(context), latents.shape[2:])
                latents = torch.cat([latents, expected.to(latents.dtype)], dim=1)
            if self.config.modalities:
                modality = torch.full((len(latents),), self.config.modality, device=latents.device)
                return self.unet(
                    latents,
                    timesteps,
                    context,
                    modality=modality if unconditional is None else modality.masked_fill(unconditional, UNCONDITIONAL),
                    class_vector=class_vector,
                    spacing=spacing_mm * self.scale,
                )
            return self.unets[level](
                latents,
                timesteps,
                context=context,
                guide=guide,
                moves=moves,
                texture=texture,
                top_region_index_tensor=None if class_vector is None else class_vector * self.scale,
                spacing_tensor=spacing_mm * self.scale,
            )
