"""The real volumes of the study, and an extractor that keeps the features it has computed."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from synthaug.config import PreprocessConfig
from synthaug.data.manifest import load_manifest
from synthaug.data.preprocess import preprocess
from synthaug.files import atomic_path
from synthaug.metrics.features import Extractor


@dataclass(frozen=True)
class Cohort:
    """Where volumes are, how they are preprocessed, and how the memorisation gate is tried on them."""

    name: str
    image: str
    """Image column of its manifest."""
    preprocess: PreprocessConfig
    extractors: tuple[str, ...]
    gate_training: int
    """Volumes that stand for a generator's training set."""
    gate_held_out: int
    """Volumes that set the limits; the rest of the cohort tries the false alarms."""


COHORTS = (
    # 199 held-out volumes are the fewest that can promise 1 % false alarms.
    Cohort("hippocampus", "t1", PreprocessConfig((1.0, 1.0, 1.0), (32, 40, 24)), ("seeded",), 40, 199),
    # Its true spacing was lost; the header's 1 x 1 x 3 mm is nominal.
    Cohort("promise12", "t2w", PreprocessConfig((1.0, 1.0, 3.0), (128, 128, 24)), ("seeded", "taps"), 20, 40),
)


def read_cohort(cohort: Cohort, data: Path) -> tuple[list[torch.Tensor], np.ndarray, list[str]]:
    """Volumes (1, X, Y, Z) in [0, 1], classes (n,) and subject names."""
    subjects = load_manifest(data / cohort.name / "manifest.csv", [cohort.image])
    done = preprocess(subjects, cohort.preprocess, [cohort.image])
    volumes = [subject[cohort.image].data.float() for subject in done]
    return volumes, np.array([subject["label"] for subject in done]), [subject["subject_id"] for subject in done]


@dataclass(frozen=True)
class Remembering(Extractor):
    """An extractor that computes the features of a volume once, and keeps them in a file between runs."""

    file: Path | None = None
    known: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, extractor: Extractor, folder: Path) -> "Remembering":
        """Around an extractor; what ``folder`` holds of it is known from the start."""
        file = folder / f"{extractor.name}-{extractor.fingerprint}.npz"
        known = dict(np.load(file)) if file.is_file() else {}
        return cls(extractor.name, extractor.module, extractor.preprocessing, extractor.layer, file, known)

    def features(
        self, volumes: Iterable[torch.Tensor], batch_size: int = 8, *, device: torch.device | str = "cpu"
    ) -> np.ndarray:
        """As :meth:`Extractor.features`."""
        held = list(volumes)
        names = [hashlib.sha256(volume.contiguous().numpy().tobytes()).hexdigest()[:24] for volume in held]
        new = [(name, volume) for name, volume in zip(names, held, strict=True) if name not in self.known]
        if new:
            rows = super().features((volume for _, volume in new), batch_size, device=device)
            self.known.update(dict(zip((name for name, _ in new), rows, strict=True)))
        return np.stack([self.known[name] for name in names])

    def save(self) -> None:
        """Keep what is known."""
        if self.file is not None:
            with atomic_path(self.file) as temporary:
                np.savez(temporary, **self.known)
