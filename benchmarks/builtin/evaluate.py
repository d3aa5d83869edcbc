"""Measure a generator of phantoms on patients that it has never seen, and write the figures as JSON.

    python benchmarks/builtin/evaluate.py --pipeline builtin/ccella-tiny --out figures.json [--pictures DIR]

Four things are asked: (a) of latents of an autoencoder, how near its reconstructions come to the phantoms before their
noise; (b) whether an auditor trained on real phantoms sees the class that was asked for; (c) how far the drawn volumes
lie from held-out ones, in units of the distance between two sets of held-out ones; (d) whether lesions lie where the
report says. Prompts are the reports of held-out patients. No patient serves two parts: auditor, real sets and prompts
are disjoint.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pictures
import torch
from auditor import Auditor, AuditorConfig, class_logit, load_or_train, place_logits
from patients import Patient, Wording, draw_patients, labels_of, places_of, volumes_of
from scipy import stats

from synthaug import CCELLAPipeline
from synthaug.config import PreprocessConfig, TrainingConfig
from synthaug.generate.stored.record import versions
from synthaug.generate.training.autoencoder import psnr, rebuild
from synthaug.ground.files import write_json
from synthaug.ground.seeding import derive_seed, numpy_generator, torch_generator
from synthaug.metrics.classification import auroc
from synthaug.metrics.distances.estimates import distance_report
from synthaug.metrics.features import seeded_extractor
from synthaug.metrics.frechet import frechet
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.statistics.intervals import patient_bootstrap

TARGETS = {"psnr_db": 27.0, "auditor_auroc": 0.95, "class_agreement": 0.9, "fid_to_floor": 2.0, "place_agreement": 0.8}
CONFIDENCE = 0.95
SPLITS = 20
"""Random halves that distances between sets of real patients are averaged over."""


@dataclass(frozen=True)
class Settings:
    """What the figures are a function of, beside the weights."""

    n: int = 200
    """Drawn volumes, half of each class; the real set has twice as many, so that it splits into two of n."""
    steps: int = 20
    """Denoising steps."""
    guidance: float = 1.0
    """Classifier-free guidance; 1 = none."""
    guided_levels: int | None = None
    """Levels that it leads, from the coarsest; None = all."""
    scheduler: str = "dpm_solver_sde"
    """Key of ``synthaug.generate.diffusion.SCHEDULERS``."""
    difficulty: float = 0.5
    """Of all phantoms."""
    wording: Wording = "template"
    """Of the prompts."""
    seed: int = 0
    """Names the held-out patients, the prompts and the noise."""
    quick: bool = False
    """Eight volumes and an untrained auditor: does it run?"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, print a summary, write the JSON and the pictures."""
    options = _options(arguments)
    settings = Settings(
        n=8 if options.quick else options.n,
        steps=options.steps,
        guidance=options.guidance,
        guided_levels=options.guided_levels,
        scheduler=options.scheduler,
        difficulty=options.difficulty,
        wording=options.wording,
        seed=options.seed,
        quick=options.quick,
    )
    pipeline = CCELLAPipeline.from_pretrained(options.pipeline).with_scheduler(settings.scheduler)
    pipeline.set_progress_bar_config(disable=options.quiet)
    record = evaluate(pipeline, settings, auditor_cache=options.auditor_cache, pictures_folder=options.pictures)
    # The folder's own name: where it lies says nothing about the generator.
    name = options.pipeline if options.pipeline.startswith("builtin/") else Path(options.pipeline).resolve().name
    write_json(options.out, {"pipeline": name, **record})
    for line in summary(record):
        print(line)


def evaluate(
    pipeline: CCELLAPipeline,
    settings: Settings,
    *,
    auditor_cache: Path | None = None,
    pictures_folder: Path | None = None,
) -> dict[str, Any]:
    """All figures of one generator of one-channel phantoms, as JSON can hold them."""
    seconds: dict[str, float] = {}
    config = _preprocessing(pipeline)
    drawn_from = {"seed": settings.seed, "difficulty": settings.difficulty}
    with _timed(seconds, "auditor"):
        auditor = load_or_train(_auditor_config(config, settings), cache=auditor_cache)
    with _timed(seconds, "real phantoms"):
        held_out = draw_patients(2 * settings.n, part="held out", **drawn_from)
        prompts = draw_patients(settings.n, part="prompts", wording=settings.wording, **drawn_from)
        real = volumes_of(held_out, config)
        clean = volumes_of(held_out, config, "noise-free")
    with _timed(seconds, "reconstruction"):
        rebuilt = rebuild(space, real) if isinstance(space := pipeline.autoencoder, ImageAutoencoder) else None
    with _timed(seconds, "generation"):
        drawn, predicted = _drawn(pipeline, prompts, settings)
    with _timed(seconds, "features and distances"):
        distances = _distances(pipeline, real, rebuilt, drawn, settings=settings)
    if pictures_folder is not None:
        pictures.draw_pairs(prompts, volumes_of(prompts[:8], config), drawn, config, pictures_folder / "pairs.png")
        if rebuilt is not None:
            pictures.draw_reconstructions(real, clean, rebuilt, pictures_folder / "reconstructions.png")
    return {
        "fingerprint": pipeline.fingerprint,
        "date": date.today().isoformat(),
        "versions": versions(),
        "settings": asdict(settings),
        "preprocessing": asdict(config),
        "confidence": CONFIDENCE,
        "reconstruction": None if rebuilt is None else _reconstruction(real, clean, rebuilt),
        "auditor": _auditor_on_real(auditor, held_out, real, rebuilt, settings=settings),
        "class_agreement": _class_agreement(auditor, prompts, drawn, predicted),
        "fid": distances,
        "place_agreement": _place_agreement(auditor, prompts, drawn),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def summary(record: dict[str, Any]) -> list[str]:
    """The figures that the targets speak of, one a line."""
    rebuilt = record["reconstruction"]
    rows = [("PSNR of reconstructions to the noise-free phantoms, dB", rebuilt["noise_free"])] if rebuilt else []
    rows += [
        ("AUROC of the auditor on held-out phantoms", record["auditor"]["auroc"]),
        ("drawn volumes of the class asked for", record["class_agreement"]["all"]),
        ("FID to held-out phantoms / real-real floor", record["fid"]["generated_to_floor"]),
        ("lesions in the half and zone of the report", record["place_agreement"]["half_and_zone"]),
    ]
    return [
        f"{name}: {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f}), target {row['target']}: "
        f"{'holds' if row['holds'] else 'does not hold'}"
        for name, row in rows
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="builtin/ccella-tiny", help="folder or builtin name")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--n", type=int, default=Settings.n, help="volumes to draw, an even number from 8")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--guidance", type=float, default=Settings.guidance)
    parser.add_argument("--guided-levels", type=int, help="that guidance leads, from the coarsest; default: all")
    parser.add_argument("--scheduler", default=Settings.scheduler)
    parser.add_argument("--difficulty", type=float, default=Settings.difficulty, help="of the phantoms trained on")
    parser.add_argument("--wording", choices=get_args(Wording), default=Settings.wording, help="of the prompts")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--auditor-cache", type=Path, help="folder that keeps the auditor's weights")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures")
    parser.add_argument("--quick", action="store_true", help="8 volumes and an untrained auditor, within a minute")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    if options.n < 8 or options.n % 2:
        parser.error(f"--n {options.n}: give an even number from 8")
    return options


def _preprocessing(pipeline: CCELLAPipeline) -> PreprocessConfig:
    """What the generator's training volumes went through."""
    settings = pipeline.record.get("preprocessing") or {
        "spacing_mm": pipeline.config.spacing_mm,
        "shape": pipeline.config.shape,
    }
    return PreprocessConfig(**{name: tuple(value) if value else {} for name, value in settings.items()})


def _auditor_config(config: PreprocessConfig, settings: Settings) -> AuditorConfig:
    if not settings.quick:
        return AuditorConfig(preprocess=config, difficulty=settings.difficulty)
    training = TrainingConfig(steps=4, batch_size=8, learning_rate=1e-3)
    return AuditorConfig(preprocess=config, difficulty=settings.difficulty, patients=16, channels=8, training=training)


def _drawn(
    pipeline: CCELLAPipeline, prompts: Sequence[Patient], settings: Settings
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One volume a prompt (N, 1, X, Y, Z) in [0, 1], and the classes that the generator read (N,)."""
    given = pipeline.denoiser.conditioning.class_input == "true"
    output = pipeline(
        [patient.report for patient in prompts],
        labels_of(prompts).tolist() if given else None,
        seeds=[derive_seed("evaluation noise", settings.seed, k) for k in range(len(prompts))],
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        guided_levels=settings.guided_levels,
    )
    read = output.class_probabilities
    return output.volumes, None if read is None else read.argmax(1)


def _reconstruction(real: torch.Tensor, clean: torch.Tensor, rebuilt: torch.Tensor) -> dict[str, Any]:
    """(a) PSNR of the reconstructions of noisy volumes; also of the noisy volumes themselves, which have more noise."""
    return {
        "noise_free": _mean(_each_psnr(rebuilt, clean)) | _verdict(_each_psnr(rebuilt, clean).mean(), "psnr_db"),
        "noisy": _mean(_each_psnr(rebuilt, real)),
        "noisy_to_noise_free": _mean(_each_psnr(real, clean)),
        "n": len(real),
    }


def _auditor_on_real(
    auditor: Auditor,
    patients: Sequence[Patient],
    real: torch.Tensor,
    rebuilt: torch.Tensor | None,
    *,
    settings: Settings,
) -> dict[str, Any]:
    """What the auditor can see on held-out real phantoms: no generator can be seen to do better."""
    places, labels = place_logits(auditor, real), labels_of(patients)
    positive = class_logit(places).sigmoid().double().numpy()
    area = patient_bootstrap(
        auroc,
        patient_ids=[str(patient.seed) for patient in patients],
        labels=labels.numpy(),
        arrays=np.stack([1 - positive, positive], axis=1),
        resamples=50 if settings.quick else 1000,
        confidence=CONFIDENCE,
    )
    lesion = labels == 1
    found = {
        "n": len(patients),
        "auroc": asdict(area) | _verdict(area.value, "auditor_auroc"),
        "accuracy": _share((class_logit(places) > 0) == lesion),
        **_agreement_of_places(places[lesion], places_of(patients)[lesion]),
    }
    if rebuilt is not None:  # what the VAE alone hides from the auditor
        found["accuracy_on_reconstructions"] = _share((class_logit(place_logits(auditor, rebuilt)) > 0) == lesion)
    return found


def _class_agreement(
    auditor: Auditor, prompts: Sequence[Patient], drawn: torch.Tensor, predicted: torch.Tensor | None
) -> dict[str, Any]:
    """(b) Share of drawn volumes in which the auditor sees the class of the prompt."""
    labels = labels_of(prompts)
    right = (class_logit(place_logits(auditor, drawn)) > 0) == (labels == 1)
    pirads = torch.tensor([patient.findings.pirads for patient in prompts])
    return {
        "all": _share(right) | _verdict(right.double().mean(), "class_agreement"),
        "negative": _share(right[labels == 0]),
        "positive": _share(right[labels == 1]),
        "by_pirads": {str(k): _share(right[pirads == k]) for k in pirads.unique().tolist()},
        # What the generator's own class heads read from the report at the last step.
        "read_from_report": None if predicted is None else _share(predicted == labels),
    }


def _distances(
    pipeline: CCELLAPipeline,
    real: torch.Tensor,
    rebuilt: torch.Tensor | None,
    drawn: torch.Tensor,
    *,
    settings: Settings,
) -> dict[str, Any]:
    """(c) FID between sets of n volumes: real to real, drawn to real, and reconstructed to other real ones.

    The interval of a ratio is that of its distance (half-sampling) with the floor taken as known.
    """
    extractor = seeded_extractor()
    rows = {"real": extractor.features(real), "drawn": extractor.features(drawn)}
    report = distance_report(
        rows["real"],
        rows["drawn"],
        metrics=["fid"],
        resamples=50 if settings.quick else 1000,
        confidence=CONFIDENCE,
        fingerprint=extractor.fingerprint,
    )["fid"]
    floor, ratio = report.floor, report.value_at_floor_n / report.floor
    found = {
        "extractor": extractor.name,
        "extractor_fingerprint": extractor.fingerprint,
        "n_a_side": report.n_floor,
        "floor": floor,
        "generated": report.value_at_floor_n,
        "generated_to_floor": {
            "value": ratio,
            "low": max(0.0, ratio + (report.ci_low - report.value) / floor),
            "high": ratio + (report.ci_high - report.value) / floor,
        }
        | _verdict(ratio, "fid_to_floor"),
    }
    if rebuilt is not None:
        seeds = torch_generator("evaluation residual", settings.seed)
        # As the pipeline draws: with the noise that the decoder leaves out.
        as_drawn = pipeline.autoencoder.finish(rebuilt, [seeds] * len(rebuilt)).clamp(0, 1)
        for name, volumes in (("reconstructed", rebuilt), ("reconstructed_with_residual_noise", as_drawn)):
            distance = _to_other_patients(extractor.features(volumes), rows["real"], seed=settings.seed)
            found[f"{name}_to_floor"] = distance / floor
    return found


def _to_other_patients(changed: np.ndarray, real: np.ndarray, *, seed: int) -> float:
    """Mean distance between changed volumes of one half of the patients and real ones of the other half."""
    rng, half = numpy_generator("evaluation halves", seed), len(real) // 2
    orders = [rng.permutation(len(real)) for _ in range(SPLITS)]
    return float(np.mean([frechet(changed[order[:half]], real[order[half:]]) for order in orders]))


def _place_agreement(auditor: Auditor, prompts: Sequence[Patient], drawn: torch.Tensor) -> dict[str, Any]:
    """(d) Share of drawn volumes with a lesion where the auditor's likeliest place is the report's."""
    lesion = labels_of(prompts) == 1
    found = _agreement_of_places(place_logits(auditor, drawn)[lesion], places_of(prompts)[lesion])
    found["half_and_zone"] |= _verdict(found["half_and_zone"]["value"], "place_agreement")
    return found


def _agreement_of_places(logits: torch.Tensor, places: torch.Tensor) -> dict[str, Any]:
    """Shares where half, zone and both are the right ones; logits (N, 4), places (N,)."""
    found = logits.argmax(1)
    return {
        "half_and_zone": _share(found == places),
        "half": _share(found // 2 == places // 2),
        "zone": _share(found % 2 == places % 2),
    }


def _each_psnr(volumes: torch.Tensor, reference: torch.Tensor) -> np.ndarray:
    """PSNR of each volume in dB (N,)."""
    return np.array([psnr(one[None], other[None]) for one, other in zip(volumes, reference, strict=True)])


def _mean(values: np.ndarray) -> dict[str, float]:
    """A mean over patients and its bootstrap interval."""
    result = stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=CONFIDENCE, n_resamples=2000, rng=0
    )
    low, high = result.confidence_interval
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def _share(right: torch.Tensor) -> dict[str, float]:
    """A share and its Wilson interval."""
    test = stats.binomtest(int(right.sum()), len(right))
    low, high = test.proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return {"value": float(test.statistic), "low": float(low), "high": float(high), "n": len(right)}


def _verdict(value: float | torch.Tensor, name: str) -> dict[str, Any]:
    """The target and whether the value meets it; a distance must stay below its target, all else reach it."""
    target = TARGETS[name]
    return {"target": target, "holds": bool(value <= target if name == "fid_to_floor" else value >= target)}


class _timed:
    """Notes the wall time of a block under a name."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self.seconds, self.name = seconds, name

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] = time.perf_counter() - self.start


if __name__ == "__main__":
    main()
