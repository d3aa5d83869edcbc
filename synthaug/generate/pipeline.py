"""``CCELLAPipeline``: from reports to volumes; each volume is a pure function of its recipe."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import transformers
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput

from synthaug.generate.diffusion import is_edm, noise_schedule, swap_scheduler
from synthaug.generate.encode import encode_reports
from synthaug.generate.requests import Request, latent_shapes, require_finite, require_meaning, require_possible_steps
from synthaug.generate.sampling import Drawing, LatentSampler
from synthaug.generate.stored.familiarity import FILE as FAMILIARITY
from synthaug.generate.stored.familiarity import Doubts, Familiarity
from synthaug.generate.stored.folder import RECORD, locate, named, read_parts, read_record
from synthaug.generate.stored.patients import set_aside
from synthaug.generate.stored.record import model_card
from synthaug.generate.stored.told import Guidance, measured_arguments, require_guidance
from synthaug.ground.files import content_hash, write_json, write_text
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.latent_space import LatentSpace
from synthaug.models.precision import Precision

CARD = "README.md"
StepCallback = Callable[["CCELLAPipeline", int, torch.Tensor, dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@dataclass
class CCELLAOutput(BaseOutput):
    """Output of a call."""

    volumes: torch.Tensor
    """(B, C, X, Y, Z) float32 in [0, 1], on the CPU."""
    class_probabilities: torch.Tensor | None
    """(B, K) predicted from the report at the last step; None for variants without class heads."""
    seeds: list[int]
    """Seed of each volume."""
    unlike: list[str] | None = None
    """In what each report is unlike the training reports; "" = nothing; None = they are unknown."""


class CCELLAPipeline(DiffusionPipeline):
    """Text- and class-conditioned sampler of 3D volumes.

    A volume depends only on its report, class, seed, steps, scheduler, guidance, shape, spacing and ``micro_batch``.
    The U-Net always runs at ``micro_batch`` rows, padded, each with its own generator. Each distinct report is encoded
    alone. Published: 1,000 ancestral DDPM steps, no guidance. The networks ask for no gradients.

    Args:
        autoencoder: Latent space: the levels of a cascade, or an autoencoder.
        denoiser: Predicts noise or velocity.
        text_encoder: A transformers encoder.
        tokenizer: Its tokenizer.
        scheduler: Any diffusers scheduler made from the training scheduler's config.
        images: Names of the channels.
        spacing_mm: Default voxel size.
        shape: Default number of voxels along each axis.
        micro_batch: Batch size of every network call.
        latent_deviations: Of the latent channels, where they are preconditioned (version 0.1); empty = as published.
        level_gains: Factor on the drawn latents of each level, coarse to fine; empty = 1, as published.
        precision: Precision of the networks on a CPU: float32 or bf16.
    """

    scheduler: SchedulerMixin

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
        level_gains: Sequence[float] = (),
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        networks = {"autoencoder": autoencoder, "denoiser": denoiser, "text_encoder": text_encoder}
        self.register_modules(**networks, tokenizer=tokenizer, scheduler=scheduler)
        for network in networks.values():
            network.requires_grad_(False)  # else PyTorch may multiply the same matrices another way, to other bits
        self.register_to_config(
            images=list(images),
            spacing_mm=list(spacing_mm),
            shape=list(shape),
            micro_batch=micro_batch,
            latent_deviations=list(latent_deviations),
            level_gains=list(level_gains),
            precision=precision,
        )
        self.record: dict[str, Any] = {}
        self.familiarity: Familiarity | None = None
        """Statistics of the training reports; None = unknown."""
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
        guided_levels: int | None = None,
        guidance_below: float | None = None,
        callback_on_step_end: StepCallback | None = None,
        levels: int | None = None,
        return_dict: bool = True,
    ) -> CCELLAOutput:
        """Draw one volume per report.

        Args:
            reports: Free text; "" = none.
            labels: Classes in place of the predicted ones; required by variants conditioned on the true class.
            seeds: One per report; integers from 0. Seeds that are equal modulo 2**32 draw the same noise.
            generator: Draws the seeds in place of ``seeds``: one generator, or one per report. See ``output.seeds``.
            spacing_mm: Voxel size; default: that of the training.
            shape: Voxels along each axis; default: those of the training.
            num_inference_steps: Denoising steps.
            guidance_scale: Classifier-free guidance above 1; for generators trained with report dropout.
            guided_levels: Levels of a cascade that it leads, from the coarsest. None = all.
            guidance_below: Noise level below which it leads, for an EDM denoiser. None = at every level.
            callback_on_step_end: Called as ``callback(pipeline, step, timestep, {"latents": latents})`` after each
                step of each micro-batch, as in diffusers; latents in the dictionary that it returns replace them.
            levels: Levels of a cascade to draw, from the coarsest; finer ones are their mean. None = all.
            return_dict: False = a tuple (volumes, class_probabilities, seeds), as in diffusers.

        Raises:
            InputError: An argument is no text or number where one belongs. Not one of seeds and generator is given.
                Lengths differ. Shape, variant, scheduler or steps do not allow what is asked.
        """
        asked = Request.of(
            reports,
            labels,
            seeds,
            generator,
            spacing_mm=self.config.spacing_mm if spacing_mm is None else spacing_mm,
            shape=self.config.shape if shape is None else shape,
            steps=num_inference_steps,
            guidance=Guidance(guidance_scale, guided_levels, guidance_below),
            levels=self.autoencoder.levels if levels is None else levels,
        )
        require_meaning(self.denoiser, asked.labels, asked.guidance.guidance)
        require_guidance(self.record, asked.guidance, levels=self.autoencoder.levels, edm=self.edm)
        self._set_timesteps(asked.steps)
        shapes = latent_shapes(self.autoencoder, self.denoiser, asked)
        told = [*asked.reports, *([""] if asked.guidance.guidance != 1.0 else [])]
        states = encode_reports(self.text_encoder, self.tokenizer, told)
        dtype = self.denoiser.dtype
        drawing = Drawing(
            reports=asked.reports,
            labels=None if asked.labels is None else torch.tensor(asked.labels, device=self.device),
            seeds=asked.seeds,
            # A large text encoder may be kept in another precision.
            text={report: state.to(dtype) for report, state in states.items()},
            spacing=torch.tensor([asked.spacing_mm], device=self.device, dtype=dtype),
            guidance=asked.guidance,
            on_step=None if callback_on_step_end is None else functools.partial(callback_on_step_end, self),
        )
        drawn, predicted = self._draw(drawing, shapes)
        volumes = torch.cat([torch.empty(0, self.autoencoder.sequences, *asked.shape), *drawn])
        probabilities = torch.cat(predicted) if predicted else None
        unlike = self.familiarity.reasons(self.tokenizer, asked.reports, states) if self.familiarity else None
        self.doubts.tell(asked.labels, probabilities, unlike)
        if not return_dict:  # as in diffusers; typed for those who leave it at its default
            return volumes, probabilities, asked.seeds  # type: ignore[return-value]
        return CCELLAOutput(volumes=volumes, class_probabilities=probabilities, seeds=asked.seeds, unlike=unlike)

    def _draw(self, drawing: Drawing, shapes: Sequence[Sequence[int]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Volumes and class probabilities (none without class heads) of each micro-batch, on the CPU."""
        size, sampler = self.config.micro_batch, self.sampler
        volumes, probabilities = [], []
        for start in self.progress_bar(range(0, len(drawing.reports), size)):
            batch = drawing.micro_batch(start, size)
            drawn, predicted = sampler.draw(batch, shapes)
            kept = min(size, len(drawing.reports) - start)
            drawn = drawn[:kept].float().cpu()
            require_finite(drawn, seeds=batch.seeds[:kept])
            volumes.append(drawn.clamp(0, 1))
            if predicted is not None:
                probabilities.append(predicted[:kept].float().cpu())
        return volumes, probabilities

    @property
    def sampler(self) -> LatentSampler:
        """Its networks and its scheduler as they are now."""
        return LatentSampler(
            self.autoencoder,
            self.denoiser,
            self.scheduler,
            deviations=self.config.latent_deviations,
            gains=self.config.level_gains,
            precision=self.config.precision,
            device=self.device,
        )

    @property
    def measured_settings(self) -> dict[str, Any]:
        """Arguments of a call as the figures of the model card were measured; {} where it has none."""
        return measured_arguments(self.record)

    @property
    def edm(self) -> bool:
        """Whether the denoiser is an EDM denoiser."""
        return is_edm(self.scheduler)

    def _set_timesteps(self, steps: int) -> None:
        require_possible_steps(self.scheduler, steps, only_edm=self.autoencoder.facts.processes == ("edm",))
        self.scheduler.set_timesteps(steps, device=self.device)

    def read_for_finer(self, report: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Context (1, Q, width) and class logits (1, K) of a report as finer levels are given them: without noise."""
        states = encode_reports(self.text_encoder, self.tokenizer, [report])[report]
        return self.sampler.read(states.to(self.denoiser.dtype), torch.zeros(1, device=self.device), 1)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As in diffusers; the fingerprint follows the precision."""
        self._fingerprint = None
        return super().to(*args, **kwargs)

    def with_scheduler(self, name: str, *, epsilon_scale: float | None = None) -> Self:
        """Swap the scheduler (see :func:`~synthaug.generate.diffusion.swap_scheduler`); returns self."""
        self.scheduler = swap_scheduler(self.scheduler, name, epsilon_scale=epsilon_scale)
        self._fingerprint = self._fingerprint if epsilon_scale is None else None
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of all weights, sizes and the trained noise schedule; not of sampler and steps, which a call names."""
        if self._fingerprint is None:
            sizes = [self.autoencoder.settings, self.denoiser.settings, self.tokenizer.model_max_length]
            sizes += [list(own) for own in (self.config.latent_deviations, self.config.level_gains) if own]
            sizes += [type(self.autoencoder).__name__] if self.autoencoder.named else []
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
        (Path(save_directory) / FAMILIARITY).unlink(missing_ok=True)  # of another generator that was saved there
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

        Autoencoder and denoiser run in float32 unless ``torch_dtype`` is given. The text encoder runs in the precision
        in which it was saved.

        Args:
            pretrained_model_name_or_path: A folder, a builtin such as ``"builtin/ccella-tiny"``, or a hub id
                "owner/name", of which JSON, text and safetensors files are fetched.
            torch_dtype: Precision of all networks, as ``.to(torch_dtype)``; None = as above.
            variant: Suffix of the weight files, such as "fp16"; None = none.
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
