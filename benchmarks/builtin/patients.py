"""Held-out phantom patients with what the evaluation must know of them: findings, noise-free twin, lesion centre."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torchio as tio
from slips import with_slips

from synthaug.config import PreprocessConfig
from synthaug.data.anatomy import Triple, lesion_centre_mm
from synthaug.data.phantom import Acquisition, draw_findings, render
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import make_subject, stack_images
from synthaug.data.reports.writers import ProstateFindings, write_prostate_report
from synthaug.ground.seeding import derive_seed, numpy_generator

IMAGE = "t2w"
Wording = Literal["template", "slips"]
"""Of reports: the template's, or any style of the grammar with slips of the pen."""
PLACES = (("left", "peripheral"), ("left", "transition"), ("right", "peripheral"), ("right", "transition"))
"""Half and zone of a lesion, in the order of the locator's logits."""


@dataclass(frozen=True)
class Patient:
    """One phantom patient.

    Their seeds are derived from another name than those of ``make_subjects``, so no generator trained on
    ``make_subjects``, whatever its seed, has seen one of them.
    """

    findings: ProstateFindings
    seed: int
    difficulty: float
    wording: Wording = "template"

    @property
    def report(self) -> str:
        """The written report."""
        if self.wording == "template":
            return write_prostate_report(self.findings, seed=self.seed)
        report = write_prostate_report(self.findings, seed=self.seed, style="any")
        return with_slips(report, numpy_generator("slips", self.seed))

    @property
    def place(self) -> int:
        """Index into ``PLACES`` of the finding; 0 where there is none."""
        where = (self.findings.side, self.findings.zone)
        return PLACES.index(where) if where in PLACES else 0  # type: ignore[arg-type]

    @property
    def centre_mm(self) -> Triple | None:
        """Centre of the finding in millimetres from the centre of the volume; None = PI-RADS 1."""
        return None if self.findings.pirads == 1 else lesion_centre_mm(self.findings, seed=self.seed)

    def volume(self, config: PreprocessConfig, acquisition: Acquisition = "noisy") -> torch.Tensor:
        """(1, X, Y, Z) in [0, 1].

        Every acquisition is scaled by the percentiles of the NOISY volume, so that a voxel of the noise-free twin can
        be held against the same voxel of the noisy one.
        """
        noisy = self._render(config, "noisy")
        low, high = np.percentile(noisy.numpy(), config.percentiles)
        image = noisy if acquisition == "noisy" else self._render(config, acquisition)
        affine = np.diag([*config.spacing_mm, 1.0])
        subject = make_subject(
            {IMAGE: tio.ScalarImage(tensor=image, affine=affine)},
            label=self.findings.label,
            subject_id=f"evaluation-{self.seed}",
            patient_id=f"evaluation-{self.seed}",
        )
        window = replace(config, ranges={IMAGE: (float(low), float(high))})
        return stack_images(preprocess([subject], window, [IMAGE])[0], [IMAGE])

    def _render(self, config: PreprocessConfig, acquisition: Acquisition) -> torch.Tensor:
        return render(
            self.findings,
            shape=config.shape,
            spacing_mm=config.spacing_mm,
            seed=self.seed,
            difficulty=self.difficulty,
            acquisition=acquisition,
        )


def draw_patients(n: int, *, part: str, seed: int, difficulty: float, wording: Wording = "template") -> list[Patient]:
    """``n`` patients, negative and positive in turn; another ``part`` or seed, other patients."""
    seeds = [derive_seed("evaluation", part, seed, k) for k in range(n)]
    return [
        Patient(draw_findings(k % 2, seed=patient, difficulty=difficulty), patient, difficulty, wording)
        for k, patient in enumerate(seeds)
    ]


def volumes_of(
    patients: Sequence[Patient], config: PreprocessConfig, acquisition: Acquisition = "noisy"
) -> torch.Tensor:
    """(N, 1, X, Y, Z) in [0, 1]."""
    return torch.stack([patient.volume(config, acquisition) for patient in patients])


def labels_of(patients: Sequence[Patient]) -> torch.Tensor:
    """Classes (N,)."""
    return torch.tensor([patient.findings.label for patient in patients])


def places_of(patients: Sequence[Patient]) -> torch.Tensor:
    """Indices into ``PLACES`` (N,)."""
    return torch.tensor([patient.place for patient in patients])
