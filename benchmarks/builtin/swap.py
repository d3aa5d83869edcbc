"""Does the text reach the image? Two reports that differ in one thing, drawn by a generator from the same noise.

    python benchmarks/builtin/swap.py --pipeline builtin/ccella-tiny --guidance 6 --out swap.json

A report of a phantom states whether there is a lesion, its half, its zone and the volume of the gland. For each of
these it draws pairs and scores both images against both reports (:func:`synthaug.metrics.fidelity.swap_score`). 1 =
every pair follows its reports, 0.5 = the reports do not matter. The scorers know no generator: lesions are looked for
by the auditor, glands are held against noise-free phantoms of the volume that the report states. How often the scorers
are right at best is told by real phantoms, rendered from the findings of the same pairs.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from auditor import Auditor, AuditorConfig, class_logit, load_or_train, place_logits
from patients import Patient, draw_patients, volumes_of

from synthaug.config import PreprocessConfig
from synthaug.data.reports.writers import ProstateFindings
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.record import preprocessing_of_record, versions
from synthaug.ground.files import write_json
from synthaug.ground.seeding import derive_seed
from synthaug.metrics.fidelity import Agreement, swap_agreements, swap_score

DIFFICULTY = 0.5
VOLUMES_ML = (30.0, 70.0)
"""Gland volumes of a pair."""
TEMPLATES = 16
"""Phantoms that a template of a gland is the mean of."""
OTHER = {"left": "right", "right": "left", "peripheral": "transition", "transition": "peripheral"}


def changes_of(findings: ProstateFindings, thing: str) -> tuple[ProstateFindings, ProstateFindings]:
    """Findings of a patient with a lesion, and the same with one thing changed."""
    if thing == "lesion":
        bare = ProstateFindings(1, psa=findings.psa, gland_volume_ml=findings.gland_volume_ml)
        return bare, findings
    if thing == "half":
        return findings, replace(findings, side=OTHER[str(findings.side)])
    if thing == "zone":
        return findings, replace(findings, zone=OTHER[str(findings.zone)])
    small, large = (ProstateFindings(1, psa=findings.psa, gland_volume_ml=ml) for ml in VOLUMES_ML)
    return small, large


def pairs_of(patients: Sequence[Patient], thing: str) -> list[tuple[Patient, Patient]]:
    """Patients in pairs that share their wording and their anatomy's seed."""
    both = [changes_of(patient.findings, thing) for patient in patients]
    return [
        (replace(patient, findings=one), replace(patient, findings=other))
        for patient, (one, other) in zip(patients, both, strict=True)
    ]


def lesion_agreement(auditor: Auditor, known: dict[str, Patient]) -> Agreement:
    """Log-probability that the auditor gives to what the report says: no lesion, or one at its place."""

    def agreement(volume: torch.Tensor, report: str) -> float:
        places, patient = place_logits(auditor, volume[None]), known[report]
        lesion = class_logit(places)
        if patient.findings.label == 0:
            return float(torch.nn.functional.logsigmoid(-lesion))
        return float(torch.nn.functional.logsigmoid(lesion) + places.log_softmax(1)[0, patient.place])

    return agreement


def gland_agreement(config: PreprocessConfig, known: dict[str, Patient]) -> Agreement:
    """Correlation with the mean noise-free phantom whose gland has the volume that the report states."""
    templates = {ml: _template(ml, config) for ml in VOLUMES_ML}

    def agreement(volume: torch.Tensor, report: str) -> float:
        template = templates[float(known[report].findings.gland_volume_ml or 0)]
        return float(np.corrcoef(volume.flatten().numpy(), template)[0, 1])

    return agreement


def _template(ml: float, config: PreprocessConfig) -> np.ndarray:
    seeds = [derive_seed("swap template", k) for k in range(TEMPLATES)]
    patients = [Patient(ProstateFindings(1, gland_volume_ml=ml), seed, DIFFICULTY) for seed in seeds]
    return volumes_of(patients, config, "noise-free").mean(0).flatten().numpy()


def try_swaps(
    pipeline: CCELLAPipeline, auditor: Auditor, config: PreprocessConfig, *, n: int, guidance: float, seed: int
) -> dict[str, Any]:
    """By thing: the score of the generator and that of real phantoms, with intervals."""
    patients = [p for p in draw_patients(2 * n, part="swap", seed=seed, difficulty=DIFFICULTY) if p.findings.label]
    figures = {}
    for thing in ("lesion", "half", "zone", "gland volume"):
        pairs = pairs_of(patients, thing)
        known = {patient.report: patient for pair in pairs for patient in pair}
        reports = [(one.report, other.report) for one, other in pairs]
        scorer = gland_agreement(config, known) if thing == "gland volume" else lesion_agreement(auditor, known)

        def drawn(texts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
            return pipeline(list(texts), seeds=list(seeds), num_inference_steps=20, guidance_scale=guidance).volumes

        def rendered(texts: Sequence[str], seeds: Sequence[int], known=known) -> torch.Tensor:
            return volumes_of([known[text] for text in texts], config)

        figures[thing] = {
            name: asdict(swap_score(swap_agreements(draw, reports, scorer, seed=seed)))
            for name, draw in (("generator", drawn), ("real phantoms", rendered))
        }
        print(thing, figures[thing], flush=True)
    return figures


def main() -> None:
    """Draw, score, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="builtin/ccella-tiny", help="folder or builtin name, of phantoms")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--n", type=int, default=32, help="pairs for each thing")
    parser.add_argument("--guidance", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--auditor-cache", type=Path, help="folder that keeps the auditor's weights")
    options = parser.parse_args()
    pipeline = CCELLAPipeline.from_pretrained(options.pipeline).with_scheduler("dpm_solver_sde")
    pipeline.set_progress_bar_config(disable=True)
    config = preprocessing_of_record(pipeline.record["preprocessing"])
    auditor = load_or_train(AuditorConfig(preprocess=config, difficulty=DIFFICULTY), cache=options.auditor_cache)
    settings = {"n": options.n, "guidance": options.guidance, "seed": options.seed}
    record = {
        "pipeline": options.pipeline if options.pipeline.startswith("builtin/") else Path(options.pipeline).name,
        "fingerprint": pipeline.fingerprint,
        "date": date.today().isoformat(),
        "versions": versions(),
        "settings": settings | {"steps": 20, "scheduler": "dpm_solver_sde", "difficulty": DIFFICULTY},
        "swaps": try_swaps(pipeline, auditor, config, **settings),
    }
    write_json(options.out, record)


if __name__ == "__main__":
    main()
