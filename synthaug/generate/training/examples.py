"""What a generator is trained on: volumes, moved and cut into levels, beside what their reports say."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torchio as tio
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from synthaug.config import GeometryConfig, LevelConfig
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.voxels.geometry import NEUTRAL, Allowed, Geometry, apply_geometry, draw_geometry
from synthaug.generate import edm
from synthaug.generate.diffusion import TRAIN_TIMESTEPS, is_maisi_flow
from synthaug.generate.encode import NO_CACHE, TensorCache, encode_each, encode_reports
from synthaug.generate.nvgenerate.flow import places_of
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.metrics.volumes import VolumeSet
from synthaug.models.text_encoder import tokenize, without_padding
from synthaug.models.training.loop import Batch

logger = logging.getLogger(__name__)

MOVED_COPIES = 1500
"""Moved copies of training volumes, in all, that the linear denoiser is fitted to beside them."""
TOGETHER = 16
"""Volumes whose latents are in memory together where all are looked at."""
TEXTS_KEPT = 8192
"""Texts whose tokens, states or readings are held in memory at most."""
Reading = dict[str, torch.Tensor | None]
"""Of one report: ``context`` (Q, width) and ``class_vector`` (K,), as finer levels are given them."""


@dataclass
class Examples:
    """Subjects as the training of every level draws them.

    Args:
        subjects: Preprocessed.
        pipeline: Whose space and text encoder they pass.
        trained_text: Whether the text encoder is trained, so that texts are told as token ids.
        geometry: Moves to draw; None = none.
        relabeller: Rewrites report and class of what was moved; None = only moves that change neither are drawn.
        cache: Keeps latents of an autoencoder and states of a frozen text encoder.
    """

    subjects: Sequence[tio.Subject]
    pipeline: CCELLAPipeline
    trained_text: bool
    geometry: GeometryConfig | None = None
    relabeller: Relabeller | None = None
    cache: TensorCache = NO_CACHE
    _texts: dict[str, torch.Tensor] = field(default_factory=dict)
    _readings: dict[str, Reading] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.volumes = VolumeSet.of(self.subjects, self.pipeline.config.images)
        space = self.pipeline.autoencoder
        self._encoded: list[torch.Tensor] | None = None
        if space.facts.trained:
            # Volumes that are encoded in tiles have no room beside each other.
            self._encoded = encode_each(space, self.volumes, batch_size=1 if space.config.tile else 8, cache=self.cache)

    def draw(
        self,
        level: int,
        settings: LevelConfig,
        generator: torch.Generator,
        *,
        report_dropout: float,
        guide_noise: float,
    ) -> Batch:
        """A random batch of a level: subjects, moves, noise, noise levels and dropped reports."""
        size = settings.batch_size
        rows = torch.randint(len(self.subjects), (size,), generator=generator).tolist()
        moves = [self._move(row, generator) for row in rows]
        dropped = torch.rand(size, generator=generator) < report_dropout
        if self.pipeline.edm:
            times = edm.draw_sigma(
                size, mean=settings.sigma_mean, deviation=settings.sigma_deviation, generator=generator
            )
        elif is_maisi_flow(self.pipeline.scheduler):
            assert self._encoded is not None  # such flows are over an autoencoder's latents
            times = self.pipeline.scheduler.draw_times(size, places_of(self._encoded[0].shape), generator)
        else:
            times = torch.randint(TRAIN_TIMESTEPS, (size,), generator=generator)
        wordings = self.relabeller.data.wordings if self.relabeller else 1
        worded = torch.randint(wordings, (size,), generator=generator).tolist() if wordings > 1 else None
        return self.batch(
            level,
            rows,
            moves,
            times=times,
            generator=generator,
            dropped=dropped.tolist(),
            guide_noise=guide_noise,
            wordings=worded,
        )

    def batch(
        self,
        level: int,
        rows: Sequence[int],
        moves: Sequence[Geometry],
        *,
        times: torch.Tensor,
        generator: torch.Generator,
        dropped: Sequence[bool],
        guide_noise: float = 0.0,
        wordings: Sequence[int] | None = None,
    ) -> Batch:
        """The arguments of the joint loss at a level for the subjects ``rows``, each moved; noise by ``generator``.

        ``wordings`` says in which words each report is told; None = in its own.
        """
        worded = [0] * len(rows) if wordings is None else wordings
        told = [self._told(*each) for each in zip(rows, moves, worded, strict=True)]
        reports = ["" if out else report for (report, _), out in zip(told, dropped, strict=True)]
        kept = torch.tensor([bool(report) for report in reports])
        batch = self._levels(level, rows, moves, generator=generator, guide_noise=guide_noise)
        batch |= {
            "noise": torch.randn(batch["latents"].shape, generator=generator),
            "timesteps": times,
            "labels": torch.tensor([label for _, label in told]),
            # Divided by the global share of reports, so that a mean over any process's rows averages right.
            "report_weight": kept / kept.float().mean().clamp(min=1e-6),
            "spacing_mm": torch.tensor([list(self.pipeline.config.spacing_mm)] * len(rows)),
        }
        if self.pipeline.denoiser.config.modalities:
            batch["unconditional"] = torch.tensor(list(dropped))
        if level == 0:
            return batch | {"text": pad_sequence(self._text_of(reports), batch_first=True)}
        return batch | self._finer(reports, batch["labels"])

    def fit(self, generator: torch.Generator) -> None:
        """Estimate what the networks are given of all training volumes; ``generator`` draws the moves."""
        self._fit_linear(generator)
        self._fit_textures()

    def _fit_linear(self, generator: torch.Generator) -> None:
        """Fit the coarsest level's linear denoiser, where there is one, to the volumes and moved copies of them."""
        linear = self.pipeline.denoiser.linear
        if linear is None:
            return
        space, rows = self.pipeline.autoencoder, list(range(len(self.subjects)))
        copies = max(1, MOVED_COPIES // len(rows))

        def latents(moves: Sequence[Geometry]) -> torch.Tensor:
            moved = [self._moved(row, move) for row, move in zip(rows, moves, strict=True)]
            return space.to_levels(torch.stack(moved).to(space.device), count=1)[0]

        moved = [latents([self._move(row, generator) for row in rows]) for _ in range(copies)]
        linear.fit(latents([NEUTRAL] * len(rows)), torch.cat(moved))

    def _fit_textures(self) -> None:
        """Find the components that levels are told of a volume's noise and sharpness, in volumes that are not moved."""
        space = self.pipeline.autoencoder
        for level, unet in enumerate(self.pipeline.denoiser.unets):
            if hasattr(unet, "texture"):
                parts = torch.arange(len(self.subjects)).split(TOGETHER)
                volumes = (torch.stack([self.volumes[row] for row in part.tolist()]).to(space.device) for part in parts)
                unet.texture.fit(space.to_levels(each, count=level + 1)[level] for each in volumes)

    def _moved(self, row: int, move: Geometry) -> torch.Tensor:
        return apply_geometry(self.volumes[row], move, spacing_mm=tuple(self.pipeline.config.spacing_mm))

    def _levels(
        self,
        level: int,
        rows: Sequence[int],
        moves: Sequence[Geometry],
        *,
        generator: torch.Generator,
        guide_noise: float,
    ) -> Batch:
        if self._encoded is not None:
            return {"latents": torch.stack([self._encoded[row] for row in rows])}
        space = self.pipeline.autoencoder
        volumes = torch.stack([self._moved(*each) for each in zip(rows, moves, strict=True)]).to(space.device)
        latents = space.to_levels(volumes, count=level + 1)
        told = torch.tensor([move.conditions() for move in moves])
        batch = {"latents": latents[level].cpu(), "moves": told}
        texture = getattr(self.pipeline.denoiser.unets[level], "texture", None)
        if texture is not None:
            batch["texture"] = texture.measure(latents[level]).cpu()
        if level:
            noise = torch.randn(len(rows), *space.coarse_shape(level), generator=generator)
            size = guide_noise * torch.rand(len(rows), 1, 1, 1, 1, generator=generator)
            batch["guide"] = space.guide(level, latents[:level], (size * noise).to(space.device)).cpu()
        return batch

    def _finer(self, reports: Sequence[str], labels: torch.Tensor) -> Batch:
        """What the adapter, now trained, says of the reports, and the class that conditions the image."""
        readings = [self._reading(report) for report in reports]
        batch: Batch = {}
        for name in ("context", "class_vector"):
            values = [reading[name] for reading in readings]
            if values[0] is not None:
                batch[name] = torch.stack(values)  # type: ignore[arg-type]
        denoiser = self.pipeline.denoiser
        if denoiser.conditioning.class_input == "true":
            batch["class_vector"] = denoiser.class_vector(None, labels.to(denoiser.device)).cpu().float()
        return batch

    @torch.no_grad()
    def _reading(self, report: str) -> Reading:
        if report not in self._readings:
            pipeline = self.pipeline
            context, logits = pipeline.read_for_finer(report)
            probabilities = None if logits is None else pipeline.denoiser.class_vector(logits, None)
            values = {"context": context, "class_vector": probabilities}
            _make_room(self._readings)
            self._readings[report] = {n: None if v is None else v[0].cpu().float() for n, v in values.items()}
        return self._readings[report]

    def _move(self, row: int, generator: torch.Generator) -> Geometry:
        if self.geometry is None or self._encoded is not None:
            return NEUTRAL
        subject = self.subjects[row]
        allowed = self.relabeller.allowed(subject) if self.relabeller else Allowed(mirror=False, zooms=(1.0,))
        return draw_geometry(self.geometry, generator, allowed)

    def _told(self, row: int, move: Geometry, wording: int) -> tuple[str, int]:
        subject = self.subjects[row]
        if self.relabeller is None:
            return str(subject["report"]), int(subject["label"])
        return self.relabeller.rewrite(subject, move, wording)

    def _text_of(self, reports: Sequence[str]) -> list[torch.Tensor]:
        """Token ids (L,) of each report where the text encoder is trained, else its tokens' states (L, width)."""
        _make_room(self._texts)
        missing = [report for report in dict.fromkeys(reports) if report not in self._texts]
        encoder, tokenizer = self.pipeline.text_encoder, self.pipeline.tokenizer
        if self.trained_text:
            self._texts |= {report: tokenize(tokenizer, [report])[0] for report in missing}
        elif missing:
            states = encode_reports(encoder, tokenizer, missing, cache=self.cache)
            dtype = self.pipeline.denoiser.dtype  # a large text encoder may be kept in another precision
            self._texts |= {report: without_padding(state.cpu()).to(dtype) for report, state in states.items()}
        return [self._texts[report] for report in reports]


def some_reports(subjects: Sequence[tio.Subject], relabeller: Relabeller | None, *, at_most: int) -> list[str]:
    """Reports of subjects that were not moved: their own, then their other wordings."""
    wordings = relabeller.data.wordings if relabeller else 1
    reports: list[str] = []
    for wording in range(wordings):
        for subject in subjects[: at_most - len(reports)]:
            told = relabeller.rewrite(subject, NEUTRAL, wording)[0] if relabeller else str(subject["report"])
            reports.append(told)
    return reports


def _make_room(kept: dict[str, Any]) -> None:
    """Forget all texts where too many are kept: with many wordings they would fill the memory."""
    if len(kept) >= TEXTS_KEPT:
        kept.clear()


def longest_report(reports: Sequence[str], length_of: Callable[[str], int], *, multiple: int = 16) -> int:
    """Tokens that the longest report needs, rounded up.

    Example:
        >>> longest_report(["", "PI-RADS 5"], len)
        16
    """
    longest = max((length_of(report) for report in reports), default=0)
    return max(multiple, -(-longest // multiple) * multiple)


def fit_length(tokenizer: PreTrainedTokenizerBase, reports: Sequence[str], *, at_most: int) -> None:
    """Set the length that reports are padded to: what the longest needs; what is cut is told once."""
    lengths = {report: len(tokenizer(report).input_ids) for report in dict.fromkeys(reports)}
    tokenizer.model_max_length = min(at_most, longest_report([*lengths], lengths.__getitem__))
    cut = sum(length > at_most for length in lengths.values())
    if cut:
        logger.warning(
            "%d of %d reports are longer than the %d tokens that the text encoder reads (generator.text_encoder."
            "max_tokens); their beginnings are cut off.",
            cut,
            len(lengths),
            at_most,
        )
