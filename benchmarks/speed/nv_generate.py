"""Peak memory of NV-Generate with report and class at full size on a CPU: training step, sampling step, one tile.

    python benchmarks/speed/nv_generate.py [--quick] [--parts training_step sampling_step encode_tile]

The networks are those of ``--preset nv-generate-mr`` with random weights: NVIDIA's U-Net of 64/128/256/512 channels
with CCELLA's additions, its autoencoder of 64/128/256, and latents of 4 x 64 x 64 x 32 (256 x 256 x 128 voxels). One
training step is one row of a batch through the joint loss, backward, and AdamW, all weights trained, in float32. One
sampling step is one guided step of the rectified flow. One tile is what the autoencoder encodes at once. Each part runs
in a process of its own, which ends where it asks for more than 12 GiB. The last line printed is JSON.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict

import torch
from full_size import TARGET_GIB, Part, alone, measure_part
from machine import machine

from synthaug.bench.options.parsing import read_config
from synthaug.config import Config
from synthaug.generate.diffusion import training_scheduler
from synthaug.generate.nvgenerate.flow import MaisiFlowScheduler, places_of
from synthaug.generate.training.objectives import DiffusionObjective
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.text_encoder import build_text_encoder, tokenize

LATENT, QUICK_LATENT = (64, 64, 32), (16, 16, 8)
TILE = 40
REPORT = "Focal lesion of 12 mm in the left mid peripheral zone. IMPRESSION: PI-RADS 4."
UNET = {
    "channels": (64, 128, 256, 512),
    "attention": (False, False, True, True),
    "residual_blocks": 2,
    "condition_scale": 100.0,
}
GUIDANCE = 15.0
"""NVIDIA's."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts, each in its own process, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="volumes a quarter as wide: within a minute")
    works = {work.__name__: work for work in (training_step, sampling_step, encode_tile)}
    parser.add_argument("--parts", nargs="+", choices=list(works), default=list(works), help="what is measured")
    options = parser.parse_args(arguments)
    sides = QUICK_LATENT if options.quick else LATENT
    parts = {name: alone(works[name], sides) for name in options.parts}
    peak = max(part.peak_gib for part in parts.values())
    result = {
        "claim": f"peak GiB of NV-Generate with report and class at full size: {', '.join(parts)}",
        "ours": peak,
        "reference": None,
        "ratio": None,
        "target": TARGET_GIB,
        "holds": bool(peak <= TARGET_GIB),
        "machine": machine(),
        "quick": options.quick,
        **{name: vars(part) for name, part in parts.items()},
    }
    print(json.dumps(result, ensure_ascii=False))


def training_step(sides: Sequence[int]) -> Part:
    """Loss, gradients and one step of AdamW for one row, every weight and the text encoder trained."""
    config = _begin()
    encoder, tokenizer = build_text_encoder(config.generator.text_encoder)
    denoiser = _denoiser(config, encoder.config.hidden_size)
    flow = training_scheduler("maisi_flow")
    objective = DiffusionObjective(denoiser, encoder, flow, config.generator.class_loss_weight).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=config.generator.training.learning_rate, fused=True)
    latents, noise = torch.randn(2, 1, 4, *sides).unbind(0)
    started = time.perf_counter()
    loss, _ = objective(
        latents,
        noise,
        timesteps=flow.draw_times(1, places_of(latents.shape), torch.Generator().manual_seed(0)),
        labels=torch.tensor([1]),
        report_weight=torch.ones(1),
        spacing_mm=torch.tensor([config.preprocess.spacing_mm]),
        text=tokenize(tokenizer, [REPORT]),
        unconditional=torch.tensor([False]),
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(objective.parameters(), config.generator.training.clip_norm)
    optimizer.step()
    return measure_part(denoiser, loss.detach(), started)


@torch.no_grad()
def sampling_step(sides: Sequence[int]) -> Part:
    """The first of 30 steps for one volume: the report and no report read, two evaluations, guided."""
    config = _begin()
    encoder, tokenizer = build_text_encoder(config.generator.text_encoder)
    denoiser = _denoiser(config, encoder.config.hidden_size).eval()
    flow, latents = MaisiFlowScheduler(), torch.randn(1, 4, *sides)
    flow.set_timesteps(30, places=places_of(latents.shape))
    time_now, answers = flow.timesteps[:1], []
    started = time.perf_counter()
    for report, unconditional in ((REPORT, False), ("", True)):
        states = encoder(tokenize(tokenizer, [report])).last_hidden_state
        context, logits = denoiser.read(states, time_now)
        answer = denoiser(
            latents,
            time_now,
            context=context,
            class_vector=denoiser.class_vector(logits, None),
            spacing_mm=torch.tensor([config.preprocess.spacing_mm]),
            unconditional=torch.tensor([unconditional]),
        )
        answers.append(answer)
    velocity = answers[1] + GUIDANCE * (answers[0] - answers[1])
    return measure_part(denoiser, flow.step(velocity, time_now[0], latents).prev_sample, started)


@torch.no_grad()
def encode_tile(sides: Sequence[int]) -> Part:
    """The posterior mean of one tile, the largest piece of a volume that the autoencoder sees at once."""
    _begin()
    autoencoder = ImageAutoencoder(splits=16, tile=TILE).eval()
    volume = torch.rand(1, 1, *(autoencoder.factor * min(TILE, side) for side in sides))
    started = time.perf_counter()
    return measure_part(autoencoder, autoencoder.encode(volume), started)


def _begin() -> Config:
    """The preset's settings, in a process that cannot take more memory than the target."""
    limit = int(TARGET_GIB * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    torch.manual_seed(0)
    return read_config(["--preset", "nv-generate-mr"])


def _denoiser(config: Config, text_width: int) -> CCELLADenoiser:
    return CCELLADenoiser(
        variant=config.generator.variant,
        text_width=text_width,
        unet_size=UNET,
        adapter_size=asdict(config.generator.adapter),
        modalities=128,
        modality=10,
    )


if __name__ == "__main__":
    main()
