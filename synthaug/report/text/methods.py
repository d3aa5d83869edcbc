"""A paragraph for the methods section of a paper, from what was done, with the references that it needs."""

from collections.abc import Sequence
from dataclasses import dataclass

from synthaug import __version__
from synthaug.config import (
    ClassifierConfig,
    Config,
    DataConfig,
    GeneratorConfig,
    MetricsConfig,
    PoolConfig,
    PreprocessConfig,
)
from synthaug.report.material import Material
from synthaug.study.records import CellRecord, Summary

REFERENCES = {
    "synthaug": f"synthaug {__version__}, software for synthetic data augmentation of 3D medical images.",
    "monai": "Cardoso MJ, et al. MONAI: an open-source framework for deep learning in healthcare. arXiv:2211.02701, "
    "2022.",
    "torchio": "Pérez-García F, Sparks R, Ourselin S. TorchIO: a Python library for efficient loading, preprocessing, "
    "augmentation and patch-based sampling of medical images in deep learning. Comput Methods Programs Biomed "
    "208:106236, 2021.",
    "ccella": "Grabke EP, Taati B, Haider MA. Leveraging clinical text and class conditioning for 3D prostate MRI "
    "generation. arXiv:2506.10230, 2025.",
    "ldm": "Rombach R, Blattmann A, Lorenz D, Esser P, Ommer B. High-resolution image synthesis with latent diffusion "
    "models. CVPR, 2022.",
    "edm": "Karras T, Aittala M, Aila T, Laine S. Elucidating the design space of diffusion-based generative models. "
    "NeurIPS, 2022.",
    "dpm": "Lu C, Zhou Y, Bao F, Chen J, Li C, Zhu J. DPM-Solver++: fast solver for guided sampling of diffusion "
    "probabilistic models. arXiv:2211.01095, 2022.",
    "ddpm": "Ho J, Jain A, Abbeel P. Denoising diffusion probabilistic models. NeurIPS, 2020.",
    "ddim": "Song J, Meng C, Ermon S. Denoising diffusion implicit models. ICLR, 2021.",
    "unipc": "Zhao W, Bai L, Rao Y, Zhou J, Lu J. UniPC: a unified predictor-corrector framework for fast sampling of "
    "diffusion models. NeurIPS, 2023.",
    "flow": "Liu X, Gong C, Liu Q. Flow straight and fast: learning to generate and transfer data with rectified flow. "
    "ICLR, 2023.",
    "guidance": "Ho J, Salimans T. Classifier-free diffusion guidance. arXiv:2207.12598, 2022.",
    "guidance_interval": "Kynkäänniemi T, Aittala M, Karras T, Laine S, Aila T, Lehtinen J. Applying guidance in a "
    "limited interval improves sample and distribution quality in diffusion models. NeurIPS, 2024.",
    "epsilon_scale": "Ning M, Li M, Su J, Salah AA, Ertugrul IO. Elucidating the exposure bias in diffusion models. "
    "ICLR, 2024.",
    "bootstrap": "Efron B, Tibshirani RJ. An introduction to the bootstrap. Chapman & Hall, 1993.",
    "holm": "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 6:65-70, 1979.",
    "temperature": "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML, 2017.",
    "fid": "Heusel M, Ramsauer H, Unterthiner T, Nessler B, Hochreiter S. GANs trained by a two time-scale update rule "
    "converge to a local Nash equilibrium. NeurIPS, 2017.",
    "kid": "Bińkowski M, Sutherland DJ, Arbel M, Gretton A. Demystifying MMD GANs. ICLR, 2018.",
    "precision": "Kynkäänniemi T, Karras T, Laine S, Lehtinen J, Aila T. Improved precision and recall metric for "
    "assessing generative models. NeurIPS, 2019.",
    "density": "Naeem MF, Oh SJ, Uh Y, Choi Y, Yoo J. Reliable fidelity and diversity metrics for generative models. "
    "ICML, 2020.",
    "ms_ssim": "Wang Z, Simoncelli EP, Bovik AC. Multiscale structural similarity for image quality assessment. "
    "Asilomar Conf Signals Syst Comput, 2003.",
}
"""By the key that a sentence asks for. What is no key is a reference itself."""
SCHEDULERS = {
    "dpm_solver_sde": ("a stochastic DPM-Solver++ sampler", "dpm"),
    "dpm_solver": ("a DPM-Solver++ sampler", "dpm"),
    "ddpm": ("ancestral DDPM sampling", "ddpm"),
    "ddim": ("DDIM sampling", "ddim"),
    "heun": ("Heun's method", "edm"),
    "unipc": ("a UniPC sampler", "unipc"),
    "flow_euler": ("Euler steps of a rectified flow", "flow"),
}
IMAGES = {"fid": "fid", "kid": "kid", "precision": "precision", "recall": "precision"}
IMAGES |= {"density": "density", "coverage": "density", "ms_ssim": "ms_ssim"}
"""References of the image metrics."""
NAMES = {"fid": "Fréchet distance", "kid": "kernel distance", "ms_ssim": "MS-SSIM of pairs"}


@dataclass(frozen=True)
class Methods:
    """A paragraph with numbers in brackets, and the references that they stand for."""

    paragraph: str
    references: tuple[str, ...]


def describe_methods(config: Config, summary: Summary, records: Sequence[CellRecord], material: Material) -> Methods:
    """The methods of a study as a paper would tell them.

    Args:
        config: Its settings.
        summary: What it found.
        records: Its finished cells.
        material: Its cohort.
    """
    text = _Text()
    sentences = [_cohort(text, config.data, material), _preprocessing(text, config.preprocess)]
    if any(arm.n_train_synthetic for arm in summary.arms):
        sentences += _generator(text, config.pool, config.generator)
    sentences += _classifiers(text, config.classifier, summary, records)
    sentences += _statistics(text, config.metrics, summary)
    sentences += _images(text, summary)
    return Methods(" ".join(sentences), tuple(text.references))


class _Text:
    """Numbers references in the order in which they are first asked for."""

    def __init__(self) -> None:
        self._keys: list[str] = []

    def cite(self, *keys: str) -> str:
        numbers = []
        for key in dict.fromkeys(keys):
            if key not in self._keys:
                self._keys.append(key)
            numbers.append(str(self._keys.index(key) + 1))
        return f" [{', '.join(numbers)}]"

    @property
    def references(self) -> list[str]:
        return [REFERENCES.get(key, key) for key in self._keys]


def _cohort(text: _Text, data: DataConfig, material: Material) -> str:
    what = "generated prostate phantoms" if data.root is None else "patients"
    images = ", ".join(data.images)
    if not material.cohort:
        return f"Classifiers of {images} volumes were compared with synthaug{text.cite('synthaug')}."
    total = sum(part.patients for part in material.cohort)
    parts = {part.name: part.patients for part in material.cohort}
    return (
        f"Using synthaug{text.cite('synthaug')}, {total} {what} ({images}) were split by patient into {parts['train']} "
        f"for training, {parts['val']} for validation and {parts['test']} for testing."
    )


def _preprocessing(text: _Text, settings: PreprocessConfig) -> str:
    spacing, shape = (" × ".join(f"{each:g}" for each in sides) for sides in (settings.spacing_mm, settings.shape))
    low, high = settings.percentiles
    return (
        f"Volumes were resampled to {spacing} mm{text.cite('torchio')}, cropped or padded to {shape} voxels, and the "
        f"{low:g}th to {high:g}th intensity percentiles mapped to [0, 1]."
    )


def _generator(text: _Text, pool: PoolConfig, generator: GeneratorConfig) -> list[str]:
    if pool.path:
        return [f"Synthetic volumes came from an existing pool{text.cite('ccella')}."]
    if pool.generator:
        made = f"A ready report-conditioned diffusion model ({pool.generator}) was used as it is{text.cite('ccella')}."
        return [made, _sampling(text, pool)]
    if generator.pretrained:  # it brings its own latents and variant
        made = f"The training of a diffusion model ({generator.pretrained}) went on with the training patients"
        return [f"{made}{text.cite('ccella')}.", _sampling(text, pool)]
    model = f"As generator, {generator.latent_design.model}{text.cite(generator.latent_design.source)}"
    conditioned = f"conditioned on radiology report and class (variant {generator.variant}){text.cite('ccella')}"
    return [f"{model} {conditioned} was trained on the training patients.", _sampling(text, pool)]


def _sampling(text: _Text, pool: PoolConfig) -> str:
    sampler, key = SCHEDULERS[pool.sampling.scheduler]
    drawn = f"{pool.per_class} synthetic volumes of each class were drawn by {sampler}{text.cite(key)}"
    settings = [f"{pool.sampling.steps} steps"]
    if pool.sampling.guidance != 1:
        guided = pool.sampling.guided_levels
        led = f" of the {'coarsest level' if guided == 1 else f'{guided} coarsest levels'}" if guided else ""
        below = pool.sampling.guidance_below
        where = "" if below is None else f" below a noise level of {below:g}{text.cite('guidance_interval')}"
        settings.append(f"classifier-free guidance {pool.sampling.guidance:g}{led}{text.cite('guidance')}{where}")
    if pool.sampling.epsilon_scale is not None:
        settings.append(f"an epsilon scale of {pool.sampling.epsilon_scale:g}{text.cite('epsilon_scale')}")
    *before, last = settings
    return f"{drawn} of {', '.join(before) + ' and ' if before else ''}{last}."


def _classifiers(text: _Text, settings: ClassifierConfig, summary: Summary, records: Sequence[CellRecord]) -> list[str]:
    arms = ", ".join(dict.fromkeys(arm.regime for arm in summary.arms))
    repeats = max((arm.repeats for arm in summary.arms), default=0)
    augmented = " with classical augmentation" if settings.augment is True else ""
    network = {"resnet10": "ResNet-10", "resnet18": "ResNet-18"}.get(settings.network, settings.network)
    steps = max((record.steps for record in records), default=settings.training.steps)
    return [
        f"3D {network} classifiers{text.cite('monai')} were trained for at most {steps} optimiser steps{augmented} in "
        f"the regimes {arms}, {repeats} time{'s' * (repeats != 1)} each. The checkpoint was chosen on real validation "
        "patients. Probabilities were calibrated by temperature "
        f"scaling there{text.cite('temperature')}. Real test patients were used once."
    ]


def _statistics(text: _Text, settings: MetricsConfig, summary: Summary) -> list[str]:
    percent, family = f"{100 * settings.confidence:g} %", len(summary.in_metric("auroc"))
    told = [
        f"Values have {percent} percentile intervals of {settings.bootstrap} bootstrap "
        f"resamples{text.cite('bootstrap')} over patients and trainings. That of the calibration error is laid around "
        "its value, as resampling adds its bias again."
    ]
    if family:
        told.append(
            f"Differences in AUROC were paired by patient and tested with {summary.permutations} random swaps of the "
            f"two classifiers' predictions; p-values of {family} comparison{'s' * (family > 1)} were corrected by "
            f"Holm's method{text.cite('holm')}."
        )
    return told


def _images(text: _Text, summary: Summary) -> list[str]:
    found = [name for name in IMAGES if any(row.metric == name for row in summary.image_metrics)]
    if not found:
        return []
    names = [NAMES.get(name, name) + text.cite(IMAGES[name]) for name in found]
    told = f"Synthetic volumes were compared with held-out real ones by {', '.join(names)}"
    extractors = {row.extractor for row in summary.image_metrics if row.metric in IMAGES and row.extractor}
    return [f"{told}, in features of {' and '.join(sorted(extractors))}." if extractors else f"{told}."]
