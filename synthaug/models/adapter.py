"""The CCELLA adapter: ELLA's timestep-aware semantic connector with class heads (arXiv 2506.10230).

Parameter names are those of the published checkpoints.
"""

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn

from synthaug.models.variants import Heads


class AdaptiveLayerNorm(nn.Module):
    """Layer norm whose shift and scale come from the timestep embedding; starts as a plain layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)

    def forward(self, tokens: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """tokens (B, L, width), time (B, 1, width) -> (B, L, width)."""
        shift, scale = self.linear(nn.functional.silu(time)).chunk(2, dim=-1)
        return self.norm(tokens) * (1 + scale) + shift


class SquaredReluMLP(nn.Module):
    """width -> 4 width -> width with a squared ReLU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.c_proj(nn.functional.relu(self.c_fc(tokens)).square())


class ConnectorBlock(nn.Module):
    """Queries attend to themselves and the text, then pass an MLP; both are residual and timestep-aware."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = SquaredReluMLP(width)
        self.ln_1 = AdaptiveLayerNorm(width)
        self.ln_2 = AdaptiveLayerNorm(width)
        self.ln_ff = AdaptiveLayerNorm(width)

    def forward(
        self, queries: torch.Tensor, text: torch.Tensor, time: torch.Tensor, passed_over: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``passed_over`` (B, Q + L) marks what is not attended to; None = nothing."""
        normed = self.ln_1(queries, time)
        attended = torch.cat([normed, self.ln_2(text, time)], dim=1)
        told = self.attn(normed, attended, attended, key_padding_mask=passed_over, need_weights=False)[0]
        queries = queries + told
        return queries + self.mlp(self.ln_ff(queries, time))


class ClassHead(nn.Module):
    """All query values -> hidden -> class logits."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        """queries (B, Q, width) -> logits (B, K)."""
        return self.fc2(nn.functional.relu(self.fc1(queries.flatten(1))))


class Connector(nn.Module):
    """The stack of blocks with the class heads that live inside it (each, first or shared)."""

    def __init__(
        self,
        *,
        text_width: int,
        width: int,
        queries: int,
        blocks: int,
        heads: int,
        class_heads: Heads,
        class_width: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(width**-0.5 * torch.randn(queries, width))
        self.time_aware_linear = nn.Linear(width, width)
        self.proj_in = nn.Linear(text_width, width)
        self.perceiver_blocks = nn.ModuleList(ConnectorBlock(width, heads) for _ in range(blocks))
        self.class_heads = class_heads
        if class_heads == "each":
            self.cascade_blocks = nn.ModuleList(ClassHead(queries * width, class_width, classes) for _ in range(blocks))
        elif class_heads in ("first", "shared"):
            self.classifier = ClassHead(queries * width, class_width, classes)

    def forward(self, text: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """text (B, L, text_width), time (B, width) -> context (B, Q, width), logits of the heads, concatenated.

        States of 0 are masked padding (:func:`~synthaug.models.text_encoder.encode_tokens`).
        """
        time = time.unsqueeze(1)
        queries = self.latents + self.time_aware_linear(nn.functional.silu(time))
        padding, passed_over = (text == 0).all(2), None
        if padding.any():
            passed_over = nn.functional.pad(padding, (queries.shape[1], 0))
        text = self.proj_in(text)
        logits = []
        for index, block in enumerate(self.perceiver_blocks):
            queries = block(queries, text, time, passed_over)
            if self.class_heads == "each":
                logits.append(self.cascade_blocks[index](queries))
            elif self.class_heads == "shared" or (self.class_heads == "first" and index == 0):
                logits.append(self.classifier(queries))
        return queries, torch.cat(logits, dim=1) if logits else None


class Adapter(nn.Module):
    """Timestep embedding and connector: what a checkpoint stores under ``ella``."""

    def __init__(self, *, sinusoids: int, width: int, **connector: int | str) -> None:
        super().__init__()
        self.position = Timesteps(sinusoids, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(sinusoids, width)
        self.connector = Connector(width=width, **connector)  # type: ignore[arg-type]

    def forward(self, text: torch.Tensor, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """text (B, L, text_width), timesteps (B,) -> context (B, Q, width), logits of the heads or None."""
        time = self.time_embedding(self.position(timesteps).to(text.dtype))
        return self.connector(text, time)
