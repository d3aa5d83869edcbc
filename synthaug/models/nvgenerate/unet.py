"""NV-Generate's U-Net, told of modality and voxel spacing, with room for report and class (MAISI-v2, arXiv 2508.05772).

Names and shapes of the weights are MONAI's. CCELLA adds a cross-attention to the report after each self-attention, and
the class vector in the timestep embedding. Both begin with zero output and have no effect before they are trained.
"""

from collections.abc import Sequence

import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.blocks import SpatialAttentionBlock
from monai.networks.blocks.selfattention import SABlock
from torch import nn

from synthaug.models.parts.group_norm import Float32GroupNorm, norm_in_float32

UNCONDITIONAL = 0
"""The modality label that stands for none."""
ADDED = ("report_attention", "class_layer")
"""Names of the modules that the checkpoint does not have."""


def is_added(name: str) -> bool:
    """Whether a parameter of a U-Net was added to what the checkpoint holds.

    Example:
        >>> [is_added(name) for name in ("class_layer.0.weight", "class_embedding.weight")]
        [True, False]
    """
    return not set(ADDED).isdisjoint(name.split("."))


class ReportAttention(nn.Module):
    """Residual cross-attention of the places of a feature map to the report; its output begins as zero."""

    def __init__(self, channels: int, *, context_width: int, heads: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = Float32GroupNorm(norm_groups, channels, eps=1e-6)
        self.attend = nn.MultiheadAttention(channels, heads, kdim=context_width, vdim=context_width, batch_first=True)
        nn.init.zeros_(self.attend.out_proj.weight)
        nn.init.zeros_(self.attend.out_proj.bias)

    def forward(self, features: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """features (B, C, x, y, z), context (B, Q, context_width) -> (B, C, x, y, z)."""
        places = self.norm(features).flatten(2).transpose(1, 2)
        context = context.to(places.dtype)
        read, _ = self.attend(places, context, context, need_weights=False)
        return features + read.transpose(1, 2).reshape(features.shape)


class ReadingAttention(SpatialAttentionBlock):
    """MONAI's self-attention, and after it the report's cross-attention."""

    report_attention: ReportAttention
    context: torch.Tensor | None = None
    """Set by the U-Net for the length of a call, since MONAI's blocks hand on none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attended = super().forward(x)
        return attended if self.context is None else self.report_attention(attended, self.context)


class NVGenerateUNet(DiffusionModelUNetMaisi):
    """MAISI-v2's U-Net.

    Args:
        channels: Of each level.
        attention: Which levels attend.
        latent_channels: Channels of the latents.
        residual_blocks: A level.
        head_channels: Channels of an attention head.
        norm_groups: Groups of the group norm.
        modalities: Modality labels; 0 = unconditional.
        classes: Number of classes that are added; None = no class vector.
        context_width: Width of the context that is added; None = no report.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        attention: Sequence[bool],
        latent_channels: int,
        residual_blocks: int,
        head_channels: int,
        norm_groups: int,
        modalities: int,
        classes: int | None,
        context_width: int | None,
    ) -> None:
        super().__init__(
            spatial_dims=3,
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_channels=tuple(channels),
            attention_levels=tuple(attention),
            num_head_channels=head_channels,
            num_res_blocks=residual_blocks,
            norm_num_groups=norm_groups,
            num_class_embeds=modalities,
            include_spacing_input=True,
            resblock_updown=True,
            include_fc=True,
        )
        if classes is not None:
            self.class_layer = self._create_embedding_module(classes, 4 * channels[0])
            nn.init.zeros_(self.class_layer[2].weight)
            nn.init.zeros_(self.class_layer[2].bias)
        if context_width is not None:
            self._read_reports(context_width, norm_groups)
        norm_in_float32(self)

    def _read_reports(self, context_width: int, norm_groups: int) -> None:
        """Give every self-attention a cross-attention to the report."""
        for block in [each for each in self.modules() if type(each) is SpatialAttentionBlock]:
            block.__class__ = ReadingAttention
            block.report_attention = ReportAttention(
                block.norm.num_channels,
                context_width=context_width,
                heads=block.attn.num_heads,
                norm_groups=norm_groups,
            )

    def _get_time_and_class_embedding(self, x, timesteps, class_labels):
        modality, class_vector = class_labels
        embedding = super()._get_time_and_class_embedding(x, timesteps, modality)
        return embedding if class_vector is None else embedding + self.class_layer(class_vector.to(x.dtype))

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        *,
        modality: torch.Tensor,
        class_vector: torch.Tensor | None,
        spacing: torch.Tensor,
    ) -> torch.Tensor:
        """Velocity (image - noise) of noisy latents.

        Args:
            x: Noisy latents (B, c, x, y, z).
            timesteps: (B,) in [0, 1000]; 1000 = noise alone.
            context: What the report says (B, Q, context_width); None = the added attention is left out.
            modality: Labels (B,); 0 = unconditional.
            class_vector: (B, K); None where the network has no class vector.
            spacing: mm times 100 (B, 3).

        Returns:
            As ``x``.
        """
        reading = [block for block in self.modules() if isinstance(block, ReadingAttention)]
        for block in reading:
            block.context = context
        for block in self.modules():
            if isinstance(block, SABlock):
                block.use_flash_attention = x.device.type != "cpu"  # as published; it never holds the matrix
        try:
            return super().forward(
                x, timesteps, class_labels=(modality, class_vector), spacing_tensor=spacing.to(x.dtype)
            )
        finally:
            for block in reading:
                block.context = None
