"""Volumes a second: the published sampling procedure against CCELLAPipeline, same weights, same prompts, one run.

    python benchmarks/speed/sampling.py [--pipeline FOLDER] [--few-steps N --few-pipeline FOLDER] [--quick]

Published (Grabke et al., arXiv 2506.10230): 1,000 ancestral DDPM steps, one volume at a time, adapter and U-Net at
every step; on a cascade, so many on every level, in the same precision. Ours: stochastic DPM-Solver++ with 20 steps,
micro-batches of 8, each distinct report read once for many timesteps. Speed alone would be cheap to gain, so beside it
stands the FID of both to the same held-out phantoms. The last line printed is JSON.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from machine import machine

from synthaug import CCELLAPipeline
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.generate.diffusion import is_flow
from synthaug.generate.preconditioning import denoise, told_time
from synthaug.generate.stored.record import preprocessing_of_record
from synthaug.ground.seeding import derive_seed
from synthaug.metrics.distances.estimates import distance_report
from synthaug.metrics.features import seeded_extractor
from synthaug.models.text_encoder import encode_tokens, tokenize

PUBLISHED_STEPS = 1000
TARGET, FEW_STEP_TARGET = 120.0, 300.0
"""Times quicker than the published procedure."""
FID_BOUND = 1.1
"""Largest FID in units of the published procedure's."""
REAL_SEED, PROMPT_SEED = 7001, 7002
"""Held-out phantoms: builtin generators are trained on seed 1."""
QUICK_STEPS = 40
"""With --quick only so many of the 1,000 steps are timed; each costs the same."""


@dataclass
class Run:
    """Volumes and the wall time that they took."""

    volumes: torch.Tensor
    """(N, C, X, Y, Z) in [0, 1]."""
    seconds_per_volume: float
    cpu_seconds_per_volume: float
    """Time of this process's own threads: what other processes on the machine slow down least."""


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """(wall, CPU) in seconds."""
        return time.perf_counter() - self.started[0], time.process_time() - self.started[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw with both procedures and print the figures."""
    options = _options(arguments)
    pipeline = _load(options.pipeline, micro_batch=options.micro_batch)
    reports, seeds = _prompts(pipeline, options.n)
    sampled = {"scheduler": options.scheduler, "steps": options.steps}

    # Ours before and after, so that a machine that slows down or speeds up meanwhile favours nobody.
    before = draw_ours(pipeline, reports, seeds, **sampled)
    asked = {"steps": options.published_steps, "stop_after": options.stop_after}
    published = draw_published(pipeline, reports[: options.published_n], seeds, **asked)
    shares: dict[str, float] = {}
    with part_times(pipeline, shares):
        after = draw_ours(pipeline, reports, seeds, **sampled)
    ours = Run(
        before.volumes,
        (before.seconds_per_volume + after.seconds_per_volume) / 2,
        (before.cpu_seconds_per_volume + after.cpu_seconds_per_volume) / 2,
    )
    quality = None if options.quick else _Quality(pipeline, published.volumes, n_real=options.n_real)
    result = {
        "claim": "volumes a second of CCELLAPipeline against the published sampling procedure, same weights",
        **_verdict(ours, published, quality, target=TARGET),
        "machine": machine(),
        "fid_bound": FID_BOUND,
        "quick": options.quick,
        "ours_procedure": sampled | {"micro_batch": options.micro_batch, "volumes": options.n},
        "published_procedure": {
            "scheduler": _published_scheduler(pipeline),
            "steps": options.published_steps,
            "steps_timed": options.stop_after or options.published_steps,
            "batch": 1,
            "volumes": options.published_n,
        },
        "our_seconds_per_volume_before_and_after": [before.seconds_per_volume, after.seconds_per_volume],
        "shares_of_our_time": _shares(shares, total=after.seconds_per_volume * options.n),
        "n_real": None if quality is None else options.n_real,
        "fingerprint": pipeline.fingerprint,
        "few_step": _few_step(options, pipeline, reports, seeds, published, quality),
    }
    print(json.dumps(result, ensure_ascii=False))


@torch.no_grad()
def draw_published(
    pipeline: CCELLAPipeline,
    reports: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = PUBLISHED_STEPS,
    stop_after: int | None = None,
) -> Run:
    """The published procedure: volume by volume, its report encoded, then adapter and U-Net at each of 1,000 steps.

    Args:
        pipeline: Whose networks are used.
        reports: One a volume.
        seeds: One a volume, or more.
        steps: Of the procedure, on each level.
        stop_after: Time only so many steps and extrapolate to all; the volumes are then unfinished.
    """
    scheduler = pipeline.with_scheduler(_published_scheduler(pipeline)).scheduler
    space, levels = pipeline.autoencoder, []
    volumes, seconds = [], [0.0, 0.0]
    for report, seed in zip(reports, seeds, strict=False):
        generator = torch.Generator().manual_seed(int(seed))
        clock = Clock()
        text = encode_tokens(pipeline.text_encoder, tokenize(pipeline.tokenizer, [report]))
        encoding, clock, levels = clock.read(), Clock(), []
        for level in range(space.levels):
            parts = pipeline.denoiser.config.levels
            scheduler.set_timesteps(steps, **({"sigma_max": parts[level]["sigma_max"]} if parts else {}))
            latents = torch.randn(1, *space.latent_shape(level, pipeline.config.shape), generator=generator)
            if pipeline.edm:
                latents = scheduler.first_sample(latents)
            guide = space.guide(level, levels) if level else None
            for timestep in scheduler.timesteps[:stop_after]:
                predicted = _predict(pipeline, level, latents, timestep[None], text=text, guide=guide)
                latents = scheduler.step(predicted, timestep, latents, generator=[generator]).prev_sample
            levels.append(latents)
        stepping, clock = clock.read(), Clock()
        volumes.append(pipeline.sampler.volumes_of(levels, [generator]).clamp(0, 1))
        decoding, scale = clock.read(), steps / (stop_after or steps)
        for kind in (0, 1):
            seconds[kind] += encoding[kind] + stepping[kind] * scale + decoding[kind]
    return Run(torch.cat(volumes), seconds[0] / len(volumes), seconds[1] / len(volumes))


def _predict(
    pipeline: CCELLAPipeline,
    level: int,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    *,
    text: torch.Tensor,
    guide: torch.Tensor | None,
) -> torch.Tensor:
    """Adapter and U-Net at one step."""
    denoiser, deviations = pipeline.denoiser, pipeline.config.latent_deviations
    told = told_time(pipeline.scheduler, deviations, timestep)
    context, logits = denoiser.read(text, torch.zeros(1) if level else told)
    with pipeline.sampler.autocast():
        return denoise(
            denoiser,
            pipeline.scheduler,
            deviations,
            latents,
            timestep,
            context=context,
            class_vector=denoiser.class_vector(logits, None),
            spacing_mm=torch.tensor([pipeline.config.spacing_mm], dtype=torch.float32),
            level=level,
            guide=guide,
        )


def draw_ours(
    pipeline: CCELLAPipeline, reports: Sequence[str], seeds: Sequence[int], *, scheduler: str, steps: int
) -> Run:
    """The pipeline's own call."""
    pipeline = pipeline.with_scheduler(scheduler)
    clock = Clock()
    volumes = pipeline(reports, seeds=seeds[: len(reports)], num_inference_steps=steps).volumes
    wall, cpu = clock.read()
    return Run(volumes, wall / len(reports), cpu / len(reports))


@contextlib.contextmanager
def part_times(pipeline: CCELLAPipeline, seconds: dict[str, float]) -> Iterator[None]:
    """Add up, while inside, the wall time of each network of the pipeline."""
    parts = {
        "u_net": (pipeline.denoiser, "forward"),
        "adapter": (pipeline.denoiser, "read"),
        "text_encoder": (pipeline.text_encoder, "forward"),
        "decode": (pipeline.autoencoder, "from_levels"),
    }
    for name, (owner, method) in parts.items():
        setattr(owner, method, _stopwatch(getattr(owner, method), seconds, name))
    try:
        yield
    finally:
        for owner, method in parts.values():
            delattr(owner, method)  # the class's own method shows again


class _Quality:
    """FID of drawn volumes to held-out phantoms, at the number of volumes that the published procedure drew."""

    def __init__(self, pipeline: CCELLAPipeline, published: torch.Tensor, *, n_real: int) -> None:
        self.extractor = seeded_extractor()
        self.real = self.extractor.features(_real_volumes(pipeline, n_real))
        self.n = len(published)
        self.published = self.measure(published)

    def measure(self, volumes: torch.Tensor) -> dict[str, float]:
        """The distance with its interval, and the real-real floor at as many rows a side as there are."""
        drawn, fingerprint = self.extractor.features(volumes[: self.n]), self.extractor.fingerprint
        return asdict(distance_report(self.real, drawn, metrics=["fid"], fingerprint=fingerprint)["fid"])

    def ratio(self, volumes: torch.Tensor) -> tuple[float, dict[str, float]]:
        """FID over the published procedure's, and the FID itself."""
        ours = self.measure(volumes)
        return ours["value"] / self.published["value"], ours


def _verdict(ours: Run, published: Run, quality: _Quality | None, *, target: float) -> dict[str, Any]:
    """Volumes a second of both, their ratio, and whether it reaches the target at a FID within the bound."""
    ratio = published.seconds_per_volume / ours.seconds_per_volume
    verdict: dict[str, Any] = {
        "ours": 1 / ours.seconds_per_volume,
        "reference": 1 / published.seconds_per_volume,
        "ratio": ratio,
        "ratio_of_cpu_time": published.cpu_seconds_per_volume / ours.cpu_seconds_per_volume,
        "target": target,
    }
    if quality is None:  # speed only: unfinished volumes have no FID
        return verdict | {"holds": bool(ratio >= target), "fid": None}
    fid_ratio, fid = quality.ratio(ours.volumes)
    return verdict | {
        "holds": bool(ratio >= target and fid_ratio <= FID_BOUND),
        "fid": {"ours": fid, "reference": quality.published, "ratio": fid_ratio},
    }


def _few_step(
    options: argparse.Namespace,
    pipeline: CCELLAPipeline,
    reports: Sequence[str],
    seeds: Sequence[int],
    published: Run,
    quality: _Quality | None,
) -> dict[str, Any] | None:
    """The same claim for very few steps, perhaps by a pipeline trained for them; None = not asked for."""
    if options.few_steps is None:
        return None
    few = _load(options.few_pipeline, micro_batch=options.micro_batch) if options.few_pipeline else pipeline
    sampled = {"scheduler": options.few_scheduler, "steps": options.few_steps}
    draw_ours(few, reports[: options.micro_batch], seeds, **sampled)  # the first call of a process is slower
    run = draw_ours(few, reports, seeds, **sampled)
    return {
        **_verdict(run, published, quality, target=FEW_STEP_TARGET),
        "procedure": sampled,
        "fingerprint": few.fingerprint,
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="builtin/ccella-tiny", help="folder or builtin name")
    parser.add_argument("--steps", type=int, default=20, help="our denoising steps")
    parser.add_argument("--scheduler", default="dpm_solver_sde", help="our scheduler")
    parser.add_argument("--micro-batch", type=int, default=8, help="our micro-batch")
    parser.add_argument("--n", type=int, default=32, help="volumes of ours")
    parser.add_argument("--published-n", type=int, default=32, help="volumes of the published procedure, at most n")
    parser.add_argument("--published-steps", type=int, default=PUBLISHED_STEPS, help="steps of the published procedure")
    parser.add_argument("--n-real", type=int, default=200, help="held-out phantoms behind the FID")
    parser.add_argument("--few-steps", type=int, help="also measure a call with so few steps")
    parser.add_argument("--few-pipeline", help="the pipeline of --few-steps, default --pipeline")
    parser.add_argument("--few-scheduler", default="dpm_solver_sde", help="the scheduler of --few-steps")
    parser.add_argument(
        "--quick", action="store_true", help=f"time {QUICK_STEPS} of the published steps, no FID: within a minute"
    )
    options = parser.parse_args(arguments)
    options.stop_after = QUICK_STEPS if options.quick else None
    if options.quick:
        options.n, options.published_n = options.micro_batch, 2
    if not 4 <= options.published_n <= options.n and not options.quick:
        parser.error(f"--published-n {options.published_n}: give 4 to --n volumes, so that there is a FID")
    return options


def _load(name: str, *, micro_batch: int) -> CCELLAPipeline:
    pipeline = CCELLAPipeline.from_pretrained(name)
    pipeline.register_to_config(micro_batch=micro_batch)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _published_scheduler(pipeline: CCELLAPipeline) -> str:
    """DDPM; where the weights are those of a rectified flow, which has no ancestral sampler, plain Euler steps."""
    return "flow_euler" if is_flow(pipeline.scheduler) else "ddpm"


def _prompts(pipeline: CCELLAPipeline, n: int) -> tuple[list[str], list[int]]:
    """Reports of held-out phantoms and a seed for each."""
    subjects = _phantoms(pipeline, max(n, 2), seed=PROMPT_SEED)
    return [subject["report"] for subject in subjects][:n], [derive_seed("sampling speed", k) for k in range(n)]


def _real_volumes(pipeline: CCELLAPipeline, n: int) -> torch.Tensor:
    """Other held-out phantoms (n, 1, X, Y, Z), preprocessed as the generator's training volumes were."""
    config = preprocessing_of_record(pipeline.record["preprocessing"])
    images = pipeline.config.images
    done = preprocess(_phantoms(pipeline, n, seed=REAL_SEED), config, images)
    return torch.stack([stack_images(subject, images) for subject in done])


def _phantoms(pipeline: CCELLAPipeline, n: int, *, seed: int) -> list:
    return make_subjects(n, seed=seed, shape=tuple(pipeline.config.shape), spacing_mm=tuple(pipeline.config.spacing_mm))


def _shares(seconds: dict[str, float], *, total: float) -> dict[str, float]:
    """Shares of the call's wall time; the rest is the sampler's arithmetic and bookkeeping."""
    return {name: value / total for name, value in seconds.items()} | {"rest": 1 - sum(seconds.values()) / total}


def _stopwatch(method, seconds: dict[str, float], name: str):
    def timed(*args, **kwargs):
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

    return timed


if __name__ == "__main__":
    main()
