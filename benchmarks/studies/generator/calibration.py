"""Where is contrast lost: in the denoiser, or on the way of a sampler?

    python benchmarks/studies/generator/calibration.py --config configs/ccella-hippocampus.yaml --generator FOLDER

Two figures of the training and validation people; the test part is not read:

- slope of a level's latents on D(x; sigma), one a noise level. 1: D says what is there, 1.05: it shrinks that by 5 %.
- standard deviation of drawn volumes about their mean, over that of real ones, in three bands: averages over 4 voxels,
  what averages over 2 add, what single voxels add.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from evaluate import draw, read_cohort
from torch.nn import functional

from synthaug import CCELLAPipeline
from synthaug.bench.options.parsing import read_config
from synthaug.config import Config
from synthaug.data.preprocess import preprocess
from synthaug.data.splits import Split
from synthaug.data.voxels.geometry import NEUTRAL
from synthaug.generate.diffusion import training_scheduler
from synthaug.generate.training.examples import Examples
from synthaug.generate.training.objectives import DiffusionObjective
from synthaug.ground.files import write_json
from synthaug.ground.seeding import torch_generator
from synthaug.study.stages.cohort import draw_split, load_subjects

SIGMAS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 6.0)
BANDS = (4, 2, 1)
"""Average-pooling factors, coarse to fine."""
BATCH = 16


def bands(volumes: torch.Tensor) -> list[float]:
    """Standard deviation about the mean volume of each band of volumes (N, C, X, Y, Z)."""
    found, before = [], None
    for pooling in BANDS:
        pooled = functional.avg_pool3d(volumes, pooling) if pooling > 1 else volumes
        own = pooled if before is None else pooled - functional.interpolate(before, pooled.shape[2:], mode="trilinear")
        found.append(float((own - own.mean(0)).std(correction=0)))
        before = pooled
    return found


def slope(latents: torch.Tensor, denoised: torch.Tensor) -> float:
    """Of latents (N, ...) on what D makes of them, both about their means over N.

    Example:
        >>> latents = torch.randn(8, 1, 2, 2, 2)
        >>> round(slope(latents, latents / 2), 3)
        2.0
    """
    latents, denoised = latents - latents.mean(0), denoised - denoised.mean(0)
    return float((latents * denoised).sum() / denoised.square().sum())


@torch.no_grad()
def slopes(pipe: CCELLAPipeline, config: Config, split: Split) -> list[dict[str, float]]:
    """One slope for each level and noise level, of training people who were not moved."""
    subjects = preprocess(split.train, config.preprocess, config.data.images)
    examples, noise = Examples(subjects, pipe, trained_text=False), torch_generator("calibration")
    scheduler, found = training_scheduler("edm"), []
    for level in range(pipe.autoencoder.levels):
        objective = DiffusionObjective(pipe.denoiser, None, scheduler, 0.0, distance="mse", level=level).eval()
        for sigma in SIGMAS:
            clean, denoised = [], []
            for start in range(0, len(subjects), BATCH):
                rows = list(range(start, min(start + BATCH, len(subjects))))
                time = torch.full((len(rows),), sigma)
                told = examples.batch(
                    level, rows, [NEUTRAL] * len(rows), times=time, generator=noise, dropped=[False] * len(rows)
                )
                noisy = told["latents"] + sigma * told.pop("noise")
                clean.append(told.pop("latents"))
                unused = {"timesteps", "report_weight"}  # of the loss
                told = {name: value for name, value in told.items() if name not in unused}
                denoised.append(objective.predict(noisy, time, **told)[0])
            found.append({"level": level, "sigma": sigma, "slope": slope(torch.cat(clean), torch.cat(denoised))})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--generator", required=True, help="folder or builtin name")
    parser.add_argument("--volumes", type=int, default=148)
    parser.add_argument("--scheduler", default="heun")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(arguments)
    config = read_config(["--config", options.config])
    split = draw_split(config.split, load_subjects(config.data))
    pipe = CCELLAPipeline.from_pretrained(options.generator)
    fingerprint = pipe.fingerprint
    pipe.with_scheduler(options.scheduler, epsilon_scale=1.0)
    people = read_cohort(config, split, "train", "val")
    sampling = {"num_inference_steps": options.steps, "guidance_scale": options.guidance}
    drawn, _ = draw(pipe, people, options.volumes, seed=0, **sampling)
    real = bands(torch.stack(people.volumes))
    spread = {str(band): own / its for band, own, its in zip(BANDS, bands(drawn.volumes), real, strict=True)}
    found = {"generator": fingerprint, "slopes": slopes(pipe, config, split), "spread_drawn_to_real": spread}
    print(json.dumps(found, indent=1))
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
