"""MAISI's U-Net with CCELLA's class vector and what a cascade adds to it (arXiv 2506.10230)."""

from collections.abc import Sequence

import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn

from synthaug.models.parts.group_norm import norm_in_float32
from synthaug.models.parts.low_frequencies import LowFrequencies
from synthaug.models.parts.texture import Texture


class FineHead(nn.Module):
    """Two convolutions at the resolution before space-to-depth, on what the U-Net says and on what it was shown.

    Args:
        channels: Of what the U-Net says, at the fine resolution.
        seen: Channels of what it was shown, there.
        out_channels: Of the answer, there.
        patch: Space-to-depth factor.
    """

    def __init__(self, channels: int, *, seen: int, out_channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.first = nn.Conv3d(channels + seen, channels, 3, padding=1)
        self.last = nn.Conv3d(channels, out_channels, 3, padding=1)
        for weights in self.last.parameters():
            nn.init.zeros_(weights)

    def forward(self, said: torch.Tensor, shown: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps (B, patch^3 c, x, y, z) -> the answer, rearranged as they are."""
        fine = torch.cat([pixelshuffle(part.to(said.dtype), 3, self.patch) for part in (said, *shown)], dim=1)
        return pixelunshuffle(self.last(nn.functional.silu(self.first(fine))), 3, self.patch)


class ConditionedUNet(DiffusionModelUNetMaisi):
    """MAISI's U-Net with a class vector where MAISI has its region inputs: [timestep ; class ; spacing].

    Ours, and off in published checkpoints: coordinate channels, a guide beside the noisy latents, and context and moves
    in the embedding. Ours too are final layers at the resolution before space-to-depth, a small network for the lowest
    frequencies, which norms hide, and told textures.

    Args:
        classes: Number of classes; None = no class vector.
        in_channels: Channels of the latents.
        guide_channels: Channels of what the network is shown beside them.
        coordinates: Whether three channels tell each voxel its place in [-1, 1].
        context_values: Values of the context (queries x width) that the embedding is told; 0 = attention alone.
        moves: Told moves of augmentation.
        fine_channels: Channels of a :class:`FineHead`; 0 = none.
        patch: Space-to-depth factor of its latents.
        low_frequencies: Cosines an axis of :class:`~synthaug.models.parts.low_frequencies.LowFrequencies`; 0 = none.
        texture: Components that :class:`~synthaug.models.parts.texture.Texture` tells; 0 = none.
        kwargs: Arguments of MONAI's network.
    """

    def __init__(
        self,
        *,
        classes: int | None,
        in_channels: int,
        guide_channels: int = 0,
        coordinates: bool = False,
        context_values: int = 0,
        moves: int = 0,
        fine_channels: int = 0,
        patch: int = 1,
        low_frequencies: int = 0,
        texture: int = 0,
        **kwargs,
    ) -> None:
        values = patch**3
        fine = None
        if fine_channels:
            seen, answer = (in_channels + guide_channels) // values, kwargs["out_channels"] // values
            fine = {"seen": seen, "out_channels": answer, "patch": patch}
            kwargs["out_channels"] = fine_channels * values
        # MAISI's top-region input reserves the width that the class embedding takes.
        super().__init__(
            **kwargs,
            in_channels=in_channels + guide_channels + 3 * coordinates,
            include_top_region_index_input=classes is not None,
            include_spacing_input=True,
        )
        width = 4 * kwargs["num_channels"][0]
        if classes is not None:
            del self.top_region_index_layer
            self.pirads_layer = self._create_embedding_module(classes, width)
            self.include_top_region_index_input = False
        self.coordinates = coordinates
        if fine:
            self.fine = FineHead(fine_channels, **fine)
            self.out[-1].conv.reset_parameters()  # zero there and in the head, nothing would be learnt
        if context_values:
            self.context_layer = nn.Linear(context_values, width)
        if moves:
            self.moves_layer = self._create_embedding_module(moves, width)
        if texture:
            self.texture = Texture(in_channels, patch=patch, components=texture, width=width)
        told = width * (2 + (classes is not None))  # timestep, class, spacing
        if low_frequencies:
            self.low = LowFrequencies(in_channels, frequencies=low_frequencies, told=told)
        norm_in_float32(self)

    def _get_input_embeddings(self, emb, class_vector, bottom_index, spacing):
        if hasattr(self, "pirads_layer"):
            emb = torch.cat((emb, self.pirads_layer(class_vector)), dim=1)
        return super()._get_input_embeddings(emb, None, None, spacing)

    def forward(
        self,
        x,
        timesteps,
        context=None,
        *,
        guide=None,
        moves=None,
        texture=None,
        top_region_index_tensor=None,
        spacing_tensor=None,
    ):
        """As MONAI's, with the guide (B, G, x, y, z), the moves (B, M) and the texture (B, K), 0 if not given."""
        added = x.new_zeros(())
        if hasattr(self, "context_layer") and context is not None:
            added = added + self.context_layer(context.flatten(1))
        if hasattr(self, "moves_layer"):
            unmoved = x.new_zeros(len(x), self.moves_layer[0].in_features)
            added = added + self.moves_layer(unmoved if moves is None else moves.to(x.dtype))
        if hasattr(self, "texture"):
            mean = x.new_zeros(len(x), self.texture.components)
            added = added + self.texture(mean if texture is None else texture)
        parts = [x] if guide is None else [x, guide.to(x.dtype)]
        if self.coordinates:
            axes = [torch.linspace(-1, 1, side, device=x.device, dtype=x.dtype) for side in x.shape[2:]]
            parts.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(x), -1, -1, -1, -1))
        told = self._get_time_and_class_embedding(x, timesteps, None) + added
        told = self._get_input_embeddings(told, top_region_index_tensor, None, spacing_tensor)
        low = self.low(x, told) if hasattr(self, "low") else None
        maps, kept = self._apply_down_blocks(self.conv_in(torch.cat(parts, dim=1)), told, context, None)
        maps = self._apply_up_blocks(self.middle_block(maps, told, context), told, context, kept)
        said = self.out(maps)
        if hasattr(self, "fine"):
            said = self.fine(said, [x] if guide is None else [x, guide])
        return said if low is None else said + low.to(said.dtype)
