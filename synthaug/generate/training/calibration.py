"""By how much drawn latents vary too little, level by level, so that sampling can give it back.

Ours. The latents of training volumes have a known root mean square at every level. A denoiser that meets its own errors
removes a little too much noise: drawn latents stay below it, and volumes lose contrast.
"""

import copy
from collections.abc import Sequence

import torch

from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.seeding import derive_seed, numpy_generator


def measure_level_gains(
    pipeline: CCELLAPipeline, reports: Sequence[str], labels: Sequence[int], *, volumes: int, seed: int = 0
) -> list[float]:
    """Root mean square of training latents over that of drawn ones at each level, coarse to fine.

    A finer level is drawn above coarser ones that have their gains. Scheduler: the pipeline's own, without guidance.
    The mean square of a coarse level differs much between volumes: a few hundred are needed to know its gain to 1 %.

    Args:
        pipeline: With an EDM denoiser. Gains that it has are passed over.
        reports: Of the training subjects, which prompt equally often, in a random order.
        labels: Their classes, for variants that are told them.
        volumes: To draw at each level.
        seed: Names order and noise.

    Example:
        >>> measure_level_gains(pipeline, reports, labels, volumes=64)  # doctest: +SKIP
        [1.02, 1.03]
    """
    drawing = copy.copy(pipeline)
    drawing.set_progress_bar_config(disable=True)
    told = pipeline.denoiser.conditioning.class_input == "true"
    order = numpy_generator("level gains", seed).permutation(len(reports)).tolist()
    gains: list[float] = []
    for level in range(pipeline.autoencoder.levels):
        drawing.register_to_config(level_gains=gains)
        squares = []
        for part in torch.arange(volumes).split(pipeline.config.micro_batch):
            rows = [order[number % len(order)] for number in part.tolist()]
            latents = _latents(
                drawing,
                level,
                [reports[row] for row in rows],
                [labels[row] for row in rows] if told else None,
                seeds=[derive_seed("level gains", seed, number) for number in part.tolist()],
            )
            squares.append(latents.double().square().mean(dim=(1, 2, 3, 4)))
        gains = [*gains, pipeline.scheduler.config.sigma_data / float(torch.cat(squares).mean().sqrt())]
    return gains


def _latents(
    pipeline: CCELLAPipeline, level: int, reports: Sequence[str], labels: Sequence[int] | None, *, seeds: Sequence[int]
) -> torch.Tensor:
    """Clean latents (N, c, x, y, z) of a level, before its gain, of at most a micro-batch."""
    last: dict[str, torch.Tensor] = {}

    def keep(_pipeline, _step, _timestep, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        last.update(values)
        return {}

    pipeline(reports, labels, seeds=seeds, levels=level + 1, callback_on_step_end=keep)
    return last["latents"][: len(reports)].cpu()
