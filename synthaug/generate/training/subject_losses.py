"""The denoising loss of a trained generator on each volume by itself, at fixed noise."""

from collections.abc import Sequence

import numpy as np
import torch
import torchio as tio

from synthaug.data.voxels.geometry import NEUTRAL
from synthaug.generate.diffusion import TRAIN_TIMESTEPS, process_of
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training.examples import Examples
from synthaug.generate.training.objectives import DiffusionObjective
from synthaug.generate.training.validation import VALIDATION_SIGMAS, VALIDATION_TIMESTEPS
from synthaug.ground.seeding import torch_generator


@torch.no_grad()
def subject_losses(
    pipeline: CCELLAPipeline,
    subjects: Sequence[tio.Subject],
    *,
    draws: int = 2,
    sigmas: Sequence[float] | None = None,
) -> np.ndarray:
    """Squared denoising error of each subject at each level, averaged over noise levels and draws of the noise.

    Every subject meets the same noise, and is told with its own report.

    Args:
        pipeline: The generator.
        subjects: Preprocessed as its training subjects were.
        draws: Noise volumes at each noise level.
        sigmas: Noise levels; None = those at which a training looks at its validation subjects.

    Returns:
        (subjects, levels of the generator).
    """
    process = process_of(pipeline.scheduler)
    times: Sequence[float] = sigmas or VALIDATION_SIGMAS
    if sigmas is None and not pipeline.edm:
        count = process.config.num_train_timesteps
        times = [time * count // TRAIN_TIMESTEPS for time in VALIDATION_TIMESTEPS]
    repeated = torch.tensor([*times] * draws)
    examples = Examples(subjects, pipeline, trained_text=False)
    losses = np.zeros((len(subjects), pipeline.autoencoder.levels))
    for level in range(losses.shape[1]):
        objective = DiffusionObjective(pipeline.denoiser, None, process, 0.0, distance="mse", level=level).eval()
        for row in range(len(subjects)):
            batch = examples.batch(
                level,
                [row] * len(repeated),
                [NEUTRAL] * len(repeated),
                times=repeated,
                generator=torch_generator("subject losses", level),
                dropped=[False] * len(repeated),
            )
            told = {name: value.to(pipeline.device) for name, value in batch.items()}
            losses[row, level] = float(objective(**told)[1]["mse"])
    return losses
