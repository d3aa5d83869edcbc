"""Train every variant on one set of latents, draw from the same prompts and noise, and look at what was drawn.

    C=benchmarks/studies/prostate_t2
    python $C/run.py --config $C/base.yaml --out runs/prostate-t2

Arms are trained one after the other in the order of ``--arms``; what is finished is not made again. Every arm leaves
``OUT/pool-ARM``, and ``OUT/glands-ARM.npy`` where asked; ``collect.py`` reads them. taps must be installed.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prepare import MEASURED_MM, PREPROCESS

from synthaug.bench.options.parsing import read_config
from synthaug.bench.studies.progress import Bars
from synthaug.config import Config, GeneratorConfig, SamplingConfig
from synthaug.data.reading.manifest import class_counts
from synthaug.ground.files import atomic_path
from synthaug.metrics.extractors import build_extractor
from synthaug.models.extractors.taps import measure_glands_ml
from synthaug.models.variants import VARIANTS
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.prompts import TrainingPrompts
from synthaug.study.stages.checks import overrides_class
from synthaug.study.stages.making import make_generator
from synthaug.study.stages.preparation import Study

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "metrics"))  # behind this folder, which has a run.py too

from cohorts import Remembering  # noqa: E402

ARMS = ("ccella", "maisi", "radmaisi", "decoupled", "ellamaisi", "l1only", "first", "last", "shared")

GLAND_EVERY = 3
"""Glands are measured in so many-th volumes only: outlining takes three times as long as the features."""


def generator_of(config: GeneratorConfig, arm: str) -> GeneratorConfig:
    """The generator's settings with the variant of an arm.

    Example:
        >>> generator_of(GeneratorConfig(), "first").variant
        'first'
    """
    return replace(config, variant=arm)


def sampling_of(config: SamplingConfig, arm: str) -> SamplingConfig:
    """How an arm is drawn: a variant that reads no report cannot be guided by one.

    Example:
        >>> sampling_of(SamplingConfig(guidance=2.0), "maisi").guidance
        1.0
    """
    return config if VARIANTS[arm].text else replace(config, guidance=1.0)


def deal_volumes(counts: dict[int, int], volumes: int) -> dict[int, int]:
    """So many volumes among the classes as the training patients have them.

    Example:
        >>> deal_volumes({0: 38, 1: 24}, 80)
        {0: 49, 1: 31}
    """
    shares = {label: count * volumes / sum(counts.values()) for label, count in counts.items()}
    dealt = {label: round(share) for label, share in shares.items()}
    first = min(dealt)
    return {**dealt, first: volumes - sum(dealt.values()) + dealt[first]}


def draw_pool(study: Study, folder: Path, sampling: SamplingConfig, *, volumes: int) -> SyntheticPool:
    """Train the study's generator where it is missing, and draw: places, prompts and noise are those of every arm."""
    generator = make_generator(study)
    return SyntheticPool.build(
        generator,
        folder,
        per_class=deal_volumes(class_counts(study.split.train), volumes),
        reports=TrainingPrompts(study.split.train),
        seed=study.config.pool.seed,
        sampling=sampling,
        override_class=overrides_class(study.config.pool, generator.denoiser.conditioning),
        on_volume=study.progress("pool", volumes),
    )


def taps_features(config: Config, out: Path) -> Remembering:
    """The extractor of the study, which keeps what it has computed in ``out``."""
    return Remembering.of(build_extractor("taps", spacing_mm=config.preprocess.spacing_mm), out)


def measure_glands(pool: SyntheticPool, file: Path) -> None:
    """Keep the glands that taps outlines in every ``GLAND_EVERY``-th volume of a pool, in their order."""
    if not file.is_file():
        # The same millimetres as in the crops that the reports were written from, in fewer voxels.
        measured_mm = np.multiply(MEASURED_MM, pool.header["spacing_mm"]) / PREPROCESS.spacing_mm
        with atomic_path(file) as temporary:
            np.save(temporary, measure_glands_ml(volumes_of(pool)[::GLAND_EVERY], measured_mm))


def volumes_of(pool: SyntheticPool) -> list[torch.Tensor]:
    """A pool's volumes (1, X, Y, Z) in their order."""
    return [subject["t2w"].data.float() for subject in pool.subjects()]


def file_name(arm: str) -> str:
    """An arm's name in the names of files."""
    return arm.replace(" ", "-")


def read_options(arguments: Sequence[str] | None, description: str) -> tuple[Config, Any]:
    """The config of all arms, and the options beside it: ``out``, ``arms``, ``glands``, ``volumes``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/prostate-t2"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--glands", nargs="*", choices=ARMS, default=ARMS, help="arms whose glands are measured")
    parser.add_argument("--volumes", type=int, default=75, help="drawn of each arm")
    options, settings = parser.parse_known_args(arguments)
    return read_config(settings), options


def main(arguments: Sequence[str] | None = None) -> None:
    """Arm by arm: train, draw, look."""
    config, options = read_options(arguments, __doc__)
    out, bars = options.out, Bars()
    first = Study.start(config, out, bars.stage)
    features = taps_features(config, out)
    for arm in options.arms:
        varied = replace(config, generator=generator_of(config.generator, arm))
        study = Study(varied, out, bars.stage, first.classes, first.split)
        sampling = sampling_of(config.pool.sampling, arm)
        pool = draw_pool(study, out / f"pool-{file_name(arm)}", sampling, volumes=options.volumes)
        print(arm, study.generator_id, pool.counts, flush=True)
        if arm in options.glands:
            measure_glands(pool, out / f"glands-{file_name(arm)}.npy")
        features.features(volumes_of(pool))
        features.save()
        print(arm, "seen", {name: round(seconds) for name, seconds in bars.seconds.items()}, flush=True)


if __name__ == "__main__":
    main()
