"""The losses of a generator on validation subjects, noise level by noise level."""

import torch

from synthaug.data.voxels.geometry import NEUTRAL
from synthaug.generate.training.examples import Examples
from synthaug.generate.training.objectives import DiffusionObjective
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator

VALIDATION_TIMESTEPS = (50, 250, 450, 650, 850)
"""Noise levels at which every validation subject is looked at."""
VALIDATION_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""The same of EDM, in units in which the data's deviation is 0.5."""


def require_usable(watched: Examples | None) -> None:
    """InputError that names the first validation subject with NaN or infinite voxels, or of an unknown class."""
    if watched is None:
        return
    denoiser = watched.pipeline.denoiser
    classes = denoiser.config.classes if denoiser.conditioning.class_input != "none" else None
    for subject, volume in zip(watched.subjects, watched.volumes, strict=True):
        named = f"Validation subject {subject['subject_id']!r}"
        if not torch.isfinite(volume).all():
            raise InputError(f"{named} holds NaN or infinite voxels; mend its image.")
        if classes is not None and not 0 <= subject["label"] < classes:
            raise InputError(
                f"{named} has label {subject['label']}, and the training subjects have 0 to {classes - 1}; train on a "
                "subject of that class too, or leave it out."
            )


@torch.no_grad()
def validation_losses(objective: DiffusionObjective, watched: Examples) -> dict[str, float]:
    """The joint loss and its parts on every subject at fixed noise levels: the same draws at every look.

    When a network memorises its patients, the loss rises at low noise and falls at high noise, so each noise level is
    reported.
    """
    device = next(objective.parameters()).device
    total: dict[str, float] = {}
    times = VALIDATION_SIGMAS if watched.pipeline.edm else VALIDATION_TIMESTEPS
    count = len(watched.subjects)
    for time in times:
        generator = torch_generator("validation", objective.level, time)
        for rows in torch.arange(count).split(16):
            batch = watched.batch(
                objective.level,
                rows.tolist(),
                [NEUTRAL] * len(rows),
                times=torch.full((len(rows),), time),
                generator=generator,
                dropped=[False] * len(rows),
            )
            loss, values = objective(**{name: value.to(device) for name, value in batch.items()})
            share = len(rows) / count
            for name, value in {"loss": loss, **values}.items():
                total[f"val_{name}"] = total.get(f"val_{name}", 0.0) + share / len(times) * float(value)
            total[f"val_loss_at_{time:g}"] = total.get(f"val_loss_at_{time:g}", 0.0) + share * float(loss)
    return total
