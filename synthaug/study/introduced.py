"""The settings that change a stage's result, each with the value that it was introduced with, and the stage's revision.

The values never change, even where a default does: one that stands for the behaviour before its setting keeps every id.
A revision is raised when the same settings come to give another result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, Any]
"""Settings by name with the value each was introduced with; a section of settings has ``Fields`` of its own."""
ALWAYS = object()
"""In place of a value: the setting is never left out."""


@dataclass(frozen=True)
class Each:
    """A list or dictionary of sections."""

    fields: Fields
    introduced: Any
    """The value of the whole."""


@dataclass(frozen=True)
class Maybe:
    """A section that may be None, with which it was introduced."""

    fields: Fields


@dataclass(frozen=True)
class Stage:
    """A stage of a study."""

    name: str
    revision: int
    """Raised when the same settings come to mean another result."""
    fields: Fields


TRAINING: Fields = {
    "steps": 500,
    "batch_size": 8,
    "accumulate": 1,
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "schedule": "polynomial",
    "warmup": 0,
    "betas": (0.9, 0.999),
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "ema": 0.0,
    "ema_warmup": False,
    "precision": "auto",
    "seed": 0,
}
GEOMETRY: Fields = {
    "shift": 2,
    "flip": True,
    "zooms": (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1),
    "rotations_deg": (0.0,),
    "probability": 0.5,
}
DENOISER: Fields = {
    "channels": (64, 128),
    "attention": (False, True),
    "head_channels": 32,
    "residual_blocks": 1,
    "norm_groups": 32,
    "condition_scale": 1.0,
}
LEVEL: Fields = {
    "pooling": 1,
    "patch": 1,
    "denoiser": DENOISER,
    "steps": 0,
    "batch_size": 0,
    "sigma_mean": -0.8,
    "sigma_deviation": 1.2,
    "sigma_max": 10.0,
    "linear_components": 0,
    "fine_channels": 0,
    "low_frequencies": 0,
    "texture": 0,
}
PREPROCESS: Fields = {
    "spacing_mm": (2.5, 2.5, 4.0),
    "shape": (32, 32, 16),
    "percentiles": (0.5, 99.5),
    "ranges": {},
    "centre": "volume",
}
MEASUREMENT: Fields = {
    "name": ALWAYS,
    "unit": "",
    "bands": {},
    "above": "large",
    "several": "refuse",
    "missing": "refuse",
    "power": None,
    "side": None,
    "synonyms": [],
}
LABEL_RULE: Fields = {"column": None, "below": None, "above": None}

AUTOENCODER = Stage(
    "autoencoder",
    revision=1,
    fields={
        "channels": (64,),
        "latent_channels": 8,
        "residual_blocks": 1,
        "norm_groups": 8,
        "patch": 4,
        "splits": 1,
        "kl_weight": 1e-6,
        "training": TRAINING,
    },
)
GENERATOR = Stage(
    "generator",
    revision=2,  # 2: the byte-level text encoder masks padding
    fields={
        "variant": "ccella",
        "latents": "cascade",
        "levels": Each(LEVEL, introduced=[]),
        "denoiser": DENOISER,
        "adapter": {"width": 96, "queries": 16, "blocks": 6, "heads": 4, "sinusoids": 64, "class_width": 64},
        "text_encoder": {
            "path": None,
            "width": 64,
            "layers": 2,
            "heads": 4,
            "place_values": True,
            "max_tokens": 256,
            "trainable": True,
        },
        "class_loss_weight": 0.1,
        "prediction": None,
        "unet": "free",
        "lora_rank": 16,
        "distance": None,
        "geometry": GEOMETRY,
        "guide_noise": 0.15,
        "report_dropout": 0.1,
        "monitor_every": 200,  # looks choose the weights that are kept
        "calibration": 0,
        "training": TRAINING,
    },
)
SAMPLING: Fields = {
    "steps": 20,
    "scheduler": "dpm_solver_sde",
    "guidance": 1.0,
    "guided_levels": None,
    "guidance_below": None,
    "epsilon_scale": None,
    "micro_batch": 8,
}
POOL = Stage(
    "pool",
    revision=1,
    fields={
        "per_class": 40,
        "seed": 0,
        "prompts": "training",
        "style": "template",
        "unusable": "refuse",
        "labels": "requested",
        "attempts": 4,
        "threads": None,
        "sampling": SAMPLING,
    },
)
CELL = Stage(
    "cell",
    revision=2,  # 2: augmentation within planes, the first layers through pairs of voxels; other rounding
    fields={
        "network": "resnet10",
        "channels": (8, 16, 32, 64),
        "pooling": 1,
        "loss": "focal",
        "balance": "oversampled",
        "class_weights": None,
        "augment": True,
        "geometry": GEOMETRY,
        "test_flips": False,
        "evaluate_every": 20,
        "patience": 0,
        "training": TRAINING,
    },
)
DATA: Fields = {
    "measurements": Each(MEASUREMENT, introduced={}),
    "label_rule": Maybe(LABEL_RULE),
    "style": "template",
    "wordings": 1,
}
"""Data settings behind reports and classes of moved volumes. The rest of the data is hashed with the subjects."""
WITHOUT_RESULT = (
    "autoencoder.monitor_every",
    "autoencoder.training.checkpoint_minutes",
    "generator.training.checkpoint_minutes",
    "classifier.training.checkpoint_minutes",
    "generator.pretrained",  # its weights are named, wherever they lie
    "pool.path",  # its volumes are named
    "pool.generator",  # its weights are named, wherever they lie
    "pool.reports",  # its rows are named, wherever they lie
    "pool.marksheet",
    "pool.filter",  # named beside the pool that it chooses from
    "pool.keep",
)
"""Settings of the stages that change no result."""
