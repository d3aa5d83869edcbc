"""The auditor: one small 3D network that says whether a volume shows a lesion and, if so, in which half and zone.

It is trained on real phantoms only and knows nothing of any generator. It collects evidence for a lesion at each of the
four places (half x zone) from every part of the volume. The log-sum-exp over the volume is the logit of a place; that
over the places is the logit of the class. So both answers come from one map, and one training serves both.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from patients import PLACES, Patient, draw_patients, labels_of, places_of, volumes_of
from safetensors.torch import load_file, save_file
from torch import nn

from synthaug.config import PreprocessConfig, TrainingConfig
from synthaug.generate.encode import jitter
from synthaug.ground.files import atomic_path, content_hash
from synthaug.ground.seeding import derive_seed, torch_generator
from synthaug.models.pretrained import load_strictly
from synthaug.models.training.loop import Batch
from synthaug.models.training.optimisation import optimise


@dataclass(frozen=True)
class AuditorConfig:
    """What an auditor's weights are a function of."""

    preprocess: PreprocessConfig
    """Shape and spacing of its volumes."""
    difficulty: float = 0.5
    """Of its training phantoms."""
    patients: int = 4000
    """Training phantoms, half of them with a lesion."""
    channels: int = 24
    """Of the first two convolutions; the others have twice as many."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=700, batch_size=32, learning_rate=3e-3, warmup=100)
    )
    """Its optimisation."""
    seed: int = 0
    """Names the training phantoms and the initial weights."""
    version: int = 1
    """To be raised with the code below, so that no cached weights of another code are taken."""


class Auditor(nn.Module):
    """Volumes (B, 1, X, Y, Z) in [0, 1] to the logits of the four places (B, 4); see :func:`class_logit`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.features = nn.Sequential(
            *_convolution(4, channels, stride=(2, 2, 1)),
            *_convolution(channels, channels),
            *_convolution(channels, wide, stride=(2, 2, 2)),
            *_convolution(wide, wide),
            *_convolution(wide, wide),
        )
        self.evidence = nn.Conv3d(wide, len(PLACES), 1)
        # Sums over a few hundred cells: begin where the class is undecided.
        nn.init.constant_(self.evidence.bias, -7.0)  # type: ignore[arg-type]

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return self.evidence(self.features(_with_coordinates(volumes))).flatten(2).logsumexp(2)


def class_logit(places: torch.Tensor) -> torch.Tensor:
    """Logits of the places (B, 4) to the logit of "there is a lesion" (B,)."""
    return places.logsumexp(1)


class _Objective(nn.Module):
    """Binary cross-entropy of the class + cross-entropy of the place, averaged over the volumes with a lesion."""

    def __init__(self, auditor: Auditor) -> None:
        super().__init__()
        self.auditor = auditor

    def forward(
        self, volumes: torch.Tensor, labels: torch.Tensor, places: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = self.auditor(volumes)
        presence = nn.functional.binary_cross_entropy_with_logits(class_logit(logits), labels.float())
        each = nn.functional.cross_entropy(logits, places, reduction="none")
        return presence + (each * labels).sum() / labels.sum().clamp(min=1), {}


def load_or_train(
    config: AuditorConfig, *, cache: Path | None, volumes_of: Callable[..., torch.Tensor] = volumes_of
) -> Auditor:
    """The auditor of ``config``, from ``cache`` if its weights are there; else trained, and kept there.

    Args:
        config: The auditor.
        cache: Folder of the weights; None = not kept.
        volumes_of: Draws the training volumes of patients.
    """
    auditor = _new(config)
    path = None if cache is None else cache / f"auditor-{content_hash(_identity(config))}.safetensors"
    if path is not None and path.is_file():
        load_strictly(auditor, load_file(path), source=str(path))
        return auditor.eval()
    patients = draw_patients(config.patients, part="auditor", seed=config.seed, difficulty=config.difficulty)
    _train(auditor, config, patients, volumes_of(patients, config.preprocess))
    if path is not None:
        with atomic_path(path) as temporary:
            save_file({name: value.contiguous() for name, value in auditor.state_dict().items()}, temporary)
    return auditor


def _identity(config: AuditorConfig) -> dict[str, Any]:
    return asdict(config) | {"preprocess": config.preprocess.recorded()}


@torch.no_grad()
def place_logits(auditor: Auditor, volumes: torch.Tensor, *, batch_size: int = 32) -> torch.Tensor:
    """Logits of the places (N, 4), on the CPU."""
    return torch.cat([auditor(part) for part in volumes.split(batch_size)])


def _new(config: AuditorConfig) -> Auditor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("auditor", config.seed))
        auditor = Auditor(config.channels)
    return auditor.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # quicker on a CPU


def _train(auditor: Auditor, config: AuditorConfig, patients: Sequence[Patient], volumes: torch.Tensor) -> None:
    labels, places = labels_of(patients), places_of(patients)

    def batch_of(step: int) -> Batch:
        names = ("auditor", config.seed, step)
        generator = torch_generator(*names)
        rows = torch.randint(len(patients), (config.training.batch_size,), generator=generator)
        # Small shifts only: a mirror image would move the lesion to the other half.
        moved = jitter(volumes[rows], shift=1, flip=False, seed_parts=names)
        # Percentile scaling hangs on the brightest voxels, so contrast between volumes means little.
        contrast = 1 + 0.1 * torch.randn(len(rows), 1, 1, 1, 1, generator=generator)
        return {"volumes": moved * contrast, "labels": labels[rows], "places": places[rows]}

    optimise(_Objective(auditor), batch_of, config.training)
    auditor.to("cpu").eval()


def _convolution(channels: int, out: int, *, stride: tuple[int, int, int] = (1, 1, 1)) -> list[nn.Module]:
    return [nn.Conv3d(channels, out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm3d(out), nn.ReLU()]


def _with_coordinates(volumes: torch.Tensor) -> torch.Tensor:
    """Volumes (B, 1, X, Y, Z) and, as three channels, where each voxel lies: -1 to 1 along each axis."""
    axes = [torch.linspace(-1, 1, side, device=volumes.device) for side in volumes.shape[2:]]
    where = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.cat([volumes, where.expand(len(volumes), -1, -1, -1, -1)], dim=1)
