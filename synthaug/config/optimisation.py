"""Settings of an optimisation loop."""

from dataclasses import dataclass
from typing import Literal

from synthaug.config.checks import require, require_ranges


@dataclass
class TrainingConfig:
    """Optimiser, schedule, averaging, precision and checkpoints of a training."""

    steps: int = 500
    """Optimiser steps."""
    batch_size: int = 8
    """Volumes per step, over all processes."""
    accumulate: int = 1
    """Gradient accumulation: parts of the batch computed one after another, to bound memory."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``adamw`` (published). ``muon``: orthogonalised momentum for the weights of linear layers and convolutions, AdamW
    for the rest (arXiv 2502.16982)."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    schedule: Literal["polynomial", "one_cycle", "cosine"] = "polynomial"
    """Learning-rate schedule. ``polynomial``: decay with power 2 (published). ``one_cycle``: Smith & Topin 2019.
    ``cosine``: constant for half of the steps, then a cosine to 0."""
    warmup: int = 0
    """Steps of linear warm-up. With ``one_cycle``: steps of the rise; 0 = 30 % of all."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moment estimates. ``one_cycle`` moves the first between 0.85 and 0.95."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    clip_norm: float = 1.0
    """Largest norm of the gradients; larger ones are scaled down."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights. 0: none, the last weights are kept (published)."""
    ema_warmup: bool = False
    """How the average starts, with a smaller decay: at step n at most n / (10 + n). false: (1 + n) / (10 + n)."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """Precision of the networks. ``auto``: bfloat16 on a GPU that has it (from Ampere); on a CPU for generators
    where a timed convolution is faster in it; else float32."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints: a killed training loses at most this much."""
    seed: int = 0
    """Seed of every random draw of the loop."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "training",
            steps="[1, 1e9]",
            batch_size="[1, 1e6]",
            accumulate="[1, 1e6]",
            betas="[0, 1)",
            learning_rate="(0, 1e30]",
            clip_norm="(0, inf)",
            ema="[0, 1)",
            weight_decay="[0, inf)",
            checkpoint_minutes="[0, inf)",
        )
        require(
            0 <= self.warmup < self.steps, f"training.warmup={self.warmup} must be below training.steps={self.steps}."
        )
        require(
            self.schedule != "one_cycle" or self.betas[0] == TrainingConfig.betas[0],
            f"training.betas={self.betas}: training.schedule=one_cycle moves the first between 0.85 and 0.95; "
            f"leave it at {TrainingConfig.betas[0]}, or choose another schedule.",
        )
        require(
            self.batch_size % self.accumulate == 0,
            f"training.batch_size={self.batch_size} must be a multiple of training.accumulate={self.accumulate}.",
        )
