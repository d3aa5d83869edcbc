"""Sampling of one micro-batch: from unit noise to clean latents, level by level."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from diffusers import SchedulerMixin

from synthaug.generate.diffusion import first_shares, is_edm, is_maisi_flow
from synthaug.generate.nvgenerate.flow import places_of
from synthaug.generate.preconditioning import denoise, told_time
from synthaug.generate.stored.told import Guidance
from synthaug.ground.memory import keep_freed_memory
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.latent_space import LatentSpace
from synthaug.models.precision import Precision

READ_AHEAD = 32
"""Timesteps for which a report is read at once; fixed, so that the bits never depend on the caller."""
Reading = tuple[torch.Tensor | None, torch.Tensor | None]
"""Context (T, Q, width) and class logits (T, K) of one report at T timesteps."""


@dataclass
class Drawing:
    """What volumes are drawn from, one a report."""

    reports: Sequence[str]
    labels: torch.Tensor | None
    """Classes in place of the predicted ones (B,)."""
    seeds: Sequence[int]
    text: dict[str, torch.Tensor]
    """Hidden states of each report."""
    spacing: torch.Tensor
    """(1, 3), in mm."""
    guidance: Guidance
    on_step: Callable[[int, torch.Tensor, dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None
    """Called with step, timestep and latents; those that it returns replace them."""

    def guides(self, level: int) -> bool:
        """Whether guidance leads a level."""
        count = self.guidance.guided_levels
        return self.guidance.guidance != 1.0 and (count is None or level < count)

    def guides_at(self, level: int, timestep: torch.Tensor) -> bool:
        """Whether guidance leads a level at one timestep."""
        below = self.guidance.guidance_below
        return self.guides(level) and (below is None or float(timestep) < below)

    @cached_property
    def generators(self) -> list[torch.Generator]:
        """One a volume; each goes on with every number that it draws."""
        return [torch.Generator().manual_seed(int(seed)) for seed in self.seeds]

    def micro_batch(self, start: int, size: int) -> "Drawing":
        """The rows from ``start``, filled up to ``size`` with the last one, each with a generator of its own."""
        rows = [min(row, len(self.reports) - 1) for row in range(start, start + size)]
        return replace(
            self,
            reports=[self.reports[row] for row in rows],
            labels=None if self.labels is None else self.labels[rows],
            seeds=[self.seeds[row] for row in rows],
        )


@dataclass(frozen=True)
class LatentSampler:
    """The networks and the scheduler that latents are drawn with.

    Latents stay in float32, whatever the networks compute in: the steps of a sampler are small differences.
    """

    space: LatentSpace
    denoiser: CCELLADenoiser
    scheduler: SchedulerMixin
    deviations: Sequence[float]
    """Of the latent channels; empty = as published."""
    gains: Sequence[float]
    """Factor on the drawn latents of each level; empty = 1."""
    precision: Precision
    device: torch.device

    def draw(self, drawing: Drawing, shapes: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Volumes (B, C, X, Y, Z), not clipped; class probabilities (B, K) of the coarsest level, or None.

        Args:
            drawing: The micro-batch.
            shapes: Of the latents (c, x, y, z) of each level that is drawn, coarse to fine.
        """
        keep_freed_memory()
        latents: list[torch.Tensor] = []
        predicted = None
        for level, shape in enumerate(shapes):
            drawn, logits = self._denoise(level, drawing, latents, shape)
            latents.append(drawn * self.gains[level] if level < len(self.gains) else drawn)
            predicted = logits if level == 0 else predicted
        return self.volumes_of(latents, drawing.generators), predicted

    def _denoise(
        self, level: int, drawing: Drawing, coarser: Sequence[torch.Tensor], shape: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One level from unit noise to clean latents; also the class probabilities of the last step."""
        timesteps = self._timesteps(level, shape)
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        extra = {"generator": drawing.generators} if takes_generator else {}
        reports, guided = drawing.reports, drawing.guides(level)
        conditions = {
            "level": level,
            "guide": self.space.guide(level, coarser) if level else None,
            "spacing_mm": drawing.spacing.expand(len(reports), 3),
            "texture": self._texture(level, drawing.generators),
        }
        read = [*reports, ""] if guided else reports
        computing, logits = self.autocast(), None  # chosen once: that looks at every module
        for index, timestep in enumerate(timesteps):
            at = index % READ_AHEAD
            if at == 0:
                ahead = timesteps[index : index + READ_AHEAD]
                readings = {report: self.read(drawing.text[report], ahead, level) for report in dict.fromkeys(read)}
            if index == 0:
                latents = self.first_latents(_rows(readings, reports, 0, 0), drawing.generators, shape)
            scaled = self._scaled(latents, timestep)

            def predict(prompts, *, unconditional, scaled=scaled, timestep=timestep, at=at, readings=readings):
                context, logits = (_rows(readings, prompts, part, at) for part in (0, 1))
                told = conditions | {"context": context}
                told["class_vector"] = self.denoiser.class_vector(logits, drawing.labels)
                told["unconditional"] = torch.full((len(prompts),), unconditional, device=self.device)
                time = timestep.expand(len(prompts))
                with computing:
                    return denoise(self.denoiser, self.scheduler, self.deviations, scaled, time, **told), logits

            predicted, logits = predict(reports, unconditional=False)
            if drawing.guides_at(level, timestep):
                away_from, _ = predict([""] * len(reports), unconditional=True)
                predicted = away_from + drawing.guidance.guidance * (predicted - away_from)
            latents = self.scheduler.step(predicted, timestep, latents, **extra).prev_sample
            if drawing.on_step:
                latents = drawing.on_step(index, timestep, {"latents": latents}).get("latents", latents)
        return latents, None if logits is None else logits.float().softmax(dim=1)

    def _timesteps(self, level: int, shape: Sequence[int]) -> torch.Tensor:
        """Laid out anew for every level, which also forgets the steps before."""
        levels = self.denoiser.config.levels
        first: dict[str, Any] = {"sigma_max": levels[level]["sigma_max"]} if levels else {}
        if is_maisi_flow(self.scheduler):
            first["places"] = places_of(shape)
        self.scheduler.set_timesteps(self.scheduler.num_inference_steps, device=self.device, **first)
        return self.scheduler.timesteps

    def autocast(self) -> torch.autocast:
        """bf16 where it was chosen for float32 weights on a CPU."""
        wanted = self.precision == "bf16" and self.denoiser.dtype == torch.float32
        if wanted and self.device.type == "cpu":
            self.denoiser.to(memory_format=torch.channels_last_3d)
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=wanted)

    def volumes_of(self, latents: Sequence[torch.Tensor], generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Volumes (B, C, X, Y, Z) of the levels' latents, not clipped."""
        return self.space.finish(self.space.from_levels(latents), generators)

    def first_latents(
        self, context: torch.Tensor | None, generators: Sequence[torch.Generator], shape: Sequence[int]
    ) -> torch.Tensor:
        """Noise to start from (B, *shape), float32.

        Published: noise alone. But at the last timestep of the published schedule part of the image is left. Of what
        all voxels share, this exceeds the noise, so that the network takes the mean of the noise for that of the image.
        Ours, with a layout: this rest is drawn from a Gaussian over the components of the layout, around the prediction
        from the report.
        """
        latents = torch.stack([torch.randn(*shape, generator=g) for g in generators]).to(self.device)
        if is_edm(self.scheduler):
            return self.scheduler.first_sample(latents)
        if context is None or not self.denoiser.config.layout_shape:
            return latents * getattr(self.scheduler, "init_noise_sigma", 1.0)
        expected = self.denoiser.expected_layout(context).float()
        drawn = torch.stack([torch.randn(expected.shape[1], generator=g) for g in generators]).to(self.device)
        image = self.denoiser.latents_of(expected + drawn, shape[1:])
        deviations = torch.tensor(list(self.deviations) or [1.0], device=self.device)
        of_image, of_noise = first_shares(self.scheduler)
        return of_image * image * deviations.view(1, -1, 1, 1, 1) + of_noise * latents

    def _texture(self, level: int, generators: Sequence[torch.Generator]) -> torch.Tensor | None:
        """Components of each volume's noise and sharpness (B, K), where the level is told them."""
        texture = getattr(self.denoiser.unets[level], "texture", None)
        if texture is None:
            return None
        return torch.stack([torch.randn(texture.components, generator=g) for g in generators]).to(self.device)

    def _scaled(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """What the network sees; samplers of flows scale nothing and lack the method."""
        if hasattr(self.scheduler, "scale_model_input"):
            latents = self.scheduler.scale_model_input(latents, timestep)
        return latents

    def read(self, states: torch.Tensor, timesteps: torch.Tensor, level: int) -> Reading:
        """Context and class logits of one report at each of the timesteps; finer levels are told nothing of the noise.

        So their readings are computed once, in training and in sampling.

        Args:
            states: Hidden states of the report (L, width).
            timesteps: (T,).
            level: 0 = coarsest.
        """
        if level:
            context, logits = self.denoiser.read(states.unsqueeze(0), torch.zeros(1, device=self.device))
            spread = (
                part if part is None else part.expand(len(timesteps), *part.shape[1:]) for part in (context, logits)
            )
            return next(spread), next(spread)
        told = told_time(self.scheduler, self.deviations, timesteps)
        return self.denoiser.read(states.expand(len(timesteps), *states.shape), told)


def _rows(readings: dict[str, Reading], prompts: Sequence[str], part: int, at: int) -> torch.Tensor | None:
    """Part (context or logits) of each prompt's reading at one timestep, as a batch."""
    rows = [readings[prompt][part] for prompt in prompts]
    return None if rows[0] is None else torch.stack([row[at] for row in rows if row is not None])
