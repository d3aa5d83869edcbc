"""CCELLAPipeline: reports in, volumes out, each volume a pure function of its recipe."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import transformers
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput

from synthaug.generate.diffusion import (
    SCHEDULERS,
    SOLVERS_OF_EDM,
    TRAIN_TIMESTEPS,
    first_shares,
    is_edm,
    is_maisi_flow,
    noise_schedule,
    require_suited,
    swap_scheduler,
)
from synthaug.generate.encode import encode_reports
from synthaug.generate.levels import LatentSpace
from synthaug.generate.nvgenerate.flow import places_of
from synthaug.generate.preconditioning import denoise, told_time
from synthaug.generate.stored.familiarity import FILE as FAMILIARITY
from synthaug.generate.stored.familiarity import Doubts, Familiarity
from synthaug.generate.stored.folder import RECORD, locate, named, read_parts, read_record
from synthaug.generate.stored.patients import set_aside
from synthaug.generate.stored.record import model_card
from synthaug.generate.stored.told import require_guidance
from synthaug.generate.trial import require_steps
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash, write_json, write_text
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.cascade import Cascade
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.precision import Precision

CARD = "README.md"
StepCallback = Callable[["CCELLAPipeline", int, torch.Tensor, dict[str, torch.Tensor]], dict[str, torch.Tensor]]
READ_AHEAD = 32
"""Timesteps for which a report is read at once; fixed, so that the bits never depend on the caller."""


@dataclass
class CCELLAOutput(BaseOutput):
    """What a call returns."""

    volumes: torch.Tensor
    """(B, C, X, Y, Z) float32 in [0, 1], on the CPU."""
    class_probabilities: torch.Tensor | None
    """(B, K) predicted from the report at the last step; None for variants without class heads."""
    seeds: list[int]
    """One a volume."""
    unlike: list[str] | None = None
    """Why each report is unlike those of the training, "" = it is not; None = the generator does not know them."""


class CCELLAPipeline(DiffusionPipeline):
    """Text- and class-conditioned sampler of 3D volumes.

    A volume depends on its report, class, seed, steps, scheduler, guidance, shape, spacing and the pipeline's
    micro-batch, and on nothing else: the U-Net always runs at ``micro_batch`` rows, padded, each row with its own
    generator, and each distinct report is read alone. Published: 1,000 ancestral DDPM steps, no guidance.

    Args:
        autoencoder: What is denoised: a cascade's levels, or an autoencoder's latents.
        denoiser: Predicts noise or velocity.
        text_encoder: A transformers encoder.
        tokenizer: Its tokenizer.
        scheduler: Any diffusers scheduler made from the training scheduler's config.
        images: Names of the channels.
        spacing_mm: Default voxel size.
        shape: Default voxels.
        micro_batch: Rows of every network call.
        latent_deviations: Of the latent channels, in folders of version 0.1 whose denoiser was trained behind a linear
            predictor (:mod:`synthaug.generate.preconditioning`); empty = as published.
        precision: Arithmetic of the networks on a CPU: float32 or bf16.
    """

    scheduler: SchedulerMixin
    model_cpu_offload_seq = "text_encoder->denoiser->autoencoder"

    def __init__(
        self,
        autoencoder: LatentSpace,
        denoiser: CCELLADenoiser,
        text_encoder: transformers.PreTrainedModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        scheduler: SchedulerMixin,
        images: Sequence[str] = ("t2w",),
        spacing_mm: Sequence[float] = (0.5, 0.5, 0.5),
        shape: Sequence[int] = (256, 256, 128),
        micro_batch: int = 8,
        latent_deviations: Sequence[float] = (),
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder,
            denoiser=denoiser,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
        )
        self.register_to_config(
            images=list(images),
            spacing_mm=list(spacing_mm),
            shape=list(shape),
            micro_batch=micro_batch,
            latent_deviations=list(latent_deviations),
            precision=precision,
        )
        self.record: dict[str, Any] = {}
        self.familiarity: Familiarity | None = None
        """What the reports of the training look like; None = not known."""
        self.doubts = Doubts()
        self._fingerprint: str | None = None

    @torch.no_grad()
    def __call__(
        self,
        reports: Sequence[str],
        labels: Sequence[int] | None = None,
        *,
        seeds: Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        spacing_mm: Sequence[float] | None = None,
        shape: Sequence[int] | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 1.0,
        callback_on_step_end: StepCallback | None = None,
        levels: int | None = None,
        return_dict: bool = True,
    ) -> CCELLAOutput:
        """Draw one volume a report.

        Args:
            reports: Free text; "" = none.
            labels: Classes that override the predicted ones; required by variants conditioned on the true class.
            seeds: One a report; any integer from 0.
            generator: In place of ``seeds``: draws them, alone or one a report. ``output.seeds`` tells them.
            spacing_mm: Voxel size, default that of training.
            shape: Voxels, default that of training.
            num_inference_steps: Denoising steps.
            guidance_scale: > 1 moves away from what "" would give; for generators trained with report dropout.
            callback_on_step_end: Called as ``callback(pipeline, step, timestep, {"latents": latents})`` after each
                step of each micro-batch, as in diffusers; latents in the dictionary that it returns replace them.
            levels: How many levels of a cascade are drawn, coarse to fine; the rest is its mean. None = all.
            return_dict: False = a tuple (volumes, class_probabilities, seeds), as in diffusers.

        Raises:
            InputError: Neither or both of seeds and generator are given, lengths differ, the shape does not divide, the
                variant takes no labels or no guidance, the scheduler cannot sample this network or cannot take that
                many steps.
        """
        seeds = _seeds_of(seeds, generator, len(reports))
        self._require_equal_lengths(reports, labels, seeds)
        self._require_meaning(labels, guidance_scale)
        self._set_timesteps(num_inference_steps)
        count = self.autoencoder.levels if levels is None else levels
        if not 1 <= count <= self.autoencoder.levels:
            raise InputError(f"levels={count}: this generator has 1 to {self.autoencoder.levels}.")
        shapes = [self.autoencoder.latent_shape(level, shape or self.config.shape) for level in range(count)]
        self.require_divisible(shapes)
        spacing = torch.tensor([*(spacing_mm or self.config.spacing_mm)], device=self.device, dtype=self.denoiser.dtype)
        guided = guidance_scale != 1.0
        # A large text encoder may be kept in another precision than the denoiser.
        states = encode_reports(self.text_encoder, self.tokenizer, [*reports, *([""] if guided else [])])
        text = {report: state.to(self.denoiser.dtype) for report, state in states.items()}
        size = self.config.micro_batch
        volumes, probabilities = [], []
        for start in self.progress_bar(range(0, len(reports), size)):
            rows = [min(row, len(reports) - 1) for row in range(start, start + size)]  # pad with the last row
            override = None if labels is None else torch.tensor([labels[row] for row in rows], device=self.device)
            generators = [torch.Generator().manual_seed(int(seeds[row])) for row in rows]
            drawing = _Drawing(
                [reports[row] for row in rows],
                override,
                generators,
                text,
                spacing,
                guidance_scale,
                callback_on_step_end,
            )
            latents: list[torch.Tensor] = []
            predicted = None
            for level in range(count):
                drawn, logits = self._denoise(level, drawing, latents, shapes[level])
                latents.append(drawn)
                predicted = logits if level == 0 else predicted
            kept = min(size, len(reports) - start)
            drawn = self._finished(latents, generators)[:kept].float().cpu()
            if not torch.isfinite(drawn).all():
                raise InputError(
                    f"The generator drew values that are not finite, seeds {list(seeds[start : start + kept])}; "
                    "is it trained, and does the scheduler suit it?"
                )
            volumes.append(drawn.clamp(0, 1))
            if predicted is not None:
                probabilities.append(predicted[:kept].float().cpu())
        read = torch.cat(probabilities) if probabilities else None
        unlike = self.familiarity.reasons(self.tokenizer, reports, states) if self.familiarity else None
        self.doubts.tell(labels, read, unlike)
        empty = torch.empty(0, self.autoencoder.sequences, *(shape or self.config.shape))
        output = CCELLAOutput(
            volumes=torch.cat(volumes) if volumes else empty,
            class_probabilities=read,
            seeds=list(seeds),
            unlike=unlike,
        )
        if not return_dict:  # as in diffusers; typed for those who leave it at its default
            return output.volumes, output.class_probabilities, output.seeds  # type: ignore[return-value]
        return output

    def _denoise(
        self, level: int, drawing: "_Drawing", coarser: Sequence[torch.Tensor], shape: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One micro-batch of one level from unit noise to clean latents; also the class probabilities of the last step.

        Latents stay in float32, whatever the networks compute in: the steps of a sampler are small differences.
        """
        levels = self.denoiser.config.levels
        first: dict[str, Any] = {"sigma_max": levels[level]["sigma_max"]} if levels else {}
        if is_maisi_flow(self.scheduler):
            first["places"] = places_of(shape)
        # Laid out anew for every level, which also forgets the steps before.
        self.scheduler.set_timesteps(self.scheduler.num_inference_steps, device=self.device, **first)
        computing = self._autocast()  # chosen once: that looks at every module
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        extra = {"generator": drawing.generators} if takes_generator else {}
        reports, guidance = drawing.reports, drawing.guidance
        spacing = drawing.spacing.expand(len(reports), 3)
        guide = self.autoencoder.guide(level, coarser) if level else None
        read = [*reports, ""] if guidance != 1.0 else reports
        timesteps, logits = self.scheduler.timesteps, None
        for index, timestep in enumerate(timesteps):
            if index % READ_AHEAD == 0:
                ahead = timesteps[index : index + READ_AHEAD]
                readings = {report: self._read(drawing.text[report], ahead, level) for report in dict.fromkeys(read)}
            if index == 0:
                latents = self._first_latents(_rows(readings, reports, 0, 0), drawing.generators, shape)
            scaled = self._scaled(latents, timestep)

            def predict(
                prompts, scaled=scaled, timestep=timestep, at=index % READ_AHEAD, readings=readings, unconditional=False
            ):
                context, logits = (_rows(readings, prompts, part, at) for part in (0, 1))
                vector = self.denoiser.class_vector(logits, drawing.labels)
                time = timestep.expand(len(prompts))
                conditions = {"context": context, "class_vector": vector, "spacing_mm": spacing}
                conditions |= {"level": level, "guide": guide}
                conditions["unconditional"] = torch.full((len(prompts),), unconditional, device=scaled.device)
                deviations = self.config.latent_deviations
                with computing:
                    return denoise(self.denoiser, self.scheduler, deviations, scaled, time, **conditions), logits

            predicted, logits = predict(reports)
            if guidance != 1.0:
                away_from, _ = predict([""] * len(reports), unconditional=True)
                predicted = away_from + guidance * (predicted - away_from)
            latents = self.scheduler.step(predicted, timestep, latents, **extra).prev_sample
            if drawing.on_step:
                latents = drawing.on_step(self, index, timestep, {"latents": latents}).get("latents", latents)
        return latents, None if logits is None else logits.float().softmax(dim=1)

    @property
    def edm(self) -> bool:
        """Whether the denoiser is an EDM denoiser."""
        return is_edm(self.scheduler)

    def _autocast(self) -> torch.autocast:
        """bf16 where it was chosen for float32 weights on a CPU."""
        wanted = self.config.precision == "bf16" and self.denoiser.dtype == torch.float32
        if wanted and self.device.type == "cpu":
            self.denoiser.to(memory_format=torch.channels_last_3d)
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=wanted)

    def _finished(self, latents: Sequence[torch.Tensor], generators) -> torch.Tensor:
        """Volumes (B, C, X, Y, Z) of the levels' latents, not clipped."""
        volumes = self.autoencoder.from_levels(latents)
        if isinstance(self.autoencoder, ImageAutoencoder):
            return self.autoencoder.add_residual(volumes, generators)
        return volumes

    def _first_latents(self, context: torch.Tensor | None, generators, shape: Sequence[int]) -> torch.Tensor:
        """Noise to start from (B, *shape), float32.

        Published: noise alone. But the published schedule ends before the image is gone (at the last of its timesteps
        a hundredth of it is left, and of what all voxels share that is more than the noise), so the network takes the
        noise's own mean for the image's. Ours, where the denoiser has a layout: that rest is drawn too, from a
        Gaussian over the layout's components about what the report lets expect.
        """
        latents = torch.stack([torch.randn(*shape, generator=g) for g in generators]).to(self.device)
        if self.edm:
            return self.scheduler.first_sample(latents)
        if context is None or not self.denoiser.config.layout_shape:
            return latents * getattr(self.scheduler, "init_noise_sigma", 1.0)
        expected = self.denoiser.expected_layout(context).float()
        drawn = torch.stack([torch.randn(expected.shape[1], generator=g) for g in generators]).to(self.device)
        image = self.denoiser.latents_of(expected + drawn, shape[1:])
        deviations = torch.tensor(list(self.config.latent_deviations) or [1.0], device=self.device)
        of_image, of_noise = first_shares(self.scheduler)
        return of_image * image * deviations.view(1, -1, 1, 1, 1) + of_noise * latents

    def _scaled(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """What the network sees; samplers of flows scale nothing and lack the method."""
        if hasattr(self.scheduler, "scale_model_input"):
            latents = self.scheduler.scale_model_input(latents, timestep)
        return latents

    def _set_timesteps(self, steps: int) -> None:
        require_suited(self.scheduler)
        if isinstance(self.autoencoder, Cascade) and not self.edm:
            kind = type(self.scheduler).__name__
            raise InputError(
                f"{kind} cannot sample an EDM denoiser; choose by with_scheduler: {', '.join(SOLVERS_OF_EDM)}."
            )
        trained = TRAIN_TIMESTEPS if self.edm else self.scheduler.config.num_train_timesteps
        if not 1 <= steps <= trained:
            raise InputError(f"num_inference_steps={steps}: the generator was trained on 1 to {trained} steps.")
        if type(self.scheduler) in SCHEDULERS.values():
            require_steps(self.scheduler, steps)
        self.scheduler.set_timesteps(steps, device=self.device)

    def read_for_finer(self, report: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Context (1, Q, width) and class logits (1, K) of a report as finer levels are given them: without noise."""
        states = encode_reports(self.text_encoder, self.tokenizer, [report])[report]
        return self._read(states.to(self.denoiser.dtype), torch.zeros(1, device=self.device), 1)

    def _read(self, states: torch.Tensor, timesteps: torch.Tensor, level: int):
        """Context and class logits of one report at each of the timesteps; finer levels are told nothing of the noise.

        So their readings are computed once, in training and in sampling.
        """
        if level:
            context, logits = self.denoiser.read(states.unsqueeze(0), torch.zeros(1, device=self.device))
            return tuple(
                part if part is None else part.expand(len(timesteps), *part.shape[1:]) for part in (context, logits)
            )
        told = told_time(self.scheduler, self.config.latent_deviations, timesteps)
        return self.denoiser.read(states.expand(len(timesteps), *states.shape), told)

    def with_scheduler(self, name: str) -> Self:
        """Swap the scheduler by name (keys of ``SCHEDULERS``), keeping the trained noise schedule; returns self."""
        self.scheduler = swap_scheduler(self.scheduler, name)
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of every weight, size and the trained noise schedule: with one fingerprint, the same volumes.

        Computed once; the sampler's name and steps are the caller's, so not part of it.
        """
        if self._fingerprint is None:
            sizes = [self.autoencoder.settings, self.denoiser.settings, self.tokenizer.model_max_length]
            sizes += [list(self.config.latent_deviations)] if self.config.latent_deviations else []
            sizes += [type(self.autoencoder).__name__] if isinstance(self.autoencoder, Cascade) else []
            digest = hashlib.sha256(content_hash([sizes, noise_schedule(self.scheduler)]).encode())
            for module in (self.autoencoder, self.denoiser, self.text_encoder):
                for name, value in module.state_dict().items():
                    digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
                    digest.update(value.float().cpu().contiguous().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write every component in safetensors, the training record and a model card."""
        super().save_pretrained(save_directory, **kwargs)
        self.save_card(Path(save_directory))
        if self.familiarity:
            self.familiarity.save(Path(save_directory))

    def save_card(self, folder: Path) -> None:
        """Write the training record (``training.json``) and the model card (``README.md``) to a saved pipeline."""
        write_json(folder / RECORD, set_aside(folder, self.record))
        write_text(folder / CARD, model_card(self.record, fingerprint=self.fingerprint))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        revision: str | None = None,
    ) -> Self:
        """Load a saved pipeline; every weight must fit.

        Autoencoder and denoiser compute in float32 whatever they were saved in (``torch_dtype`` changes that); the text
        encoder computes in what it was saved in.

        Args:
            pretrained_model_name_or_path: A folder, ``"builtin/ccella-tiny"``, or, where there is no such folder, a
                hub id "owner/name", of which JSON, text and safetensors files are fetched.
            torch_dtype: Arithmetic of all networks, as ``.to(torch_dtype)``; None = as above.
            variant: Weights saved under another name, such as "fp16"; None = the plain ones.
            revision: Branch, tag or commit on the hub.

        Raises:
            InputError: There is no pipeline, or weights are missing, unexpected or misshapen.
        """
        folder = locate(pretrained_model_name_or_path, revision=revision)
        record = read_record(folder)  # first, as it is quickly read
        pipeline = cls(**read_parts(folder, variant=variant))
        pipeline.record = record
        with named(folder / FAMILIARITY):
            pipeline.familiarity = Familiarity.read(folder)
        return pipeline if torch_dtype is None else pipeline.to(torch_dtype)

    def require_divisible(self, shapes: Sequence[Sequence[int]]) -> None:
        """InputError where the networks cannot halve the sides of latents (c, x, y, z), level by level."""
        for unet, (_, *sides) in zip(self.denoiser.unets, shapes, strict=False):
            factor = 2 ** (len(unet.block_out_channels) - 1)
            if any(side % factor for side in sides):
                raise InputError(f"shape: the sides of its latents, {tuple(sides)}, must be multiples of {factor}.")

    def _require_equal_lengths(self, reports, labels, seeds) -> None:
        if isinstance(reports, str):
            raise InputError("reports must be a list of texts, not one text.")
        if len(seeds) != len(reports) or (labels is not None and len(labels) != len(reports)):
            raise InputError(f"{len(reports)} reports need as many seeds and labels; got {len(seeds)} seeds.")
        if any(not 0 <= seed < 2**64 for seed in seeds):
            raise InputError("seeds must lie in 0..2**64 - 1.")
        classes = self.denoiser.config.classes
        if labels is not None and any(not 0 <= label < classes for label in labels):
            raise InputError(f"labels must lie in 0..{classes - 1} for this generator.")

    def _require_meaning(self, labels, guidance_scale: float) -> None:
        """Refuse what this variant would pass over in silence."""
        variant, conditioning = self.denoiser.config.variant, self.denoiser.conditioning
        if labels is not None and conditioning.class_input == "none":
            raise InputError(f"Variant {variant!r} takes no class; call it without labels.")
        if labels is None and conditioning.class_input == "true":
            raise InputError(f"Variant {variant!r} is conditioned on the true class; give labels.")
        if guidance_scale != 1.0 and not (conditioning.text or self.denoiser.config.modalities):
            raise InputError(f"Variant {variant!r} reads no report, so guidance has no meaning; set it to 1.")
        require_guidance(self.record, guidance_scale)


def _seeds_of(
    seeds: Sequence[int] | None, generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> Sequence[int]:
    """The seeds themselves, or those that a generator (or one a report) draws."""
    if (seeds is None) == (generator is None):
        raise InputError("Give seeds=, one integer a report, or generator=, a torch.Generator; one of the two.")
    if seeds is not None:
        return seeds
    drawing = [generator] if isinstance(generator, torch.Generator) else list(generator or ())
    if len(drawing) == 1:
        drawing *= count
    places = [torch.randint(2**63 - 1, (), generator=each, device=each.device) for each in drawing]
    return [int(place) for place in places]


@dataclass
class _Drawing:
    """What one micro-batch is drawn from."""

    reports: list[str]
    labels: torch.Tensor | None
    generators: list[torch.Generator]
    text: dict[str, torch.Tensor]
    spacing: torch.Tensor
    guidance: float
    on_step: StepCallback | None


def _rows(readings, prompts, part: int, at: int) -> torch.Tensor | None:
    """Part (context or logits) of each prompt's reading at one timestep, as a batch."""
    rows = [readings[prompt][part] for prompt in prompts]
    return None if rows[0] is None else torch.stack([row[at] for row in rows])
