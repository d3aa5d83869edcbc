"""The CCELLA denoiser: MAISI's U-Net told of timestep, class and voxel spacing, reading the report (arXiv 2506.10230).

One class serves CCELLA and every comparator of its table; parameter names are those of the published checkpoints.
"""

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import register_to_config
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from torch import nn

from synthaug.config import AdapterConfig, DenoiserConfig
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed
from synthaug.models.adapter import Adapter, ClassHead
from synthaug.models.pretrained import PretrainedModel
from synthaug.models.variants import VARIANTS


class ConditionedUNet(DiffusionModelUNetMaisi):
    """MAISI's U-Net with a class vector where MAISI has its region inputs: [timestep ; class ; spacing]."""

    def __init__(self, *, classes: int | None, **kwargs) -> None:
        # MAISI's top-region input reserves the width that the class embedding takes.
        super().__init__(**kwargs, include_top_region_index_input=classes is not None, include_spacing_input=True)
        if classes is not None:
            del self.top_region_index_layer
            self.pirads_layer = self._create_embedding_module(classes, 4 * kwargs["num_channels"][0])
            self.include_top_region_index_input = False

    def _get_input_embeddings(self, emb, class_vector, bottom_index, spacing):
        if hasattr(self, "pirads_layer"):
            emb = torch.cat((emb, self.pirads_layer(class_vector)), dim=1)
        return super()._get_input_embeddings(emb, None, None, spacing)


LAYOUT_WIDTH = 128
"""Hidden values of the network that reads the layout."""
LAYOUT_ROWS = 4096
"""Training latents, at most, that the principal components of the layout are fitted to."""


class CCELLADenoiser(PretrainedModel):
    """U-Net, adapter and class heads of one variant.

    Ours, and off in published checkpoints: with ``layout_shape`` a small network reads off the adapter's output which
    latents the report lets expect, place by place, and the U-Net sees them beside the noisy ones. Cross-attention alone
    must learn from the denoising loss what "left" means on a grid, and in a short training hardly does. The layout is
    told in principal components of the training latents, each in units of its deviation: a lesion is a tiny share of
    the variance between patients, but a large one of what the smaller components hold.

    Args:
        latent_channels: Channels of the latent (4 a sequence).
        classes: Number of classes.
        variant: A row of the comparator table.
        text_width: Width of the text encoder's hidden states.
        unet_size: Fields of DenoiserConfig.
        adapter_size: Fields of AdapterConfig.
        layout_shape: Sides of the latents that the layout is read at; None = no layout.
        layout_components: Principal components that tell the layout.
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
        layout_shape: tuple[int, int, int] | None = None,
        layout_components: int = 160,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise InputError(f"Unknown variant {variant!r}; the variants are {', '.join(VARIANTS)}.")
        self.conditioning = VARIANTS[variant]
        shape = DenoiserConfig(**(unet_size or {}))
        size = AdapterConfig(**(adapter_size or {}))
        self.scale = shape.condition_scale
        if layout_shape is not None and not self.conditioning.text:
            raise InputError(f"Variant {variant!r} reads no report, so it has no layout; leave layout_shape out.")
        self.unet = ConditionedUNet(
            classes=classes if self.conditioning.class_input != "none" else None,
            spatial_dims=3,
            in_channels=latent_channels * (1 if layout_shape is None else 2),
            out_channels=latent_channels,
            num_channels=tuple(shape.channels),
            attention_levels=tuple(shape.attention),
            num_head_channels=shape.head_channels,  # the middle block attends even where the last level does not
            num_res_blocks=shape.residual_blocks,
            norm_num_groups=shape.norm_groups,
            with_conditioning=self.conditioning.text,
            cross_attention_dim=size.width if self.conditioning.text else None,
            upcast_attention=True,
        )
        if self.conditioning.text:
            self.ella = Adapter(
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
        if layout_shape is not None:
            self.layout = nn.Sequential(
                nn.Linear(size.queries * size.width, LAYOUT_WIDTH),
                nn.SiLU(),
                nn.Linear(LAYOUT_WIDTH, layout_components),
            )
            self.register_buffer("layout_basis", torch.zeros(layout_components, latent_channels, *layout_shape))
        if self.conditioning.heads in ("each", "shared"):
            self.classifier: nn.Module = nn.Linear(size.blocks * classes, classes)
        elif self.conditioning.heads == "last":
            self.classifier = ClassHead(size.queries * size.width, size.class_width, classes)

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

    @torch.no_grad()
    def fit_layout(self, latents: torch.Tensor, deviations: torch.Tensor) -> None:
        """Set the layout's components to the principal ones of training latents.

        Args:
            latents: (N, C, x, y, z), N above the number of components.
            deviations: Of the channels (C,), in units of which the U-Net sees the layout.
        """
        rows = latents[:: -(-len(latents) // LAYOUT_ROWS)].flatten(1)
        mean = rows.mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("layout components"))
            _, singular, components = torch.svd_lowrank(rows - mean, q=self.config.layout_components, niter=4)
        spread = (singular / (len(rows) - 1) ** 0.5).clamp(min=1e-6)
        basis = (components * spread).T.unflatten(1, latents.shape[1:])
        self.layout_basis.copy_(basis / deviations.view(1, -1, 1, 1, 1))
        # An expectation of nothing in particular is the mean.
        self.layout[-1].bias.copy_(mean @ components / spread)  # type: ignore[operator]

    def layout_of(self, latents: torch.Tensor, deviations: torch.Tensor) -> torch.Tensor:
        """The components (B, K) of latents (B, C, x, y, z), each of unit variance over the training latents."""
        basis = (self.layout_basis * deviations.view(1, -1, 1, 1, 1)).flatten(1)
        return latents.flatten(1) @ basis.T / basis.square().sum(1)

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
    ) -> torch.Tensor:
        """Denoise: latents (B, C, x, y, z), timesteps (B,), class_vector (B, K), spacing_mm (B, 3) -> like latents."""
        with self.autocast():
            if self.config.layout_shape is not None and context is not None:
                expected = self.latents_of(self.expected_layout(context), latents.shape[2:])
                latents = torch.cat([latents, expected.to(latents.dtype)], dim=1)
            return self.unet(
                latents,
                timesteps,
                context=context,
                top_region_index_tensor=None if class_vector is None else class_vector * self.scale,
                spacing_tensor=spacing_mm * self.scale,
            )
